"""A read-only view of a directory that leaves nothing behind, whatever becomes of the process.

The calls are open_tree(2) and mount_setattr(2), which need Linux 5.12 and CAP_SYS_ADMIN.
"""

import ctypes
import errno
import os

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_SYS_OPEN_TREE, _SYS_MOUNT_SETATTR = 428, 442  # the same on every architecture
_OPEN_TREE_CLONE = 1  # linux/mount.h, as are the next two
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOUNT_ATTR_RDONLY = 1


class _MountAttr(ctypes.Structure):
    """struct mount_attr, linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def read_only_view(path: str) -> int | None:
    """A descriptor of a read-only mount of `path` that is attached nowhere.

    The mount is gone when the descriptor is closed. None without the privilege or the kernel.
    Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC
    view = -1
    try:
        view = checked(libc.syscall(_SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags), path)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        checked(
            libc.syscall(
                _SYS_MOUNT_SETATTR, view, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size
            ),
            path,
        )
    except OSError as error:
        if view >= 0:
            os.close(view)
        if error.errno not in (errno.EPERM, errno.ENOSYS):
            raise
        return None
    return view


def checked(result: int, path: str) -> int:
    """What a call of the C library returned. Raises OSError, with its errno, if that is -1."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
