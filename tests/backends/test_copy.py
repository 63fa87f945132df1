"""Copies of trees: exact, whatever is in them, on filesystems that share blocks and that do not."""

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.copy import copy_tree
from backends.errors import BackendError, NoSpace
from backends.tree import TreeChanged
from tests.conftest import mounted, require
from tests.trees import entries, fill, posix_acl


@pytest.fixture(params=["plain", "btrfs", "across"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A source filled with one of everything and an empty target, on one filesystem or on two."""
    where = tmp_path
    with tempfile.TemporaryDirectory(dir=tmp_path) as directory:
        if request.param != "plain":
            where = request.getfixturevalue("btrfs_mount")
        with tempfile.TemporaryDirectory(dir=where) as elsewhere:
            source = Path(directory if request.param == "plain" else elsewhere, "source")
            target = Path(elsewhere if request.param == "btrfs" else directory, "target")
            source.mkdir()
            target.mkdir()
            fill(source)
            yield source, target


def test_a_copy_is_exact(places: tuple[Path, Path]) -> None:
    source, target = places
    copied = copy_tree(str(source), str(target))
    assert entries(target) == entries(source)
    assert copied.entries == len(entries(source)) - 1


def test_access_times_are_copied_and_those_of_the_source_stay(places: tuple[Path, Path]) -> None:
    source, target = places
    shell, copy = source / "bin/sh", target / "bin/sh"
    os.utime(shell, ns=(before := 5_000_000_007, shell.stat().st_mtime_ns))
    copy_tree(str(source), str(target))
    assert shell.stat().st_atime_ns == copy.stat().st_atime_ns == before


def test_holes_stay_holes(places: tuple[Path, Path]) -> None:
    source, target = places
    copy_tree(str(source), str(target))
    copy = (target / "home/user/sparse").stat()
    assert copy.st_size == 16 << 20
    assert copy.st_blocks * 512 < 1 << 20


def test_a_name_that_an_image_gave_twice_is_counted_once_in_bytes(
    places: tuple[Path, Path],
) -> None:
    source, target = places
    copied = copy_tree(str(source), str(target))
    sizes = {
        path.lstat().st_ino: path.lstat().st_size
        for path in source.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert copied.bytes == sum(sizes.values())


def test_on_btrfs_blocks_are_shared(btrfs_mount: Path) -> None:
    with tempfile.TemporaryDirectory(dir=btrfs_mount) as directory:
        source, target = Path(directory, "source"), Path(directory, "target")
        source.mkdir()
        target.mkdir()
        (source / "big").write_bytes(os.urandom(32 << 20))
        os.sync()
        before = os.statvfs(directory).f_bavail
        assert copy_tree(str(source), str(target)).reflinked
        os.sync()
        taken = (before - os.statvfs(directory).f_bavail) * os.statvfs(directory).f_frsize
        assert taken < 8 << 20


def test_a_file_that_cannot_share_blocks_is_copied(btrfs_mount: Path) -> None:
    require("chattr")
    with tempfile.TemporaryDirectory(dir=btrfs_mount) as directory:
        source, target = Path(directory, "source"), Path(directory, "target")
        source.mkdir()
        target.mkdir()
        (source / "nodatacow").touch()
        subprocess.run(["chattr", "+C", source / "nodatacow"], check=True)
        (source / "nodatacow").write_bytes(b"x" * 100_000)
        (source / "ordinary").write_bytes(b"y" * 100_000)
        assert not copy_tree(str(source), str(target)).reflinked
        assert entries(target) == entries(source)


def test_a_file_larger_than_one_call_copies_is_whole(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with (source / "file").open("wb") as file:
        for offset in (0, 200 << 20, (300 << 20) - 3):
            file.seek(offset)
            file.write(os.urandom(70_000))
    copy_tree(str(source), str(target))
    subprocess.run(["cmp", source / "file", target / "file"], check=True)


def test_what_the_target_inherits_is_not_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    fill(source)
    rules = ((0x01, 7, -1), (0x02, 7, 1000), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1))
    os.setxattr(tmp_path, "system.posix_acl_default", posix_acl(*rules))
    tmp_path.chmod(0o2755)
    target.mkdir()
    assert "system.posix_acl_default" in os.listxattr(target)
    copy_tree(str(source), str(target))
    assert entries(target) == entries(source)


def test_links_are_copied_and_never_followed(tmp_path: Path) -> None:
    source, target, outside = (tmp_path / name for name in ("source", "target", "outside"))
    for directory in (source, target, outside):
        directory.mkdir()
    (outside / "secret").write_text("secret")
    (source / "link").symlink_to(outside)
    (source / "file").symlink_to(outside / "secret")
    copy_tree(str(source), str(target))
    assert (target / "link").readlink() == outside
    assert (target / "file").is_symlink()


def test_paths_beyond_path_max_are_copied_with_their_hard_links(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    here = os.open(source, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 100, dir_fd=here)
        here, above = os.open("d" * 100, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.link("deep", source / "shallow", src_dir_fd=here)
    os.link("deep", "other", src_dir_fd=here, dst_dir_fd=here)
    os.close(here)
    copied = copy_tree(str(source), str(target))
    assert copied.entries == 303
    assert (target / "shallow").stat().st_nlink == 3


def test_a_mount_in_the_source_is_descended_into(tmp_path: Path) -> None:
    require("root")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with mounted("tmpfs", Path("none"), source / "inner", "size=1m") as inner:
        (inner / "file").write_text("mounted")
        copy_tree(str(source), str(target))
    assert (target / "inner/file").read_text() == "mounted"


def test_a_tree_that_holds_its_own_copy_is_refused(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "source/pool").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(BackendError, match="'pool': the copy itself"):
        copy_tree(str(tmp_path / "source"), str(tmp_path / "source/pool"))
    inside = tmp_path / "source/pool"
    subprocess.run(["mount", "--bind", tmp_path / "elsewhere", inside], check=True)
    try:
        with pytest.raises(BackendError, match="'pool': the copy itself"):
            copy_tree(str(tmp_path / "source"), str(tmp_path / "elsewhere"))
    finally:
        subprocess.run(["umount", inside], check=True)


def test_a_full_disk_is_no_space(tmp_path: Path) -> None:
    require("root")
    source = tmp_path / "source"
    source.mkdir()
    (source / "big").write_bytes(bytes(1) * (4 << 20))
    with (
        mounted("tmpfs", Path("none"), tmp_path / "small", "size=1m") as small,
        pytest.raises(NoSpace, match="'big'"),
    ):
        copy_tree(str(source), str(small))


def test_what_the_target_cannot_hold_is_an_error(tmp_path: Path) -> None:
    require("root")
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").touch()
    os.setxattr(source / "file", "user.note", b"kept or refused")
    with (
        mounted("ramfs", Path("none"), tmp_path / "bare", "mode=755") as bare,
        pytest.raises(BackendError, match="'file'"),
    ):
        copy_tree(str(source), str(bare))


def test_a_file_swapped_for_a_fifo_or_a_link_under_way_is_never_opened(tmp_path: Path) -> None:
    """Whoever writes in a live tree may swap names at any moment; a copy must not hang or stray."""
    source, outside = tmp_path / "source", tmp_path / "outside"
    source.mkdir()
    outside.write_text("secret")
    names = [source / f"{number}" for number in range(20)]
    for name in names:
        name.write_text("plain")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for name in names:
                aside = source / ".aside"
                aside.symlink_to(outside)
                aside.rename(name)
                os.mkfifo(aside)
                aside.rename(name)
                aside.write_text("plain")
                aside.rename(name)

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for attempt in range(300):
            target = tmp_path / f"target{attempt}"
            target.mkdir()
            try:
                copy_tree(str(source), str(target))
            except TreeChanged:
                continue
            for copy in target.iterdir():
                assert copy.is_symlink() or copy.is_fifo() or copy.read_text() in ("plain", "")
    finally:
        done.set()
        attacker.join()


def test_an_open_socket_is_copied_as_a_socket(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    directory = os.open(source, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(f"/proc/self/fd/{directory}/listening")
        unix.listen()
        copy_tree(str(source), str(target))
    os.close(directory)
    assert (target / "listening").is_socket()
