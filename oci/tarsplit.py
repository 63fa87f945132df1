"""What a tar holds beside its file bodies, kept so that it can be rebuilt bit for bit from a tree.

The format is tar-split's (github.com/vbatts/tar-split, tar/storage), which Docker and Podman keep
beside each layer: gzip of JSON, a line for each run of headers and padding, and one for each file
body, with the name by which the tree has it, its size and its CRC-64 (ISO 3309, as in Go's
hash/crc64, big endian). Their records are read here, and they can read these, unless the archive
names a file twice.

Whether the tar that comes out is the one that went in is for its digest to say: a later entry of
the archive may have replaced a file, and nothing in the record tells.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Annotated, BinaryIO, NamedTuple, Self

import msgspec
from fastcrc.crc64 import go_iso
from isal import isal_zlib

from backends.errors import BackendError, from_os_error
from backends.tree import identity, lstat, open_regular
from oci import compression
from oci.errors import ArchiveError, named
from oci.paths import split
from oci.tarheader import MAX_OFFSET

Write = Callable[[bytes | memoryview], object]

MAX_LINE = 8 << 20
"""The most bytes of a line that are read."""

MAX_SEGMENT = 1 << 20
"""The most bytes of the tar in one line of what is written here."""

_FILE = 1
_SEGMENT = 2
_CRC_SIZE = 8

_PENDING = 1 << 16
_PIECE = 1 << 20
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40
"""How many links the kernel follows in one path (path_resolution(7))."""

_LOAD_AGAIN = "remove the layer and load or pull it again"


class _Line(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """tar-split's storage.Entry. Bytes are in base64; Go writes an empty payload as null."""

    type: Annotated[int, msgspec.Meta(ge=_FILE, le=_SEGMENT)]
    name: str = ""
    name_raw: bytes = b""
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_OFFSET)] = 0
    payload: bytes | None
    position: int


class Segment(NamedTuple):
    """Bytes of the tar that are in no file: headers, padding, and bodies that the tree lacks."""

    data: bytes


class Body(NamedTuple):
    """The contents of a regular file: its path in the tree, bytes, and CRC if one was kept."""

    name: bytes
    size: int
    crc: int | None


class Writer:
    """The record of an archive, compressed, on its way to the descriptor `fd`.

    It is told what an archive consists of, as it is read (it is an oci.tar.Recorder) or as it is
    made. Everything it needs is there once it has been made, so it works in a chroot. Memory does
    not grow with the archive. Raises BackendError when the record cannot be written.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._gzip = isal_zlib.compressobj(1, wbits=31)
        self._encoder = msgspec.json.Encoder()
        self._segment = bytearray()
        self._lines = bytearray()
        self._position = 0
        self._name = b""
        self._size = 0
        self._crc = 0

    def segment(self, data: bytes | memoryview, /) -> None:
        """The next bytes of the archive, which are in no file."""
        self._segment += data
        while len(self._segment) >= MAX_SEGMENT:
            self._end_segment()

    def begin(self, name: bytes, size: int, /) -> None:
        """Next comes the body of the regular file `name`: `size` bytes, more than none."""
        self._end_segment()
        self._name, self._size, self._crc = name, size, 0

    def data(self, piece: bytes | memoryview, /) -> None:
        """The next bytes of that body."""
        self._crc = go_iso(piece, self._crc)

    def end(self) -> None:
        """That body is complete."""
        crc = self._crc.to_bytes(_CRC_SIZE, "big")
        raw = needs_name_raw(self._name)
        self._add(
            _Line(
                type=_FILE,
                name="" if raw else self._name.decode(),
                name_raw=self._name if raw else b"",
                size=self._size,
                payload=crc,
                position=self._position,
            )
        )

    def close(self) -> None:
        """Write what is left and end the gzip stream; the descriptor stays open."""
        self._end_segment()
        self._write(self._gzip.compress(self._lines) + self._gzip.flush())

    def _end_segment(self) -> None:
        if self._segment:
            payload = bytes(self._segment[:MAX_SEGMENT])
            del self._segment[:MAX_SEGMENT]
            self._add(_Line(type=_SEGMENT, payload=payload, position=self._position))

    def _add(self, line: _Line) -> None:
        self._position += 1
        self._lines += self._encoder.encode(line)
        self._lines += b"\n"
        if len(self._lines) >= _PENDING:
            self._write(self._gzip.compress(self._lines))
            self._lines.clear()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise from_os_error(error, "write the tar-split record") from error


def needs_name_raw(name: bytes) -> bool:
    """Whether JSON cannot hold the name, because it is not UTF-8, so that it goes in base64."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return True
    return False


def entries(source: BinaryIO) -> Iterator[Segment | Body]:
    """What the record that `source` gives consists of, in the order of the tar.

    Memory does not grow with the record. Raises ArchiveError; an OSError is that of `source`.
    """
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(_lines(source)):
        try:
            line = decoder.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _damaged(number, str(error)) from error
        if line.position != number:
            raise _damaged(number, f"it says that it is at position {line.position}")
        if line.type == _SEGMENT:
            yield Segment(line.payload or b"")
        else:
            yield _body(line)


def rebuild(record: BinaryIO, tree: str, write: Write) -> int:
    """Write the tar that `record` tells of, with its file bodies from `tree`; returns its bytes.

    What `write` gets is valid until it returns. The tree is a hostile one, but nobody writes to
    it: no name and no link leads out of it, and nothing but regular files of the recorded size is
    opened. Raises ArchiveError for the record, BackendError where the tree is not as it was
    unpacked; an OSError is that of `record` or of `write`.
    """
    length = 0
    with _Tree(tree) as files:
        for part in entries(record):
            if isinstance(part, Segment):
                write(part.data)
                length += len(part.data)
            elif part.size:
                files.write(part, write)
                length += part.size
    return length


class _Tree:
    """The files of a tree, found by name as a process would that has it for its root directory.

    Links are followed here and not by the kernel, so that a path may have any length.
    """

    def __init__(self, root: str) -> None:
        try:
            self._root = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise BackendError(f"cannot enter {root}: {error.strerror}") from error
        self._directory = os.dup(self._root)
        self._entered: list[bytes] = []
        self._buffer = memoryview(bytearray(_PIECE))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._directory)
        os.close(self._root)

    def write(self, body: Body, write: Write) -> None:
        """Write the contents of a file, piece by piece; they must be the recorded ones."""
        left, crc = body.size, 0
        fd = self._open(body)
        try:
            while left:
                piece = self._read(fd, body, left)
                crc = go_iso(piece, crc)
                write(piece)
                left -= len(piece)
        finally:
            os.close(fd)
        if body.crc not in (None, crc):
            raise _unlike(body, "its contents are others")

    def _read(self, fd: int, body: Body, most: int) -> memoryview:
        try:
            count = os.readv(fd, [self._buffer[:most]])
        except OSError as error:
            raise _unlike(body, f"it cannot be read ({error.strerror})") from error
        if not count:
            raise _unlike(body, "it ends early")
        return self._buffer[:count]

    def _open(self, body: Body) -> int:
        *parents, name = split(body.name) or [b"."]
        try:
            if parents != self._entered:
                directory = _resolve(self._root, parents)
                os.close(self._directory)
                self._directory, self._entered = directory, parents
            status = lstat(name, self._directory)
            if not stat.S_ISREG(status.st_mode):
                raise _unlike(body, "it is not a regular file")
            if status.st_size != body.size:
                raise _unlike(body, f"it has {status.st_size} bytes and not {body.size}")
            return open_regular(name, self._directory, status)
        except OSError as error:
            raise _unlike(body, f"it cannot be opened ({error.strerror})") from error


def _resolve(root: int, components: list[bytes]) -> int:
    """A descriptor (O_PATH) of the directory that these names and the links in it lead to.

    A link to an absolute path starts again at `root`, and ".." in one does not lead above it.
    """
    pending = components[::-1]
    links = 0
    here = os.dup(root)
    try:
        while pending:
            name = pending.pop()
            if name == b".." and identity(os.fstat(here)) == identity(os.fstat(root)):
                continue
            try:
                there = os.open(name, _DIRECTORY, dir_fd=here)
            except NotADirectoryError:
                target = _link_target(name, here)
                links += 1
                if links > _MOST_LINKS:
                    raise
                pending += [
                    part for part in reversed(target.split(b"/")) if part not in (b"", b".")
                ]
                if not target.startswith(b"/"):
                    continue
                there = os.dup(root)
            os.close(here)
            here = there
    except OSError:
        os.close(here)
        raise
    return here


def _body(line: _Line) -> Body:
    name = line.name_raw or line.name.encode()
    if b"\0" in name or not name:
        raise _damaged(line.position, f"{named(name)} is not the name of a file")
    if line.payload and len(line.payload) != _CRC_SIZE:
        raise _damaged(line.position, f"a checksum of {len(line.payload)} bytes")
    return Body(name, line.size, int.from_bytes(line.payload, "big") if line.payload else None)


def _lines(source: BinaryIO) -> Iterator[bytes]:
    stream = compression.decompressed(source)
    line = stream.readline(MAX_LINE + 1)
    if not line:
        raise ArchiveError("the tar-split record is empty")
    while line:
        if len(line) > MAX_LINE:
            raise ArchiveError(f"the tar-split record has a line of more than {MAX_LINE} bytes")
        yield line
        line = stream.readline(MAX_LINE + 1)


def _link_target(name: bytes, directory: int) -> bytes:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error


def _damaged(number: int, reason: str) -> ArchiveError:
    return ArchiveError(f"the tar-split record is damaged in line {number + 1}: {reason}")


def _unlike(body: Body, reason: str) -> BackendError:
    what = f"{named(body.name)} is not as it was unpacked: {reason}"
    return BackendError(f"{what}; {_LOAD_AGAIN}")
