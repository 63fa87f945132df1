"""A process killed at every step of what it does to data volumes; see test_kill.py."""

from pathlib import Path
from typing import NamedTuple

import pytest

from imagegraph import volumes
from imagegraph.store import Store
from tests.conftest import require
from tests.crash import killing
from tests.crash.scene import VOLUME_OPERATIONS, build_volumes
from tests.crash.test_kill import SOME, chosen, noted, repair
from tests.store.scenes import Files, assert_sound, files_in

SLOWLY = ("volume_fill", "rm_with_volumes")
FULL = {"0": b"0", "1": b"1", "2": b"2", "sub/file": b"f" * 9000}


class State(NamedTuple):
    """All that a user can see: id -> name and files of the volumes, and what each container has."""

    volumes: dict[str, tuple[str, Files]]
    containers: dict[str, list[tuple[str, str]]]

    def named(self) -> dict[str, Files]:
        return {name: files for id, (name, files) in self.volumes.items() if id != name}


def state(store: Store) -> State:
    there = {}
    for volume in volumes.listed(store):
        with store.backend.open(volumes.kept(volume)) as tree:
            there[volume.id] = (volume.name, files_in(tree))
    attached = {
        container.name: [
            (each.target, each.volume.id) for each in volumes.attached(store, container)
        ]
        for container in store.graph.containers()
    }
    return State(there, attached)


def is_done(operation: str, before: State, after: State) -> bool:
    named, containers = before.named(), before.containers
    match operation:
        case "volume_create":
            return after.named() == {**named, "fodder": {}} and after.containers == containers
        case "volume_rm":
            del named["loose"]
            return after.named() == named and after.containers == containers
        case "volume_fill":
            return after.named() == {**named, "hay": FULL} and after.containers == containers
        case "rm_with_volumes":
            return after.containers == {} and list(after.volumes) == [
                id for id, (name, _) in before.volumes.items() if id != name
            ]
        case _:
            fresh = after.containers.keys() - containers.keys()
            has = [[target for target, _ in after.containers[name]] for name in fresh]
            return (
                fresh == {"web-1", "web-2"}
                and has == [["/f", "/x"]] * 2
                and len(after.volumes) == len(before.volumes) + 3
            )


def is_not_begun(operation: str, before: State, after: State) -> bool:
    if operation == "create_with_volumes":
        # A volume that has a name is made for itself, and by itself it stays.
        rest = {id: named for id, named in after.volumes.items() if named[0] != "fodder"}
        after = State(rest, after.containers)
    return after == before


@pytest.mark.parametrize(
    ("backend", "operation"),
    [
        *((backend, operation) for backend in ("btrfs", "vfs") for operation in VOLUME_OPERATIONS),
        # Each takes half a minute there.
        *(pytest.param("zfs", name, marks=pytest.mark.zfs) for name in SLOWLY),
    ],
)
def test_killed_at_any_step_it_is_done_or_not_begun(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, operation: str
) -> None:
    require("strace")
    mount = request.getfixturevalue("zfs_mount" if backend == "zfs" else "btrfs_mount")
    here = Path(mount, tmp_path.name)
    here.mkdir()
    build(here / "watched", backend)
    points = killing.points(here / "watched", operation)
    assert points
    outcomes = set()
    for number, (point, repair_first) in enumerate(chosen(points, SOME[backend])):
        root = here / str(number)
        before = build(root, backend)
        with noted(f"{operation} killed at {point}, repair first: {repair_first}, in {root}"):
            assert killing.run(root, operation, point).said == ""
            outcomes.add(after_the_kill(root, operation, before, repair_first))
    assert False in outcomes


def build(root: Path, backend: str) -> State:
    with Store.init(str(root), backend=backend) as store:
        build_volumes(store)
        return state(store)


def after_the_kill(root: Path, operation: str, before: State, repair_first: bool) -> bool:
    """Whether the operation had been done; and all is well again."""
    with Store.open(str(root)) as store:
        if repair_first:
            repair(store)
        elif operation == "volume_fill":
            # Who starts a container never sees what is half-filled.
            volumes.ensure(store, store.container("herd"), {"Volumes": {"/x": {}}})
        seen = state(store)
        was_done = is_done(operation, before, seen)
        assert was_done or is_not_begun(operation, before, seen)
        if not was_done:
            VOLUME_OPERATIONS[operation](store)
            assert is_done(operation, before, state(store))
        if not repair_first:
            repair(store)
        assert is_done(operation, before, state(store))
        assert_sound(store)
    return was_done
