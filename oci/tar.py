"""Reading a tar archive as a stream: ustar, V7, GNU tar and PAX, as one sequence of entries.

    reader = Reader(source)
    for entry in reader:
        while piece := reader.piece():
            ...the next bytes of the entry's body...

Nothing is trusted: checksums are verified, numbers and lengths are bounded, and the archive must
end with its end-of-archive marker. Whatever is wrong raises ArchiveError, with the entry or the
offset at which it is. Memory does not grow with the archive.

A Recorder gets every byte of the stream, those after the archive's end included, as they go by
in `piece`, `_block`, `_pass` and `_drain`; so it can be rebuilt bit for bit (see oci.tarsplit).
"""

from collections.abc import Iterator
from typing import Protocol

from oci import pax, sparse
from oci.errors import ArchiveError, named
from oci.tarheader import (
    BLOCK,
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    LINK,
    MAX_OFFSET,
    NOTHING,
    SYMLINK,
    USTAR,
    ZERO_BLOCK,
    Entry,
    Header,
    identity,
    is_header,
    number,
    parse,
    size_of,
    within,
)

MAX_NAME = 1 << 20
"""The most bytes that a path may have: thousands of directories below each other."""

_BUFFER = 1 << 20
_PIECE = 1 << 18
_NO_BYTES = memoryview(b"")
_NANOSECONDS = 1_000_000_000

_BODILESS = frozenset({LINK, SYMLINK, CHAR_DEVICE, BLOCK_DEVICE, DIRECTORY, FIFO})
_TYPES = {
    0: FILE,
    ord("7"): FILE,
    ord("S"): FILE,
    ord("D"): DIRECTORY,
    FILE: FILE,
    **{kind: kind for kind in _BODILESS},
}
_REFUSED = {
    ord("M"): "it continues a file from another volume",
    ord("N"): "it holds long names in a format that was given up in 1990",
    ord("A"): "it is a Solaris ACL",
    ord("E"): "it holds Solaris extended attributes",
    ord("I"): "it is an inode without its data",
}
_LONG_NAME, _LONG_LINK = ord("L"), ord("K")
_EXTENDED = (ord("x"), ord("X"))
_GLOBAL = ord("g")
_VOLUME_LABEL = ord("V")
_OLD_SPARSE = ord("S")
_DUMP_DIRECTORY = ord("D")

_MAX_MAJOR = (1 << 12) - 1
_MAX_MINOR = (1 << 20) - 1
_MAX_TIME = ((1 << 63) - 1) * _NANOSECONDS
_CUT_SHORT = "the archive is cut short"


class Source(Protocol):
    """Where the archive comes from: a raw or buffered binary stream."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


class Recorder(Protocol):
    """What keeps a stream. `data` from `begin` to `end` is all that a regular file of that name and
    size, more than none, holds in the tree; `segment` is the rest. They own nothing they get.
    """

    def segment(self, data: bytes | memoryview, /) -> None: ...
    def begin(self, name: bytes, size: int, /) -> None: ...
    def data(self, piece: bytes | memoryview, /) -> None: ...
    def end(self) -> None: ...


class _NotATar(ArchiveError):
    """It is wrong from the first byte on, so no place needs to be told."""


class Reader:
    """The entries of the archive that begins where `source` is, and the body of the current one."""

    def __init__(self, source: Source, recorder: Recorder | None = None) -> None:
        self._source = source
        self._recorder = recorder
        self._record = None if recorder is None else recorder.segment
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._read = 0
        self._left = 0
        self._padding = 0
        self._globals: pax.Records = {}
        self._seen_pax = False
        self._name = b""
        self._offset = 0
        self._last_block = b""

    def __iter__(self) -> Iterator[Entry]:
        """Each entry in turn; what is left of a body is passed over."""
        try:
            while True:
                self._name = b""
                self._finish_body()
                entry = self._next()
                if entry is None:
                    break
                yield entry
            self._drain()
        except _NotATar as error:
            raise ArchiveError(str(error)) from error
        except ArchiveError as error:
            raise ArchiveError(self._located(str(error))) from error

    def piece(self) -> memoryview:
        """The next bytes of the current body, empty at its end; valid until the next call."""
        left = self._left
        if not left:
            return _NO_BYTES
        have = self._end - self._start
        if have < left and have < _PIECE:
            have = self._fill(min(left, _PIECE))
            if not have:
                raise ArchiveError(self._located(_CUT_SHORT))
        taken = min(have, left)
        start = self._start
        self._start = start + taken
        self._left = left - taken
        piece = self._view[start : start + taken]
        if self._record is not None:
            self._record(piece)
        return piece

    def _next(self) -> Entry | None:
        """The entry that begins here, with the headers that precede it; None at the end."""
        name = link = b""
        local: pax.Records = {}
        repeated: list[int] = []
        while (header := self._header()) is not None:
            kind = header.type
            if kind in _EXTENDED:
                self._seen_pax = True
                local, repeated = pax.parse(self._collect(header, pax.MAX_HEADER))
            elif kind == _GLOBAL:
                self._seen_pax = True
                found, _ = pax.parse(self._collect(header, pax.MAX_HEADER))
                self._globals = {**self._globals, **found}
            elif kind == _LONG_NAME:
                name = self._collect(header, MAX_NAME).partition(b"\0")[0]
            elif kind == _LONG_LINK:
                link = self._collect(header, MAX_NAME).partition(b"\0")[0]
            elif kind != _VOLUME_LABEL:
                if name or link:
                    header = header._replace(name=name or header.name, link=link or header.link)
                records = {**self._globals, **local} if local else self._globals
                return self._entry(header, records, repeated)
        if name or link or local or repeated:
            raise ArchiveError("the archive ends after an extended header, before its entry")
        return None

    def _header(self) -> Header | None:
        """The next header block; None at the end of the archive, which must be marked."""
        self._offset = self._read - (self._end - self._start)
        have = self._fill(BLOCK)
        if not have:
            if not self._offset:
                raise _NotATar("not a tar archive: it is empty")
            raise ArchiveError("the archive is cut short: its end is not marked")
        block = self._block()
        header = parse(block)
        if header is not None:
            return header
        if block != ZERO_BLOCK:
            if not self._offset:
                raise _NotATar("not a tar archive: it does not begin with a header")
            raise ArchiveError("the archive is damaged: there is no header where one must be")
        # One block of zeros at the very end is what some writers leave; GNU tar takes it too.
        if self._fill(BLOCK) and self._block() != ZERO_BLOCK:
            raise ArchiveError("the archive is damaged: something follows a block of zeros")
        return None

    def _entry(self, header: Header, records: pax.Records, repeated: list[int]) -> Entry:
        """The entry of this header and these records; its body comes next in the stream."""
        self._name = path = header.name
        kind = _TYPES.get(header.type)
        if kind is None:
            reason = _REFUSED.get(header.type, f"its type {chr(header.type)!r} is unknown")
            raise ArchiveError(f"cannot be unpacked: {reason}")
        link, pieces, real_size = header.link, None, -1
        uid, gid = number(header.uid), number(header.gid)
        mtime, atime = number(header.mtime) * _NANOSECONDS, None
        xattrs = acls = NOTHING
        if header.type == _OLD_SPARSE:
            pieces, real_size = sparse.old_gnu(self._last_block, self._block)
        if records:
            self._name = path = records.get(b"GNU.sparse.name") or records.get(b"path") or path
            link = records.get(b"linkpath") or link
            if value := records.get(b"uid"):
                uid = pax.integer(value)
            if value := records.get(b"gid"):
                gid = pax.integer(value)
            if value := records.get(b"mtime"):
                mtime = pax.time(value)
            if value := records.get(b"atime"):
                atime = pax.time(value)
            xattrs, acls = pax.attributes(records)
        stored = self._stored(header, kind, records)
        self._left, self._padding = stored, -stored % BLOCK
        if kind == FILE:
            if records and pieces is None:
                pieces, real_size, stored = self._pax_sparse(records, repeated, stored)
            if path[-1:] == b"/":
                # Before there was a type for directories, a slash at the end told them.
                kind = DIRECTORY
        major = minor = 0
        if kind in (CHAR_DEVICE, BLOCK_DEVICE):
            major = within(number(header.major), _MAX_MAJOR, "major device number")
            minor = within(number(header.minor), _MAX_MINOR, "minor device number")
        if pieces is not None:
            sparse.check(pieces, within(real_size, MAX_OFFSET, "size"), stored)
        _check_names(path, link, kind)
        if self._recorder and kind == FILE and stored and pieces is None and not _is_mark(path):
            self._recorder.begin(path, self._left)
            self._record = self._recorder.data
        return Entry(
            kind,
            path,
            link,
            number(header.mode) & 0o7777,
            identity(uid, "user id"),
            identity(gid, "group id"),
            stored if pieces is None else real_size,
            stored,
            _time(mtime),
            atime,
            major,
            minor,
            xattrs,
            acls,
            pieces,
        )

    def _stored(self, header: Header, kind: int, records: pax.Records) -> int:
        """How many bytes of body follow the header; see _link_has_body for hard links."""
        if kind == LINK:
            has_body = self._link_has_body(header)
        else:
            has_body = kind not in _BODILESS or header.type == _DUMP_DIRECTORY
        if not has_body:
            return 0
        value = records.get(b"size")
        return size_of(header.size) if not value else within(pax.integer(value), MAX_OFFSET, "size")

    def _link_has_body(self, header: Header) -> bool:
        """Whether the size of a hard link counts: POSIX changed its mind in 2001.

        Before, readers ignored it and some writers filled it in; PAX archives may have the body
        of the file again. As in libarchive, an archive that could be either is judged by what
        comes next.
        """
        if header.magic != USTAR:
            return False
        if self._seen_pax:
            return True
        if self._fill(BLOCK) < BLOCK:
            return False
        block = bytes(self._view[self._start : self._start + BLOCK])
        return block != ZERO_BLOCK and not is_header(block)

    def _pax_sparse(
        self, records: pax.Records, repeated: list[int], stored: int
    ) -> tuple[sparse.Map | None, int, int]:
        """The sparse map, if the records tell one, the real size, and the bytes stored."""
        if sparse.is_version_1(records):
            before = self._left
            pieces = sparse.from_body(self._body_block)
            real_size = pax.integer(records.get(b"GNU.sparse.realsize", b"-1"))
            return pieces, real_size, stored - (before - self._left)
        told = sparse.from_records(records, repeated)
        return (None, -1, stored) if told is None else (*told, stored)

    def _block(self) -> bytes:
        if self._fill(BLOCK) < BLOCK:
            raise ArchiveError(_CUT_SHORT)
        start = self._start
        self._start = start + BLOCK
        self._last_block = bytes(self._view[start : start + BLOCK])
        if self._record is not None:
            self._record(self._last_block)
        return self._last_block

    def _body_block(self) -> bytes:
        """A block of the current body."""
        if self._left < BLOCK:
            raise ArchiveError("the sparse map is longer than the body")
        self._left -= BLOCK
        return self._block()

    def _collect(self, header: Header, most: int) -> bytes:
        """The whole body of an extended header."""
        size = number(header.size)
        if not 0 <= size <= most:
            raise ArchiveError(f"an extended header of {size} bytes; at most {most} are read")
        body = bytearray()
        self._pass(size, body)
        self._pass(-size % BLOCK)
        return bytes(body)

    def _finish_body(self) -> None:
        self._pass(self._left)
        if self._recorder and self._record == self._recorder.data:
            self._recorder.end()
            self._record = self._recorder.segment
        self._pass(self._padding)
        self._left = self._padding = 0

    def _pass(self, size: int, kept: bytearray | None = None) -> None:
        """Go on by `size` bytes, adding them to `kept`."""
        while size:
            have = min(size, self._end - self._start or self._fill(1))
            if not have:
                raise ArchiveError(_CUT_SHORT)
            if kept is not None:
                kept += self._view[self._start : self._start + have]
            if self._record is not None:
                self._record(self._view[self._start : self._start + have])
            self._start += have
            size -= have

    def _drain(self) -> None:
        """Read to the end of the source: padding, and what a decompressor has yet to verify."""
        while have := self._end - self._start or self._fill(1):
            self._pass(have)

    def _fill(self, wanted: int) -> int:
        """Have `wanted` bytes in one piece in the buffer, or all there are; returns how many."""
        have = self._end - self._start
        if have >= wanted:
            return have
        if self._start + wanted > _BUFFER:
            self._view[:have] = self._view[self._start : self._end]
            self._start, self._end = 0, have
        while have < wanted:
            count = self._source.readinto(self._view[self._end :])
            if not count:
                break
            self._end += count
            self._read += count
            have += count
        return have

    def _located(self, problem: str) -> str:
        where = named(self._name) if self._name else f"at byte {self._offset}"
        return f"{where}: {problem}"


def _check_names(path: bytes, link: bytes, kind: int) -> None:
    if not path:
        raise ArchiveError("the entry has no name")
    if len(path) > MAX_NAME:
        raise ArchiveError(f"the name has {len(path)} bytes; at most {MAX_NAME} are read")
    if b"\0" in path or b"\0" in link:
        raise ArchiveError("a zero byte in a name")
    if not link and kind in (LINK, SYMLINK):
        raise ArchiveError("a link without a target")


def _time(nanoseconds: int) -> int:
    if not -_MAX_TIME <= nanoseconds <= _MAX_TIME:
        raise ArchiveError("the modification time is out of range")
    return nanoseconds


def _is_mark(path: bytes) -> bool:
    """Whether it tells of a deletion or of aufs, so that it may be no file in the tree."""
    return b"/.wh." in b"/" + path
