"""What changed between volumes on ZFS is told exactly, and without reading all.

Of every pair of volumes, in both directions, three must agree: the engine, the walk of both trees,
and the slow oracle. There are a few histories by default; COWSHED_EXAMPLES=200 asks for so many.
"""

import contextlib
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends import zfs_changes, zfs_ioctl
from backends.base import LAYERS, STAGING, Volume
from backends.changes import ADDED, DELETED, MODIFIED, walk
from backends.zfs import ZfsBackend
from tests.backends.zfs_volumes import everything, home, zfs
from tests.contract.conftest import container, layer, new
from tests.edits import DIRECTORIES, EDIT, FILES, LOW, MAKING, Script, perform
from tests.trees import difference, entries

pytestmark = pytest.mark.zfs

DNODES = 32
"""How many a block of them holds."""

EXAMPLES = int(os.environ.get("COWSHED_EXAMPLES", "3"))

Told = list[tuple[str, str]]


class World:
    """The volumes of one history; all are removed at the end."""

    def __init__(self, backend: ZfsBackend) -> None:
        self.backend = backend
        self.notes: list[str] = []
        backend.note = self.notes.append

    def commit(self, volume: Volume) -> Volume:
        sealed = new(LAYERS)
        self.backend.snapshot(volume, sealed)
        return sealed

    @contextlib.contextmanager
    def tree(self, volume: Volume) -> Iterator[Path]:
        with self.backend.open(volume) as tree:
            yield Path(tree)

    def edit(self, volume: Volume, script: Script) -> None:
        with self.tree(volume) as tree:
            perform(tree, script)

    def told(self, volume: Volume, base: Volume) -> Told:
        """What the engine says; that the kernel had been asked, and nothing gone wrong, is seen."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = list(self.backend.changes(volume, base))
        assert self.notes == []
        return [(os.fsdecode(change.path), change.kind) for change in found]

    def agree(self, one: Volume, other: Volume) -> Told:
        """See that what is told of the two, in both directions, is what is the case.

        Returns the changes from `one` to `other`.
        """
        forth, back = self.told(other, one), self.told(one, other)
        with self.backend.frozen(one) as a, self.backend.frozen(other) as b:
            before, after = entries(a), entries(b)
            assert list(walk(a, b)) == difference(before, after)
            assert list(walk(b, a)) == difference(after, before)
        assert forth == [(os.fsdecode(path), kind) for path, kind in difference(before, after)]
        assert back == [(os.fsdecode(path), kind) for path, kind in difference(after, before)]
        return forth

    def close(self) -> None:
        for found in list(self.backend.volumes()):
            assert found.problem is None
            self.backend.remove(found.volume)


@pytest.fixture
def world(backend: ZfsBackend) -> Iterator[World]:
    with contextlib.closing(World(backend)) as world:
        yield world


@settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
@given(MAKING, st.tuples(EDIT, EDIT, EDIT, EDIT), st.booleans(), st.booleans())
def test_any_history_is_told_exactly(
    shared: ZfsBackend, making: Script, edits: tuple[Script, ...], waits: bool, directory: bool
) -> None:
    before = everything(shared)
    with contextlib.closing(World(shared)) as world:

        def fill(tree: Path) -> None:
            spread(tree)
            perform(tree, making)
            if waits:
                grow_older()

        image = layer(shared, fill)
        one, other = container(shared, image), container(shared, image)
        for volume in (one, other) if directory else ():
            zfs("set", "xattr=dir", shared.location(volume))
        world.edit(one, edits[0])
        world.edit(other, edits[1])
        world.agree(one, other)
        middle = world.commit(one)
        world.edit(one, edits[2])
        world.agree(middle, one)
        last = container(shared, world.commit(one))
        shared.remove(middle)
        shared.remove(one)
        world.edit(last, edits[3])
        world.agree(image, last)
        world.agree(world.commit(last), other)
    assert everything(shared) == before


def spread(top: Path) -> None:
    """What `make` makes, each entry in a block of dnodes of its own, as in a tree of any size.

    ZFS says which blocks were written, so that in one block all are suspects.
    """
    root, aside = os.fsencode(top), top / "aside"
    aside.mkdir()

    def apart() -> None:
        for _ in range(2 * DNODES):
            os.mkfifo(aside / secrets.token_hex(8))

    for directory in DIRECTORIES:
        os.makedirs(os.path.join(root, directory))
        apart()
    for path in FILES[:-1]:
        with open(os.path.join(root, path), "xb") as file:
            file.write(b"some content")
            os.setxattr(file.fileno(), "user.x", b"1")
        apart()
    os.link(os.path.join(root, b"a/f"), os.path.join(root, FILES[-1]))
    shutil.rmtree(aside)


def grow_older() -> None:
    """Wait until what is here is older than a snapshot, whose time is in whole seconds."""
    time.sleep(1.2)


@contextlib.contextmanager
def an_hour_earlier() -> Iterator[int]:
    """Set the clock back, while the context lasts, to a moment (ns) before all that is here."""
    begun, past = time.monotonic_ns(), time.time_ns()
    try:
        yield past - 3_600_000_000_000
    finally:
        time.clock_settime_ns(time.CLOCK_REALTIME, past + time.monotonic_ns() - begun)


# Where two volumes have parted


def test_volumes_are_compared_through_whatever_snapshot_is_left_of_their_origin(
    world: World,
) -> None:
    backend = world.backend
    image = layer(backend, spread)
    web = container(backend, image)
    layers = []
    for number in range(4):
        with world.tree(web) as tree:
            (tree / f"new{number}").write_text("1")
        layers.append(world.commit(web))
    sibling = container(backend, layers[1])
    with world.tree(sibling) as tree:
        (tree / "sibling").write_text("1")
    one, three = ("new2", ADDED), ("new3", ADDED)
    told = [("", MODIFIED), one, three, ("sibling", DELETED)]
    assert world.agree(sibling, layers[3]) == told
    assert world.told(web, sibling) == told
    # No layer is left of which both were cloned.
    for gone in (layers[1], image, layers[0]):
        backend.remove(gone)
    assert world.told(layers[3], sibling) == world.told(web, sibling) == told
    backend.remove(web)
    assert world.told(layers[3], sibling) == told
    assert world.agree(layers[2], layers[3]) == [("", MODIFIED), three]


@pytest.mark.parametrize("instead", ["a file", "nothing"])
def test_what_one_sibling_removed_and_the_other_wrote_below_is_told(
    world: World, instead: str
) -> None:
    def deep(top: Path) -> None:
        for name in ("a", "a/b", "a/b/c"):
            Path(top, name).mkdir()
            # So that the next is in another block of dnodes.
            for number in range(64):
                Path(top, f"{name.replace('/', '-')}-{number}").touch()
        Path(top, "a/b/c/f").write_text("f")

    image = layer(world.backend, deep)
    one, other = container(world.backend, image), container(world.backend, image)
    with world.tree(one) as tree:
        shutil.rmtree(tree / "a/b")
        if instead == "a file":
            (tree / "a/b").write_text("no directory")
    with world.tree(other) as tree:
        (tree / "a/b/c/new").write_text("new")
    assert ("a/b/c", ADDED) in world.agree(one, other)


def test_volumes_without_a_common_origin_are_walked_and_that_is_told(world: World) -> None:
    image, web = layer(world.backend, spread), container(world.backend)
    with world.tree(web) as tree:
        spread(tree)
    found = list(world.backend.changes(web, image))
    assert (b"a/f", MODIFIED) in found
    [note] = world.notes
    assert note == f"{web} and {image} have no common origin: both are read"


def test_where_the_kernel_does_not_say_it_the_trees_are_walked_with_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layer(world.backend, spread)
    web = container(world.backend, image)
    world.edit(web, [("forge", b"a/f", b"other")])
    told = world.agree(image, web)
    assert told

    def refuse(*names: str) -> list[range]:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(zfs_ioctl, "objects_since", refuse)
    with pytest.warns(match="does not say what was changed .not permitted.: both trees are read"):
        found = list(world.backend.changes(web, image))
    assert [(os.fsdecode(change.path), change.kind) for change in found] == told


def test_a_commit_that_takes_the_snapshot_along_meanwhile_does_not_matter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = layer(world.backend, spread)
    web = container(world.backend, image)
    world.edit(web, [("write", b"a/f", b"other")])
    told = world.agree(image, web)
    asked: list[str] = []
    ask = zfs_ioctl.objects_since

    def commit_and_ask(later: str, earlier: str) -> list[range]:
        if not asked:
            world.commit(web)
        asked.append(later)
        return ask(later, earlier)

    monkeypatch.setattr(zfs_ioctl, "objects_since", commit_and_ask)
    assert world.told(web, image) == told
    assert len(set(asked)) == 2


def test_only_what_was_written_is_suspected(world: World) -> None:
    backend = world.backend

    def fill(tree: Path) -> None:
        for directory in range(20):
            (tree / f"{directory}/deep/er").mkdir(parents=True)
            for file in range(50):
                (tree / f"{directory}/deep/er/{file}").write_text("1")

    image = layer(backend, fill)
    web = container(backend, image)
    with world.tree(web) as tree:
        (tree / "7/deep/er/7").write_text("2")
    committed = world.commit(web)
    pool = home(backend).partition("/")[0]
    sources = [f"{backend.location(volume)}@{volume.id}" for volume in (image, committed)]
    with backend.open(image) as before, backend.open(committed) as after:
        trees = zfs_changes.Tree(before, sources[0]), zfs_changes.Tree(after, sources[1])
        parted = zfs_changes.parted(pool, *trees)
        assert parted is not None and parted.hints is not None
        assert os.lstat(f"{after}/7/deep/er/7").st_ino in parted.hints.suspects
    assert len(parted.hints.suspects) < 100
    assert world.agree(image, committed) == [("7/deep/er/7", MODIFIED)]


# What `zfs diff` does not tell, or not right


def in_between(world: World, making: Script, edit: Script) -> Told:
    """What is told of a container of an image so made that was edited so."""

    def fill(tree: Path) -> None:
        spread(tree)
        perform(tree, making)

    image = layer(world.backend, fill)
    web = container(world.backend, image)
    world.edit(web, edit)
    return world.agree(image, web)


def test_a_name_added_to_a_file_is_told_with_all_that_it_has(world: World) -> None:
    told = in_between(world, [], [("link", b"a/b/f", b"a.b/new")])
    assert told == [("a.b", MODIFIED), ("a.b/new", ADDED), ("a/b/f", MODIFIED)]


def test_a_name_taken_from_a_file_is_told_with_all_that_it_had(world: World) -> None:
    told = in_between(world, [("link", b"a/f", b"a.b/g")], [("remove", b"a.b/g", b"")])
    assert [path for path, _ in told] == ["a-/f", "a.b", "a.b/g", "a/f"]


def test_names_that_change_places_between_files_are_told(world: World) -> None:
    """Two files of two names each, in four directories, of which one name each is swapped."""
    making = [("link", b"a/g", b"a.b/g"), ("link", b"a/b/g", b"a/b/c/g")]
    told = in_between(world, making, [("swap", b"a.b/g", b"a/b/c/g")])
    assert {"a/g", "a.b/g", "a/b/g", "a/b/c/g"} <= {path for path, _ in told}


def test_a_moved_directory_changes_the_files_that_have_names_elsewhere_too(world: World) -> None:
    making = [("link", b"a/b/c/f", b"a-/g")]
    told = in_between(world, making, [("rename", b"a/b", b"a.b/b")])
    assert ("a-/g", MODIFIED) in told
    assert ("a.b/b/c/f", ADDED) in told


def test_directories_that_change_places_change_the_files_that_have_names_elsewhere(
    world: World,
) -> None:
    making = [("link", b"a/b/c/f", b"a-/g"), ("mkdir", b"a.b/b/c", b"")]
    told = in_between(world, making, [("swap", b"a/b", b"a.b/b")])
    assert ("a-/g", MODIFIED) in told


def test_a_directory_above_that_is_moved_counts_though_it_holds_only_directories(
    world: World,
) -> None:
    making = [("link", b"a/b/c/f", b"a-/g"), ("mkdir", b"x/y", b""), ("rename", b"a/b", b"x/y/b")]
    told = in_between(world, making, [("rename", b"x", b"z")])
    assert told[:2] == [("", MODIFIED), ("a-/g", MODIFIED)]


def test_names_of_every_byte_are_told_as_they_are(world: World) -> None:
    names = [LOW, bytes(range(128, 256)), b" ", b"\\0040", b" -> ", b"(on_delete_queue)", b"\t\n"]
    names += [b"<xattrdir>", b"n" * 255]
    making = [("mkdir", b"odd", b""), *(("write", b"odd/" + name, b"") for name in names)]
    told = in_between(world, making, [("write", b"odd/" + name, b"new") for name in names])
    assert told == [(os.fsdecode(b"odd/" + name), MODIFIED) for name in sorted(names)]


@pytest.mark.parametrize("kind", ["symlink", "fifo", "socket", "device", "turn"])
def test_a_file_that_became_something_else_is_told(world: World, kind: str) -> None:
    told = in_between(world, [], [(kind, b"a/f", b"other"), (kind, b"a/b/g", b"other")])
    assert {("a/f", MODIFIED), ("a/b/g", MODIFIED)} <= set(told)


def test_a_directory_that_became_a_file_is_told(world: World) -> None:
    told = in_between(world, [], [("turn", b"a/b", b"other")])
    assert ("a/b", MODIFIED) in told
    assert "a/b/c" not in {path for path, _ in told}


def test_what_was_removed_while_it_was_open_is_gone(world: World) -> None:
    image = layer(world.backend, spread)
    web = container(world.backend, image)
    with contextlib.ExitStack() as stack:
        tree = stack.enter_context(world.tree(web))
        for path in ("a/g", "a/f"):
            stack.enter_context((tree / path).open("r+")).write("written afterwards")
            (tree / path).unlink()
        (tree / "new").write_text("1")
        stack.enter_context((tree / "new").open())
        (tree / "new").unlink()
        committed = world.commit(web)
        for volume in (web, committed):
            told = world.agree(image, volume)
            assert ("a/g", DELETED) in told
            assert "new" not in {path for path, _ in told}


@pytest.mark.parametrize("kept", ["sa", "dir"])
@pytest.mark.parametrize("size", [3, 40_000])
def test_attributes_alone_are_told(world: World, kept: str, size: int) -> None:
    """A long value is kept in a hidden file of its own, and so is every one with xattr=dir."""
    backend = world.backend

    def fill(tree: Path) -> None:
        spread(tree)
        for name in ("a/f", "a/g", "a/b"):
            os.setxattr(tree / name, "user.long", b"1" * size)
        grow_older()

    staging = backend.location(Volume(STAGING, "")).removesuffix("/")
    zfs("set", f"xattr={kept}", staging)
    try:
        image = layer(backend, fill)
    finally:
        zfs("set", "xattr=sa", staging)
    web = container(backend, image)
    zfs("set", f"xattr={kept}", backend.location(web))
    with world.tree(web) as tree:
        os.setxattr(tree / "a/f", "user.long", b"2" * size)
        os.removexattr(tree / "a/g", "user.long")
        os.setxattr(tree / "a.b", "user.long", b"1" * size)
        os.setxattr(tree / "a/b", "user.long", b"1" * size + b"2")
    told = world.agree(image, web)
    assert [path for path, _ in told] == ["a-/f", "a.b", "a/b", "a/f", "a/g"]
    committed = world.commit(web)
    with world.tree(web) as tree:
        os.setxattr(tree / "a.b", "user.long", b"3" * size)
    assert world.agree(committed, web) == [("a.b", MODIFIED)]


def test_a_file_that_was_made_longer_is_told_though_its_ctime_is_the_same(world: World) -> None:
    """As ZFS has it when fallocate(2) does that."""

    def fill(tree: Path) -> None:
        spread(tree)
        grow_older()

    image = layer(world.backend, fill)
    web = container(world.backend, image)
    with world.tree(web) as tree:
        before = (tree / "a/g").stat()
        with (tree / "a/g").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, before.st_size + 1)
        assert (tree / "a/g").stat().st_ctime_ns == before.st_ctime_ns
    assert world.agree(image, web) == [("a/g", MODIFIED)]


def test_what_only_one_of_two_siblings_wrote_is_told(world: World) -> None:
    image = layer(world.backend, spread)
    one, other = container(world.backend, image), container(world.backend, image)
    world.edit(one, [("forge", b"a/f", b"other")])
    world.edit(other, [("forge", b"a.b/f", b"other"), ("remove", b"a/b/g", b"")])
    told = world.agree(one, other)
    assert [path for path, _ in told] == ["a-/f", "a.b/f", "a/b", "a/b/g", "a/f"]


def test_content_that_changed_under_the_same_size_and_times_is_told(world: World) -> None:
    """Two siblings write at one moment, by a clock that is slow."""
    image = layer(world.backend, spread)
    one, other = container(world.backend, image), container(world.backend, image)
    with world.tree(one) as a, world.tree(other) as b, an_hour_earlier() as past:
        here, there = a / "a/b/g", b / "a/b/g"
        for _ in range(1000):
            for path, text in ((here, "1"), (there, "2")):
                time.clock_settime_ns(time.CLOCK_REALTIME, past)
                path.write_text(text)
                os.utime(path, ns=(1, 1))
            if here.stat().st_ctime_ns == there.stat().st_ctime_ns:
                break
        else:
            pytest.fail("the clock is too fine")
    assert world.agree(one, other) == [("a/b/g", MODIFIED)]


def test_a_number_that_another_file_has_now_is_no_sign_of_the_same(world: World) -> None:
    def write(path: Path, text: str) -> int:
        path.write_text(text)
        os.utime(path, ns=(1, 1))
        return path.stat().st_ino

    def fill(tree: Path) -> None:
        for number in range(200):
            write(tree / f"{number}", "1")

    image = layer(world.backend, fill)
    web = container(world.backend, image)
    with world.tree(web) as tree:
        old = {path.stat().st_ino: path.name for path in tree.iterdir()}
        for name in old.values():
            (tree / name).unlink()
    # Mounted again, it looks for free numbers from the first on.
    with world.tree(web) as tree:
        for turn in range(5000):
            number = write(tree / "new", "2")
            if number in old:
                (tree / "new").rename(tree / old[number])
                break
            (tree / "new").rename(tree / f"other{turn}")
        else:
            pytest.fail("no number is used again")
    assert (old[number], MODIFIED) in world.agree(image, web)


def test_a_path_of_any_depth_is_told(world: World) -> None:
    """It is longer than the buffer into which the kernel writes one without a look at its size."""
    name, levels = b"d" * 250, 300

    def go_down(tree: Path) -> int:
        here = os.open(tree, os.O_RDONLY)
        for _ in range(levels):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        return here

    def write(tree: Path, file: str, text: str) -> None:
        here = go_down(tree)
        with open(os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC, dir_fd=here), "w") as opened:
            opened.write(text)
        os.close(here)

    image = layer(world.backend, lambda tree: write(tree, "f", "1"))
    web = container(world.backend, image)
    with world.tree(web) as tree:
        write(tree, "f", "2")
        write(tree, "new", "2")
    deep = "/".join([name.decode()] * levels)
    assert world.told(web, image) == [
        (deep, MODIFIED), (f"{deep}/f", MODIFIED), (f"{deep}/new", ADDED)
    ]  # fmt: skip
    with world.backend.frozen(web) as after, world.backend.open(image) as before:
        assert len(list(walk(before, after))) == 3


def test_a_read_is_no_change_though_it_is_written_down(world: World) -> None:
    image = layer(world.backend, spread)
    web = container(world.backend, image)
    zfs("set", "atime=on", "relatime=off", world.backend.location(web))
    with world.tree(web) as tree:
        for path in tree.rglob("*"):
            if path.is_file():
                path.read_bytes()
    assert world.agree(image, web) == []


def test_large_dnodes_are_counted_right(world: World) -> None:
    """Where attributes may take more room in a dnode, the numbers of objects have gaps."""
    dataset = home(world.backend)
    zfs("set", "dnodesize=1k", dataset)
    try:
        told = in_between(
            world,
            [("write", b"a/%d" % number, b"1") for number in range(40)],
            [("write", b"a/7", b"22"), ("remove", b"a/8", b""), ("xattr", b"a/30", b"new")],
        )
    finally:
        zfs("inherit", "dnodesize", dataset)
    assert [path for path, _ in told] == ["a", "a/30", "a/7", "a/8"]
