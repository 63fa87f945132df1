"""The maps of sparse members: old GNU headers and the PAX formats 0.0, 0.1 and 1.0.

Source: GNU tar's manual, "Sparse Formats". A map is an array that alternates offset and length,
in bytes, of the pieces that the archive holds; 16 bytes a piece, since an image of a disk can
have hundreds of thousands.
"""

from array import array
from collections.abc import Callable, MutableSequence, Sequence

from oci import pax
from oci.errors import ArchiveError
from oci.tarheader import BLOCK, MAX_OFFSET, number

Map = MutableSequence[int]

_MAX_PIECES = 1 << 20
_PAIR = 24
"""Bytes of an offset and a length in an old header, 12 each."""


def old_gnu(block: bytes, read_block: Callable[[], bytes]) -> tuple[Map, int]:
    """The map and the real size in an old GNU header ("S") and the blocks that continue it."""
    pieces = array("q")
    real_size = number(block[483:495])
    _append_pairs(pieces, block[386 : 386 + 4 * _PAIR])
    more = block[482]
    while more:
        block = read_block()
        _append_pairs(pieces, block[: 21 * _PAIR])
        more = block[504]
    return pieces, real_size


def from_records(records: pax.Records, repeated: list[int]) -> tuple[Map, int] | None:
    """The map and the real size that the records of format 0.0 or 0.1 tell; None without them."""
    listed = records.get(b"GNU.sparse.map")
    if listed is not None:
        repeated = [pax.integer(value) for value in listed.split(b",")] if listed else []
    elif b"GNU.sparse.numblocks" not in records:
        return None
    count = pax.integer(records.get(b"GNU.sparse.numblocks", b"-1"))
    if len(repeated) != 2 * count:
        raise ArchiveError("the sparse map does not have as many pieces as it says")
    pieces = array("q")
    for value in repeated:
        _append(pieces, value)
    return pieces, pax.integer(records.get(b"GNU.sparse.size", b"-1"))


def is_version_1(records: pax.Records) -> bool:
    """Whether the records announce a map at the start of the body (format 1.0)."""
    major = records.get(b"GNU.sparse.major")
    if major is None:
        return False
    if (major, records.get(b"GNU.sparse.minor")) not in ((b"1", b"0"), (b"0", b"0"), (b"0", b"1")):
        raise ArchiveError("its version of the sparse format is unknown")
    return major == b"1"


def from_body(read_block: Callable[[], bytes]) -> Map:
    """The map at the start of a body (format 1.0): a count, then numbers, a line each."""
    pieces = array("q")
    wanted = -1
    rest = b""
    while wanted < 0 or len(pieces) < wanted:
        *lines, rest = (rest + read_block()).split(b"\n")
        if len(rest) > BLOCK:
            raise ArchiveError("the sparse map is not made of numbers")
        for line in lines:
            if wanted < 0:
                wanted = 2 * pax.integer(line)
            elif len(pieces) < wanted:
                _append(pieces, pax.integer(line))
    return pieces


def check(pieces: Sequence[int], size: int, stored: int) -> None:
    """Refuse a map whose pieces overlap, reach past `size`, or do not make up `stored` bytes."""
    end = total = 0
    for index in range(0, len(pieces), 2):
        offset, length = pieces[index], pieces[index + 1]
        if offset < end or offset + length > size:
            raise ArchiveError("the pieces of the sparse map overlap or reach past the file's end")
        end = offset + length
        total += length
    if total != stored:
        raise ArchiveError("the sparse map and the size of the body differ")


def _append_pairs(pieces: Map, fields: bytes) -> None:
    for start in range(0, len(fields), _PAIR):
        if not fields[start]:
            break
        _append(pieces, number(fields[start : start + 12]))
        _append(pieces, number(fields[start + 12 : start + _PAIR]))


def _append(pieces: Map, value: int) -> None:
    if not 0 <= value <= MAX_OFFSET:
        raise ArchiveError("a number in the sparse map is out of range")
    if len(pieces) >= 2 * _MAX_PIECES:
        raise ArchiveError(f"the sparse map has more than {_MAX_PIECES} pieces")
    pieces.append(value)
