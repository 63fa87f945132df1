"""Reading a tree and writing it as an archive: the other way round from oci.extract.

The tree is walked with a Cursor, so no link is followed, no path is too long and no depth takes
more than a bounded number of descriptors; files are opened only as the regular files that they
are. Memory grows with the names in one directory and on the way down to it, and with the
inodes that have further names still to come.
"""

import os
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from backends.errors import BackendError
from backends.tree import CHANGED, Cursor, TreeChanged, by_name, lstat, open_regular, xattrs
from oci.errors import named
from oci.tar import Recorder
from oci.tarheader import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    END_OF_ARCHIVE,
    FIFO,
    FILE,
    LINK,
    NOTHING,
    SYMLINK,
    Entry,
    encode,
    padding,
)

_TYPES = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
}
_DEVICES = (CHAR_DEVICE, BLOCK_DEVICE)
_CAPABILITY = "security.capability"
_PIECE = 1 << 20
_AGAIN = "try again when nothing writes to it"


class Archive:
    """An archive on its way out, made of entries of a tree in which `cursor` moves.

    `vet` is shown every entry before it is written, and may raise. `recorder` is given all that is
    written. `sockets` are the paths that were left out, for no archive holds sockets.
    """

    def __init__(
        self,
        cursor: Cursor,
        write: Callable[[bytes], object],
        *,
        recorder: Recorder | None = None,
        vet: Callable[[Entry], None] | None = None,
    ) -> None:
        self.sockets: list[bytes] = []
        self._cursor = cursor
        self._write = write
        self._recorder: Recorder = recorder or _NoRecorder()
        self._vet = vet
        self._names = _Names()

    def add(self, path: bytes, name: bytes, status: os.stat_result) -> None:
        """Write the entry `name` of the directory where the cursor is; `path` is what it is called.

        Raises TreeChanged when it is no longer what `status` says, and BackendError.
        """
        if stat.S_ISSOCK(status.st_mode):
            self.sockets.append(path)
            return
        first = self._names.first(path, status)
        fd = -1
        try:
            with reading(path):
                if stat.S_ISREG(status.st_mode) and not first:
                    fd = open_regular(name, self._cursor.fd, status)
                place = by_name(name, self._cursor.fd) if fd < 0 else fd
                entry = _entry(path, name, status, first, self._cursor.fd, place)
            if self._vet is not None:
                self._vet(entry)
            self.write(entry, fd)
        finally:
            if fd >= 0:
                os.close(fd)

    def write(self, entry: Entry, fd: int = -1) -> None:
        """Write the entry, with the contents of `fd` if it is a regular file of the tree."""
        header = encode(entry)
        self._recorder.segment(header)
        if fd < 0:
            self._write(header)
            return
        if entry.size:
            self._recorder.begin(entry.path, entry.size)
        for piece in _body(fd, entry):
            self._recorder.data(piece)
            self._write(header + piece)
            header = b""
        filling = padding(entry.size)
        if entry.size:
            self._recorder.end()
            self._recorder.segment(filling)
        self._write(header + filling)

    def end(self) -> None:
        """Write what ends an archive."""
        self._recorder.segment(END_OF_ARCHIVE)
        self._write(END_OF_ARCHIVE)


class _NoRecorder:
    """Takes no note of anything."""

    def segment(self, data: bytes | memoryview, /) -> None: ...
    def begin(self, name: bytes, size: int, /) -> None: ...
    def data(self, piece: bytes | memoryview, /) -> None: ...
    def end(self) -> None: ...


def pack(
    tree: str,
    write: Callable[[bytes], object],
    *,
    without: Collection[bytes] = (),
    base: bytes = b"",
) -> list[bytes]:
    """Write the directory `tree` as an archive; see oci.layer.make.

    `base` is what the directory is called in it, and begins all other names.
    """
    with reading(b""):
        cursor = Cursor(tree)
    with cursor:
        archive = Archive(cursor, write)
        for path, name, is_directory in _walk(cursor):
            if path in without:
                continue
            with reading(path):
                status = lstat(name, cursor.fd)
            if stat.S_ISDIR(status.st_mode) != is_directory:
                raise TreeChanged(_replaced(path))
            archive.add(b"/".join(filter(None, (base, path))), name, status)
    archive.end()
    return archive.sockets


class _Names:
    """The inodes that have several names, with the first of them, until all have been seen."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], tuple[bytes, int]] = {}

    def first(self, path: bytes, status: os.stat_result) -> bytes:
        """The path at which the inode was met before, or empty if it was not."""
        if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
            return b""
        inode = status.st_dev, status.st_ino
        first, left = self._known.pop(inode, (b"", status.st_nlink))
        if left > 1:
            self._known[inode] = first or path, left - 1
        return first


def _walk(cursor: Cursor) -> Iterator[tuple[bytes, bytes, bool]]:
    """Path, name and whether it was listed as a directory, with the cursor where the name is.

    In byte order of paths as they are written, directories with a slash at the end: "a.b", "a/",
    "a/b". So what is in a directory follows it without a break, as GNU tar needs it to restore
    the directory's time.
    """
    yield b"", b".", True
    path = bytearray()
    above: list[tuple[Iterator[bytes], int]] = []
    keys = _keys(cursor, b"")
    while True:
        for key in keys:
            if not key.endswith(b"/"):
                yield bytes(path) + key, key, False
                continue
            name = key[:-1]
            yield bytes(path) + name, name, True
            above.append((keys, len(path)))
            path += key
            with reading(bytes(path)):
                cursor.enter(name)
            keys = _keys(cursor, path)
            break
        else:
            if not above:
                return
            keys, length = above.pop()
            with reading(bytes(path)):
                cursor.leave()
            del path[length:]


def _keys(cursor: Cursor, path: bytes | bytearray) -> Iterator[bytes]:
    """The names in this directory, in order; a directory's ends in a slash."""
    with reading(bytes(path)):
        entries = cursor.entries()
        return iter(sorted(name + b"/" if directory else name for name, directory in entries))


def _entry(
    path: bytes,
    name: bytes,
    status: os.stat_result,
    first: bytes,
    directory: int,
    place: int | bytes,
) -> Entry:
    """The entry for a name, with its attributes at `place`; a hard link to `first` if not empty."""
    kind = LINK if first else _TYPES[stat.S_IFMT(status.st_mode)]
    link = os.readlink(name, dir_fd=directory) if kind == SYMLINK else first
    size = status.st_size if kind == FILE else 0
    device = status.st_rdev if kind in _DEVICES else 0
    found = xattrs(place)
    if first:
        # Docker gives every name that it makes an owner, which takes the capability away, and so
        # has it in the header of every name.
        found = {key: value for key, value in found.items() if key == _CAPABILITY}
    return Entry(
        kind,
        (path or b".") + b"/" if kind == DIRECTORY else path,
        link,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        size,
        size,
        status.st_mtime_ns,
        None,
        os.major(device),
        os.minor(device),
        {os.fsencode(key): value for key, value in found.items()} if found else NOTHING,
    )


def _body(fd: int, entry: Entry) -> Iterator[bytes]:
    """The contents of a file, which must have the size that its entry says from first to last."""
    left = entry.size
    while left:
        with reading(entry.path):
            piece = os.read(fd, min(left, _PIECE))
        if not piece:
            break
        left -= len(piece)
        yield piece
    if left or os.fstat(fd).st_size != entry.size:
        raise TreeChanged(f"{named(entry.path)} changed its size while it was read; {_AGAIN}")


def _replaced(path: bytes) -> str:
    return f"{named(path)} was replaced while the tree was being read; {_AGAIN}"


@contextmanager
def reading(path: bytes) -> Iterator[None]:
    """What goes wrong in reading the entry at `path`, as one line."""
    try:
        yield
    except OSError as error:
        if error.errno in CHANGED:
            raise TreeChanged(_replaced(path)) from error
        raise BackendError(f"cannot read {named(path)}: {error.strerror}") from error
