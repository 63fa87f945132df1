"""A process killed at every step of an operation: what is seen afterwards is the old or the new.

COWSHED_CRASH_ALL=1 kills at every system call that changes the disk, and both looks at once and
repairs first; without it, at some of them, evenly chosen, by turns.
"""

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagegraph import splits
from imagegraph.check import check
from imagegraph.model import Problem
from imagegraph.store import Store
from oci.identity import identify, write_tar
from tests.conftest import require
from tests.crash import killing
from tests.crash.killing import Point
from tests.crash.scene import OPERATIONS, State, build, done, state
from tests.store.scenes import add_image, assert_sound, contents, loopback_root, names, tags


@pytest.fixture(autouse=True)
def nobody_else_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` need not wait for records that others may be about to write."""
    monkeypatch.setattr("imagegraph.check.PAUSE", 0.005)


ALL = bool(os.environ.get("COWSHED_CRASH_ALL"))
SOME = {"btrfs": 24, "vfs": 10, "zfs": 2}


@pytest.fixture(autouse=True)
def strace() -> None:
    require("strace")


ZFS = pytest.param("zfs", marks=pytest.mark.zfs)


@pytest.fixture(params=["btrfs", "vfs", ZFS])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def here(request: pytest.FixtureRequest, backend: str, tmp_path: Path) -> Path:
    """A directory for stores on the backend."""
    mount = request.getfixturevalue("zfs_mount" if backend == "zfs" else "btrfs_mount")
    path = Path(mount, tmp_path.name)
    path.mkdir()
    return path


def chosen(points: list[Point], most: int) -> list[tuple[Point, bool]]:
    """The points to kill at, and whether to repair before anything else is done."""
    if ALL:
        return list(itertools.product(points, (False, True)))
    step = max(1.0, len(points) / most)
    some = [points[int(number * step)] for number in range(min(most, len(points)))]
    return [(point, bool(turn % 2)) for turn, point in enumerate(some)]


@contextmanager
def noted(what: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(what)
        raise


CASES = [(backend, operation) for backend in ("btrfs", "vfs") for operation in OPERATIONS]
ON_ZFS = [
    pytest.param("zfs", operation, marks=pytest.mark.zfs)
    for operation in ("import_small", "load", "create", "commit_plain", "rmi", "rm")
]


@pytest.mark.parametrize(("backend", "operation"), [*CASES, *ON_ZFS])
def test_killed_at_any_step_it_is_done_or_not_begun(
    here: Path, backend: str, operation: str
) -> None:
    build(here / "watched", backend)
    points = killing.points(here / "watched", operation)
    assert points
    outcomes = set()
    for number, (point, repair_first) in enumerate(chosen(points, SOME[backend])):
        root = here / str(number)
        build(root, backend)
        with Store.open(str(root)) as store:
            before = state(store)
        with noted(f"{operation} killed at {point}, repair first: {repair_first}, in {root}"):
            assert killing.run(root, operation, point).said == ""
            outcomes.add(after_the_kill(root, operation, before, repair_first))
    assert False in outcomes


def after_the_kill(root: Path, operation: str, before: State, repair_first: bool) -> bool:
    """Whether the operation had been done; and all is well again."""
    is_done = done(operation, before)
    with Store.open(str(root)) as store:
        seen = state(store)
        was_done = is_done(seen)
        assert was_done or seen == before
        if repair_first:
            repair(store)
            assert state(store) == seen
        if not was_done:
            OPERATIONS[operation](store)
            assert is_done(state(store))
        if not repair_first:
            repair(store)
        assert was_done or is_done(state(store))
        assert_sound(store)
    return was_done


def repair(store: Store) -> list[Problem]:
    """Repair, and see that it is enough; a child of the killed process may live on a little."""
    end = time.monotonic() + 10
    problems = check(store, repair=True)
    while store.graph.undone() and time.monotonic() < end:
        time.sleep(0.05)
        problems = check(store, repair=True)
    assert [problem for problem in problems if not problem.repaired] == []
    assert [problem for problem in problems if "does not know" in problem.what] == []
    assert_sound(store)
    return problems


def test_when_the_child_that_writes_the_tree_is_killed_the_import_is_undone(
    here: Path, backend: str
) -> None:
    build(here / "watched", backend)
    points = [point for point in killing.points(here / "watched", "import_small") if point.in_child]
    assert points
    for number, (point, _) in enumerate(chosen(points, min(5, SOME[backend]))):
        root = here / str(number)
        build(root, backend)
        with Store.open(str(root)) as store:
            before = state(store)
            with noted(f"killed at {point}"):
                outcome = killing.run(root, "import_small", point)
                assert "the process that writes the tree was ended by SIGKILL" in outcome.errors
                assert state(store) == before
                assert_sound(store)


def test_killed_while_it_makes_digests_it_makes_them_the_next_time(
    here: Path, backend: str
) -> None:
    build(here / "watched", backend)
    points = killing.points(here / "watched", "identify")
    assert points
    for number, (point, repair_first) in enumerate(chosen(points, SOME[backend])):
        root = here / str(number)
        build(root, backend)
        with Store.open(str(root)) as store:
            before = state(store)
        killing.run(root, "identify", point)
        with Store.open(str(root)) as store, noted(f"killed at {point}"):
            if repair_first:
                repair(store)
            assert state(store) == before
            image = identify(store, store.image("top:1"))
            for layer in store.graph.chain(image.layer):
                write_tar(store, layer, lambda piece: None)
            repair(store)
            assert len(os.listdir(root / splits.DIRECTORY)) == 3


@pytest.mark.parametrize("backend", ["btrfs", "vfs", "loopback", ZFS])
def test_killed_while_it_is_made_a_store_can_be_made_again(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    operation = f"init-{backend}"
    where = tmp_path if backend == "loopback" else request.getfixturevalue("here")
    with loopback_root(where) as root:
        points = killing.points(root, operation)
    for number, (point, _) in enumerate(chosen(points, min(10, SOME.get(backend, 10)))):
        (where / str(number)).mkdir()
        with loopback_root(where / str(number)) as root, noted(f"killed at {point}"):
            killing.run(root, operation, point)
            with Store.init(str(root), backend=backend) as store:
                image = add_image(store, {"a": b"1"}, "base:1")
                repair(store)
                assert contents(store, image) == {"a": b"1"}
                assert tags(store) == {"base:1": image.id} and names(store) == set()
