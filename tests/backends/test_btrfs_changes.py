"""What btrfs tells of changes where that is hard: many names, numbers used again, great depth."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import btrfsutil
import pytest

from backends import btrfs_ioctl
from backends.base import Volume
from backends.changes import walk
from tests.backends.btrfs_volumes import World, opened, remount
from tests.conftest import new_btrfs, require
from tests.trees import fill

MANY = 2100
"""More names of one inode than its INODE_REF items in two directories can hold."""


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    require("btrfs")
    with new_btrfs(tmp_path_factory.mktemp("filesystem")) as point:
        yield point


@pytest.fixture
def world(point: Path) -> World:
    return World(point)


def number(path: Path) -> int:
    return path.lstat().st_ino


def since(world: World, image: Volume) -> int:
    """The last transaction of an image."""
    found: int = btrfsutil.subvolume_info(world.tree(image)).otransid
    return found


def replace(path: Path, content: bytes) -> None:
    """Change the content and leave size and modification time as they were."""
    status = path.lstat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# Names


def with_many_names(tree: Path) -> None:
    for directory in ("one", "other"):
        (tree / directory).mkdir()
    (tree / "one/first").write_text("shared")
    for count in range(1, MANY):
        os.link(tree / "one/first", named(tree, count))


def named(tree: Path, count: int) -> Path:
    return tree / ("one", "other")[count % 2] / f"{count:020}"


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (lambda tree: (tree / "one/first").write_text("edited"), MANY),
        (lambda tree: named(tree, 2099).unlink(), MANY),
        (lambda tree: os.link(tree / "one/first", tree / "other/another"), MANY + 1),
        (lambda tree: named(tree, 2000).rename(tree / "other/renamed"), MANY + 1),
        (lambda tree: (tree / "other").rename(tree / "renamed"), MANY),
        (lambda tree: os.utime(tree / "one", ns=(1, 1)), 0),
    ],
    ids=["written", "removed", "added", "renamed", "directory moved", "untouched"],
)
def test_all_of_two_thousand_names_of_a_file_change_with_it(
    world: World, edit: Callable[[Path], object], changed: int
) -> None:
    image = world.image(with_many_names)
    first = number(world.tree(image) / "one/first")
    with opened(world.tree(image)) as root:
        assert list(btrfs_ioctl.search(root, 0, first, btrfs_ioctl.INODE_EXTREF_KEY))
    container = world.clone(image)
    edit(world.tree(container))
    for base, volume in ((image, container), (container, image)):
        changes = world.changes(base, volume)
        assert len([path for path, _ in changes if b"/" in path]) == changed


def test_names_that_are_in_an_older_leaf_than_their_inode_are_found(world: World) -> None:
    def write(tree: Path) -> None:
        (tree / "first").write_text("shared")
        for directory in "abcde":
            (tree / directory).mkdir()
            for count in range(60):
                os.link(tree / "first", tree / directory / f"{count:0>250}")

    image = world.image(write)
    container = world.clone(image)
    replace(world.tree(container) / "c" / f"{7:0>250}", b"edited")
    with world.backend.frozen(container) as tree, opened(tree) as root:
        [inode] = btrfs_ioctl.inodes_since(root, since(world, image))
        assert len(inode.names) < inode.links == 301
        assert len(btrfs_ioctl.names(root, inode.number)) == 301
    assert len(world.changes(image, container)) == 301
    world.agree(image, container)


def linked(tree: Path) -> None:
    """A directory with a file that has another name outside."""
    (tree / "directory").mkdir()
    (tree / "directory/inside").write_text("shared")
    os.link(tree / "directory/inside", tree / "outside")


def test_a_file_changes_when_a_directory_with_another_name_of_it_is_moved(world: World) -> None:
    image = world.image(linked)
    container = world.clone(image)
    tree = world.tree(container)
    (tree / "directory").rename(tree / "moved")
    assert (b"outside", "modified") in world.changes(image, container)
    world.agree(image, container)


def test_a_file_changes_when_a_directory_with_another_name_of_it_is_removed(world: World) -> None:
    image = world.image(linked)
    container = world.clone(image)
    shutil.rmtree(world.tree(container) / "directory")
    expected = [(b"", "modified"), (b"directory", "deleted"), (b"outside", "modified")]
    assert world.changes(image, container) == expected
    world.agree(image, container)


def test_a_directory_in_place_of_another(world: World) -> None:
    def write(tree: Path) -> None:
        for name in ("a", "b"):
            (tree / name).mkdir()
            (tree / name / name).touch()
        for name in ("a", "b"):
            os.utime(tree / name, ns=(1, 1))

    image = world.image(write)
    container = world.clone(image)
    tree = world.tree(container)
    shutil.rmtree(tree / "a")
    (tree / "b").rename(tree / "a")
    assert {(b"a/a", "deleted"), (b"a/b", "added")} < {*world.changes(image, container)}
    world.agree(image, container)


def test_siblings_that_moved_a_directory_into_new_ones_of_the_same_number(world: World) -> None:
    image = world.image(linked)
    one, other = world.clone(image), world.clone(image)
    numbers = []
    for volume, name in ((one, "x"), (other, "y")):
        tree = world.tree(volume)
        (tree / name).mkdir()
        (tree / "directory").rename(tree / name / "directory")
        numbers.append(number(tree / name))
    assert numbers[0] == numbers[1]
    assert (b"outside", "modified") in world.changes(one, other)
    world.agree(one, other)


def test_a_directory_moved_into_a_new_one_of_the_number_that_its_old_one_had(world: World) -> None:
    def write(tree: Path) -> None:
        linked(tree)
        (tree / "x").mkdir()
        (tree / "directory").rename(tree / "x/directory")

    image = world.image(write)
    container = world.clone(image)
    tree = world.tree(container)
    had = number(tree / "x")
    (tree / "x/directory").rename(tree / "directory")
    (tree / "x").rmdir()
    remount(world.point, "noatime")
    (tree / "y").mkdir()
    assert number(tree / "y") == had
    (tree / "directory").rename(tree / "y/directory")
    assert (b"outside", "modified") in world.changes(image, container)
    world.agree(image, container)


def test_siblings_of_which_one_has_a_file_with_the_number_of_a_directory_of_the_other(
    world: World,
) -> None:
    image = world.image(lambda tree: (tree / "gone").mkdir())
    one, other = world.clone(image), world.clone(image)
    (world.tree(one) / "gone/directory").mkdir()
    (world.tree(one) / "gone/directory/file").touch()
    tree = world.tree(other)
    (tree / "gone").rmdir()
    (tree / "file").write_text("shared")
    os.link(tree / "file", tree / "another name")
    assert number(tree / "file") == number(world.tree(one) / "gone/directory")
    world.agree(one, other)


# Numbers


def test_a_number_that_another_file_got_after_a_remount(world: World) -> None:
    image = world.image(lambda tree: (tree / "file").write_bytes(b"before"))
    container = world.clone(image)
    file = world.tree(container) / "file"
    before, above = file.lstat(), file.parent.lstat()
    file.unlink()
    remount(world.point, "noatime")
    file.write_bytes(b"after!")
    for path, status in ((file, before), (file.parent, above)):
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert number(file) == before.st_ino
    assert world.changes(image, container) == [(b"file", "modified")]
    world.agree(image, container)


def test_a_number_of_a_directory_that_a_file_with_two_names_got(world: World) -> None:
    image = world.image(lambda tree: (tree / "a/b").mkdir(parents=True))
    container = world.clone(image)
    tree = world.tree(container)
    had = number(tree / "a/b")
    (tree / "a/b").rmdir()
    (tree / "a").rmdir()
    remount(world.point, "noatime")
    for name in ("f", "g"):
        (tree / name).touch()
        os.link(tree / name, tree / f"another {name}")
    assert had in (number(tree / "f"), number(tree / "g"))
    world.agree(image, container)


def test_a_number_of_a_directory_that_a_file_of_a_sibling_got(world: World) -> None:
    image = world.image(lambda tree: (tree / "directory").mkdir())
    one, other = world.clone(image), world.clone(image)
    (world.tree(one) / "directory").rename(world.tree(one) / "moved")
    tree = world.tree(other)
    had = number(tree / "directory")
    (tree / "directory").rmdir()
    remount(world.point, "noatime")
    (tree / "file").touch()
    assert number(tree / "file") == had
    world.agree(one, other)


def test_siblings_gave_the_same_number_to_different_files(world: World) -> None:
    image = world.image(fill)
    one, other = world.clone(image), world.clone(image)
    for volume, content in ((one, b"1"), (other, b"2")):
        file = world.tree(volume) / "etc/new"
        file.write_bytes(content)
        for path in (file, file.parent):
            os.utime(path, ns=(1, 1))
    assert number(world.tree(one) / "etc/new") == number(world.tree(other) / "etc/new")
    assert world.changes(one, other) == [(b"etc/new", "modified")]
    world.agree(one, other)


# Size and depth


def test_an_edit_below_a_path_that_is_longer_than_any_call_takes(world: World) -> None:
    def write(tree: Path) -> None:
        with deepest(tree, make=True) as here:
            os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=here))

    image = world.image(write)
    container = world.clone(image)
    with deepest(world.tree(container), make=False) as here:
        os.truncate(f"/proc/self/fd/{here}/file", 10)
        os.link(b"file", b"linked", src_dir_fd=here, dst_dir_fd=here)
    bottom = b"/".join([b"d" * 250] * 20)
    edited = [(bottom + b"/file", "modified"), (bottom + b"/linked", "added")]
    assert world.changes(image, container) == [(bottom, "modified"), *edited]
    (world.tree(container) / ("d" * 250)).rename(world.tree(container) / "moved")
    assert len(world.changes(image, container)) == 1 + 1 + 20 + 2


def test_directories_in_directories_that_were_all_moved_are_read_once(world: World) -> None:
    depth = 400

    def write(tree: Path) -> None:
        (tree / "/".join(["d"] * depth)).mkdir(parents=True)

    image = world.image(write)
    container = world.clone(image)
    with ExitStack() as stack:
        here = stack.enter_context(opened(world.tree(container)))
        for _ in range(depth):
            os.rename(b"d", b"e", src_dir_fd=here, dst_dir_fd=here)
            here = stack.enter_context(opened(f"/proc/self/fd/{here}/e"))
    started = time.perf_counter()
    with world.backend.frozen(image) as old, world.backend.frozen(container) as new:
        expected = list(walk(old, new))
    walked = time.perf_counter()
    assert list(world.backend.changes(container, image)) == expected
    assert time.perf_counter() - walked < 5 * (walked - started) + 0.2


@contextmanager
def deepest(tree: Path, *, make: bool) -> Iterator[int]:
    """The directory at the bottom of twenty with long names, open."""
    with ExitStack() as stack:
        here = stack.enter_context(opened(tree))
        for _ in range(20):
            if make:
                os.mkdir(b"d" * 250, dir_fd=here)
            here = os.open(b"d" * 250, os.O_RDONLY, dir_fd=here)
            stack.callback(os.close, here)
        yield here


def test_one_more_among_five_thousand(world: World) -> None:
    def write(tree: Path) -> None:
        (tree / "wide").mkdir()
        for count in range(5000):
            (tree / f"wide/{count}").touch()

    image = world.image(write)
    container = world.clone(image)
    (world.tree(container) / "wide/new").touch()
    assert world.changes(image, container) == [(b"wide", "modified"), (b"wide/new", "added")]


def test_the_root_alone(world: World) -> None:
    image = world.image(fill)
    container, other = world.clone(image), world.clone(image)
    world.tree(container).chmod(0o711)
    os.setxattr(world.tree(other), "user.x", b"1")
    for volume in (image, other):
        assert world.changes(volume, container) == [(b"", "modified")]


# Changes that are none


def test_reading_every_file_changes_nothing(world: World) -> None:
    image = world.image(fill)
    container = world.clone(image)
    remount(world.point, "relatime")
    file = world.tree(container) / "etc/passwd"
    before = file.stat().st_atime_ns
    for path in world.tree(container).rglob("*"):
        if path.is_dir():
            list(path.iterdir())
        elif path.is_file():
            path.read_bytes()
    assert file.stat().st_atime_ns > before
    assert world.changes(image, container) == []
    remount(world.point, "noatime")


def test_a_removed_file_that_is_still_open_is_no_change_to_the_commit(world: World) -> None:
    image = world.image(fill)
    container = world.clone(image)
    tree = world.tree(container)
    with (tree / "bin/sh").open("rb"), (tree / "new").open("wb") as new:
        new.write(bytes(1 << 20))
        for name in ("new", "bin/sh", "bin/bash", "var/another name"):
            (tree / name).unlink()
        committed = world.commit(container)
        world.agree(image, committed)
        world.agree(container, committed)
    world.close()
