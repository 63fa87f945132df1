"""Subvolumes within subvolumes: snapshots leave them out, and the innermost must go first."""

import errno
import os

import btrfsutil

from backends import btrfs_ioctl
from backends.copy import copy_tree
from backends.errors import BackendError
from backends.tree import open_directory


def nested(path: str) -> list[str]:
    """Paths of the subvolumes nested in the one at `path`, outer ones first. Raises OSError."""
    with btrfsutil.SubvolumeIterator(path) as inner:
        return [name for name, _ in inner]


def copy_nested(source: str, target: str, inner: str) -> None:
    """Put a reflinked copy of the subvolume `inner` of `source` in place of its stub in `target`.

    `target` is a snapshot of `source` that nobody else writes to; `source` may be in use, and is
    never followed through a link. Raises OSError, BackendError.
    """
    frozen = f"{target}-{os.urandom(4).hex()}"
    live = open_directory(source, inner)
    try:
        btrfsutil.create_snapshot(live, frozen, read_only=True)
    finally:
        os.close(live)
    try:
        parent, _, name = inner.rpartition("/")
        outer = open_directory(target, parent)
        try:
            before = os.fstat(outer)
            os.rmdir(name, dir_fd=outer)
            os.mkdir(name, 0o700, dir_fd=outer)
            copy_tree(frozen, f"/proc/self/fd/{outer}/{name}")
            os.utime(outer, ns=(before.st_atime_ns, before.st_mtime_ns))
        finally:
            os.close(outer)
    finally:
        destroy(frozen)


def destroy(path: str) -> None:
    """Destroy the subvolume at `path`, nested ones first; success if another process did.

    Raises BackendError for what is no subvolume, OSError.
    """
    try:
        if not btrfs_ioctl.is_subvolume(path):
            os.lstat(path)
            raise BackendError(f"{path} is not a subvolume: move it out of the pool by hand")
        for inner in nested(path):
            # Within what is being destroyed, a read-only subvolume would keep its children.
            btrfsutil.set_subvolume_read_only(f"{path}/{inner}", False)
        btrfsutil.delete_subvolume(path, recursive=True)
    except OSError as error:
        # An error of btrfsutil is an OSError, but never a FileNotFoundError.
        if error.errno != errno.ENOENT:
            raise
