"""Name-value lists, which resume tokens and device labels are made of. No command is run.

Source: module/nvpair/nvpair.c (XDR and native encoding), lib/libzfs/libzfs_sendrecv.c
(zfs_send_resume_token_to_nvlist) of OpenZFS 2.3.2.
"""

import enum
import os
import struct
import zlib
from typing import Any

from backends.libzfs.enums import Error
from backends.libzfs.errors import ZFSException

# By data_type_t; XDR makes every small integer four bytes.
_INTEGERS = {2: ">I", 3: ">i", 4: ">I", 5: ">i", 6: ">I", 7: ">q", 8: ">Q", 18: ">q"}
_INTEGERS |= {22: ">i", 23: ">I"}
_INTEGER_ARRAYS = {11: ">i", 12: ">I", 13: ">i", 14: ">I", 15: ">q", 16: ">Q", 25: ">i", 26: ">I"}
_MAX_DEPTH = 20


class Kind(enum.IntEnum):
    """The data_type_t of values that are not integers."""

    BOOLEAN = 1
    STRING = 9
    BYTES = 10
    STRINGS = 17
    LIST = 19
    LISTS = 20
    BOOLEAN_VALUE = 21
    BOOLEANS = 24
    DOUBLE = 27


class _Reader:
    """A cursor over XDR data; raises ValueError where the data is not what it says."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def take(self, length: int) -> bytes:
        if length < 0 or self.place + length > len(self.data):
            raise ValueError("a name-value list is cut short")
        found = self.data[self.place : self.place + length]
        self.place += length
        return found

    def number(self, form: str) -> int:
        found: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return found

    def opaque(self, length: int) -> bytes:
        found = self.take(length)
        self.take(-length % 4)
        return found

    def text(self) -> str:
        return os.fsdecode(self.opaque(self.number(">I")))


def unpack(data: bytes) -> dict[str, Any]:
    """The list that `nvlist_pack` made this of, in XDR or in a machine's own form.

    Raises ValueError.
    """
    if data[:1] == b"\0" and data[1:2] in (b"\0", b"\1"):
        return _native_list(_Reader(data[4:]), "<" if data[1] else ">")
    return unpack_xdr(data)


def unpack_xdr(data: bytes) -> dict[str, Any]:
    """The same for a list in XDR only: zeros are an empty list in a machine's own form."""
    if data[:1] != b"\1":
        raise ValueError("this is no name-value list in XDR")
    return _list(_Reader(data[4:]), 0)


_NATIVE = {2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "q", 8: "Q", 18: "q", 21: "i", 22: "b"}
_NATIVE |= {23: "B"}
_NATIVE_ARRAYS = {11: "h", 12: "H", 13: "i", 14: "I", 15: "q", 16: "Q", 24: "i", 25: "b", 26: "B"}


def _native_list(reader: _Reader, order: str) -> dict[str, Any]:
    """A list as it lies in memory; lists within lists, which no token has, are refused."""
    reader.take(8)  # version, flags
    found: dict[str, Any] = {}
    while size := reader.number(f"{order}i"):
        pair = _Reader(reader.take(size - 4))
        name_size = pair.number(f"{order}h")
        pair.take(2)
        count, kind = pair.number(f"{order}i"), pair.number(f"{order}i")
        name = os.fsdecode(pair.take(name_size).partition(b"\0")[0])
        pair.take(-(16 + name_size) % 8)
        found[name] = _native_value(pair, order, kind, count)
    return found


def _native_value(pair: _Reader, order: str, kind: int, count: int) -> Any:
    if kind == Kind.BOOLEAN:
        return True
    if kind == Kind.STRING:
        return os.fsdecode(pair.data[pair.place :].partition(b"\0")[0])
    if kind == Kind.BYTES:
        return pair.take(count)
    if kind in _NATIVE:
        number = pair.number(order + _NATIVE[kind])
        return bool(number) if kind == Kind.BOOLEAN_VALUE else number
    if kind in _NATIVE_ARRAYS:
        return [pair.number(order + _NATIVE_ARRAYS[kind]) for _ in range(count)]
    raise ValueError(f"a name-value list holds a value of unknown type {kind}")


def _list(reader: _Reader, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("name-value lists are nested too deeply")
    reader.take(8)  # version, flags
    found: dict[str, Any] = {}
    while True:
        encoded = reader.number(">I")
        reader.number(">I")
        if encoded == 0:
            return found
        name = reader.text()
        kind, count = reader.number(">I"), reader.number(">I")
        found[name] = _value(reader, kind, count, depth)


def _value(reader: _Reader, kind: int, count: int, depth: int) -> Any:
    if count == 0:
        return True if kind == Kind.BOOLEAN else []
    if kind in _INTEGERS:
        return reader.number(_INTEGERS[kind])
    if kind in _INTEGER_ARRAYS:
        return [reader.number(_INTEGER_ARRAYS[kind]) for _ in range(reader.number(">I"))]
    match kind:
        case Kind.BOOLEAN:
            return True
        case Kind.BOOLEAN_VALUE:
            return bool(reader.number(">i"))
        case Kind.BOOLEANS:
            return [bool(reader.number(">i")) for _ in range(reader.number(">I"))]
        case Kind.DOUBLE:
            return struct.unpack(">d", reader.take(8))[0]
        case Kind.STRING:
            return reader.text()
        case Kind.STRINGS:
            return [reader.text() for _ in range(count)]
        case Kind.BYTES:
            return reader.opaque(count)
        case Kind.LIST:
            return _list(reader, depth + 1)
        case Kind.LISTS:
            return [_list(reader, depth + 1) for _ in range(count)]
    raise ValueError(f"a name-value list holds a value of unknown type {kind}")


def _fletcher4(data: bytes) -> int:
    """The first word of the Fletcher-4 checksum, little-endian, as resume tokens have it."""
    first = 0
    for (word,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4]):
        first = (first + word) & 0xFFFFFFFFFFFFFFFF
    return first


def describe_resume_token(token: str) -> dict[str, Any]:
    """What a `receive_resume_token` says: toname, toguid, object, offset, bytes, ...

    Raises ZFSException(FAULT) for one that is damaged.
    """
    try:
        version, checksum, length, payload = token.split("-")
        data = bytes.fromhex(payload)
        if version != "1":
            raise ValueError(f"invalid version {version}")
        if _fletcher4(data) != int(checksum, 16):
            raise ValueError("incorrect checksum")
        limit = int(length, 16)
        unpacked = zlib.decompressobj().decompress(data, limit + 1)
        if len(unpacked) != limit:
            raise ValueError("decompression failed")
        return unpack(unpacked)
    except (ValueError, zlib.error) as error:
        raise ZFSException(Error.FAULT, f"resume token is corrupt ({error})") from error
