"""The paths of entries: taken apart, and gone to, whatever their length."""

import errno
import os

from oci.errors import ArchiveError, named

ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What a system call gets where a path leads to nothing."""

_STEP = 4000
"""Bytes of a path that the kernel resolves at once; below PATH_MAX (4096)."""


def split(path: bytes) -> list[bytes]:
    """The components of a path in an archive, relative to the tree; empty for the root."""
    components = [name for name in path.split(b"/") if name and name != b"."]
    if b".." in components:
        raise ArchiveError(f"{named(path)}: '..' in a path is not allowed")
    return components


def change_directory(path: bytes) -> None:
    """chdir(2) to a path of any length; links are followed."""
    while len(path) > _STEP:
        cut = path.rfind(b"/", 1, _STEP)
        if cut < 0:
            break
        os.chdir(path[:cut])
        path = path[cut + 1 :]
    os.chdir(path)


def open_directory(path: bytes) -> int:
    """A descriptor (O_PATH) for the directory at a path of any length; links are followed."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    here = os.open(b".", flags)
    try:
        change_directory(path)
        return os.open(b".", flags)
    finally:
        os.fchdir(here)
        os.close(here)
