"""libzfs_core, for the one step of which the command costs too much. Not in py-libzfs.

`zfs clone` first reads all that there is to know of the snapshot, the names of all its clones too:
the thousandth costs ten times what the first did. The call that makes the clone does not. It is
part of the library's stable interface (lib/libzfs_core/libzfs_core.c, lzc_clone), which the zfs
command itself is linked to.
"""

import ctypes
import errno
import functools
import os
from collections.abc import Mapping

from backends.libzfs import run
from backends.libzfs.enums import DatasetType, Error
from backends.libzfs.errors import ZFSException
from backends.libzfs.names import check

_UNIQUE_NAME = 1
"""NV_UNIQUE_NAME of include/sys/nvpair.h."""

# As libzfs takes them: zfs_standard_error in lib/libzfs/libzfs_util.c.
_ERRORS = {
    errno.EPERM: Error.PERM,
    errno.EACCES: Error.PERM,
    errno.ENOENT: Error.NOENT,
    errno.EEXIST: Error.EXISTS,
    errno.EXDEV: Error.CROSSTARGET,
    errno.ENOSPC: Error.NOSPC,
    errno.EDQUOT: Error.NOSPC,
    errno.EBUSY: Error.BUSY,
    errno.EROFS: Error.POOLREADONLY,
    errno.EAGAIN: Error.POOLUNAVAIL,
    errno.EIO: Error.IO,
    errno.ENOTSUP: Error.BADVERSION,
    errno.EINVAL: Error.BADPROP,
    errno.E2BIG: Error.BADPROP,
    errno.ENAMETOOLONG: Error.NAMETOOLONG,
}


@functools.cache
def _libraries() -> tuple[ctypes.CDLL, ctypes.CDLL] | None:
    """libnvpair and libzfs_core, ready for calls; None where they are not or cannot be used."""
    try:
        pairs, core = ctypes.CDLL("libnvpair.so.3"), ctypes.CDLL("libzfs_core.so.3")
    except OSError:
        return None
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    pairs.nvlist_alloc.argtypes = [ctypes.POINTER(pointer), ctypes.c_uint, ctypes.c_int]
    pairs.nvlist_add_string.argtypes = [pointer, text, text]
    pairs.nvlist_free.argtypes = [pointer]
    core.lzc_clone.argtypes = [text, text, pointer]
    return None if core.libzfs_core_init() else (pairs, core)


def clone(snapshot: str, name: str, properties: Mapping[str, str] | None = None) -> None:
    """Make the dataset `name` a clone of a snapshot, with user properties; nothing is mounted.

    Raises ZFSException: NOENT (the snapshot, or what `name` is to be in), EXISTS, NOSPC,
    CROSSTARGET (another pool), BADPROP.
    """
    check(name, "create", DatasetType.FILESYSTEM, DatasetType.VOLUME)
    check(snapshot, "clone", DatasetType.SNAPSHOT)
    given = properties or {}
    libraries = _libraries()
    if libraries is None:
        # It knows why ZFS is not to be had, too.
        run.run(["zfs", "clone", *run.options(given), snapshot, name])
        return
    pairs, core = libraries
    listed = ctypes.c_void_p()
    if pairs.nvlist_alloc(ctypes.byref(listed), _UNIQUE_NAME, 0):
        raise MemoryError
    try:
        for key, value in given.items():
            if "\0" in key + value:
                message = f"cannot create {name!r}: the property {key!r} holds a zero byte"
                raise ZFSException(Error.BADPROP, message)
            if pairs.nvlist_add_string(listed, os.fsencode(key), os.fsencode(value)):
                raise MemoryError
        run.log.debug("%s", ["lzc_clone", snapshot, name])
        failed = core.lzc_clone(os.fsencode(name), os.fsencode(snapshot), listed)
    finally:
        pairs.nvlist_free(listed)
    if failed:
        code = _ERRORS.get(failed, Error.UNKNOWN)
        raise ZFSException(code, f"cannot create {name!r}: {os.strerror(failed)}")
