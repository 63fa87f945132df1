"""What btrfs quotas count and bound, full ones and simple ones.

A full qgroup counts all that a subvolume refers to, its image too. A simple quota (Linux 6.7)
counts what was first written by the subvolume, so an image costs its clones nothing. Neither is
ever turned on unasked: simple quotas set a flag that older btrfs-progs refuse, full ones are slow.
"""

import contextlib
import os
from collections.abc import Iterator

import btrfsutil

from backends import btrfs_ioctl
from backends.base import Usage
from backends.errors import NotSupported


def mode(path: str) -> str | None:
    """`qgroup`, `squota`, or None where quotas are off, for the filesystem that holds `path`."""
    with _descriptor(path) as descriptor:
        return btrfs_ioctl.quota_mode(btrfs_ioctl.fsid(descriptor))


def enable(path: str) -> None:
    """Turn on simple quotas if no quotas are on. Raises NotSupported before Linux 6.7, OSError."""
    if mode(path) is not None:
        return
    with _descriptor(path) as descriptor:
        try:
            btrfs_ioctl.enable_simple_quota(descriptor)
        except OSError as error:
            raise NotSupported(
                f"this kernel has no simple quotas ({error.strerror}): they need Linux 6.7;"
                " btrfs quota enable turns full quotas on"
            ) from error
    if mode(path) != "squota":
        raise NotSupported("the kernel did not turn simple quotas on")


def usage(path: str) -> Usage:
    """What is counted for the subvolume at `path`. Raises OSError."""
    if mode(path) is None:
        return Usage(None, None)
    with _descriptor(path) as descriptor:
        counted = btrfs_ioctl.qgroup_info(descriptor, btrfsutil.subvolume_id(descriptor))
    return Usage(*counted) if counted else Usage(None, None)


def limit(path: str, size: int | None) -> None:
    """Bound what the subvolume at `path` may add to what it was cloned from; None lifts the bound.

    Quotas are on. Raises OSError.
    """
    with _descriptor(path) as descriptor:
        number = btrfsutil.subvolume_id(descriptor)
        if size is not None and mode(path) == "qgroup":
            counted = btrfs_ioctl.qgroup_info(descriptor, number)
            size += counted.referenced if counted else 0
        btrfs_ioctl.limit_referenced(descriptor, number, size)


def lift(path: str) -> None:
    """Free a new snapshot of the bound that full qgroups let it inherit. Raises OSError."""
    if mode(path) == "qgroup":
        limit(path, None)


@contextlib.contextmanager
def _descriptor(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
