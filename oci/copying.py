"""Copying between this machine and a container's tree, where `docker cp` would put things.

What is copied is packed as an archive, as an export is, and written by a child that has chrooted:
into the container's tree, or into the directory of this machine where it goes. So nothing is read
or written outside, whatever links the tree has and whatever becomes of it meanwhile. Modes, times,
extended attributes, hard links and devices are kept; owners as the caller says.

A file or directory that is new, and a file in the place of another, is written beside and then
renamed: it is there when it is whole. A directory that is there already is written into.
"""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from backends.errors import BackendError, CowshedError, from_os_error
from backends.inside import open_inside
from backends.resolved import resolve
from backends.tree import Cursor, erase, identity, lstat
from imagegraph import running
from imagegraph.model import Container
from imagegraph.store import Store
from oci.errors import ArchiveError, named
from oci.extract import Extraction
from oci.layer import Progress, apply
from oci.pack import Archive, pack
from oci.paths import split
from oci.sandbox import run_inside
from oci.tar import Reader
from oci.tarheader import DIRECTORY, LINK, Entry

Owner = tuple[int, int]
"""User and group id of all that is written, where it is not what the source says."""

_HERE = b"."
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@contextlib.contextmanager
def root_of(store: Store, container: Container) -> Iterator[int]:
    """A descriptor of the container's root directory. Raises BackendError.

    That of a running one is as its process sees it, with what is mounted in it.
    """
    pid = running.process(container.id)
    seen = (
        contextlib.nullcontext(f"/proc/{pid}/root")
        if pid is not None
        else store.open_tree(container)
    )
    with seen as tree:
        root = os.open(tree, _PLACE)
        try:
            yield root
        finally:
            os.close(root)


class Path(NamedTuple):
    """A path that was typed: in the tree whose root directory `root` is, or on this machine.

    `label` begins the path in messages.
    """

    text: str
    root: int | None = None
    label: str = ""

    def __str__(self) -> str:
        return f"{self.label}{self.text}"

    @property
    def clean(self) -> bytes:
        """Absolute, without ".." and a slash at its end, as Go's filepath.Join makes it."""
        start = os.getcwdb() if self.root is None else b"/"
        whole = os.path.normpath(os.path.join(start, os.fsencode(self.text)))
        return b"/" + whole.lstrip(b"/")

    @property
    def name(self) -> bytes:
        """The last name of the path; "." if what is in the directory is meant, and not itself."""
        contents = os.path.basename(self.text.rstrip("/")) in ("", ".")
        return _HERE if contents else os.path.basename(self.clean) or _HERE

    @property
    def is_directory(self) -> bool:
        """Whether it is nothing else, as it is typed."""
        return self.text.endswith("/") or self.name == _HERE

    def resolved(self) -> tuple[bytes, int]:
        """The path with all its links resolved, and how many names at its end are not there."""
        if self.root is not None:
            inside = resolve(self.root, self.clean)
            return b"/" + inside.path, inside.missing
        real = os.path.realpath(self.clean)
        above = os.path.dirname(real)
        return real, 0 if os.path.lexists(real) else 1 if os.path.isdir(above) else 2

    def open(self, path: bytes, flags: int) -> int:
        """Open another path on the same side."""
        if self.root is not None:
            return open_inside(self.root, path, flags)
        return os.open(path, flags)


class _Source(NamedTuple):
    """What is copied: the entry `name` of an open directory, "." if it is that directory itself."""

    directory: int
    name: bytes
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    def pack(self, base: bytes, write: Callable[[bytes], object]) -> list[bytes]:
        """Write it as an archive in which it is called `base`; returns its sockets."""
        place = f"/proc/self/fd/{self.directory}"
        if self.is_directory:
            return pack(place, write, base=b"" if base == _HERE else base)
        with Cursor(place) as cursor:
            archive = Archive(cursor, write)
            archive.add(base, self.name, self.status)
        archive.end()
        return archive.sockets


def copy(
    source: Path,
    target: Path,
    *,
    follow: bool = False,
    owner: Owner | None = None,
    progress: Progress = lambda count: None,
) -> list[bytes]:
    """Copy a file or a directory with all in it, from one side to the other.

    `follow`: the source is what a link leads to. Without `owner` the owners are kept. `progress`
    hears of the bytes that went over. Returns the paths of sockets, which are not copied. Raises
    CowshedError; only where a directory was written into is something left then.
    """
    with ExitStack() as stack:
        found = _open_source(source, follow, stack)
        if stat.S_ISSOCK(found.status.st_mode):
            raise CowshedError(f"cannot copy {source}: it is a socket")
        with _refused(f"copy to {target}"):
            above, name = _place(target, found, source.name)
            directory = target.open(above, _OPEN)
            stack.callback(os.close, directory)
            if found.is_directory:
                _require_apart(found, directory, f"cannot copy {source} into itself, {target}")
            merged = _is_merged(target, found, directory, name)
        fresh = b"" if merged else b".cowshed-" + os.urandom(8).hex().encode()
        try:
            sockets = _send(found, name, target, above, fresh, owner, progress)
            if fresh:
                with _refused(f"copy to {target}"):
                    os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            if fresh:
                with contextlib.suppress(BackendError):
                    erase(f"/proc/self/fd/{directory}/{os.fsdecode(fresh)}")
            raise
        return sockets


def copy_to_stream(source: Path, out: BinaryIO, *, follow: bool = False) -> list[bytes]:
    """Write a file or directory as an archive to `out`, whose OSErrors it raises; see `copy`."""
    with ExitStack() as stack:
        return _open_source(source, follow, stack).pack(source.name, out.write)


def copy_from_stream(
    stream: BinaryIO, target: Path, *, owner: Owner | None = None, progress: Progress | None = None
) -> None:
    """Unpack an archive, compressed or not, into a directory of a container; see `copy`."""
    with _refused(f"copy to {target}"):
        real = target.resolved()[0]
        os.close(target.open(real, _PLACE))
    tree, prefix, kept = _inside(target, real)
    try:
        apply(
            stream,
            tree,
            extraction=lambda: _Placing(prefix, owner),
            kept=kept,
            progress=progress,
        )
    except OSError as error:
        raise ArchiveError(f"cannot read the archive: {error.strerror}") from error


def _open_source(source: Path, follow: bool, stack: ExitStack) -> _Source:
    """Find and open the source, until the stack ends."""
    with _refused(f"copy {source}"):
        path = source.resolved()[0] if follow or source.is_directory else source.clean
        above, name = os.path.split(path)
        directory = source.open(above, _PLACE)
        stack.callback(os.close, directory)
        status = lstat(name or _HERE, directory)
        if stat.S_ISDIR(status.st_mode) and name:
            directory = os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=directory)
            stack.callback(os.close, directory)
        elif source.is_directory and name:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return _Source(directory, name, status)


def _place(target: Path, source: _Source, name: bytes) -> tuple[bytes, bytes]:
    """The directory that the copy goes into, and what it is called there; see docker-cp(1)."""
    path, missing = target.resolved()
    if missing > 1:
        raise CowshedError(f"cannot copy to {target}: there is no directory {_shown(target, path)}")
    if missing:
        if target.is_directory and not source.is_directory:
            raise CowshedError(f"cannot copy a file to {target}: there is no such directory")
        return os.path.split(path)
    there = target.open(path, os.O_PATH | os.O_NOFOLLOW)
    mode = os.fstat(there).st_mode
    os.close(there)
    if stat.S_ISDIR(mode):
        return path, name
    if source.is_directory:
        raise CowshedError(f"cannot copy a directory to {target}, which is none")
    if target.is_directory or not stat.S_ISREG(mode):
        raise CowshedError(f"cannot copy to {target}: it is neither a directory nor a regular file")
    return os.path.split(path)


def _shown(target: Path, path: bytes) -> str:
    return f"{target.label}{os.fsdecode(os.path.dirname(path))}"


def _is_merged(target: Path, source: _Source, directory: int, name: bytes) -> bool:
    """Whether the copy is written into a directory that is there."""
    try:
        there = stat.S_ISDIR(lstat(name, directory).st_mode)
    except FileNotFoundError:
        return False
    if there != source.is_directory:
        kinds = ("a directory", "something that is none")
        new, old = kinds if source.is_directory else kinds[::-1]
        raise CowshedError(
            f"cannot copy to {target}: {new} cannot take the place of {old}, {named(name)}"
        )
    return there


def _require_apart(source: _Source, directory: int, problem: str) -> None:
    """Raises CowshedError if the directory is the source or is in it, as in a mounted container."""
    with ExitStack() as stack:
        here, above = -1, directory
        while here < 0 or identity(os.fstat(here)) != identity(os.fstat(above)):
            here = above
            if identity(os.fstat(here)) == identity(source.status):
                raise CowshedError(problem)
            above = os.open("..", _PLACE, dir_fd=here)
            stack.callback(os.close, above)


def _inside(target: Path, directory: bytes) -> tuple[str, bytes, tuple[int, ...]]:
    """The tree that a child enters to write, the path in it, and the descriptors it needs for that.

    The whole of a container's tree: whoever runs there can move directories about in it, but not
    out of it, and with one of them the child itself.
    """
    if target.root is None:
        return os.fsdecode(directory), b"", ()
    return f"/proc/self/fd/{target.root}", directory, (target.root,)


def _send(
    source: _Source,
    name: bytes,
    target: Path,
    directory: bytes,
    fresh: bytes,
    owner: Owner | None,
    progress: Progress,
) -> list[bytes]:
    """Have a child write the source into the directory as `name`, which is `fresh` if not empty.

    Returns the sockets.
    """
    sockets: list[bytes] = []
    tree, prefix, kept = _inside(target, directory)

    def feed(pipe: int) -> None:
        def write(piece: bytes) -> None:
            view = memoryview(piece)
            while view:
                view = view[os.write(pipe, view) :]
            progress(len(piece))

        with contextlib.suppress(BrokenPipeError):
            sockets.extend(source.pack(name, write))

    def unpack(pipe: int) -> str:
        with io.FileIO(pipe, closefd=False) as archive:
            _Placing(prefix, owner, fresh).run(Reader(archive))
        return ""

    run_inside(tree, unpack, feed, kept)
    return sockets


class _Placing(Extraction):
    """An archive on its way into the directory `prefix`, which itself stays as it is.

    No directory takes the place of something else, and nothing else that of a directory. What all
    that is in the archive is below, or is, gets the name `fresh` if that is not empty.
    """

    def __init__(self, prefix: bytes, owner: Owner | None, fresh: bytes = b"") -> None:
        super().__init__()
        self._prefix = prefix
        self._owner = owner
        self._fresh = fresh

    def run(self, reader: Reader) -> tuple[int, int]:
        try:
            return super().run(reader)
        except OSError as error:
            # Of a directory that was entered already, so somebody moves things about.
            raise BackendError(
                f"the tree changed while it was written: {error.strerror}"
            ) from error

    def _add(self, entry: Entry, reader: Reader) -> None:
        if entry.type == DIRECTORY and not split(entry.path):
            return
        entry = entry._replace(path=self._placed(entry.path))
        if entry.type == LINK:
            entry = entry._replace(link=self._placed(entry.link))
        if self._owner is not None:
            entry = entry._replace(uid=self._owner[0], gid=self._owner[1])
        super()._add(entry, reader)

    def _placed(self, path: bytes) -> bytes:
        names = split(path)
        if self._fresh:
            names[0] = self._fresh
        return b"/".join((self._prefix, *names))

    def _directory(self, name: bytes, entry: Entry) -> None:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.lstat(name).st_mode):
                raise ArchiveError(f"{named(entry.path)}: it is no directory there; remove it")
        super()._directory(name, entry)

    def _remove(self, name: bytes) -> None:
        if stat.S_ISDIR(os.lstat(name).st_mode):
            raise ArchiveError(f"{named(name)}: it is a directory there; remove it")
        super()._remove(name)


@contextlib.contextmanager
def _refused(doing: str) -> Iterator[None]:
    """What the kernel does not do, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM):
            raise from_os_error(error, doing) from error
        reason = (error.strerror or str(error)).lower()
        raise CowshedError(f"cannot {doing}: {reason}") from error
