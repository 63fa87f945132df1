"""Several processes on one root at once."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.base import Volume
from imagegraph.check import check
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.scenes import (
    add_image,
    assert_sound,
    contents,
    loop_devices,
    names,
    tags,
)

PROCESSES = 8
SECONDS = float(os.environ.get("COWSHED_RACE_SECONDS", "4"))
SLOWER = {"zfs": 4}
"""How much slower a backend is: each of its steps is a command or more."""
REPOSITORY = Path(__file__).parents[2]


def race(root: str | Path, job: str, amount: float = 0, processes: int = PROCESSES) -> list[Any]:
    """What each of several processes that began `job` at the same moment has to tell."""
    runners = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.store.race", root, job, str(amount), str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for seed in range(processes)
    ]
    for runner in runners:
        assert runner.stdout is not None and runner.stdout.readline() == "ready\n"
    for runner in runners:
        assert runner.stdin is not None
        runner.stdin.write("\n")
        runner.stdin.flush()
    # All of them have ended before the first of them is judged.
    outputs = [runner.communicate(timeout=120) for runner in runners]
    assert [err for _, err in outputs] == [""] * processes
    return [json.loads(out) for out, _ in outputs]


def test_eight_processes_at_work_leave_a_sound_store(store: Store) -> None:
    add_image(store, {"a": b"1"}, "base:1")
    answers = race(store.root, "work", SECONDS * SLOWER.get(store.backend.name, 1))
    assert [error for answer in answers for error in answer["errors"]] == []
    store.reap()
    for what in "create commit rm rmi tag import load identify list volume".split():
        if store.backend.name not in SLOWER:
            assert sum(answer["done"].get(what, 0) for answer in answers), what
    assert sum(sum(answer["done"].values()) for answer in answers) > 2 * PROCESSES
    assert_sound(store)
    kept = {id: name for answer in answers for id, name in answer["kept"].items()}
    assert {each.id: each.name for each in store.graph.containers()} == kept
    for thing in (*store.graph.containers(), *store.graph.images()):
        assert contents(store, thing)
    assert_records_tell_the_tags(store)


def assert_records_tell_the_tags(store: Store) -> None:
    found = {
        image["id"]: image["tags"]
        for volume, record, _ in store.backend.volumes()
        if volume.kind == "layers"
        for image in json.loads(record or b"")["images"]
    }
    listed = {image: [str(tag) for tag in named] for image, named in store.graph.all_tags().items()}
    assert {id: named for id, named in found.items() if named} == listed


def test_of_several_that_want_one_name_one_gets_it_and_the_others_are_told(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    rounds = 20 // SLOWER.get(store.backend.name, 1)
    answers = race(store.root, "name", rounds, 4)
    won = [name for answer in answers for name in answer["won"]]
    assert sorted(won) == sorted(f"name{number}" for number in range(rounds))
    assert sum(answer["lost"] for answer in answers) == 3 * rounds
    assert names(store) == set(won)
    assert {container.image for container in store.graph.containers()} == {image.id}
    assert_sound(store)


def test_several_may_remove_everything_at_once(store: Store) -> None:
    most = 5 // SLOWER.get(store.backend.name, 1)
    for number in range(most):
        image = add_image(store, {"a": b"%d" % number}, f"base:{number}")
        for container in store.create(image, count=4):
            store.commit(container)
    answers = race(store.root, "remove", processes=4)
    assert [error for answer in answers for error in answer["errors"]] == []
    assert sum(answer["removed"] for answer in answers) == 4 * most
    for image in store.graph.images():
        store.remove_image(image.id, force=True)
    assert store.graph.layers() == []
    assert_sound(store)


def test_a_first_use_by_several_makes_one_store(root: tuple[Path, str]) -> None:
    here, backend = root
    race(here, f"init-{backend}")
    with Store.open(str(here)) as store:
        assert store.backend.name == backend
        assert sorted(tags(store)) == [f"made:{seed}" for seed in range(PROCESSES)]
        assert_sound(store)


def test_a_first_use_by_several_makes_one_pool_and_one_mount(pool_root: Path) -> None:
    race(pool_root, "init-loopback")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    assert len([line for line in mounts if line.split()[4] == f"{pool_root}/pool"]) == 1
    assert len(loop_devices(pool_root)) == 1
    assert not (pool_root / "pool.btrfs.new").exists()
    with Store.open(str(pool_root)) as store:
        assert sorted(tags(store)) == [f"made:{seed}" for seed in range(PROCESSES)]
        assert check(store) == []
        assert_sound(store)


def test_what_its_maker_finished_just_before_its_end_is_not_reaped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(image, name="web")
    rows = [("layers", image.layer), ("containers", container.id)]
    for table, id in rows:
        store.graph._rows(f"UPDATE {table} SET state = 'creating', owner = 7 WHERE id = ?", id)
    assert [row[:2] for row in store.graph.undone()] == list(reversed(rows))

    def finishes_and_dies(owner: int | None) -> bool:
        with store.graph.writing():
            store.graph.ready_layer(image.layer, None)
            store.graph.ready_container(container.id)
        return False

    monkeypatch.setattr(store.owner, "lives", finishes_and_dies)
    assert store.reap() == []
    assert contents(store, store.container("web")) == contents(store, image) == {"a": b"1"}
    assert_sound(store)


@pytest.mark.parametrize("how", ["create", "rename"])
def test_a_name_that_a_dead_process_was_giving_is_free(store: Store, how: str) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [dead], [live] = store.create(image, name="dead"), store.create(image, name="live")
    store.graph._rows("UPDATE containers SET state = 'creating', owner = 7 WHERE id = ?", dead.id)
    if how == "create":
        store.create(image, name="dead")
    else:
        store.rename(live, "dead")
    assert store.container("dead").id != dead.id
    assert_sound(store)


def test_a_record_tells_both_of_two_tags_that_are_given_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    describe = store.backend.describe
    with Store.open(store.root) as neighbour:

        def is_overtaken(volume: Volume, record: bytes) -> None:
            monkeypatch.setattr(store.backend, "describe", describe)
            neighbour.tag(image, parse("second:1"))
            describe(volume, record)

        monkeypatch.setattr(store.backend, "describe", is_overtaken)
        store.tag(image, parse("first:1"))
    assert len(store.graph.tags(image.id)) == 3
    assert_records_tell_the_tags(store)
