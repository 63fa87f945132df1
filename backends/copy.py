"""An exact copy of a tree of files: every type, owner, mode, time, link, attribute and hole.

File bodies are shared with the original (FICLONE) where the filesystem can, else copied by the
kernel. The source is hostile: nothing in it is followed, and no fifo or device is opened. It
may be in use; what vanishes or changes its type under way raises TreeChanged, so a copy is never
silently short of something. The target is ours alone.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from fcntl import ioctl
from typing import NamedTuple

from backends.errors import BackendError, from_os_error
from backends.tree import (
    CHANGED,
    Cursor,
    TreeChanged,
    by_name,
    data_from,
    identity,
    link_target,
    lstat,
    open_directory,
    open_regular,
    shown,
    xattrs,
)

FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_NO_CLONE = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY})
_NO_RANGE = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS})
_PIECE = 1 << 27
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")


class Copied(NamedTuple):
    """What a copy came to: entries below the root, bytes in files, and whether all were shared."""

    entries: int
    bytes: int
    reflinked: bool


def copy_tree(source: str, target: str) -> Copied:
    """Copy the tree at `source` into the empty directory `target`, the root's own metadata too.

    Whatever is mounted in the source is descended into, as `tar -c` does. Raises NoSpace,
    TreeChanged, and BackendError for what cannot be read or made, and for a source that holds the
    target; the target is then partial.
    """
    copy = _Copy()
    with ExitStack() as stack:
        try:
            read = stack.enter_context(Cursor(source))
            made = stack.enter_context(Cursor(target))
            return copy.run(read, made)
        except OSError as error:
            doing = f"copy {shown(copy.where())} from {source}"
            if error.errno in CHANGED:
                raise TreeChanged(f"cannot {doing}: it changed while it was read") from error
            if error.errno in (errno.EPERM, errno.EACCES):
                hint = "; run as root" if os.geteuid() != 0 else ""
                raise BackendError(f"cannot {doing}: {error.strerror}{hint}") from error
            raise from_os_error(error, doing) from error


class _Copy:
    """One run: where it is, what it has counted, and the inodes that have other names."""

    def __init__(self) -> None:
        self._path = bytearray()
        self._name = b""
        self._entries = 0
        self._bytes = 0
        self._can_clone = True
        self._reflinked = True
        self._linked: dict[tuple[int, int], bytes] = {}
        self._target = (-1, -1)

    def where(self) -> bytes:
        """The path of the entry that is being copied."""
        return bytes(self._path) + self._name

    def run(self, read: Cursor, made: Cursor) -> Copied:
        """Copy everything from where `read` is to where `made` is."""
        _strip_inherited(made.fd)
        self._target = identity(os.fstat(made.fd))
        root = open_directory(made.fd, b"")
        try:
            pending = [(_names(read), 0)]
            while pending:
                for self._name in pending[-1][0]:
                    self._entries += 1
                    status = lstat(self._name, read.fd)
                    if stat.S_ISDIR(status.st_mode):
                        self._enter(read, made)
                        pending.append((_names(read), len(self._path)))
                        break
                    self._copy_entry(status, read.fd, made.fd, root)
                else:
                    self._name = b""
                    _copy_metadata(os.fstat(read.fd), read.fd, made.fd)
                    pending.pop()
                    if pending:
                        read.leave()
                        made.leave()
                        del self._path[pending[-1][1] :]
        finally:
            os.close(root)
        return Copied(self._entries, self._bytes, self._reflinked)

    def _enter(self, read: Cursor, made: Cursor) -> None:
        read.enter(self._name)
        if identity(os.fstat(read.fd)) == self._target:
            where = shown(self.where())
            raise BackendError(f"cannot copy {where}: the copy itself is being made there")
        os.mkdir(self._name, 0o700, dir_fd=made.fd)
        made.enter(self._name)
        self._path += self._name + b"/"

    def _copy_entry(self, status: os.stat_result, read: int, made: int, root: int) -> None:
        """Copy what is not a directory: as another name of what was copied before, or afresh."""
        inode = status.st_dev, status.st_ino
        if status.st_nlink > 1:
            if inode in self._linked:
                self._link(self._linked[inode], made, root)
                return
            self._linked[inode] = self.where()
        if stat.S_ISREG(status.st_mode):
            self._copy_file(status, read, made)
            return
        name = self._name
        if stat.S_ISLNK(status.st_mode):
            os.symlink(link_target(name, read), name, dir_fd=made)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=made)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=made, follow_symlinks=False)
        _copy_xattrs(by_name(name, read), by_name(name, made))
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=made)
        times = status.st_atime_ns, status.st_mtime_ns
        os.utime(name, ns=times, dir_fd=made, follow_symlinks=False)

    def _link(self, first: bytes, made: int, root: int) -> None:
        """Give what was copied at the path `first` one more name."""
        directory, _, name = first.rpartition(b"/")
        there = open_directory(root, directory)
        try:
            os.link(name, self._name, src_dir_fd=there, dst_dir_fd=made, follow_symlinks=False)
        finally:
            os.close(there)

    def _copy_file(self, status: os.stat_result, read: int, made: int) -> None:
        with ExitStack() as stack:
            source = open_regular(self._name, read, status)
            stack.callback(os.close, source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            target = os.open(self._name, flags, 0o600, dir_fd=made)
            stack.callback(os.close, target)
            status = os.fstat(source)
            if status.st_size and not self._cloned(source, target):
                self._reflinked = False
                _copy_data(source, target, status.st_size)
            self._bytes += status.st_size
            _copy_metadata(status, source, target)

    def _cloned(self, source: int, target: int) -> bool:
        if not self._can_clone:
            return False
        try:
            ioctl(target, FICLONE, source)
        except OSError as error:
            if error.errno not in _NO_CLONE:
                raise
            # EINVAL is about this file (nodatacow, say); the others are about the filesystem.
            self._can_clone = error.errno == errno.EINVAL
            return False
        return True


def _names(cursor: Cursor) -> Iterator[bytes]:
    return iter([name for name, _ in cursor.entries()])


def _strip_inherited(directory: int) -> None:
    """Drop the ACLs that an empty directory got from its parent and would pass on."""
    for name in xattrs(directory):
        if name in _ACLS:
            os.removexattr(directory, name)


def _copy_metadata(status: os.stat_result, source: int, target: int) -> None:
    """Owner first, for a change of owner drops capabilities and setuid; times last."""
    os.fchown(target, status.st_uid, status.st_gid)
    _copy_xattrs(source, target)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_xattrs(source: int | bytes, target: int | bytes) -> None:
    for name, value in xattrs(source).items():
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))


def _copy_data(source: int, target: int, size: int) -> None:
    """Copy the first `size` bytes, leaving holes as holes."""
    os.ftruncate(target, size)
    offset = 0
    while (offset := data_from(source, offset, size)) < size:
        end = min(_hole_from(source, offset, size), size)
        while offset < end:
            offset += _copy_range(source, target, offset, min(end - offset, _PIECE))


def _hole_from(fd: int, offset: int, size: int) -> int:
    try:
        return os.lseek(fd, offset, os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return size


def _copy_range(source: int, target: int, offset: int, count: int) -> int:
    try:
        copied = os.copy_file_range(source, target, count, offset, offset)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
        os.lseek(target, offset, os.SEEK_SET)
        copied = os.sendfile(target, source, offset, count)
    if copied == 0:
        raise TreeChanged("a file became shorter while it was copied")
    return copied
