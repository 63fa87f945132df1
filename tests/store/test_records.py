"""The records beside the volumes: compared with the graph, and no reason to fail what was done."""

import subprocess
from pathlib import Path

import pytest

from backends.base import CONTAINERS, LAYERS, Volume
from imagegraph.check import check
from imagegraph.model import Container, Image
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.scenes import add_image, assert_sound, commit, tags
from tests.store.test_full_disk import fill_up


@pytest.fixture(autouse=True)
def nobody_else_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` need not wait for records that others may be about to write."""
    monkeypatch.setattr("imagegraph.check.PAUSE", 0.005)


LONG = {"note": "x" * 8000}
"""So much in a record that it is no metadata, and needs a block of its own."""


def record(store: Store, volume: Volume) -> bytes | None:
    return {found.volume: found.record for found in store.backend.volumes()}[volume]


def outdated(store: Store, *, repair: bool = False) -> dict[str, bool]:
    """Where a record is out of date -> whether it was repaired."""
    problems = check(store, repair=repair)
    assert all(problem.what == "its record is out of date" for problem in problems)
    return {problem.where: problem.repaired for problem in problems}


def pair(store: Store) -> tuple[Image, Container]:
    image = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(image, name="web")
    return image, container


@pytest.mark.parametrize("content", [b"", b"{}", b"not JSON"])
def test_an_empty_or_foreign_record_is_reported_and_written_again(
    store: Store, content: bytes
) -> None:
    image, container = pair(store)
    for volume in (Volume(LAYERS, image.layer), Volume(CONTAINERS, container.id)):
        before = record(store, volume)
        store.backend.describe(volume, content)
        assert outdated(store) == {volume.fragment: False}
        assert outdated(store, repair=True) == {volume.fragment: True}
        assert record(store, volume) == before
        assert_sound(store)


def test_a_record_from_before_a_change_of_the_graph_is_reported(store: Store) -> None:
    image, container = pair(store)
    with store.graph.writing():
        store.graph.set_tag(parse("other:2"), image.id)
        store.graph.rename_container(container.id, "third")
    there = {f"layers/{image.layer}", f"containers/{container.id}"}
    assert outdated(store) == dict.fromkeys(there, False)
    assert outdated(store, repair=True) == dict.fromkeys(there, True)
    assert b'"third"' in (record(store, Volume(CONTAINERS, container.id)) or b"")
    assert_sound(store)


def test_an_image_named_without_a_tag_is_described_as_the_graph_has_it(store: Store) -> None:
    _, container = pair(store)
    store.commit(container, parse("bare"))
    assert_sound(store)


def test_what_took_effect_succeeds_on_a_pool_that_has_no_room_for_the_record(
    pool_root: Path,
) -> None:
    with Store.init(str(pool_root), backend="loopback", size=300 << 20) as store:
        image = add_image(store, {"a": b"1"}, "base:1", Labels=LONG)
        [web] = store.create(image, name="web", options={"Config": {"Labels": LONG}})
        [filler] = store.create(image, name="filler")
        with store.open_tree(filler) as tree:
            fill_up(tree)
        store.tag(image, parse("other:2"))
        store.rename(web, "third")
        store.remove_image("base:1")
        assert store.container("third").id == web.id
        assert list(tags(store).values()) == [image.id] and "other:2" in next(iter(tags(store)))
        there = {f"layers/{image.layer}", f"containers/{web.id}"}
        assert outdated(store) == dict.fromkeys(there, False)
        store.remove_container(filler)
        for step in ("filesystem", "subvolume"):
            subprocess.run(["btrfs", step, "sync", pool_root / "pool"], check=True)
        assert outdated(store, repair=True) == dict.fromkeys(there, True)
        assert_sound(store)


def test_a_mount_point_that_is_busy_elsewhere_does_not_fail_the_removal(store: Store) -> None:
    _, container = pair(store)
    point = Path(store.root, "mnt", container.id)
    point.mkdir(parents=True)
    # Something else than the container, as another namespace may have there.
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        store.remove_container(container)
        assert store.graph.containers() == []
    finally:
        subprocess.run(["umount", point], check=True)


def test_commits_onto_a_name_in_use_leave_every_record_up_to_date(store: Store) -> None:
    _, container = pair(store)
    commit(store, container, "base:1")
    commit(store, container, "base:1")
    assert_sound(store)
