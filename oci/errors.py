"""Errors of images on their way in and out, beside those of the backends; naming of paths."""

import errno
import os

from backends.errors import BackendError, CowshedError, NoSpace, Unavailable
from backends.tree import shown

_LONGEST = 300


class ArchiveError(CowshedError):
    """An archive is damaged, cut short, of an unknown kind, or asks for what is not allowed."""


def named(path: bytes) -> str:
    """`path` as it stands in a message: quoted, on one line, and not a megabyte long."""
    return shown(path) if len(path) <= _LONGEST else f"{shown(path[:_LONGEST])}..."


def explained(error: OSError, path: bytes) -> CowshedError:
    """The error of a system call, as what it means for the entry at `path`."""
    what = named(path)
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        return NoSpace(f"{what}: the disk is full; free some space or use a larger one")
    if error.errno == errno.EDQUOT:
        return NoSpace(f"{what}: the quota is full; raise it")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR):
        return ArchiveError(f"{what}: cannot be made: {reason}")
    if error.errno in (errno.EPERM, errno.EACCES) and os.geteuid() != 0:
        return Unavailable(f"not root: cannot make {what} ({reason}); run as root")
    return BackendError(f"cannot write {what}: {reason}")
