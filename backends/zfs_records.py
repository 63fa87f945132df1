"""The records of volumes as user properties of their datasets.

A record is compressed, written as base64 and cut into pieces, for the value of a user property has
at most 8191 bytes. The first piece begins with how many there are: what an earlier, longer
record has left behind it is not read.
"""

import base64
import zlib
from collections.abc import Sequence

from backends.errors import NotSupported

PIECE = 8000
"""Characters of one piece; less than ZAP_MAXVALUELEN (sys/zap.h)."""

NAMES = ("cowshed:record", *(f"cowshed:record.{number}" for number in range(1, 16)))


def properties(record: bytes) -> dict[str, str]:
    """The user properties that hold the record. Raises NotSupported if it is too large."""
    text = base64.b64encode(zlib.compress(record, 9)).decode("ascii")
    pieces = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    if len(pieces) > len(NAMES):
        raise NotSupported(
            f"the record of {len(record)} bytes is too large for the properties of a ZFS dataset:"
            " give the image fewer or shorter labels and variables"
        )
    pieces[0] = f"{len(pieces)}:{pieces[0]}"
    return dict(zip(NAMES, pieces, strict=False))


def record(values: Sequence[str]) -> bytes | None:
    """The record in the values of the properties NAMES, "-" for one that is not there.

    None if there is no whole record in them.
    """
    count, _, first = values[0].partition(":")
    try:
        text = first + "".join(values[1 : int(count)])
        return zlib.decompress(base64.b64decode(text, validate=True))
    except (ValueError, zlib.error):
        return None
