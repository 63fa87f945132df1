"""The one ioctl of ZFS whose answer no command gives as it is, and nothing else: no policy.

Layouts: zfs_cmd_t and dmu_diff_record_t in include/sys/zfs_ioctl.h, the number in
include/sys/fs/zfs.h of OpenZFS. What is used of them is the same in all releases from 2.0 to 2.4;
from 2.4 on the header refuses to be compiled with another size.
"""

import fcntl
import os
import struct

_IOC_DIFF = 0x5A36
_CMD_SIZE = 1 << 16  # more than any zfs_cmd_t: the kernel knows how much of it to copy
_NAME_SIZE = 4096  # MAXPATHLEN
_ZC_NAME, _ZC_VALUE, _ZC_COOKIE = 0, 4144, 12616
_DIFF_RECORD = struct.Struct("=QQQ")  # ddr_type, ddr_first, ddr_last
_DDR_INUSE = 2


def objects_since(later: str, earlier: str) -> list[range]:
    """The numbers of the objects of a snapshot that may have changed since an earlier one.

    `later` descends from `earlier`, also as a clone of what does. ZFS writes an object's dnode
    whenever anything of it has changed, and in blocks, which hold up to 32: these are the objects
    in the blocks that were written since.

    Raises OSError: ENOENT where a snapshot is not there, EXDEV where `later` does not descend from
    `earlier`, EPERM without privilege or the `diff` delegation.
    """
    command = bytearray(_CMD_SIZE)
    for at, name in ((_ZC_NAME, later), (_ZC_VALUE, earlier)):
        command[at : at + _NAME_SIZE] = os.fsencode(name).ljust(_NAME_SIZE, b"\0")
    # Any file serves. This one takes all there is, so that nobody need read it meanwhile.
    with (
        os.fdopen(os.memfd_create("dmu_diff"), "rb") as told,
        open("/dev/zfs", "rb", buffering=0) as device,
    ):
        struct.pack_into("=Q", command, _ZC_COOKIE, told.fileno())
        fcntl.ioctl(device, _IOC_DIFF, command)
        told.seek(0)
        return [
            range(first, last + 1)
            for kind, first, last in _DIFF_RECORD.iter_unpack(told.read())
            if kind == _DDR_INUSE
        ]
