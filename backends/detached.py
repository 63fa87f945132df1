"""Mounts that are attached nowhere and leave nothing behind, whatever becomes of the process.

Such a mount is a descriptor: other processes reach its tree as /proc/PID/fd/N, no mount table lists
it, and it ends when the last user lets it go. The calls need CAP_SYS_ADMIN; they are fsopen(2),
fsconfig(2), fsmount(2) and move_mount(2) of Linux 5.2, open_tree(2), and mount_setattr(2) of 5.12.
"""

import ctypes
import errno
import os

AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
# The same numbers on every architecture.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = range(428, 433)
_SYS_MOUNT_SETATTR = 442
# linux/mount.h
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_MOUNT_ATTR_RDONLY = 1


class _MountAttr(ctypes.Structure):
    """struct mount_attr, linux/mount.h."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def path_of(view: int) -> str:
    """The path of a mount that this process holds.

    By number and not "self", so that programs that are started here find it too.
    """
    return f"/proc/{os.getpid()}/fd/{view}"


def read_only_view(path: str) -> int | None:
    """A descriptor of a read-only mount of the directory `path`.

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


def filesystem(kind: str, source: str, *, read_only: bool = False) -> int:
    """A descriptor of a mount of `source`, a filesystem of that kind.

    Raises OSError: ENODEV where the kernel has no such kind, and what its mount raises.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    context = checked(libc.syscall(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC), source)
    try:
        named = b"source", os.fsencode(source)
        checked(libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, *named, 0), source)
        if read_only:
            flag = b"ro", None
            checked(libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_FLAG, *flag, 0), source)
        checked(libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), source)
        attributes = _MOUNT_ATTR_RDONLY if read_only else 0
        return checked(libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), source)
    finally:
        os.close(context)


def attach(view: int, point: str) -> None:
    """Attach the mount at the directory `point`, where it stays. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    target = AT_FDCWD, os.fsencode(point)
    checked(libc.syscall(_SYS_MOVE_MOUNT, view, b"", *target, _MOVE_MOUNT_F_EMPTY_PATH), point)


def sync_filesystem(path: str) -> None:
    """Have all that was written to the filesystem of the directory on disk, in one call.

    Dirty pages of memory maps are written too. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        checked(ctypes.CDLL(None, use_errno=True).syncfs(descriptor), path)
    finally:
        os.close(descriptor)


def checked(result: int, path: str) -> int:
    """What a call of the C library returned. Raises OSError, with its errno, if that is -1."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), path)
    return result
