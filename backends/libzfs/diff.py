"""`zfs diff` as records, with every byte of every path.

Run as `zfs diff -FHt`: tabs between fields, bytes outside of printable ASCII escaped. py-libzfs
fails on renames and on FIFOs, swaps the names of a rename and leaves the escapes in; not so here.

Source: lib/libzfs/libzfs_diff.c of OpenZFS 2.3.2 (stream_bytes, print_rename, print_link_change).
"""

import datetime
import os
import re
from typing import Any

from backends.libzfs.enums import DiffFileType, DiffRecordType, Error
from backends.libzfs.errors import ZFSException
from backends.libzfs.values import utc

_ESCAPE = re.compile(rb"\\0([0-7]{3})")
_LINKS = re.compile(r"\(([+-]\d+)\)")


def unescaped(text: str) -> str:
    """A path as it is on disk, with bytes that are not UTF-8 as surrogates (os.fsdecode)."""
    data = text.encode("utf-8", "surrogateescape")
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), data))


class DiffRecord:
    """One line of `zfs diff`.

    `path` is the path now, under the mount point; a rename has `oldpath`, the path before.
    `timestamp` is the change time in UTC (microseconds), `timestamp_ns` the same in nanoseconds
    since the epoch. `link_delta` is how many names a file gained or lost, 0 if that is unchanged.
    """

    def __init__(self, raw: str) -> None:
        fields = raw.removesuffix("\n").split("\t")
        try:
            when, cmd, kind, path = fields[:4]
            seconds, _, nanoseconds = when.strip().partition(".")
            self.raw = raw
            self.timestamp_ns = int(seconds) * 10**9 + int(nanoseconds or 0)
            self.cmd = DiffRecordType(cmd)
            self.type = DiffFileType(kind)
        except ValueError as error:
            raise ZFSException(Error.DIFFDATA, f"invalid diff data: {raw!r}") from error
        self.timestamp: datetime.datetime = utc(int(seconds)).replace(
            microsecond=self.timestamp_ns // 1000 % 10**6
        )
        self.path = unescaped(path)
        self.link_delta = 0
        rest = fields[4:]
        if self.cmd is DiffRecordType.RENAME:
            if len(rest) != 1:
                raise ZFSException(Error.DIFFDATA, f"invalid diff data: {raw!r}")
            self.oldpath, self.path = self.path, unescaped(rest[0])
        elif rest and (links := _LINKS.fullmatch(rest[0])):
            self.link_delta = int(links[1])

    def __str__(self) -> str:
        return self.raw

    __repr__ = __str__

    def asdict(self) -> dict[str, Any]:
        """The record in plain types."""
        return {
            "timestamp": self.timestamp,
            "cmd": self.cmd.name,
            "type": self.type.name,
            "path": self.path,
            "oldpath": getattr(self, "oldpath", None),
        }
