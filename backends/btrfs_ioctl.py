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
INODE_ITEM_KEY = 1
INODE_REF_KEY = 12
INODE_EXTREF_KEY = 13
LAST_FREE_OBJECTID = (1 << 64) - 256  # the greatest number that an inode can have

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
_INODE_EXTREF = struct.Struct("<QQH")  # struct btrfs_inode_extref, and the name
# struct btrfs_inode_item, as far as wanted: generation, transid, nlink, mode
_INODE_ITEM = struct.Struct("<QQ24xI8xI")
_SEARCH_ROOM = 65536
_SCAN_ROOM = 1 << 20
_MOST_ITEMS = 1 << 20

QUOTA_CTL_ENABLE_SIMPLE_QUOTA = 4
QGROUP_LIMIT_MAX_RFER = 1
UNLIMITED = (1 << 64) - 1


def _ioc(direction: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | 0x94 << 8 | number


_ITEMS = _SEARCH_KEY.size + 8
"""Where the items begin in struct btrfs_ioctl_search_args_v2."""

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


class Name(NamedTuple):
    """A name of an inode: the number of the directory that it is in, and what it is there."""

    directory: int
    name: bytes


class Inode(NamedTuple):
    """An inode: its number, the transaction that made it, how many names it has, its mode (stat).

    `names` are those whose items lie beside the inode's own; there are `links` in all.
    """

    number: int
    generation: int
    links: int
    mode: int
    names: list[Name]


def _search(descriptor: int, key: tuple[int, ...], room: int) -> tuple[int, bytearray]:
    """One BTRFS_IOC_TREE_SEARCH_V2: how many items were found, and the buffer that has them."""
    head = _SEARCH_KEY.pack(*key, _MOST_ITEMS, 0)
    buffer = bytearray(len(head) + 8 + room)
    buffer[: len(head) + 8] = head + struct.pack("=Q", room)
    fcntl.ioctl(descriptor, _IOC_TREE_SEARCH_V2, buffer)
    count: int = struct.unpack_from("=I", buffer, 64)[0]
    return count, buffer


def search(
    descriptor: int, tree: int, objectid: int, kind: int, first: int = 0, last: int = UNLIMITED
) -> Iterator[Item]:
    """The items of one object and kind, by offset; no tree, no items. Tree 0: the descriptor's."""
    while True:
        key = (tree, objectid, objectid, first, last, 0, UNLIMITED, kind, kind)
        try:
            count, buffer = _search(descriptor, key, _SEARCH_ROOM)
        except FileNotFoundError:
            return
        position = _ITEMS
        for _ in range(count):
            transid, found, offset, what, size = _SEARCH_HEADER.unpack_from(buffer, position)
            position += _SEARCH_HEADER.size
            yield Item(found, what, offset, transid, bytes(buffer[position : position + size]))
            position += size
            first = offset + 1
        if not count or first > last:
            return


def inodes_since(descriptor: int, transid: int) -> Iterator[Inode]:
    """The inodes of the descriptor's subvolume that have names and are newer than a transaction.

    The kernel passes over the leaves that are older, and gives all items of the others. The
    transaction in an inode's own item decides: balancing rewrites leaves, and a leaf that is new
    holds many an inode that is not.
    """
    header, inode_item = _SEARCH_HEADER.unpack_from, _INODE_ITEM.unpack_from
    found: Inode | None = None
    first = (FIRST_FREE_OBJECTID, 0, 0)
    while True:
        number, kind, offset = first
        key = (0, number, LAST_FREE_OBJECTID, offset, UNLIMITED, transid + 1, UNLIMITED, kind, 255)
        count, buffer = _search(descriptor, key, _SCAN_ROOM)
        position = _ITEMS
        for _ in range(count):
            _, number, offset, kind, size = header(buffer, position)
            position += 32
            if kind == INODE_ITEM_KEY:
                generation, written, links, mode = inode_item(buffer, position)
                if written > transid and links:
                    if found is not None:
                        yield found
                    found = Inode(number, generation, links, mode, [])
            elif (
                kind in (INODE_REF_KEY, INODE_EXTREF_KEY)
                and found is not None
                and number == found.number
            ):
                found.names.extend(_names(kind, offset, buffer[position : position + size]))
            position += size
        if not count:
            break
        first = (number, kind, offset + 1) if offset < UNLIMITED else (number, kind + 1, 0)
    if found is not None:
        yield found


def names(descriptor: int, number: int) -> list[Name]:
    """All names of an inode of the descriptor's subvolume; none if there is no such inode."""
    found: list[Name] = []
    first, last = (INODE_REF_KEY, 0), INODE_EXTREF_KEY
    while True:
        kind, offset = first
        key = (0, number, number, offset, UNLIMITED, 0, UNLIMITED, kind, last)
        count, buffer = _search(descriptor, key, _SEARCH_ROOM)
        position = _ITEMS
        for _ in range(count):
            _, _, offset, kind, size = _SEARCH_HEADER.unpack_from(buffer, position)
            position += _SEARCH_HEADER.size
            found += _names(kind, offset, buffer[position : position + size])
            position += size
        if not count:
            return found
        first = (kind, offset + 1) if offset < UNLIMITED else (kind + 1, 0)


def _names(kind: int, offset: int, data: bytes | bytearray) -> Iterator[Name]:
    """The names in an item INODE_REF, of one directory, or INODE_EXTREF, of any."""
    position = 0
    while position < len(data):
        if kind == INODE_REF_KEY:
            _, length = _INODE_REF.unpack_from(data, position)
            directory = offset
            position += _INODE_REF.size
        else:
            directory, _, length = _INODE_EXTREF.unpack_from(data, position)
            position += _INODE_EXTREF.size
        yield Name(directory, bytes(data[position : position + length]))
        position += length


def nested(descriptor: int, subvolume: int) -> list[bytes]:
    """Paths of the subvolumes nested in the one with this id, outer ones first, of any length."""
    found = []
    pending = [(subvolume, b"")]
    for tree, above in pending:
        for item in search(descriptor, ROOT_TREE_OBJECTID, tree, ROOT_REF_KEY):
            directory, _, length = _ROOT_REF.unpack_from(item.data)
            name = item.data[_ROOT_REF.size :][:length]
            path = above + path_of(descriptor, directory, tree) + name
            found.append(path)
            pending.append((item.offset, path + b"/"))
    return found


def path_of(descriptor: int, inode: int, tree: int = 0) -> bytes:
    """The path of a directory below the root of its subvolume: each name with a slash after it."""
    parts: list[bytes] = []
    while inode != FIRST_FREE_OBJECTID:
        item = next(search(descriptor, tree, inode, INODE_REF_KEY), None)
        if item is None:
            raise FileNotFoundError(errno.ENOENT, "a directory was removed while it was looked for")
        [name] = _names(INODE_REF_KEY, item.offset, item.data)
        parts.append(name.name + b"/")
        inode = item.offset
    return b"".join(reversed(parts))


def is_subvolume(path: str) -> bool:
    """Whether `path`, which is on btrfs, is the root of a subvolume."""
    try:
        return os.lstat(path).st_ino == FIRST_FREE_OBJECTID
    except FileNotFoundError:
        return False


def is_stub(status: os.stat_result) -> bool:
    """Whether a directory stands for a nested subvolume that the snapshot left out."""
    return status.st_ino == EMPTY_SUBVOL_DIR_OBJECTID
