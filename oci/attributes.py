"""Times and extended attributes of an inode, set exactly or refused with a reason.

A `place` is a descriptor, or a name that is not followed if it is a link.
"""

import errno
import os

from backends.errors import NoSpace, NotSupported, Unavailable
from oci import acl
from oci.errors import ArchiveError, named
from oci.tarheader import Entry

_COMMON_TIMES = (1 << 31) * 1_000_000_000
"""Nanoseconds since the epoch; every filesystem can store the times from 0 up to here."""

_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


def set_times(place: int | bytes, times: tuple[int, int], path: bytes) -> None:
    """Set the times, and make sure of those that some filesystems clamp."""
    if isinstance(place, int):
        os.utime(place, ns=times)
    else:
        os.utime(place, ns=times, follow_symlinks=False)
    if 0 <= times[1] < _COMMON_TIMES:
        return
    status = os.fstat(place) if isinstance(place, int) else os.lstat(place)
    if status.st_mtime_ns != times[1]:
        raise NotSupported(
            f"{named(path)}: this filesystem cannot store the time {times[1] // 1_000_000_000} "
            "(seconds since 1970)"
        )


def set_xattr(place: int | bytes, name: bytes, value: bytes, path: bytes) -> None:
    try:
        os.setxattr(place, name, value, follow_symlinks=isinstance(place, int))
    except OSError as error:
        what = f"{named(path)}: the extended attribute {name.decode(errors='backslashreplace')!r}"
        if error.errno == errno.EOPNOTSUPP:
            raise NotSupported(f"{what} cannot be stored on this filesystem") from error
        if error.errno in (errno.EINVAL, errno.ERANGE, errno.E2BIG, errno.ENAMETOOLONG):
            raise ArchiveError(f"{what} has no valid name or value") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"{what} ({len(value)} bytes) does not fit on the filesystem") from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise Unavailable(f"{what} cannot be set by this user; run as root") from error
        raise


def drop_attributes_beside(name: bytes, entry: Entry) -> None:
    """Remove the attributes that an existing directory has and the entry has not, and its ACLs.

    A directory gets its ACLs in the end, so that nothing made in it until then inherits them. The
    SELinux label stays, which a kernel with SELinux gives to every file by itself.
    """
    for attribute in os.listxattr(name, follow_symlinks=False):
        key = os.fsencode(attribute)
        if key in acl.ATTRIBUTES or key not in (*entry.xattrs, b"security.selinux"):
            os.removexattr(name, key, follow_symlinks=False)


def drop_inherited_acls(place: int | bytes) -> None:
    for attribute in acl.ATTRIBUTES:
        try:
            os.removexattr(place, attribute, follow_symlinks=isinstance(place, int))
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise


def has_default_acl() -> bool:
    try:
        os.getxattr(b".", acl.DEFAULT)
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
        return False
    return True
