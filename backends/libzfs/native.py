"""ZFS's own dataset properties: number, name, what has it, how `zfs get` prints it, what it takes.

Hidden properties that no command prints (useraccounting, prevsnap, ...) are left out, except
`name`. Source: module/zcommon/zfs_prop.c and zfs_prop_get of OpenZFS 2.3.2.
"""

import enum
from typing import NamedTuple

from backends.libzfs.enums import DatasetType


class Kind(enum.Enum):
    """How the value of a property is printed for people, made from what `zfs get -p` prints."""

    TEXT = enum.auto()
    BYTES = enum.auto()
    QUOTA = enum.auto()
    NUMBER = enum.auto()
    LIMIT = enum.auto()
    RATIO = enum.auto()
    DATE = enum.auto()
    DATE_SECONDS = enum.auto()


class Native(NamedTuple):
    """A property: its number (zfs_prop_t), the letters of the dataset types that have it
    (f, v, s, b), and the OpenZFS that brought it."""

    id: int
    name: str
    types: str
    kind: Kind
    values: str
    since: tuple[int, int] = (2, 1)


LETTERS = {
    DatasetType.FILESYSTEM: "f",
    DatasetType.VOLUME: "v",
    DatasetType.SNAPSHOT: "s",
    DatasetType.BOOKMARK: "b",
}

NATIVE: tuple[Native, ...] = (
    Native(0, "type", "fvsb", Kind.TEXT, "filesystem | volume | snapshot | bookmark"),
    Native(1, "creation", "fvsb", Kind.DATE, "<date>"),
    Native(2, "used", "fvs", Kind.BYTES, "<size>"),
    Native(3, "available", "fv", Kind.BYTES, "<size>"),
    Native(4, "referenced", "fvsb", Kind.BYTES, "<size>"),
    Native(5, "compressratio", "fvsb", Kind.RATIO, "<1.00x or higher if compressed>"),
    Native(6, "mounted", "f", Kind.TEXT, "yes | no"),
    Native(7, "origin", "fv", Kind.TEXT, "<snapshot>"),
    Native(8, "quota", "f", Kind.QUOTA, "<size> | none"),
    Native(9, "reservation", "fv", Kind.QUOTA, "<size> | none"),
    Native(10, "volsize", "vs", Kind.NUMBER, "<size>"),
    Native(11, "volblocksize", "v", Kind.NUMBER, "512 to 128k, power of 2"),
    Native(12, "recordsize", "f", Kind.NUMBER, "512 to 1M, power of 2"),
    Native(13, "mountpoint", "f", Kind.TEXT, "<path> | legacy | none"),
    Native(14, "sharenfs", "f", Kind.TEXT, "on | off | NFS share options"),
    Native(
        15,
        "checksum",
        "fv",
        Kind.TEXT,
        "on | off | fletcher2 | fletcher4 | sha256 | sha512 | skein | edonr | blake3",
    ),
    Native(
        16,
        "compression",
        "fv",
        Kind.TEXT,
        "on | off | lzjb | gzip | gzip-[1-9] | zle | lz4 | zstd | zstd-[1-19] | zstd-fast"
        " | zstd-fast-[1-10,20,30,40,50,60,70,80,90,100,500,1000]",
    ),
    Native(17, "atime", "f", Kind.TEXT, "on | off"),
    Native(18, "devices", "fs", Kind.TEXT, "on | off"),
    Native(19, "exec", "fs", Kind.TEXT, "on | off"),
    Native(20, "setuid", "fs", Kind.TEXT, "on | off"),
    Native(21, "readonly", "fv", Kind.TEXT, "on | off"),
    Native(22, "zoned", "f", Kind.TEXT, "on | off"),
    Native(23, "snapdir", "f", Kind.TEXT, "disabled | hidden | visible"),
    Native(24, "aclmode", "f", Kind.TEXT, "discard | groupmask | passthrough | restricted"),
    Native(
        25,
        "aclinherit",
        "f",
        Kind.TEXT,
        "discard | noallow | restricted | passthrough | passthrough-x",
    ),
    Native(26, "createtxg", "fvsb", Kind.TEXT, "<uint64>"),
    Native(27, "name", "fvsb", Kind.TEXT, "<name>"),
    Native(28, "canmount", "f", Kind.TEXT, "on | off | noauto"),
    Native(30, "xattr", "fs", Kind.TEXT, "on | off | dir | sa"),
    Native(32, "copies", "fv", Kind.TEXT, "1 | 2 | 3"),
    Native(33, "version", "fs", Kind.TEXT, "1 | 2 | 3 | 4 | 5 | current"),
    Native(34, "utf8only", "fs", Kind.TEXT, "on | off"),
    Native(35, "normalization", "fs", Kind.TEXT, "none | formC | formD | formKC | formKD"),
    Native(36, "casesensitivity", "fs", Kind.TEXT, "sensitive | insensitive | mixed"),
    Native(37, "vscan", "f", Kind.TEXT, "on | off"),
    Native(38, "nbmand", "fs", Kind.TEXT, "on | off"),
    Native(39, "sharesmb", "f", Kind.TEXT, "on | off | SMB share options"),
    Native(40, "refquota", "f", Kind.QUOTA, "<size> | none"),
    Native(41, "refreservation", "fv", Kind.QUOTA, "<size> | none"),
    Native(42, "guid", "fvsb", Kind.TEXT, "<uint64>"),
    Native(43, "primarycache", "fvs", Kind.TEXT, "all | none | metadata"),
    Native(44, "secondarycache", "fvs", Kind.TEXT, "all | none | metadata"),
    Native(45, "usedbysnapshots", "fv", Kind.BYTES, "<size>"),
    Native(46, "usedbydataset", "fv", Kind.BYTES, "<size>"),
    Native(47, "usedbychildren", "fv", Kind.BYTES, "<size>"),
    Native(48, "usedbyrefreservation", "fv", Kind.BYTES, "<size>"),
    Native(51, "defer_destroy", "s", Kind.TEXT, "yes | no"),
    Native(52, "userrefs", "s", Kind.NUMBER, "<count>"),
    Native(53, "logbias", "fv", Kind.TEXT, "latency | throughput"),
    Native(55, "objsetid", "fvs", Kind.TEXT, "<uint64>"),
    Native(
        56,
        "dedup",
        "fv",
        Kind.TEXT,
        "on | off | verify | sha256[,verify] | sha512[,verify] | skein[,verify] | edonr,verify"
        " | blake3[,verify]",
    ),
    Native(57, "mlslabel", "fvs", Kind.TEXT, "<sensitivity label>"),
    Native(58, "sync", "fv", Kind.TEXT, "standard | always | disabled"),
    Native(59, "dnodesize", "f", Kind.TEXT, "legacy | auto | 1k | 2k | 4k | 8k | 16k"),
    Native(60, "refcompressratio", "fvs", Kind.RATIO, "<1.00x or higher if compressed>"),
    Native(61, "written", "fvs", Kind.NUMBER, "<size>"),
    Native(62, "clones", "s", Kind.TEXT, "<dataset>[,...]"),
    Native(63, "logicalused", "fv", Kind.NUMBER, "<size>"),
    Native(64, "logicalreferenced", "fvsb", Kind.NUMBER, "<size>"),
    Native(66, "volmode", "fv", Kind.TEXT, "default | full | geom | dev | none"),
    Native(67, "filesystem_limit", "f", Kind.LIMIT, "<count> | none"),
    Native(68, "snapshot_limit", "fv", Kind.LIMIT, "<count> | none"),
    Native(69, "filesystem_count", "f", Kind.LIMIT, "<count>"),
    Native(70, "snapshot_count", "fv", Kind.LIMIT, "<count>"),
    Native(71, "snapdev", "fv", Kind.TEXT, "hidden | visible"),
    Native(72, "acltype", "fs", Kind.TEXT, "off | nfsv4 | posix"),
    Native(73, "context", "fvs", Kind.TEXT, "<selinux context>"),
    Native(74, "fscontext", "fvs", Kind.TEXT, "<selinux fscontext>"),
    Native(75, "defcontext", "fvs", Kind.TEXT, "<selinux defcontext>"),
    Native(76, "rootcontext", "fvs", Kind.TEXT, "<selinux rootcontext>"),
    Native(77, "relatime", "f", Kind.TEXT, "on | off"),
    Native(78, "redundant_metadata", "fv", Kind.TEXT, "all | most | some | none"),
    Native(79, "overlay", "f", Kind.TEXT, "on | off"),
    Native(81, "receive_resume_token", "fv", Kind.TEXT, "<string token>"),
    Native(
        82,
        "encryption",
        "fvs",
        Kind.TEXT,
        "on | off | aes-128-ccm | aes-192-ccm | aes-256-ccm"
        " | aes-128-gcm | aes-192-gcm | aes-256-gcm",
    ),
    Native(83, "keylocation", "fv", Kind.TEXT, "prompt | <file URI> | <https URL> | <http URL>"),
    Native(84, "keyformat", "fv", Kind.TEXT, "none | raw | hex | passphrase"),
    Native(86, "pbkdf2iters", "fv", Kind.TEXT, "<iters>"),
    Native(87, "encryptionroot", "fvs", Kind.TEXT, "<filesystem | volume>"),
    Native(89, "keystatus", "fvs", Kind.TEXT, "none | unavailable | available"),
    Native(91, "special_small_blocks", "f", Kind.NUMBER, "zero or 512 to 1M, power of 2"),
    Native(94, "redact_snaps", "fvsb", Kind.TEXT, "<snapshot>[,...]"),
    Native(95, "snapshots_changed", "fv", Kind.DATE_SECONDS, "<date>", (2, 2)),
    Native(96, "prefetch", "fvs", Kind.TEXT, "none | metadata | all", (2, 2)),
    Native(97, "volthreading", "v", Kind.TEXT, "on | off", (2, 3)),
    Native(98, "direct", "f", Kind.TEXT, "disabled | standard | always", (2, 3)),
    Native(99, "longname", "f", Kind.TEXT, "on | off", (2, 3)),
)

BY_NAME = {native.name: native for native in NATIVE}


def of_type(kind: DatasetType, release: tuple[int, int]) -> list[Native]:
    """The properties that a dataset of this type has in the given OpenZFS."""
    letter = LETTERS[kind]
    return [native for native in NATIVE if letter in native.types and native.since <= release]
