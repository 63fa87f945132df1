"""Whatever an archive is compressed with, taken off as a stream: gzip, zstd, bzip2, xz, or nothing.

The kind is told by the first bytes, never by a name. Several members or frames in a row are one
stream. Every checksum is verified, and an input that ends early or is damaged raises
ArchiveError: what was read until then is not to be relied on. A few bytes that unpack to
gigabytes cost no memory: a piece is never longer than PIECE, nor a window than 128 MiB; and
`within_room` stops them before they fill a disk.
"""

import hashlib
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple, Protocol, cast

from backends.errors import NoSpace
from oci.errors import ArchiveError

PIECE = 1 << 20
"""The most bytes of the unpacked stream in one piece."""

PLAIN = "plain"
GZIP = "gzip"
ZSTD = "zstd"
BZIP2 = "bzip2"
XZ = "xz"

MAGIC_SIZE = 6
"""How many bytes `sniff` needs to see."""


class Levels(NamedTuple):
    """How hard a compressor can try: the least, the most, and what is usual."""

    least: int
    most: int
    usual: int


LEVELS = {GZIP: Levels(0, 3, 2), ZSTD: Levels(1, 22, 3)}
"""Those of isal, which are not gzip's 1 to 9, and of zstd."""

KEPT_FREE = 20
"""One part in so many of what is free stays free, whatever is unpacked."""

_MAGIC = ((b"\x1f\x8b", GZIP), (b"BZh", BZIP2), (b"\xfd7zXZ\0", XZ), (b"\x28\xb5\x2f\xfd", ZSTD))
_READ = 1 << 16
_XZ_MEMORY = 100 << 20
"""What the xz decoder may take, in bytes; xz -9 needs 65 MiB."""

_ZSTD_FRAME = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
_ZSTD_WINDOW = 1 << 27
_ZSTD_BLOCKS = PIECE >> 17
"""Blocks of at most 128 KiB that may be decoded at once."""


def sniff(head: bytes) -> str:
    """What a stream that begins with `head` is compressed with."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if len(head) >= 4 and int.from_bytes(head[:4], "little") & ~0xF == _ZSTD_SKIPPABLE:
        return ZSTD
    return PLAIN


def decompressed(raw: BinaryIO) -> BinaryIO:
    """The unpacked stream of `raw`, which is read from where it stands and need not seek."""
    head = _exactly(raw.read, MAGIC_SIZE)
    return cast(BinaryIO, io.BufferedReader(_Stream(pieces(sniff(head), prefixed(head, raw.read)))))


class Packing:
    """What is written is packed as gzip or zstd: the same bytes for the same input and library."""

    def __init__(
        self, kind: str, write: Callable[[bytes], object], level: int | None = None
    ) -> None:
        self._compressor = _compressor(kind, LEVELS[kind].usual if level is None else level)
        self._write = write
        self._sha256 = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes | memoryview) -> None:
        self._pass(self._compressor.compress(data))

    def end(self) -> tuple[str, int]:
        """Write the rest; the digest of what was written, and its size in bytes."""
        self._pass(self._compressor.flush())
        return f"sha256:{self._sha256.hexdigest()}", self._size

    def _pass(self, piece: bytes) -> None:
        self._sha256.update(piece)
        self._size += len(piece)
        self._write(piece)


def compressor(kind: str, level: int | None = None) -> str:
    """What packs as `kind`, with its version and level: other bytes may come of another."""
    if level is None:
        level = LEVELS[kind].usual
    if kind == GZIP:
        import isal

        return f"isal {isal.__version__} level {level}"
    import zstandard

    return f"zstandard {zstandard.__version__} level {level}"


class _Compressor(Protocol):
    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressor(kind: str, level: int) -> _Compressor:
    if kind == GZIP:
        from isal import isal_zlib

        # With a header as of gzip, in which no time stands.
        return cast(_Compressor, isal_zlib.compressobj(level, wbits=31))
    from zstandard import ZstdCompressor

    return ZstdCompressor(level=level, write_checksum=True).compressobj()


def prefixed(head: bytes, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A `read` that gives `head` first, then what the given one gives."""
    rest = head

    def first(size: int) -> bytes:
        nonlocal rest
        if not rest:
            return read(size)
        taken, rest = rest[:size], rest[size:]
        return taken

    return first


def pieces(kind: str, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The unpacked stream, in pieces of at most PIECE bytes, of what `read` gives."""
    if kind == GZIP:
        return _gzip(read)
    if kind == ZSTD:
        return _zstd(read)
    if kind == BZIP2:
        return _bzip2(read)
    if kind == XZ:
        return _xz(read)
    return iter(lambda: read(_READ), b"")


def within_room(pieces: Iterable[bytes], *places: str | int) -> Iterator[bytes]:
    """The pieces, for as long as all of them together have room on the filesystem of each place.

    A place is a path or a descriptor. What is free there at the first piece counts, less one part
    in KEPT_FREE. Every byte counts, though a filesystem that compresses, or leaves zeros out, might
    hold more: it is the time that a hostile archive takes that ends so. Raises NoSpace.
    """
    room_for_all = left = min(map(room, places))
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise NoSpace(
                f"it unpacks to more than the {room_for_all} bytes that may be taken of the free"
                " space: free some or grow the pool, if the archive is to be trusted"
            )
        yield piece


def room(place: str | int) -> int:
    """Bytes that may be taken of a filesystem; what tells no size has no bound."""
    counts = os.statvfs(place)
    if not counts.f_blocks:
        return sys.maxsize
    return counts.f_bavail * counts.f_frsize * (KEPT_FREE - 1) // KEPT_FREE


class _Stream(io.RawIOBase):
    """Pieces as a raw stream."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source = source
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._piece:
            piece = next(self._source, None)
            if piece is None:
                return 0
            self._piece = memoryview(piece)
        taken = min(len(buffer), len(self._piece))
        buffer[:taken] = self._piece[:taken]
        self._piece = self._piece[taken:]
        return taken


class _Decompressor(Protocol):
    """What the decompressors of bz2, lzma and isal have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def _gzip(read: Callable[[int], bytes]) -> Iterator[bytes]:
    from isal import igzip_lib

    def member() -> _Decompressor:
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    # isal's stubs call the class an instance.
    return _members(GZIP, read, member, cast(type[Exception], igzip_lib.IsalError))


def _bzip2(read: Callable[[int], bytes]) -> Iterator[bytes]:
    import bz2

    return _members(BZIP2, read, bz2.BZ2Decompressor, OSError)


def _xz(read: Callable[[int], bytes]) -> Iterator[bytes]:
    import lzma

    def member() -> _Decompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    return _members(XZ, read, member, lzma.LZMAError)


def _members(
    kind: str,
    read: Callable[[int], bytes],
    member: Callable[[], _Decompressor],
    damage: type[Exception],
) -> Iterator[bytes]:
    """The stream of members that follow one another, with zeros at most between and after them."""
    data = read(_READ)
    while data:
        one = member()
        while not one.eof:
            if one.needs_input and not data:
                data = read(_READ)
                if not data:
                    raise ArchiveError(f"the {kind} data is cut short")
            try:
                piece = one.decompress(data, PIECE)
            except damage as error:
                raise ArchiveError(f"the {kind} data is damaged: {error}") from error
            data = b""
            if piece:
                yield piece
        data = one.unused_data.lstrip(b"\0")
        while not data and (more := read(_READ)):
            data = more.lstrip(b"\0")


def _zstd(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The stream of zstd frames.

    The library's stream reader takes a frame that is cut short for one that has ended, and its
    other interfaces put no bound on a piece. So the frames are taken apart here (RFC 8878,
    section 3.1.1), and decoded a few blocks at a time.
    """
    from zstandard import ZstdDecompressor, ZstdError

    library = ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    take = _taker(read)
    while head := _exactly(read, 4):
        magic = int.from_bytes(head, "little")
        if len(head) == 4 and magic & ~0xF == _ZSTD_SKIPPABLE:
            _skip(take, int.from_bytes(take(4), "little"))
            continue
        if len(head) < 4 or magic != _ZSTD_FRAME:
            raise ArchiveError("the zstd data is damaged or cut short: a frame does not begin")
        frame = library.decompressobj()
        try:
            for blocks in _zstd_blocks(head, take):
                if piece := frame.decompress(blocks):
                    yield piece
        except ZstdError as error:
            raise ArchiveError(f"the zstd data is damaged: {error}") from error
        if not frame.eof:
            raise ArchiveError("the zstd data is damaged: a frame does not end")


def _zstd_blocks(magic: bytes, take: Callable[[int], bytes]) -> Iterator[bytes]:
    """The bytes of a frame: its header, then its blocks, a few at a time, and its checksum."""
    descriptor = take(1)
    flags = descriptor[0]
    single_segment = flags >> 5 & 1
    size_field = (single_segment, 2, 4, 8)[flags >> 6]
    yield magic + descriptor + take(1 - single_segment + (0, 1, 2, 4)[flags & 3] + size_field)
    blocks: list[bytes] = []
    last = 0
    while not last:
        header = take(3)
        number = int.from_bytes(header, "little")
        last = number & 1
        run_of_one_byte = number >> 1 & 3 == 1
        blocks += (header, take(1 if run_of_one_byte else number >> 3))
        if len(blocks) >= 2 * _ZSTD_BLOCKS:
            yield b"".join(blocks)
            blocks = []
    yield b"".join(blocks) + (take(4) if flags >> 2 & 1 else b"")


def _taker(read: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def take(size: int) -> bytes:
        data = _exactly(read, size)
        if len(data) < size:
            raise ArchiveError("the zstd data is cut short")
        return data

    return take


def _skip(take: Callable[[int], bytes], size: int) -> None:
    while size:
        size -= len(take(min(size, _READ)))


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    """`size` bytes, or fewer at the end of the stream."""
    data = read(size)
    while len(data) < size and (more := read(size - len(data))):
        data += more
    return data
