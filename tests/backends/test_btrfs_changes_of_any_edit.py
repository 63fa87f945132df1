"""Any history of volumes on btrfs: what changed is told exactly, and without reading all.

Of pairs of volumes, in both directions, four must agree: the engine, the walk of both trees, the
slow oracle, and a tree rebuilt from the changes. There are a few histories by default;
COWSHED_EXAMPLES=2000 asks for so many.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import zip_longest
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.base import CONTAINERS
from tests.backends.btrfs_volumes import World, cut_power, remount, run
from tests.conftest import new_btrfs, require
from tests.edits import BTRFS_EDIT, BTRFS_MAKING, FILES, PATHS, Script, do, make, perform

EXAMPLES = int(os.environ.get("COWSHED_EXAMPLES", "40"))
SMALL = 512 << 20
OPTIONS = "strictatime"
"""An access time is written with everything that is read."""

ANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(ANY, max_examples=-(-EXAMPLES // 4))
UPKEEP = st.sampled_from(
    ["nothing"] * 8 + ["remount"] * 4 + ["sync"] * 2 + ["balance", "defragment", "scrub"]
)
"""What administrators do to a filesystem meanwhile."""


def keep_up(world: World, what: str) -> None:
    if what == "sync":
        run("btrfs", "filesystem", "sync", world.point)
    elif what == "remount":
        remount(world.point, OPTIONS)
    elif what == "balance":
        run("btrfs", "balance", "start", "-m", "-d", world.point)
    elif what == "scrub":
        run("btrfs", "scrub", "start", "-B", world.point)
    elif what == "defragment":
        for found in world.backend.volumes():
            if found.volume.kind == CONTAINERS:
                run("btrfs", "filesystem", "defragment", "-r", world.tree(found.volume))


def with_upkeep(world: World, tree: Path, script: Script, what: str) -> None:
    """Perform the script, and in the midst of it keep up the filesystem."""
    middle = len(script) // 2
    perform(tree, script[:middle])
    keep_up(world, what)
    perform(tree, script[middle:])


def in_turn(one: Path, script: Script, other: Path, another: Script) -> None:
    """Edit two trees in one transaction, a step here and a step there."""
    for step, counter in zip_longest(script, another):
        if step is not None:
            do(one, step)
        if counter is not None:
            do(other, counter)


def alike(script: Script, other: Script) -> Script:
    """The same operations on the same paths, but with other second paths as far as there are."""
    return [
        (operation, path, elsewhere)
        for (operation, path, _), (_, _, elsewhere) in zip(script, other, strict=False)
    ]


@contextmanager
def in_use(tree: Path, *, really: bool) -> Iterator[None]:
    """Keep all files and directories open: what is removed stays in the subvolume, nameless."""
    with ExitStack() as stack:
        for path in tree.rglob("*") if really else ():
            if stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                stack.callback(os.close, os.open(path, os.O_RDONLY))
        yield


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require("btrfs")
    with new_btrfs(tmp_path_factory.mktemp("filesystem")) as point:
        remount(point, OPTIONS)
        yield point


@pytest.fixture
def disk(btrfs_mount: Path, tmp_path: Path) -> Iterator[Path]:
    """A btrfs whose disk is a file on another, of which a copy costs nothing."""
    directory = btrfs_mount / tmp_path.name
    directory.mkdir()
    with new_btrfs(directory, SMALL) as point:
        remount(point, OPTIONS)
        yield point


@ANY
@given(BTRFS_MAKING, BTRFS_EDIT, BTRFS_EDIT, st.booleans(), st.booleans(), UPKEEP)
def test_siblings_that_change_in_one_transaction(
    point: Path,
    making: Script,
    edit: Script,
    counter: Script,
    similar: bool,
    busy: bool,
    upkeep: str,
) -> None:
    with closing(World(point)) as world:
        image = world.image(lambda tree: make_and_edit(tree, making))
        one, other = world.clone(image), world.clone(image)
        counter = alike(edit, counter) if similar else counter
        with in_use(world.tree(one), really=busy):
            in_turn(world.tree(one), edit, world.tree(other), counter)
            committed = world.commit(one)
            world.agree(image, one)
            world.agree(image, committed)
            world.agree(one, other)
        keep_up(world, upkeep)
        in_turn(world.tree(one), counter, world.tree(other), edit)
        world.agree(one, other)
        world.agree(committed, one)
        world.agree(committed, other)


@ANY
@given(BTRFS_MAKING, st.tuples(*[BTRFS_EDIT] * 4), st.tuples(*[UPKEEP] * 3))
def test_a_line_of_images_each_committed_from_a_container_of_the_last(
    point: Path,
    making: Script,
    edits: tuple[Script, Script, Script, Script],
    upkeep: tuple[str, str, str],
) -> None:
    with closing(World(point)) as world:
        image = world.image(lambda tree: make_and_edit(tree, making))
        sibling, container = world.clone(image), world.clone(image)
        with_upkeep(world, world.tree(container), edits[0], upkeep[0])
        child = world.commit(container)
        world.backend.remove(container)
        container = world.clone(child)
        with_upkeep(world, world.tree(container), edits[1], upkeep[1])
        world.agree(child, container)
        grandchild = world.commit(container)
        world.backend.remove(container)
        container = world.clone(grandchild)
        with_upkeep(world, world.tree(container), edits[2], upkeep[2])
        perform(world.tree(sibling), edits[3])
        world.agree(image, grandchild)
        world.agree(image, container)
        world.agree(sibling, container)


@FEW
@given(BTRFS_MAKING, BTRFS_EDIT, BTRFS_EDIT, st.lists(st.tuples(st.integers(0, 30), PATHS)))
def test_a_power_cut_after_some_files_were_synchronized(
    disk: Path, making: Script, edit: Script, counter: Script, synced: list[tuple[int, bytes]]
) -> None:
    with closing(World(disk)) as world:
        image = world.image(lambda tree: make_and_edit(tree, making))
        one, other = world.clone(image), world.clone(image)
        for position, path in synced:
            edit = [*edit[:position], ("fsync", path, path), *edit[position:]]
        in_turn(world.tree(one), [*edit, ("fsync", FILES[0], b"")], world.tree(other), counter)
        cut_power(disk, OPTIONS)
        world.agree(image, one)
        world.agree(one, other)
        perform(world.tree(one), counter)
        world.agree(image, one)
        world.agree(one, other)


def make_and_edit(tree: Path, making: Script) -> None:
    make(tree)
    perform(tree, making)
