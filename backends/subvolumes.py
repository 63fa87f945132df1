"""Subvolumes within subvolumes: snapshots leave them out, and the innermost must go first."""

import contextlib
import errno
import os
from collections.abc import Iterator

import btrfsutil

from backends import btrfs_ioctl, flags
from backends.copy import copy_tree
from backends.errors import BackendError
from backends.tree import open_directory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNMOVABLE = flags.IMMUTABLE | flags.APPEND_ONLY


def nested(path: str) -> list[str]:
    """Paths of the subvolumes nested in the one at `path`, outer ones first. Raises OSError."""
    descriptor = os.open(path, _DIRECTORY)
    try:
        found = btrfs_ioctl.nested(descriptor, btrfsutil.subvolume_id(descriptor))
    finally:
        os.close(descriptor)
    return [os.fsdecode(name) for name in found]


def copy_nested(source: str, target: str, inner: str) -> None:
    """Put a reflinked copy of the subvolume `inner` of `source` in place of its stub in `target`.

    `target` is a snapshot of `source` that nobody else writes to; `source` may be in use, and is
    never followed through a link. Raises OSError, BackendError.
    """
    frozen = f"{target}-{os.urandom(4).hex()}"
    with _opened(source, inner) as live:
        btrfsutil.create_snapshot(live, frozen, read_only=True)
    try:
        parent, _, name = inner.rpartition("/")
        with _opened(target, parent) as outer:
            before = os.fstat(outer)
            fixed = flags.change(outer, off=_UNMOVABLE) & _UNMOVABLE
            os.rmdir(name, dir_fd=outer)
            os.mkdir(name, 0o700, dir_fd=outer)
            copy_tree(frozen, f"/proc/self/fd/{outer}/{name}")
            os.utime(outer, ns=(before.st_atime_ns, before.st_mtime_ns))
            flags.change(outer, on=fixed)
    finally:
        destroy(frozen)


def loosen(path: str) -> None:
    """Let the subvolume at `path`, which is to go, be renamed and destroyed: chattr(1) forbids it.

    Raises OSError.
    """
    descriptor = os.open(path, _DIRECTORY)
    try:
        if flags.change(descriptor) & _UNMOVABLE:
            btrfsutil.set_subvolume_read_only(descriptor, False)
            flags.change(descriptor, off=_UNMOVABLE)
    finally:
        os.close(descriptor)


def destroy(path: str) -> None:
    """Destroy the subvolume at `path`, nested ones first; success if another process did.

    Raises BackendError for what is no subvolume, OSError.
    """
    try:
        if not btrfs_ioctl.is_subvolume(path):
            os.lstat(path)
            raise BackendError(f"{path} is not a subvolume: move it out of the pool by hand")
        loosen(path)
        inside = nested(path)
        for inner in inside:
            _loosen_nested(path, inner)
        for inner in reversed(inside):
            parent, _, name = inner.rpartition("/")
            with _opened(path, parent) as outer:
                btrfsutil.delete_subvolume(f"/proc/self/fd/{outer}/{name}")
        btrfsutil.delete_subvolume(path)
    except OSError as error:
        # An error of btrfsutil is an OSError, but never a FileNotFoundError.
        if error.errno != errno.ENOENT:
            raise


def _loosen_nested(path: str, inner: str) -> None:
    """Make a nested subvolume writable, or it would keep its children, and free to go."""
    with _opened(path, inner.rpartition("/")[0]) as outer:
        flags.change(outer, off=_UNMOVABLE)
    with _opened(path, inner) as descriptor:
        btrfsutil.set_subvolume_read_only(descriptor, False)
        flags.change(descriptor, off=_UNMOVABLE)


@contextlib.contextmanager
def _opened(root: str, path: str) -> Iterator[int]:
    """The directory at `path`, of any length, below `root`; no component may be a link."""
    descriptor = open_directory(root, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
