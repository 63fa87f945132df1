"""The two-tree walk, case by case."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.changes import Change, ChangesError, walk
from backends.copy import copy_tree
from tests.conftest import require
from tests.trees import difference, entries, fill

MARGIN = 20_000_000
"""Nanoseconds by which a ctime may lag behind the clock."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A tree with one of everything."""
    tree = tmp_path / "base"
    tree.mkdir()
    fill(tree)
    return tree


@pytest.fixture
def volume(tmp_path: Path, base: Path) -> Path:
    """A copy of `base`."""
    tree = tmp_path / "volume"
    tree.mkdir()
    copy_tree(str(base), str(tree))
    return tree


def changes(base: Path | None, volume: Path, settled: int = 0) -> list[tuple[bytes, str]]:
    return list(walk(str(base) if base else None, str(volume), settled=settled))


@contextlib.contextmanager
def untouched(path: Path) -> Iterator[None]:
    """Restore the modification time of `path` afterwards."""
    status = path.lstat()
    yield
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def test_equal_trees_have_no_changes(base: Path, volume: Path) -> None:
    assert changes(base, volume) == []


def test_against_nothing_all_below_the_root_is_added(base: Path) -> None:
    assert changes(None, base) == difference(None, entries(base))


def test_the_root_is_the_empty_path(base: Path, volume: Path) -> None:
    volume.chmod(0o700)
    assert changes(base, volume) == [(b"", "modified")]


def test_a_file_of_the_same_size_and_time_with_other_content_is_modified(
    base: Path, volume: Path
) -> None:
    passwd = volume / "etc/passwd"
    with untouched(passwd):
        passwd.write_text(passwd.read_text().swapcase())
    assert changes(base, volume) == [(b"etc/passwd", "modified")]


def test_a_difference_behind_a_hole_is_found(base: Path, volume: Path) -> None:
    sparse = volume / "home/user/sparse"
    with untouched(sparse), sparse.open("r+b") as file:
        file.seek((12 << 20) + 5)
        file.write(b"x")
    assert changes(base, volume) == [(b"home/user/sparse", "modified")]


def test_a_hole_and_written_zeros_are_the_same_content(base: Path, volume: Path) -> None:
    sparse = volume / "home/user/sparse"
    with untouched(sparse), sparse.open("r+b") as file:
        file.write(bytes(4 << 20))
    assert changes(base, volume) == []


@pytest.mark.parametrize("path", ["etc/passwd", "bin/self", "var/empty", "var/fifo", ""])
def test_an_extended_attribute_alone_is_a_change(base: Path, volume: Path, path: str) -> None:
    require("root")
    os.setxattr(volume / path, "trusted.new", b"1", follow_symlinks=False)
    linked = [b"etc/linked link"] if path == "bin/self" else []
    assert changes(base, volume) == [(p, "modified") for p in sorted([path.encode(), *linked])]


def test_the_value_of_an_extended_attribute_is_compared(base: Path, volume: Path) -> None:
    os.setxattr(volume / "etc/passwd", "user.note", b"\x00binary\xfe")
    assert changes(base, volume) == [(b"etc/passwd", "modified")]


@pytest.mark.parametrize("path", ["etc/passwd", "etc/absolute", "var/empty", "var/fifo", ""])
def test_a_modification_time_alone_is_a_change(base: Path, volume: Path, path: str) -> None:
    now = (volume / path).lstat().st_mtime_ns
    os.utime(volume / path, ns=(0, now + 1), follow_symlinks=False)
    assert changes(base, volume) == [(path.encode(), "modified")]


@pytest.mark.parametrize("path", ["etc/passwd", "etc/absolute", "var/empty", "var/fifo", ""])
@pytest.mark.parametrize("owner", [(77, -1), (-1, 77)])
def test_an_owner_alone_is_a_change(
    base: Path, volume: Path, path: str, owner: tuple[int, int]
) -> None:
    require("root")
    os.lchown(volume / path, *owner)
    assert changes(base, volume) == [(path.encode(), "modified")]


def test_a_file_cut_short_within_the_same_modification_time_is_modified(
    base: Path, volume: Path
) -> None:
    with untouched(volume / "etc/passwd"):
        os.truncate(volume / "etc/passwd", 10)
    assert changes(base, volume) == [(b"etc/passwd", "modified")]
    assert changes(volume, base) == [(b"etc/passwd", "modified")]


def test_a_link_target_of_the_same_length_is_a_change(base: Path, volume: Path) -> None:
    link = volume / "etc/absolute"
    parent, time_of_link = volume / "etc", link.lstat().st_mtime_ns
    with untouched(parent):
        link.unlink()
        link.symlink_to("/bin")
    os.utime(link, ns=(0, time_of_link), follow_symlinks=False)
    assert changes(base, volume) == [(b"etc/absolute", "modified")]


def test_a_device_number_is_a_change(base: Path, volume: Path) -> None:
    require("root")
    null = volume / "var/null"
    status = null.lstat()
    with untouched(volume / "var"):
        null.unlink()
        os.mknod(null, status.st_mode, os.makedev(1, 5))
    null.chmod(status.st_mode & 0o7777)
    os.utime(null, ns=(0, status.st_mtime_ns))
    assert changes(base, volume) == [(b"var/null", "modified")]


def test_access_times_are_not_compared_and_not_changed(base: Path, volume: Path) -> None:
    require("root")
    os.utime(volume / "bin/sh", ns=(5, (volume / "bin/sh").stat().st_mtime_ns))
    subprocess.run(["mount", "--bind", volume, volume], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,strictatime", volume], check=True)
        assert changes(base, volume) == []
        assert (volume / "bin/sh").stat().st_atime_ns == 5
    finally:
        subprocess.run(["umount", volume], check=True)


def test_a_deleted_directory_is_one_change(base: Path, volume: Path) -> None:
    shutil.rmtree(volume / "home")
    assert changes(base, volume) == [(b"", "modified"), (b"home", "deleted")]


def test_an_added_directory_is_added_with_all_in_it(base: Path, volume: Path) -> None:
    (volume / "new/deep").mkdir(parents=True)
    (volume / "new/deep/file").touch()
    found = [(b"", "modified")]
    found += [(path, "added") for path in (b"new", b"new/deep", b"new/deep/file")]
    assert changes(base, volume) == found


def test_a_directory_that_became_a_file_is_one_change(base: Path, volume: Path) -> None:
    shutil.rmtree(volume / "home")
    (volume / "home").touch()
    assert changes(base, volume) == [(b"", "modified"), (b"home", "modified")]


def test_a_file_that_became_a_directory_is_modified_and_all_in_it_added(
    base: Path, volume: Path
) -> None:
    (volume / "etc/passwd").unlink()
    (volume / "etc/passwd").mkdir()
    (volume / "etc/passwd/x").touch()
    assert changes(base, volume) == [
        (b"etc", "modified"),
        (b"etc/passwd", "modified"),
        (b"etc/passwd/x", "added"),
    ]


def test_a_renamed_directory_is_deleted_and_all_in_it_added(base: Path, volume: Path) -> None:
    (volume / "etc").rename(volume / "conf")
    found = changes(base, volume)
    assert (b"etc", "deleted") in found
    assert (b"conf/passwd", "added") in found
    assert found == difference(entries(base), entries(volume))


def test_a_hard_link_added_is_added_and_its_other_names_are_modified(
    base: Path, volume: Path
) -> None:
    with untouched(volume):
        os.link(volume / "etc/passwd", volume / "link")
    assert changes(base, volume) == [(b"etc/passwd", "modified"), (b"link", "added")]


def test_a_name_lost_with_its_directory_changes_the_names_that_stay(
    base: Path, volume: Path
) -> None:
    require("root")
    with untouched(volume / "bin"), untouched(volume / "etc"):
        shutil.rmtree(volume / "var")
    assert changes(base, volume) == [
        (b"", "modified"),
        (b"bin/bash", "modified"),
        (b"bin/sh", "modified"),
        (b"var", "deleted"),
    ]


def test_links_that_were_parted_with_the_same_content_are_modified(
    base: Path, volume: Path
) -> None:
    bash = volume / "bin/bash"
    with untouched(volume / "bin"):
        shutil.copy2(bash, volume / "bin/copy")
        os.chown(volume / "bin/copy", bash.stat().st_uid, bash.stat().st_gid)
        (volume / "bin/copy").rename(bash)
    found = {path for path, _ in changes(base, volume)}
    assert found == {b"bin/bash", b"bin/sh", b"var/another name"}


def test_links_that_swap_partners_are_modified(tmp_path: Path) -> None:
    for tree, pairs in (("one", "ab cd"), ("two", "ad cb")):
        (tmp_path / tree).mkdir()
        for first, second in pairs.split():
            (tmp_path / tree / first).touch()
            os.utime(tmp_path / tree / first, ns=(1, 1))
            os.link(tmp_path / tree / first, tmp_path / tree / second)
        os.utime(tmp_path / tree, ns=(1, 1))
    found = changes(tmp_path / "one", tmp_path / "two")
    assert found == [(name, "modified") for name in (b"a", b"b", b"c", b"d")]


def test_a_link_from_outside_the_tree_is_no_change(
    base: Path, volume: Path, tmp_path: Path
) -> None:
    os.link(volume / "etc/passwd", tmp_path / "outside")
    assert changes(base, volume) == []


def test_order_is_that_of_the_bytes_of_whole_paths(tmp_path: Path) -> None:
    for name in ("a", "a.b", "a-", "a0", "a b", "A"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    found = [path for path, _ in changes(None, tmp_path)]
    assert found == sorted(found)
    assert found.index(b"a.b") < found.index(b"a/x")


def test_stubs_are_absent_on_their_side(base: Path, volume: Path) -> None:
    (volume / "stub").mkdir()
    (volume / "stub/inner").touch()
    os.utime(volume, ns=(1, 1))
    stub = (volume / "stub").stat().st_ino
    assert list(walk(str(base), str(volume), is_stub=lambda status: status.st_ino == stub)) == []
    assert list(walk(str(volume), str(base), is_stub=lambda status: status.st_ino == stub)) == []


def test_paths_beyond_path_max_are_compared(tmp_path: Path) -> None:
    depth = 5000
    for tree in ("one", "two"):
        _dig(tmp_path / tree, depth)
    deepest = Change(b"/".join([b"d" * 20] * depth + [b"file"]), "modified")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, limit[1]))
    try:
        found = changes(tmp_path / "one", tmp_path / "two")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        subprocess.run(["rm", "-r", tmp_path / "one", tmp_path / "two"], check=True)
    assert found[-1] == deepest
    assert len(found) == 1


def _dig(top: Path, depth: int) -> None:
    """Directories one in another, and a file at the bottom that differs from tree to tree."""
    top.mkdir()
    levels = [os.open(top, os.O_RDONLY)]
    for _ in range(depth):
        os.mkdir(b"d" * 20, dir_fd=levels[-1])
        levels.append(os.open(b"d" * 20, os.O_RDONLY, dir_fd=levels[-1]))
        if len(levels) > 2:
            os.close(levels.pop(0))
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=levels[-1]))
    os.utime("file", ns=(1, ord(top.name[0])), dir_fd=levels[-1])
    os.utime(levels[-1], ns=(1, 1))
    for _ in range(depth):
        levels.append(os.open("..", os.O_RDONLY, dir_fd=levels[-1]))
        os.utime(levels[-1], ns=(1, 1))
        os.close(levels.pop(0))
    for level in levels:
        os.close(level)


def test_a_tree_that_cannot_be_read_is_an_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ChangesError, match="missing"):
        changes(base, tmp_path / "missing")


def test_a_directory_that_its_reader_may_not_list_is_an_error(base: Path) -> None:
    require("root")
    (base / "etc").chmod(0o700)
    program = (
        "import os, sys\n"
        "from backends.changes import ChangesError, walk\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgroups([])\n"
        "os.setresgid(12345, 12345, 12345)\n"
        "os.setresuid(12345, 12345, 12345)\n"
        "try: list(walk(None, '.'))\n"
        "except ChangesError as error: print(error)"
    )
    argv = [sys.executable, "-c", program, base]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "cannot compare .: 'etc': Permission denied\n"


def test_an_entry_that_vanishes_under_way_is_an_error(base: Path) -> None:
    found = walk(None, str(base))
    assert next(found) == (b"bin", "added")
    shutil.rmtree(base / "home")
    with pytest.raises(ChangesError, match="changed while it was read"):
        list(found)


def test_a_directory_moved_away_under_way_is_an_error_and_no_way_out(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    inner = tree / "/".join(["d"] * 150)
    inner.mkdir(parents=True)
    (inner / "file").touch()
    found = walk(None, str(tree))
    while next(found).path.count(b"/") < 149:
        pass
    (tree / "d/d").rename(tmp_path / "elsewhere")
    with pytest.raises(ChangesError, match=r"moved|changed"):
        list(found)


def test_memory_stays_flat_on_one_huge_directory_and_on_hard_links(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "z").mkdir()
    for number in range(20_000):
        (tmp_path / f"a/{number:060}").touch()
        os.link(tmp_path / f"a/{number:060}", tmp_path / f"z/{number:060}")
    program = (
        "import resource, sys\n"
        "from backends.changes import walk\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert not any(walk(sys.argv[1], sys.argv[1]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 24 << 10


@pytest.fixture
def snapshot(btrfs_mount: Path) -> Iterator[tuple[Path, Path, int]]:
    """A subvolume, its snapshot, and the moment at which they parted, less a margin."""
    import btrfsutil

    with tempfile.TemporaryDirectory(dir=btrfs_mount) as directory:
        base, volume = Path(directory, "base"), Path(directory, "volume")
        btrfsutil.create_subvolume(str(base))
        fill(base)
        time.sleep(2 * MARGIN / 1e9)
        settled = time.time_ns() - MARGIN
        btrfsutil.create_snapshot(str(base), str(volume))
        yield base, volume, settled
        for tree in (base, volume):
            btrfsutil.delete_subvolume(str(tree))


def test_an_inode_untouched_since_the_snapshot_is_not_read(
    snapshot: tuple[Path, Path, int],
) -> None:
    base, volume, settled = snapshot
    program = (
        "import sys\n"
        "from backends.changes import walk\n"
        "sys.addaudithook(lambda event, args: print(event, args)"
        " if event == 'os.getxattr' or event == 'open' and b'/proc/self/fd' in args[0] else None)\n"
        "print(list(walk(sys.argv[1], sys.argv[2], settled=int(sys.argv[3]))))"
    )
    argv = [sys.executable, "-c", program, base, volume, str(settled)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_in_a_snapshot_a_renamed_directory_changes_the_other_names_of_its_files(
    snapshot: tuple[Path, Path, int],
) -> None:
    base, volume, settled = snapshot
    (volume / "var").rename(volume / "variable")
    found = changes(base, volume, settled)
    assert (b"bin/sh", "modified") in found
    assert found == difference(entries(base), entries(volume))
