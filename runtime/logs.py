"""What a container's process printed, as conmon keeps it.

A line of the log: time (RFC 3339), stdout or stderr, F or P (whole, or a part that the next one
goes on from), a space, and the bytes (the CRI log format, kubernetes cri-api).
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from imagegraph import running
from runtime.errors import RunError

_LINE = re.compile(rb"(\S+) (stdout|stderr) ([FP]) (.*)", re.DOTALL)
_BLOCK = 1 << 16


class Record(NamedTuple):
    """A piece of output, with its newline unless it goes on in the next."""

    time: str
    stream: str
    data: bytes


def read(
    root: str,
    id: str,
    *,
    tail: int | None = None,
    follow: Callable[[], bool] | None = None,
) -> Iterator[Record]:
    """The container's output, the oldest first; none if it never ran.

    `tail`: only so many last lines. `follow` waits a moment, and says whether more may come.
    Raises OSError, and RunError for a log that is damaged.
    """
    try:
        file = open(f"{running.kept(root, id)}/{running.LOG}", "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        if tail is not None:
            _seek_tail(file, tail)
        rest = b""
        while True:
            goes_on = follow() if follow else False
            while piece := file.readline():
                rest += piece
                if rest.endswith(b"\n"):
                    yield _record(rest[:-1])
                    rest = b""
            if not goes_on:
                return


def _record(line: bytes) -> Record:
    match = _LINE.fullmatch(line)
    if match is None:
        raise RunError("the container's log is damaged: a line of it is none of conmon's")
    end = b"\n" if match[3] == b"F" else b""
    return Record(match[1].decode(errors="replace"), match[2].decode(), match[4] + end)


def _seek_tail(file: IO[bytes], count: int) -> None:
    """Go to where the last `count` whole lines begin."""
    end = file.seek(0, os.SEEK_END)
    position, text = end, b""
    while position:
        # One more whole line than is wanted, whose end is where those begin.
        ends = [match.end() for match in re.finditer(rb"\n", text) if _is_whole(text, match.end())]
        if len(ends) > count:
            file.seek(position + ends[-count - 1])
            return
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        text = file.read(size) + text
    ends = [match.end() for match in re.finditer(rb"\n", text) if _is_whole(text, match.end())]
    file.seek(ends[-count - 1] if len(ends) > count else 0)


def _is_whole(text: bytes, end: int) -> bool:
    """Whether the line that ends there is a whole one or the last part of one."""
    begin = text.rfind(b"\n", 0, end - 1) + 1
    fields = text[begin : begin + 100].split(b" ", 3)
    return len(fields) == 4 and fields[2] == b"F"
