"""What only ZFS can do to a volume: snapshots, holds, clones and promotions of others."""

import logging
import mmap
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import zfs_dataset, zfs_records
from backends.base import CONTAINERS, LAYERS, STAGING, Volume
from backends.errors import (
    BackendError,
    SnapshotsInTheWay,
    Unavailable,
    VolumeBusy,
)
from backends.libzfs import run
from backends.zfs import ZfsBackend
from tests.backends.zfs_volumes import (
    commit,
    edit,
    everything,
    layer_of,
    one,
    problems,
    root_of,
    zfs,
)
from tests.contract.conftest import container, layer, new, present, read, write

pytestmark = pytest.mark.zfs


# Snapshots, holds, clones and datasets of others


@pytest.mark.parametrize("kind", [CONTAINERS, LAYERS])
def test_snapshots_of_others_keep_a_volume_and_are_named(backend: ZfsBackend, kind: str) -> None:
    base = layer(backend, one)
    volume = container(backend, base) if kind == CONTAINERS else base
    daily = f"{backend.location(volume)}@daily"
    zfs("snapshot", daily)
    before = everything(backend)
    for removing in (backend.remove, backend.require_removable):
        with pytest.raises(SnapshotsInTheWay, match="@daily; --force destroys them"):
            removing(volume)
    backend.require_removable(volume, force=True)
    assert everything(backend) == before
    assert read(backend, volume, "a") == "1"
    assert backend.remove(volume, force=True) == [daily]
    assert not present(backend, volume)
    backend.remove(base)


def test_a_snapshot_of_others_that_a_commit_took_along_is_named_where_it_is_now(
    backend: ZfsBackend,
) -> None:
    web = container(backend)
    zfs("snapshot", f"{backend.location(web)}@daily")
    first = commit(backend, web, "1")
    zfs("snapshot", f"{backend.location(web)}@daily")
    second = commit(backend, web, "2")
    backend.remove(web)
    for made in (first, second):
        with pytest.raises(SnapshotsInTheWay, match=rf"{made.fragment}@daily"):
            backend.remove(made)
        assert backend.remove(made, force=True) == [f"{backend.location(made)}@daily"]


def test_a_held_snapshot_keeps_a_volume_whatever_the_force(backend: ZfsBackend) -> None:
    base = layer(backend, one)
    web = container(backend, base)
    for volume, name in ((web, "daily"), (base, base.id)):
        held = f"{backend.location(volume)}@{name}"
        if name == "daily":
            zfs("snapshot", held)
        zfs("hold", "keep", held)
        before = everything(backend)
        for force in (False, True):
            with pytest.raises(VolumeBusy, match=rf"held: .*@{name}; zfs release") as caught:
                backend.remove(volume, force=force)
            assert not isinstance(caught.value, SnapshotsInTheWay)
        assert everything(backend) == before
        zfs("release", "keep", held)
        backend.remove(volume, force=True)


def test_a_clone_by_others_keeps_a_layer_and_is_named(backend: ZfsBackend, zpool: str) -> None:
    base = layer(backend, one)
    foreign = f"{zpool}/foreign"
    zfs("clone", f"{backend.location(base)}@{base.id}", foreign)
    before = everything(backend)
    for force in (False, True):
        with pytest.raises(VolumeBusy, match=rf"clones of it: {foreign}; destroy them"):
            backend.remove(base, force=force)
    assert everything(backend) == before
    # A clone of ours takes the snapshot over, and then is what the foreign one stands on.
    web = container(backend, base)
    backend.remove(base)
    assert read(backend, web, "a") == "1"
    with pytest.raises(VolumeBusy, match=foreign):
        backend.remove(web)
    zfs("destroy", foreign)
    backend.remove(web)


def test_a_dataset_of_others_in_a_volume_keeps_it_and_is_named(backend: ZfsBackend) -> None:
    web = container(backend)
    inner = f"{backend.location(web)}/mine"
    zfs("create", inner)
    before = everything(backend)
    for force in (False, True):
        with pytest.raises(VolumeBusy, match=rf"are in it: {inner}"):
            backend.remove(web, force=force)
    assert everything(backend) == before
    assert inner in problems(backend)[web]
    zfs("destroy", inner)
    backend.remove(web)


# Any order


NAMES = ("base", "web", "first", "second", "other", "third", "last")


@given(order=st.permutations(NAMES))
@settings(
    max_examples=3,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_commits_of_commits_are_removed_in_any_order_and_leave_nothing(
    shared: ZfsBackend, order: list[str]
) -> None:
    before = everything(shared)
    base = layer(shared, one)
    web = container(shared, base)
    first, second = commit(shared, web, "2"), commit(shared, web, "3")
    other = container(shared, first)
    third = commit(shared, other, "4")
    last = container(shared, third)
    made = dict(zip(NAMES, (base, web, first, second, other, third, last), strict=True))
    text = dict(zip(NAMES, "1323444", strict=True))
    for gone in order:
        shared.remove(made.pop(gone))
        assert {name: read(shared, made[name], "a") for name in made} == {
            name: text[name] for name in made
        }
    assert everything(shared) == before


# What an administrator does behind our back


def test_a_promoted_container_is_named_with_what_brings_the_layer_back(
    backend: ZfsBackend,
) -> None:
    base = layer(backend, one)
    web = container(backend, base)
    zfs("promote", backend.location(web))
    [(broken, problem)] = problems(backend).items()
    assert broken == base and "lost its snapshot" in problem
    assert problem.endswith(f"zfs promote '{backend.location(base)}' brings it back")
    with pytest.raises(BackendError, match="lost its snapshot"):
        backend.create(new(CONTAINERS), base)
    # It is no leftover: what is marked for destruction would go with the last clone.
    assert backend.leftovers() == backend.sweep() == []
    zfs("promote", backend.location(base))
    assert problems(backend) == {}
    backend.remove(web)
    again = container(backend, base)
    backend.remove(again)
    backend.remove(base)


def test_a_promoted_container_that_is_removed_gives_the_layer_its_snapshot_back(
    backend: ZfsBackend,
) -> None:
    base = layer(backend, one)
    several = [container(backend, base) for _ in range(3)]
    zfs("promote", backend.location(several[0]))
    backend.remove(several[0])
    assert problems(backend) == {}
    for made in [*several[1:], base]:
        backend.remove(made)


def test_a_layer_whose_snapshot_was_destroyed_is_named(backend: ZfsBackend) -> None:
    base = layer(backend, one)
    zfs("destroy", f"{backend.location(base)}@{base.id}")
    assert f"zfs snapshot '{backend.location(base)}@{base.id}'" in problems(backend)[base]
    with pytest.raises(BackendError, match="lost its snapshot"):
        backend.create(new(CONTAINERS), base)
    backend.remove(base)


def test_what_was_written_to_a_layer_is_neither_read_nor_cloned(backend: ZfsBackend) -> None:
    base = layer(backend, one)
    location = backend.location(base)
    zfs("set", "readonly=off", location)
    assert "writable" in problems(backend)[base]
    with zfs_dataset.view(location, read_only=False, doing="write") as view:
        Path(f"/proc/self/fd/{view}/a").write_text("2")
    zfs("set", "readonly=on", location)
    web = container(backend, base)
    assert read(backend, base, "a") == read(backend, web, "a") == "1"
    backend.remove(base)
    assert read(backend, web, "a") == "1"
    backend.remove(web)


def test_records_that_were_tampered_with_are_no_records() -> None:
    for text in ("²:", "9" * 5000 + ":", "1:ü", "1:AAAA", "1", "-", ""):
        assert zfs_records.record([text, *["-"] * 15]) is None


# At once


def test_a_snapshot_being_read_that_a_commit_took_along_goes_all_the_same(
    backend: ZfsBackend,
) -> None:
    web = container(backend)
    write(backend, web, "a", "1")
    with backend.frozen(web) as tree:
        made = commit(backend, web, "2")
        assert Path(tree, "a").read_text() == "1"
    assert backend.leftovers() == []
    backend.remove(web)
    backend.remove(made)


def test_commits_of_one_container_at_once_all_succeed(backend: ZfsBackend) -> None:
    web = container(backend)
    write(backend, web, "a", "1")
    made = [new(LAYERS) for _ in range(4)]
    failed: list[BackendError] = []

    def one_commit(target: Volume) -> None:
        try:
            ZfsBackend(root_of(backend)).snapshot(web, target)
        except BackendError as error:
            failed.append(error)

    threads = [threading.Thread(target=one_commit, args=(target,)) for target in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = backend.leftovers()
    for volume in (web, *made):
        backend.remove(volume)
    assert failed == [] and left == []


def test_a_store_to_a_memory_map_is_in_the_commit(backend: ZfsBackend) -> None:
    web = container(backend)
    write(backend, web, "a", "1" * 4096)
    with backend.open(web) as tree, Path(tree, "a").open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 4096)
        memory[:5] = b"moved"
        made = commit(backend, web)
        memory.close()
    assert read(backend, made, "a")[:6] == "moved1"
    backend.remove(web)
    backend.remove(made)


# Ended under way


def dies_after(steps: int, act: Callable[[], object]) -> bool:
    """Have a child do it that is killed after so many commands and calls of the library.

    False if there are fewer.
    """
    child = os.fork()
    if child == 0:
        done = 0

        class Count(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                nonlocal done
                if done == steps:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1

        run.log.addHandler(Count())
        run.log.setLevel(logging.DEBUG)
        try:
            act()
            run.log.debug("the end")
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


@pytest.mark.parametrize("editing", [False, True])
def test_a_commit_that_is_killed_between_any_two_steps_leaves_what_a_sweep_ends(
    backend: ZfsBackend, editing: bool
) -> None:
    base = layer(backend, one)
    web = container(backend, base)
    before = everything(backend)
    for steps in range(1, 20):
        made = new(LAYERS)

        def act(made: Volume = made) -> None:
            ZfsBackend(root_of(backend)).snapshot(web, made, edit=edit if editing else None)

        if not dies_after(steps, act):
            break
        # As the store does: what was not acknowledged is removed, then leftovers are swept.
        backend.remove(made)
        backend.sweep()
        assert everything(backend) == before
        assert read(backend, web, "a") == "1"
    # verify, snapshot, clone, promote; then destroy, snapshot, rename
    assert steps - 1 == (7 if editing else 4)
    for volume in (made, web, base):
        backend.remove(volume)


def test_what_cannot_be_swept_does_not_keep_the_rest(backend: ZfsBackend) -> None:
    root = root_of(backend)
    staged = sorted(new(STAGING) for _ in range(2))
    for volume in staged:
        assert dies_after(2, lambda volume=volume: ZfsBackend(root).create(volume))  # type: ignore[misc]
    zfs("snapshot", f"{backend.location(staged[0])}@daily")
    assert backend.sweep() == [staged[1].fragment]
    assert backend.leftovers() == [staged[0].fragment]
    zfs("destroy", f"{backend.location(staged[0])}@daily")
    assert backend.sweep() == [staged[0].fragment]


# Names


def test_a_dataset_of_the_longest_name_serves_for_everything(
    backend: ZfsBackend, zpool: str, tmp_path: Path
) -> None:
    parts = zfs_dataset.LONGEST - len(zpool) - 1
    dataset = f"{zpool}/{'x' * parts}"
    with pytest.raises(Unavailable, match="too long"):
        zfs_dataset.prepare(str(tmp_path), f"{dataset}x")
    zfs_dataset.prepare(str(tmp_path), dataset)
    longest = ZfsBackend(str(tmp_path))
    base = layer(longest, one)
    web, made = container(longest, base), new(LAYERS)
    longest.snapshot(web, made, edit=edit)
    for _ in range(2):
        longest.quarantine(layer_of(longest, base.id))
    for volume in (made, web):
        longest.remove(volume)
    zfs("destroy", "-R", dataset)
