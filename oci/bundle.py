"""The files of an archive of images, wherever they are: in a tar, or in a directory.

Both are hostile. A tar is looked through once, by the reader that layers have, too, and its members
are read where they lie in the file; a link, as old versions of Docker put in the place of a layer
they had already written, leads to another member and never out of the archive. A directory is read
through descriptors that follow no link, and nothing but a regular file is opened. Memory is
bounded, whatever an archive holds.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple, Protocol, cast

from backends.errors import from_os_error
from backends.tree import open_regular
from oci import compression
from oci.errors import ArchiveError, named
from oci.paths import split
from oci.tar import Reader
from oci.tarheader import FILE, LINK, SYMLINK

MAX_MEMBERS = 100_000
"""More than a thousand images of a hundred layers have."""

MAX_NAMES = 16 << 20
"""Bytes of the names of all members, and of what links lead to."""

MAX_DOCUMENTS = 64 << 20
"""Bytes of documents in all, each counted as often as it is read; an image has 20 KiB of them."""

_LINKS = 10
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Bundle(Protocol):
    """Files by their paths, which have no leading slash and no ".."."""

    documents: int
    """Bytes of documents that were read so far."""

    def size(self, path: str) -> int | None:
        """Bytes of the file; None if there is none of that path."""

    def open(self, path: str) -> io.BufferedReader:
        """The file from its beginning. Raises ArchiveError if it is not there."""


def read(bundle: Bundle, path: str, most: int) -> bytes:
    """The whole of a document.

    Raises ArchiveError if it is not there, is longer than `most`, or is one too many.
    """
    size = bundle.size(path)
    if size is not None and size > most:
        raise ArchiveError(f"{path} has {size} bytes; at most {most} are read")
    with bundle.open(path) as file:
        data = file.read(most)
    bundle.documents += len(data)
    if bundle.documents > MAX_DOCUMENTS:
        raise ArchiveError(
            f"{path}: the archive has more than {MAX_DOCUMENTS} bytes of documents;"
            " put its images into several archives"
        )
    return data


@contextmanager
def opened(source: BinaryIO, scratch: str) -> Iterator[Bundle]:
    """The bundle in a tar, compressed or not; what cannot seek is copied to a file in `scratch`.

    The copy has no name, and is gone with the context. Raises ArchiveError if it is no tar, and
    NoSpace if the copy has no room (see compression.within_room).
    """
    import tempfile

    head = source.read(compression.MAGIC_SIZE)
    kind = compression.sniff(head)
    if kind == compression.PLAIN and source.seekable():
        source.seek(-len(head), os.SEEK_CUR)
        yield TarBundle(source)
        return
    unpacked = compression.pieces(kind, compression.prefixed(head, source.read))
    with tempfile.TemporaryFile(dir=scratch, buffering=0) as copy:
        for piece in compression.within_room(unpacked, copy.fileno()):
            _write(copy.fileno(), piece)
        copy.seek(0)
        yield TarBundle(cast(BinaryIO, copy))


class _Member(NamedTuple):
    """A member of a tar: its type, where its body is in the file, and what a link leads to.

    `size` is None where the body is no plain run of bytes.
    """

    type: int
    start: int
    size: int | None
    link: bytes


class TarBundle:
    """The members of the tar that begins where `file` is."""

    def __init__(self, file: BinaryIO) -> None:
        self.documents = 0
        self._file = file
        self._members: dict[bytes, _Member] = {}
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
        try:
            self._index(start, end)
        except ArchiveError as error:
            if self._members:
                raise
            raise ArchiveError(f"not an archive of images: {error}") from error

    def _index(self, start: int, end: int) -> None:
        names = 0
        headers = _Headers(_Part(self._file, start, end - start))
        for entry in headers:
            path = b"/".join(split(entry.path))
            size = entry.size if entry.type == FILE and entry.sparse is None else None
            self._members[path] = _Member(entry.type, headers.position, size, entry.link)
            if headers.position + entry.stored > end:
                raise ArchiveError(f"the archive is cut short in {named(path)}")
            names += len(path) + len(entry.link)
            if len(self._members) > MAX_MEMBERS:
                raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members")
            if names > MAX_NAMES:
                raise ArchiveError(f"the archive has names of more than {MAX_NAMES} bytes")

    def size(self, path: str) -> int | None:
        part = self._find(path)
        return None if part is None else part.size

    def open(self, path: str) -> io.BufferedReader:
        part = self._find(path)
        if part is None:
            raise ArchiveError(f"the archive has no file {named(path.encode())}")
        return io.BufferedReader(part)

    def _find(self, path: str) -> "_Part | None":
        name = path.encode()
        for _ in range(_LINKS):
            member = self._members.get(name)
            if member is None:
                return None
            if member.size is not None:
                return _Part(self._file, member.start, member.size)
            if member.type not in (LINK, SYMLINK):
                raise ArchiveError(f"{named(name)} in the archive is not a regular file")
            name = _target(name, member)
        raise ArchiveError(f"{named(path.encode())}: too many links in the archive lead on from it")


def _target(name: bytes, member: _Member) -> bytes:
    """The path in the archive that the link `name` leads to."""
    if member.type == LINK:
        return b"/".join(split(member.link))
    parts = name.split(b"/")[:-1]
    for part in member.link.split(b"/"):
        if part == b".." and parts:
            parts.pop()
        elif part == b".." or member.link.startswith(b"/"):
            raise ArchiveError(
                f"{named(name)} is a link that leads out of the archive, to {named(member.link)}"
            )
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


class _Part(io.RawIOBase):
    """Some bytes of a file, read where they lie whatever the file's own position is."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._fd = file.fileno()
        self.size, self.position, self._end = size, start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        left = max(self._end - self.position, 0)
        count = os.preadv(self._fd, [buffer[:left]], self.position)
        self.position += count
        return count


class _Headers(Reader):
    """The entries of an archive that lies in a file: bodies are passed over, not read."""

    def __init__(self, part: _Part) -> None:
        super().__init__(part)
        self._part = part

    @property
    def position(self) -> int:
        """Where in the file the body of the current entry is."""
        return self._part.position - (self._end - self._start)

    def _pass(self, size: int, kept: bytearray | None = None) -> None:
        beyond = size - (self._end - self._start)
        if kept is None and beyond > 0:
            self._start = self._end
            self._part.position += beyond
            self._read += beyond
        else:
            super()._pass(size, kept)

    def _drain(self) -> None:
        """What follows the end of the archive is nobody's."""


class DirectoryBundle:
    """The files below a directory."""

    def __init__(self, path: str) -> None:
        self.documents = 0
        self._path = path

    def size(self, path: str) -> int | None:
        try:
            file = self._open(path)
        except FileNotFoundError:
            return None
        try:
            return os.fstat(file).st_size
        finally:
            os.close(file)

    def open(self, path: str) -> io.BufferedReader:
        try:
            return io.BufferedReader(io.FileIO(self._open(path)))
        except FileNotFoundError as error:
            raise ArchiveError(f"{self._path} has no file {named(path.encode())}") from error

    def _open(self, path: str) -> int:
        """A descriptor of the file. Raises FileNotFoundError, and ArchiveError for all else."""
        *above, name = path.split("/")
        what = f"{named(path.encode())} in {self._path}"
        here = os.open(self._path, _DIRECTORY)
        try:
            for part in above:
                below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                raise ArchiveError(f"{what} is not a regular file; links are not followed")
            return open_regular(name.encode(), here, status)
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = error.strerror
            if error.errno == errno.ENOTDIR:
                reason = "what is above it is not a directory; links are not followed"
            raise ArchiveError(f"cannot read {what}: {reason}") from error
        finally:
            os.close(here)


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise from_os_error(error, "copy the archive to the store, to look into it") from error
