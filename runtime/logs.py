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
_PREFIX = 100
"""Bytes of a line that say what it is."""


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
    position, rest, seen = file.seek(0, os.SEEK_END), b"", 0
    while position:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        # The line that the block before ended in is looked at when its beginning is there.
        text = file.read(size) + rest
        ends = [match.end() for match in re.finditer(rb"\n", text)]
        begins = [0, *ends[:-1]]
        first = 0 if position == 0 else 1
        for begin, end in reversed(list(zip(begins, ends, strict=True))[first:]):
            # One more than is wanted: where it ends, those begin.
            seen += _is_whole(text[begin : begin + _PREFIX])
            if seen > count:
                file.seek(position + end)
                return
        rest = text[: ends[0]] if ends else text
    file.seek(0)


def _is_whole(line: bytes) -> bool:
    """Whether the line that begins so is a whole one, or the last part of one."""
    fields = line.split(b" ", 3)
    return len(fields) == 4 and fields[2] == b"F"
