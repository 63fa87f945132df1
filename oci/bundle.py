"""The files of an archive of images, wherever they are: in a tar, or in a directory.

Both are hostile. A tar is looked through once and its members are read where they lie in the file;
a link, as old versions of Docker put in the place of a layer they had already written, leads to
another member and never out of the archive. A directory is read through descriptors that follow no
link.
"""

import io
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol, cast

from oci import compression
from oci.errors import ArchiveError, named

MAX_MEMBERS = 100_000
"""More than a thousand images of a hundred layers have."""

_LINKS = 10


class Bundle(Protocol):
    """Files by their paths, which have no leading slash and no ".."."""

    def size(self, path: str) -> int | None:
        """Bytes of the file; None if there is none of that path."""

    def open(self, path: str) -> io.BufferedReader:
        """The file from its beginning. Raises ArchiveError if it is not there."""


def read(bundle: Bundle, path: str, most: int) -> bytes:
    """The whole of a document. Raises ArchiveError if it is not there, or longer than `most`."""
    size = bundle.size(path)
    if size is not None and size > most:
        raise ArchiveError(f"{path} has {size} bytes; at most {most} are read")
    with bundle.open(path) as file:
        return file.read(most)


@contextmanager
def opened(source: BinaryIO, scratch: str) -> Iterator[Bundle]:
    """The bundle in a tar, compressed or not; what cannot seek is copied to a file in `scratch`.

    Raises ArchiveError if it is no tar.
    """
    import tempfile

    head = source.read(compression.MAGIC_SIZE)
    kind = compression.sniff(head)
    if kind == compression.PLAIN and source.seekable():
        source.seek(-len(head), os.SEEK_CUR)
        yield TarBundle(source)
        return
    with tempfile.TemporaryFile(dir=scratch) as copy:
        for piece in compression.pieces(kind, compression.prefixed(head, source.read)):
            copy.write(piece)
        copy.seek(0)
        yield TarBundle(cast(BinaryIO, copy))


class TarBundle:
    """The members of the tar that begins where `file` is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._members: dict[str, tarfile.TarInfo] = {}
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
        try:
            self._index(end)
        except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
            raise ArchiveError(f"not an archive of images: {error}") from error

    def _index(self, end: int) -> None:
        with tarfile.open(fileobj=self._file, mode="r:") as tar:
            for member in tar:
                if member.offset_data + (member.size if member.isreg() else 0) > end:
                    name = named(os.fsencode(member.name))
                    raise ArchiveError(f"the archive is cut short in {name}")
                self._members[_normal(member.name)] = member
                # tarfile keeps every member, too.
                tar.members = []  # type: ignore[attr-defined]
                if len(self._members) > MAX_MEMBERS:
                    raise ArchiveError(f"the archive has more than {MAX_MEMBERS} members")

    def size(self, path: str) -> int | None:
        member = self._find(path)
        return member.size if member else None

    def open(self, path: str) -> io.BufferedReader:
        member = self._find(path)
        if member is None:
            raise ArchiveError(f"the archive has no file {named(os.fsencode(path))}")
        return io.BufferedReader(_Part(self._file, member.offset_data, member.size))

    def _find(self, path: str) -> tarfile.TarInfo | None:
        for _ in range(_LINKS):
            member = self._members.get(_normal(path))
            if member is None or (member.isreg() and not member.sparse):
                return member
            if member.issym():
                path = os.path.normpath(os.path.join(os.path.dirname(path), member.linkname))
            elif member.islnk():
                path = member.linkname
            else:
                return None
        return None


class _Part(io.RawIOBase):
    """Some bytes of a file, read where they lie whatever the file's own position is."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._fd = file.fileno()
        self._at, self._end = start, start + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._fd, [buffer[: self._end - self._at]], self._at)
        self._at += count
        return count


class DirectoryBundle:
    """The files below a directory."""

    def __init__(self, path: str) -> None:
        self._path = path

    def size(self, path: str) -> int | None:
        try:
            with self.open(path) as file:
                return os.fstat(file.fileno()).st_size
        except ArchiveError:
            return None

    def open(self, path: str) -> io.BufferedReader:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        here = os.open(self._path, flags | os.O_DIRECTORY)
        try:
            *above, name = path.split("/")
            for part in above:
                below = os.open(part, flags | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            file = os.open(name, flags, dir_fd=here)
        except OSError as error:
            what = named(os.fsencode(path))
            raise ArchiveError(f"cannot read {what} in {self._path}: {error.strerror}") from error
        finally:
            os.close(here)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise ArchiveError(f"{named(os.fsencode(path))} in {self._path} is not a regular file")
        return io.BufferedReader(io.FileIO(file))


def _normal(path: str) -> str:
    return os.path.normpath(path).removeprefix("/")
