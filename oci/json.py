"""JSON from an archive or a registry, read into records; every one of them is hostile.

A document is bounded in size and depth before it is parsed, and what `parse` returned can be
read by the standard library's `json` without an error: no NaN, no unpaired surrogate, no number
beyond a float's range, nothing but UTF-8. Unknown fields are ignored. As with Docker (Go's
encoding/json) null is a field left out, and of a field given twice the last counts; field names
are compared exactly, where Go ignores case. All errors are ArchiveError, one line that names
the document, the field and what is wrong: `manifest.json: [0].Layers[2] is not text`.
"""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, TypeVar

import msgspec

from oci.errors import ArchiveError

MAX_SIZE = 4 << 20
"""Bytes of a document: the distribution-spec asks registries to take manifests of 4 MiB."""

MAX_DEPTH = 100
"""Objects and arrays inside each other; real documents have less than ten."""

MAX_PARTS = 200_000
"""Objects and arrays in all: ten to fifty times their own size in memory, and never that many."""

_LONGEST = 300

_Record = TypeVar("_Record")

# Every branch matches something, so that no input makes it go back: it is linear.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))
# Stays below what a float holds (1e308) and what int() takes (4300 digits).
_HUGE = re.compile(rb"[0-9]{100}|[0-9][eE][+-]?[0-9]{3}")

_AT = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`")
_EXPECTED = re.compile(r"Expected `([a-z]*)[^`]*`, got .*")
_KINDS = {
    "str": "is not text",
    "int": "is not an integer",
    "bool": "is neither true nor false",
    "array": "is not a list",
    "object": "is not an object",
}


def parse(document: str, data: bytes, kind: type[_Record], *, never: Sequence[str] = ()) -> _Record:
    """`data` as a record of type `kind`; `document` is its name in messages. ArchiveError.

    A field in `never` tells that the document is, or is also, of another kind.
    """
    value = values(document, data)
    _drop_nulls(value)
    for field in never:
        if isinstance(value, dict) and field in value:
            raise ArchiveError(f"{document} has the field {field}, which is not for this document")
    try:
        return msgspec.convert(value, kind, dec_hook=_special)
    except msgspec.ValidationError as error:
        raise ArchiveError(_told(document, str(error))) from None


def values(document: str, data: bytes) -> Any:
    """`data` as dictionaries, lists, text, numbers, booleans and None; ArchiveError."""
    if len(data) > MAX_SIZE:
        raise ArchiveError(
            f"{document} has {len(data)} bytes; a document may have {MAX_SIZE} at most"
        )
    bare = _STRING.sub(b"", data)
    brackets = bare.translate(None, _NO_BRACKETS)
    if len(brackets) > 2 * MAX_PARTS:
        raise ArchiveError(f"{document} holds more than {MAX_PARTS} lists and objects")
    if max(accumulate(map(_STEPS.__getitem__, brackets)), default=0) > MAX_DEPTH:
        raise ArchiveError(f"{document} is nested more than {MAX_DEPTH} deep")
    if _HUGE.search(bare):
        raise ArchiveError(f"{document} holds a number of 100 digits or more")
    try:
        return msgspec.json.decode(data.decode())
    except UnicodeDecodeError as error:
        raise ArchiveError(f"{document} is not UTF-8 (byte {error.start})") from None
    except msgspec.DecodeError as error:
        reason = str(error).removeprefix("JSON is malformed: ").lower()
        raise ArchiveError(f"{document} is not valid JSON: {reason}") from None


def quoted(text: str) -> str:
    """`text` as it stands in a message: quoted, on one line, and not a megabyte long."""
    return repr(text) if len(text) <= _LONGEST else f"{text[:_LONGEST]!r}..."


def _drop_nulls(value: Any) -> None:
    if isinstance(value, dict):
        for key in [key for key, inner in value.items() if inner is None]:
            del value[key]
        for inner in value.values():
            _drop_nulls(inner)
    elif isinstance(value, list):
        for inner in value:
            _drop_nulls(inner)


def _special(kind: type, value: object) -> object:
    """A value of our own kinds of text, which say with a ValueError what they do not take."""
    if not isinstance(value, str):
        raise ValueError(_KINDS["str"])
    return kind(value)


def _told(document: str, message: str) -> str:
    at = _AT.fullmatch(message)
    what, where = at.groups() if at else (message, "")
    if missing := _MISSING.fullmatch(what):
        where = f"{where}.{missing[1]}".removeprefix(".")
        what = "is missing"
    elif expected := _EXPECTED.fullmatch(what):
        what = _KINDS[expected[1]]
    return f"{document}: {where} {what}" if where else f"{document} {what}"
