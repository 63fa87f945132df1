"""Paths inside a tree that somebody hostile may have made: no link leads out of it.

Every path is resolved by the kernel with the tree for its root, openat2(2) with RESOLVE_IN_ROOT of
Linux 5.6: a link to /etc/passwd, or to ../../etc/passwd, is the tree's own, whatever is changed
meanwhile. Format of the call: struct open_how, linux/openat2.h.
"""

import ctypes
import errno
import os
import stat

from backends.detached import checked

# The same number on every architecture.
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
_ATTEMPTS = 100


class _OpenHow(ctypes.Structure):
    """struct open_how, linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_inside(tree: int, path: str | bytes, flags: int = os.O_PATH, mode: int = 0) -> int:
    """A descriptor of what is at `path` with the open directory `tree` for its root.

    Links are followed inside the tree, the last one too unless `flags` have O_NOFOLLOW. Raises
    OSError: ELOOP for links in a circle, and whatever open(2) does.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    for attempt in range(_ATTEMPTS):
        try:
            return checked(
                libc.syscall(_SYS_OPENAT2, tree, os.fsencode(path), ctypes.byref(how), size),
                os.fsdecode(path),
            )
        except OSError as error:
            # The kernel saw a rename while it went through "..", and leaves trying again to us.
            if error.errno != errno.EAGAIN or attempt + 1 == _ATTEMPTS:
                raise
    raise AssertionError


def read_inside(tree: int, path: str | bytes, limit: int) -> bytes:
    """The first `limit` bytes of the regular file at `path`, which is not waited for if it is none.

    Raises OSError: EINVAL where it is a fifo, a device or the like.
    """
    # A device is not opened before it is known to be none: opening may act.
    place = open_inside(tree, path)
    try:
        status = os.fstat(place)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), os.fsdecode(path))
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fsdecode(path))
        with open(f"/proc/self/fd/{place}", "rb") as file:
            return file.read(limit)
    finally:
        os.close(place)
