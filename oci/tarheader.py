"""One entry of a tar archive, and its 512-byte header block, read and written.

Formats: POSIX.1-1988 ustar, the V7 header before it, GNU tar's variant (its manual, "Basic Tar
Format") and star's. Everything that a header says is bytes and integers here; no name is
decoded, no owner is looked up. What cannot be written in a header block goes into a PAX header
before it (see oci.pax), so an entry comes back as it went in.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from oci import acl, pax
from oci.errors import ArchiveError, named

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)
END_OF_ARCHIVE = bytes(2 * BLOCK)

FILE = ord("0")
LINK = ord("1")
SYMLINK = ord("2")
CHAR_DEVICE = ord("3")
BLOCK_DEVICE = ord("4")
DIRECTORY = ord("5")
FIFO = ord("6")

USTAR = b"ustar\x0000"
GNU = b"ustar  \0"

NOTHING: Mapping[bytes, bytes] = MappingProxyType({})

MAX_OFFSET = (1 << 63) - 1
"""The largest size and offset that a file can have."""

_MAX_ID = (1 << 32) - 2
_FIELDS = struct.Struct("100s8s8s8s12s12s8sB100s8s64x8s8s155s12x")
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[ \0]*([0-7]*)(?:[ \0].*)?", re.DOTALL)
_NANOSECONDS = 1_000_000_000


class Entry(NamedTuple):
    """An entry of an archive, whatever format it was written in.

    `type` is one of FILE, LINK, SYMLINK, CHAR_DEVICE, BLOCK_DEVICE, DIRECTORY and FIFO. `link` is
    what a LINK or SYMLINK points to. Times are nanoseconds since the epoch; `atime` is None where
    none was recorded. `size` is the file's size in bytes, `stored` the bytes of body that the
    archive holds; they differ for sparse files, whose `sparse` alternates offset and length of
    the stored pieces. `acls` are POSIX ACLs in text form under the name of their attribute.
    """

    type: int
    path: bytes
    link: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    stored: int = 0
    mtime: int = 0
    atime: int | None = None
    major: int = 0
    minor: int = 0
    xattrs: Mapping[bytes, bytes] = NOTHING
    acls: Mapping[bytes, bytes] = NOTHING
    sparse: Sequence[int] | None = None


class Header(NamedTuple):
    """A header block as it stands: names cut at their NUL, numbers not yet read."""

    name: bytes
    mode: bytes
    uid: bytes
    gid: bytes
    size: bytes
    mtime: bytes
    type: int
    link: bytes
    magic: bytes
    major: bytes
    minor: bytes


def parse(block: bytes) -> Header | None:
    """The header in `block`, or None if its checksum says that there is none."""
    (name, mode, uid, gid, size, mtime, checksum, kind, link, magic, major, minor, prefix) = (
        _FIELDS.unpack(block)
    )
    if not _checksum_holds(block, checksum):
        return None
    name = name.partition(b"\0")[0]
    if magic == USTAR and prefix[0]:
        if block[508:512] == b"tar\0":
            prefix = prefix[:131]
        name = prefix.partition(b"\0")[0] + b"/" + name
    link = link.partition(b"\0")[0]
    return Header(name, mode, uid, gid, size, mtime, kind, link, magic, major, minor)


def is_header(block: bytes) -> bool:
    """Whether `block` carries the checksum of a header."""
    return _checksum_holds(block, block[_CHECKSUM])


@lru_cache(4096)
def number(field: bytes) -> int:
    """The number in a header field: octal, or base 256 as GNU tar writes it; blank is 0.

    Raises ArchiveError for anything else.
    """
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        return value - (1 << bits) if field[0] & 0x40 else value
    digits = _OCTAL.fullmatch(field)
    if digits is None:
        raise ArchiveError(f"{field!r} is not a number")
    return int(digits[1] or b"0", 8)


def size_of(field: bytes) -> int:
    """The number in a size field, which must be a size that a file can have, in bytes."""
    return within(number(field), MAX_OFFSET, "size")


def within(value: int, most: int, what: str) -> int:
    """`value`, which must lie between 0 and `most`."""
    if not 0 <= value <= most:
        raise ArchiveError(f"the {what} {value} is out of range")
    return value


def identity(value: int, what: str) -> int:
    """`value`, which must be a user or group id; the highest number is none (chown(2))."""
    return within(value, _MAX_ID, what)


def encode(entry: Entry) -> bytes:
    """The header of `entry`: a ustar block, after a PAX header where the block cannot hold it all.

    The same entry always gives the same bytes. The path of a directory should end in a slash.
    `stored` bytes of body and `padding(stored)` must follow. ACLs must be given as attributes;
    they are written as such, which is exact, and as text, which is all that `tar --acls` takes.
    Raises ArchiveError for an ACL that is none.
    """
    seconds, fraction = divmod(entry.mtime, _NANOSECONDS)
    records: list[bytes] = []
    if len(entry.path) > 100:
        records.append(pax.record(b"path", entry.path))
    if len(entry.link) > 100:
        records.append(pax.record(b"linkpath", entry.link))
    if fraction or not 0 <= seconds < 1 << 33:
        records.append(pax.record(b"mtime", pax.format_time(entry.mtime)))
    if entry.atime is not None:
        records.append(pax.record(b"atime", pax.format_time(entry.atime)))
    for key, value, bits in (
        (b"size", entry.stored, 33), (b"uid", entry.uid, 21), (b"gid", entry.gid, 21)
    ):  # fmt: skip
        if value >= 1 << bits:
            records.append(pax.record(key, b"%d" % value))
    for name in sorted(entry.xattrs):
        records.append(pax.record(pax.xattr_key(name), entry.xattrs[name]))
    for name, key in pax.ACL_KEYS.items():
        if name in entry.xattrs and (text := _acl_text(entry.path, entry.xattrs[name])):
            records.append(pax.record(key, text))
    block = _block(entry, seconds)
    if not records:
        return block
    body = b"".join(records)
    name = b"PaxHeaders.0/" + entry.path.rstrip(b"/").rpartition(b"/")[2][:80]
    carrier = Entry(ord("x"), name, mode=0o644, stored=len(body))
    return b"".join((_block(carrier, 0), body, padding(len(body)), block))


def _acl_text(path: bytes, value: bytes) -> bytes:
    try:
        return acl.text(value)
    except ArchiveError as error:
        raise ArchiveError(f"{named(path)}: {error}") from error


def padding(size: int) -> bytes:
    """What fills the last block of a body of `size` bytes."""
    return bytes(-size % BLOCK)


def _block(entry: Entry, seconds: int) -> bytes:
    block = bytearray(
        struct.pack(
            "100s8s8s8s12s12s8sB100s8s64x8s8s167x",
            entry.path,
            _octal(entry.mode, 8),
            _octal(entry.uid, 8),
            _octal(entry.gid, 8),
            _octal(entry.stored, 12),
            _octal(seconds, 12),
            b"        ",
            entry.type,
            entry.link,
            USTAR,
            _octal(entry.major, 8),
            _octal(entry.minor, 8),
        )
    )
    block[_CHECKSUM] = b"%06o\0 " % sum(block)
    return bytes(block)


def _octal(value: int, width: int) -> bytes:
    """`value` in a field of `width` bytes, or 0 where it does not fit and PAX tells it."""
    digits = width - 1
    return b"%0*o\0" % (digits, value if 0 <= value < 1 << 3 * digits else 0)


def _checksum_holds(block: bytes, field: bytes) -> bool:
    """Whether the sum of the bytes is the one recorded, counted as unsigned or, once, as signed."""
    digits = _OCTAL.fullmatch(field)
    if digits is None or not digits[1]:
        return False
    recorded = int(digits[1], 8)
    unsigned = sum(block) - sum(field) + 8 * ord(" ")
    if unsigned == recorded:
        return True
    rest = block[: _CHECKSUM.start] + block[_CHECKSUM.stop :]
    return unsigned - 256 * sum(byte > 127 for byte in rest) == recorded
