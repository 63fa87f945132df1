"""Reading and erasing a tree of files by directory descriptors, for all that must see every entry.

A tree is hostile: its names are bytes, its links lead anywhere, its paths are longer than
PATH_MAX, and someone may be changing it meanwhile. So nothing here resolves a path of more than
one name: a `Cursor` goes down and up one level at a time, never through a link, and holds a
bounded number of descriptors whatever the depth. Fifos and devices are never opened. Access
times stay as they are where the kernel allows it.
"""

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from backends.errors import BackendError, VolumeBusy

HELD = 100
"""Levels of directories whose descriptors a Cursor keeps open."""

CHANGED = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EISDIR})
"""What reading gets when an entry vanished or became something else under way."""


class TreeChanged(BackendError):
    """An entry vanished, or became something else, while the tree was being read."""


def shown(path: bytes) -> str:
    """`path` as one line of text, quoted, whatever bytes it holds."""
    return repr(os.fsdecode(path) or "/")


class Cursor:
    """A place in the tree below `root`, which may be reached through a link (/proc/self/fd/N).

    `fd` is the directory where the cursor is. Raises OSError, and TreeChanged when the way back
    up leads elsewhere than it came from.
    """

    def __init__(self, root: str) -> None:
        self.fd = _open_quietly(os.fsencode(root), os.O_DIRECTORY)
        self._held = deque([self.fd])
        self._closed: list[tuple[int, int]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._held:
            os.close(self._held.pop())

    def enter(self, name: bytes) -> None:
        """Go down into the directory `name`."""
        self.fd = _open_quietly(name, os.O_DIRECTORY | os.O_NOFOLLOW, self.fd)
        self._held.append(self.fd)
        if len(self._held) > HELD:
            outermost = self._held.popleft()
            self._closed.append(identity(os.fstat(outermost)))
            os.close(outermost)

    def leave(self) -> None:
        """Go back up to the directory that the cursor was in before it entered this one."""
        left = self._held.pop()
        try:
            if not self._held:
                self._held.append(_open_quietly(b"..", os.O_DIRECTORY | os.O_NOFOLLOW, left))
                if identity(os.fstat(self._held[0])) != self._closed.pop():
                    raise TreeChanged("a directory was moved while the tree was being read")
        finally:
            os.close(left)
        self.fd = self._held[-1]

    def entries(self) -> Iterator[tuple[bytes, bool]]:
        """Each name in this directory, in no order, and whether it is a directory."""
        with os.scandir(self.fd) as listing:
            for entry in listing:
                yield os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)

    def numbered(self) -> Iterator[tuple[bytes, bool, int]]:
        """The same with each entry's inode number (of a nested subvolume: another number)."""
        with os.scandir(self.fd) as listing:
            for entry in listing:
                is_directory = entry.is_dir(follow_symlinks=False)
                yield os.fsencode(entry.name), is_directory, entry.inode()


def identity(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from every other: its device and inode number."""
    return status.st_dev, status.st_ino


def lstat(name: bytes, directory: int) -> os.stat_result:
    """The status of `name` in the directory open as `directory`, of the link if it is one."""
    return os.stat(name, dir_fd=directory, follow_symlinks=False)


def open_regular(name: bytes, directory: int, expected: os.stat_result) -> int:
    """Open for reading the regular file that `expected` describes, not what took its place."""
    place = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        found = os.fstat(place)
        if not stat.S_ISREG(found.st_mode) or identity(found) != identity(expected):
            raise TreeChanged(f"{shown(name)} was replaced while the tree was being read")
        return _open_quietly(b"/proc/self/fd/%d" % place, 0)
    finally:
        os.close(place)


def link_target(name: bytes, directory: int) -> bytes:
    """The target of the symbolic link `name`."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise TreeChanged(f"{shown(name)} was replaced while the tree was being read") from error


def by_name(name: bytes, directory: int) -> bytes:
    """A path for the calls that take no directory descriptor; they must not follow it."""
    return b"/proc/self/fd/%d/%b" % (directory, name)


def xattrs(place: int | bytes) -> dict[str, bytes]:
    """All extended attributes of a descriptor, or of a path that is not followed."""
    follow = isinstance(place, int)
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return {}
    return {name: os.getxattr(place, name, follow_symlinks=follow) for name in names}


def data_from(fd: int, offset: int, size: int) -> int:
    """Where data begins at or after `offset` in a file of `size` bytes; `size` if nowhere."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        if error.errno == errno.EINVAL:
            return offset
        raise


def open_directory(root: str | int, path: str | bytes) -> int:
    """Open the directory at `path`, of any length, below `root`; no component may be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    here = os.open(root, flags) if isinstance(root, str) else os.open(b".", flags, dir_fd=root)
    for name in filter(None, os.fsencode(path).split(b"/")):
        above = here
        try:
            here = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return here


def below(directory: int) -> Iterator[os.stat_result]:
    """The status of all entries below an open directory that are no directories themselves.

    Raises OSError, TreeChanged.
    """
    with Cursor(f"/proc/self/fd/{directory}") as cursor:
        pending = [iter(list(cursor.entries()))]
        while pending:
            for name, is_directory in pending[-1]:
                if is_directory:
                    cursor.enter(name)
                    pending.append(iter(list(cursor.entries())))
                    break
                yield lstat(name, cursor.fd)
            else:
                pending.pop()
                if pending:
                    cursor.leave()


def erase(directory: str) -> None:
    """Remove the directory and all in it, but nothing that is mounted there; success if it is gone.

    Another process may be erasing it at the same time. Raises VolumeBusy for a mount point and
    BackendError for what cannot be removed; what was removed until then stays removed.
    """
    parent, name = os.path.split(directory)
    path = bytearray()
    above: list[tuple[bytes, list[tuple[bytes, bool]]]] = []
    at, entries = b"", [(os.fsencode(name), _is_directory(directory))]
    try:
        with Cursor(parent) as cursor:
            while True:
                while entries:
                    at, is_directory = entries.pop()
                    if not _erase_one(at, is_directory, cursor.fd) and _enter_to_erase(cursor, at):
                        path += at + b"/"
                        above.append((at, entries))
                        entries = list(cursor.entries())
                if not above:
                    return
                at, entries = above.pop()
                cursor.leave()
                del path[len(path) - len(at) - 1 :]
                with contextlib.suppress(FileNotFoundError):
                    os.rmdir(at, dir_fd=cursor.fd)
    except OSError as error:
        where = f"{shown(bytes(path) + at)} in {parent}"
        if error.errno == errno.EBUSY:
            raise VolumeBusy(f"{where} is a mount point; unmount it first") from error
        hint = ""
        if error.errno == errno.EPERM:
            hint = "; if it is immutable, run chattr -i on it"
        raise BackendError(f"cannot remove {where}: {error.strerror}{hint}") from error


def _open_quietly(path: bytes, flags: int, directory: int | None = None) -> int:
    """Open for reading, leaving the access time alone unless that is the owner's privilege."""
    flags |= os.O_RDONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME, dir_fd=directory)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(path, flags, dir_fd=directory)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _erase_one(name: bytes, is_directory: bool, directory: int) -> bool:
    """Remove a file or an empty directory; False if it is a directory with something in it.

    Of a mount point the kernel says EBUSY before it looks inside, so nothing mounted is entered.
    """
    try:
        if is_directory:
            os.rmdir(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        # Its owner may lack the permission to look into it (EACCES), which is his to give.
        if not is_directory or error.errno not in (errno.ENOTEMPTY, errno.EACCES):
            raise
        return False
    return True


def _enter_to_erase(cursor: Cursor, name: bytes) -> bool:
    """Enter a directory to empty it; False if it is gone.

    An owner who is not root may have to permit it to himself first.
    """
    try:
        if os.geteuid() != 0:
            os.chmod(name, stat.S_IRWXU, dir_fd=cursor.fd)
        cursor.enter(name)
    except FileNotFoundError:
        return False
    return True
