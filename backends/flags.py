"""The flags of an inode that chattr(1) sets. Source: linux/fs.h, FS_IOC_GETFLAGS and FS_*_FL."""

import errno
import fcntl
import struct

IMMUTABLE = 0x10
APPEND_ONLY = 0x20
NO_COW = 0x800000

_GET, _SET = 0x80086601, 0x40086602
_FLAGS = struct.Struct("i")
_HAS_NONE = (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL)


def change(descriptor: int, *, on: int = 0, off: int = 0) -> int:
    """Turn flags on and off; returns those that were on before, 0 where there are no flags.

    Raises OSError.
    """
    try:
        answer = fcntl.ioctl(descriptor, _GET, bytes(8))
        before: int = _FLAGS.unpack_from(answer)[0]
        after = (before | on) & ~off
        if after != before:
            fcntl.ioctl(descriptor, _SET, _FLAGS.pack(after))
    except OSError as error:
        if error.errno not in _HAS_NONE:
            raise
        return 0
    return before
