"""The btrfs ioctls that btrfsutil lacks, and nothing else: no policy, no paths, only descriptors.

Layouts: linux/btrfs.h and linux/btrfs_tree.h; every structure names its C counterpart. All
functions raise OSError.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

SUPER_MAGIC = 0x9123683E  # linux/magic.h: BTRFS_SUPER_MAGIC
FIRST_FREE_OBJECTID = 256  # the inode number of every subvolume's root
EMPTY_SUBVOL_DIR_OBJECTID = 2  # the inode number of a nested subvolume's stub in a snapshot
QUOTA_TREE_OBJECTID = 8
QGROUP_INFO_KEY = 242
ROOT_TREE_OBJECTID = 1
ROOT_REF_KEY = 156
INODE_REF_KEY = 12

_WRITE, _READ = 1, 2
_FS_INFO_SIZE = 1024  # struct btrfs_ioctl_fs_info_args
_QUOTA_CTL = struct.Struct("=QQ")  # struct btrfs_ioctl_quota_ctl_args: cmd, status
_QGROUP_LIMIT = struct.Struct(
    "=QQQQQQ"
)  # btrfs_ioctl_qgroup_limit_args: qgroupid, btrfs_qgroup_limit
_SEARCH_KEY = struct.Struct("=QQQQQQQIIII32x")  # struct btrfs_ioctl_search_key
_SEARCH_HEADER = struct.Struct("=QQQII")  # struct btrfs_ioctl_search_header
_QGROUP_INFO = struct.Struct("<QQQQQ")  # struct btrfs_qgroup_info_item

_ROOT_REF = struct.Struct("<QQH")  # struct btrfs_root_ref, and the name
_INODE_REF = struct.Struct("<QH")  # struct btrfs_inode_ref, and the name
_SEARCH_ROOM = 65536
_MOST_ITEMS = 1 << 20

QUOTA_CTL_ENABLE_SIMPLE_QUOTA = 4
QGROUP_LIMIT_MAX_RFER = 1
UNLIMITED = (1 << 64) - 1


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0x94 << 8 | number


_IOC_TREE_SEARCH_V2 = _ioc(_READ | _WRITE, 17, 112)
_IOC_FS_INFO = _ioc(_READ, 31, _FS_INFO_SIZE)
_IOC_QUOTA_CTL = _ioc(_READ | _WRITE, 40, _QUOTA_CTL.size)
_IOC_QGROUP_LIMIT = _ioc(_READ, 43, _QGROUP_LIMIT.size)


class QgroupInfo(NamedTuple):
    """struct btrfs_qgroup_info_item: bytes referenced and exclusive of one qgroup."""

    referenced: int
    exclusive: int


class Item(NamedTuple):
    """One item of a tree search: its key, the transaction that wrote its leaf, and its bytes."""

    objectid: int
    kind: int
    offset: int
    transid: int
    data: bytes


def fsid(descriptor: int) -> str:
    """The UUID of the filesystem as sysfs spells it."""
    buffer = bytearray(_FS_INFO_SIZE)
    fcntl.ioctl(descriptor, _IOC_FS_INFO, buffer)
    text = buffer[16:32].hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def quota_mode(uuid: str) -> str | None:
    """`qgroup`, `squota`, or None where quotas are off (sysfs, kernel >= 5.10; `mode` >= 6.7)."""
    directory = f"/sys/fs/btrfs/{uuid}/qgroups"
    try:
        with open(f"{directory}/enabled") as file:
            if file.read().strip() != "1":
                return None
    except FileNotFoundError:
        return None
    try:
        with open(f"{directory}/mode") as file:
            return "squota" if file.read().strip() == "squota" else "qgroup"
    except FileNotFoundError:
        return "qgroup"


def enable_simple_quota(descriptor: int) -> None:
    """BTRFS_IOC_QUOTA_CTL with ENABLE_SIMPLE_QUOTA (kernel >= 6.7); EINVAL on an older one."""
    arguments = bytearray(_QUOTA_CTL.pack(QUOTA_CTL_ENABLE_SIMPLE_QUOTA, 0))
    fcntl.ioctl(descriptor, _IOC_QUOTA_CTL, arguments)


def limit_referenced(descriptor: int, subvolume: int, size: int | None) -> None:
    """BTRFS_IOC_QGROUP_LIMIT: bound what the subvolume's qgroup refers to; None lifts it."""
    value = UNLIMITED if size is None else size
    arguments = _QGROUP_LIMIT.pack(subvolume, QGROUP_LIMIT_MAX_RFER, value, 0, 0, 0)
    fcntl.ioctl(descriptor, _IOC_QGROUP_LIMIT, arguments)


def qgroup_info(descriptor: int, subvolume: int) -> QgroupInfo | None:
    """What quota accounting counts for the subvolume, None where it has no qgroup."""
    for item in search(descriptor, QUOTA_TREE_OBJECTID, 0, QGROUP_INFO_KEY, subvolume, subvolume):
        _, referenced, _, exclusive, _ = _QGROUP_INFO.unpack_from(item.data)
        return QgroupInfo(referenced, exclusive)
    return None


def search(
    descriptor: int, tree: int, objectid: int, kind: int, first: int = 0, last: int = UNLIMITED
) -> Iterator[Item]:
    """BTRFS_IOC_TREE_SEARCH_V2: the items of one object and kind, by offset; no tree, no items."""
    while True:
        key = _SEARCH_KEY.pack(
            tree, objectid, objectid, first, last, 0, UNLIMITED, kind, kind, _MOST_ITEMS, 0
        )
        buffer = bytearray(key + struct.pack("=Q", _SEARCH_ROOM) + bytes(_SEARCH_ROOM))
        try:
            fcntl.ioctl(descriptor, _IOC_TREE_SEARCH_V2, buffer)
        except FileNotFoundError:
            return
        count = struct.unpack_from("=I", buffer, 64)[0]
        position = _SEARCH_KEY.size + 8
        for _ in range(count):
            transid, found, offset, what, size = _SEARCH_HEADER.unpack_from(buffer, position)
            position += _SEARCH_HEADER.size
            yield Item(found, what, offset, transid, bytes(buffer[position : position + size]))
            position += size
            first = offset + 1
        if not count or first > last:
            return


def nested(descriptor: int, subvolume: int) -> list[bytes]:
    """Paths of the subvolumes nested in the one with this id, outer ones first, of any length."""
    found = []
    pending = [(subvolume, b"")]
    for tree, above in pending:
        for item in search(descriptor, ROOT_TREE_OBJECTID, tree, ROOT_REF_KEY):
            directory, _, length = _ROOT_REF.unpack_from(item.data)
            name = item.data[_ROOT_REF.size :][:length]
            path = above + b"".join(_directories(descriptor, tree, directory)) + name
            found.append(path)
            pending.append((item.offset, path + b"/"))
    return found


def _directories(descriptor: int, tree: int, inode: int) -> list[bytes]:
    """The names, each with its slash, that lead from a subvolume's root to a directory of it."""
    names: list[bytes] = []
    while inode != FIRST_FREE_OBJECTID:
        item = next(search(descriptor, tree, inode, INODE_REF_KEY), None)
        if item is None:
            raise FileNotFoundError(errno.ENOENT, "a directory was removed while it was looked for")
        _, length = _INODE_REF.unpack_from(item.data)
        names.append(item.data[_INODE_REF.size :][:length] + b"/")
        inode = item.offset
    return names[::-1]


def is_subvolume(path: str) -> bool:
    """Whether `path`, which is on btrfs, is the root of a subvolume."""
    try:
        return os.lstat(path).st_ino == FIRST_FREE_OBJECTID
    except FileNotFoundError:
        return False
