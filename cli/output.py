"""What is written where: results to stdout, all else to stderr, and tables as Docker sets them.

Text goes out as UTF-8 whatever the locale, as with Docker; a name that is not UTF-8 goes out as the
bytes that it is. What comes out of an image or a container is hostile: `printable` takes the
terminal's control characters out of it.
"""

import contextlib
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from backends.errors import CowshedError

_CONTROL = "[\x00-\x1f\x7f-\x9f]"
_NOT_IN_JSON = "[\x7f-\x9f\ud800-\udfff]"
_GAP = 3
_NARROWEST = 10
_tracebacks = False


class OutputError(CowshedError):
    """The results cannot be written."""


class ReaderGone(Exception):
    """Nobody reads stdout any more. No OSError, for those have other handlers on their way up."""


REFUSED = 125
"""The exit status of what runs a process where it cannot, as Docker has it."""


def prepare() -> None:
    """Set stdout and stderr up for what they will be given."""
    # A stream that was closed before we began is None, and `print` to that goes elsewhere.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lasts as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    warnings.showwarning = _warned


def write(text: str) -> None:
    """Text to stdout. Raises OutputError; ReaderGone when nobody reads it any more."""
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise failed(error) from error


def write_bytes(data: bytes) -> None:
    """Bytes to stdout, in order with the text. Raises as `write` does."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    except OSError as error:
        raise failed(error) from error


def flush() -> None:
    """Bring everything out. Raises as `write` does."""
    try:
        sys.stdout.flush()
    except OSError as error:
        raise failed(error) from error


def failed(error: OSError) -> Exception:
    """What to raise after stdout answered with `error`; nothing more is written there."""
    # Python writes what is left in the buffer at exit, and would fail again then.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    if error.errno == errno.EPIPE:
        return ReaderGone()
    return OutputError(f"cannot write the output: {error.strerror}")


def line(text: str) -> None:
    """A line to stdout."""
    write(f"{text}\n")


def note(text: str) -> None:
    """A line to stderr, if there is still somebody to tell."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """A line to stderr that says what is about to go wrong."""
    note(f"Warning: {text}")


def _warned(message: Warning | str, *where: object, **more: object) -> None:
    """What Python is to do with a warning of a library: say it as one line."""
    warn(str(message))


def fail(text: str) -> None:
    """A line to stderr that says what went wrong; after the traceback, if those are wanted."""
    if sys.exc_info()[0] is not None and _tracebacks:
        import traceback

        traceback.print_exc()
    note(f"Error: {text}")


def show_tracebacks() -> None:
    """From now on."""
    global _tracebacks
    _tracebacks = True


def printable(text: str) -> str:
    """`text` with every control character as an escape, so that it can neither move nor paint."""
    if text.isprintable():
        return text
    return re.sub(_CONTROL, _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(match[0], f"\\x{ord(match[0]):02x}")


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0
        if unicodedata.combining(letter) or unicodedata.category(letter) in ("Me", "Mn", "Cf")
        else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def shorten(text: str, width: int) -> str:
    """`text`, cut to `width` columns with an ellipsis if it is wider."""
    if cells(text) <= width:
        return text
    kept = text[: width - 1]
    while cells(kept) >= width:
        kept = kept[:-1]
    return f"{kept}…"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cells(text))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, heading: bool = True) -> None:
    """Columns as wide as their widest cell, three blanks apart and never narrower than ten."""
    lines = [list(headings)] if heading else []
    lines += [[printable(cell) for cell in given] for given in rows]
    widths = [max(map(cells, column), default=0) for column in zip(*lines, strict=True)]
    padded = [max(width + _GAP, _NARROWEST) for width in widths[:-1]]
    for row in lines:
        body = "".join(_padded(cell, width) for cell, width in zip(row, padded, strict=False))
        line(f"{body}{row[-1]}".rstrip())


def json_text(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    """JSON that can go to a terminal; text that is not UTF-8 has lone surrogates, escaped.

    `compact`: without blanks.
    """
    import json

    separators = (",", ":") if compact else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub(_NOT_IN_JSON, lambda match: f"\\u{ord(match[0]):04x}", text)


def json_array(values: Iterable[Any]) -> None:
    """One JSON document, an array, with a line for each value as it comes."""
    before = "["
    for value in values:
        write(f"{before}\n{json_text(value)}")
        before = ","
    line("[]" if before == "[" else "\n]")
