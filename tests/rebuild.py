"""Rebuild a tree on a clone of its base from the changes alone, which shows that they are all.

Content is taken from the volume for the paths that the changes name, and for no others. A
directory that they do not name keeps its modification time, whatever is done to its entries.
"""

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from backends.changes import DELETED, Change
from backends.tree import by_name, lstat, open_directory, xattrs

_STUB = 2  # BTRFS_EMPTY_SUBVOL_DIR_OBJECTID


def rebuild(clone: str | Path, volume: str | Path, changes: Sequence[Change]) -> None:
    """Make the tree at `clone`, which is the base, into that at `volume`."""
    paths = {change.path for change in changes}
    unnamed = {change.path.rpartition(b"/")[0] for change in changes if change.path} - paths
    times = {path: _mtime(clone, path) for path in unnamed}
    for path, kind in reversed(changes):
        if kind == DELETED or not (_is_directory(clone, path) and _is_directory(volume, path)):
            _remove(clone, path)
    first: dict[int, bytes] = {}
    made: Counter[int] = Counter()
    there = [change.path for change in changes if change.kind != DELETED]
    for path in there:
        with _place(volume, path) as (source, name), _place(clone, path) as (target, _):
            status = lstat(name, source)
            if stat.S_ISDIR(status.st_mode):
                if not _is_directory(clone, path):
                    os.mkdir(name, dir_fd=target)
                continue
            made[status.st_ino] += 1
            if status.st_ino in first:
                with _place(clone, first[status.st_ino]) as (above, linked):
                    os.link(
                        linked, name, src_dir_fd=above, dst_dir_fd=target, follow_symlinks=False
                    )
            else:
                first[status.st_ino] = path
                _make(source, target, name, status)
            assert made[status.st_ino] <= status.st_nlink
    for number, path in first.items():
        with _place(volume, path) as (source, name):
            links = lstat(name, source).st_nlink
        assert made[number] == links, f"{path!r} has {links} names, {made[number]} in the changes"
    for path in reversed(there):
        _copy_metadata(volume, clone, path)
    for path, time in times.items():
        with _place(clone, path) as (above, name):
            os.utime(name, ns=(time, time), dir_fd=above)


@contextmanager
def _place(tree: str | Path, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory that the entry is in, open, and its name there; of the root itself and a dot.

    The path may be longer than any call takes.
    """
    above, _, name = path.rpartition(b"/")
    directory = open_directory(str(tree), above)
    try:
        yield directory, name or b"."
    finally:
        os.close(directory)


def _is_directory(tree: str | Path, path: bytes) -> bool:
    try:
        with _place(tree, path) as (above, name):
            status = lstat(name, above)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_ino != _STUB


def _mtime(tree: str | Path, path: bytes) -> int:
    with _place(tree, path) as (above, name):
        return lstat(name, above).st_mtime_ns


def _remove(tree: str | Path, path: bytes) -> None:
    """Remove what there is; the stub of a subvolume is in the way of what is added."""
    try:
        with _place(tree, path) as (above, name):
            if stat.S_ISDIR(lstat(name, above).st_mode):
                shutil.rmtree(name, dir_fd=above)
            else:
                os.unlink(name, dir_fd=above)
    except (FileNotFoundError, NotADirectoryError):
        pass


def _make(source: int, target: int, name: bytes, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with (
            open(os.open(name, os.O_RDONLY, dir_fd=source), "rb") as read,
            open(os.open(name, flags, 0o600, dir_fd=target), "wb") as written,
        ):
            shutil.copyfileobj(read, written)
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)


def _copy_metadata(volume: str | Path, clone: str | Path, path: bytes) -> None:
    with _place(volume, path) as (source, name), _place(clone, path) as (target, _):
        status = lstat(name, source)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        wanted, there = xattrs(by_name(name, source)), by_name(name, target)
        for key in xattrs(there).keys() - wanted.keys():
            os.removexattr(there, key, follow_symlinks=False)
        for key, value in wanted.items():
            os.setxattr(there, key, value, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
