"""Writing the entries of an archive into the tree that is this process's root directory.

The process has chrooted into the tree, so the kernel resolves every name inside it, and it is in
the directory of the entry at hand, so the names that it passes have one component: no path is too
long, and few are resolved. Nothing that is there already is ever opened; what is in the way is
removed, and files are made new. Nobody else writes to the tree meanwhile.

Some of what an inode gets has to wait until the end: see oci.deferred.
"""

import errno
import os
import stat
from collections.abc import Sequence

from backends.errors import Unavailable
from backends.tree import erase, lstat
from oci import acl
from oci.attributes import (
    drop_attributes_beside,
    drop_inherited_acls,
    has_default_acl,
    set_times,
    set_xattr,
)
from oci.deferred import Deferred, identity, parse_acl
from oci.errors import ArchiveError, explained, named
from oci.paths import ABSENT, change_directory, open_directory, split
from oci.tar import Reader
from oci.tarheader import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FILE,
    LINK,
    SYMLINK,
    Entry,
)

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL_BITS = 0o7000
_NODES = {CHAR_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}


class Extraction:
    """One archive on its way into the tree at "/"."""

    def __init__(self) -> None:
        self._uid, self._gid = os.geteuid(), os.getegid()
        self._entered: bytes | None = None
        self._inherits = False
        self._deferred = Deferred()

    def run(self, reader: Reader) -> tuple[int, int]:
        """Write every entry; how many there were, and the bytes of the regular files among them.

        Raises ArchiveError, NoSpace, Unavailable (not root) and BackendError.
        """
        count = size = 0
        for entry in reader:
            count += 1
            try:
                self._add(entry, reader)
            except OSError as error:
                raise explained(error, entry.path) from error
            if entry.type == FILE:
                size += entry.size
        self._deferred.complete()
        return count, size

    def _add(self, entry: Entry, reader: Reader) -> None:
        components = split(entry.path)
        if not components:
            if entry.type != DIRECTORY:
                raise ArchiveError(f"{named(entry.path)}: only a directory can be the root")
            components = [b"."]
        name = components.pop()
        self._place(components, name, entry, reader)

    def _place(self, parents: list[bytes], name: bytes, entry: Entry, reader: Reader) -> None:
        """Make the entry `name` of the directory `parents`."""
        parent = b"/".join(parents)
        if parent != self._entered:
            self._enter(parent)
        kind = entry.type
        if kind == FILE:
            self._file(name, entry, reader)
        elif kind == DIRECTORY:
            self._directory(name, entry)
        elif kind == LINK:
            self._link(name, entry)
        else:
            self._node(name, entry)

    def _file(self, name: bytes, entry: Entry, reader: Reader) -> None:
        mode = entry.mode
        try:
            fd = os.open(name, _NEW_FILE, mode & 0o777)
        except FileExistsError:
            self._remove(name)
            fd = os.open(name, _NEW_FILE, mode & 0o777)
        try:
            if entry.sparse is not None:
                _write_sparse(fd, entry.sparse, entry.size, reader)
            else:
                while piece := reader.piece():
                    _write(fd, piece)
            if self._inherits or entry.uid != self._uid or entry.gid != self._gid:
                self._own(fd, entry)
            if self._inherits:
                drop_inherited_acls(fd)
            if self._inherits or mode & _SPECIAL_BITS:
                os.fchmod(fd, mode)
            if entry.xattrs or entry.acls or self._deferred.has_acls:
                self._attributes(fd, entry, os.fstat(fd))
            set_times(fd, _times(entry), entry.path)
        finally:
            os.close(fd)

    def _node(self, name: bytes, entry: Entry) -> None:
        """A symbolic link, a fifo or a device."""
        try:
            self._make_node(name, entry)
        except FileExistsError:
            self._remove(name)
            self._make_node(name, entry)
        if self._inherits or entry.uid != self._uid or entry.gid != self._gid:
            self._own(name, entry)
        if entry.type != SYMLINK:
            if self._inherits:
                drop_inherited_acls(name)
            os.chmod(name, entry.mode)
        if entry.xattrs or entry.acls or self._deferred.has_acls:
            self._attributes(name, entry, os.lstat(name))
        set_times(name, _times(entry), entry.path)

    def _make_node(self, name: bytes, entry: Entry) -> None:
        if entry.type == SYMLINK:
            os.symlink(entry.link, name)
        else:
            kind = _NODES.get(entry.type, stat.S_IFIFO)
            os.mknod(name, kind | entry.mode & 0o777, os.makedev(entry.major, entry.minor))

    def _directory(self, name: bytes, entry: Entry) -> None:
        mode = entry.mode & 0o777 | stat.S_IRWXU
        try:
            self._make_directory(name, mode)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(name).st_mode):
                self._own(name, entry)
                drop_attributes_beside(name, entry)
            else:
                self._remove(name)
                self._make_directory(name, mode)
        if self._inherits or entry.uid != self._uid or entry.gid != self._gid:
            self._own(name, entry)
        if self._inherits:
            drop_inherited_acls(name)
        acls: dict[bytes, bytes | list[acl.Line]] = {}
        for attribute, value in entry.xattrs.items():
            if attribute in acl.ATTRIBUTES:
                acls[attribute] = value
            else:
                set_xattr(name, attribute, value, entry.path)
        for attribute, text in entry.acls.items():
            acls[attribute] = parse_acl(text, entry.path)
        made = os.lstat(name)
        self._deferred.keep_directory(made, entry.path, entry.mode, _times(entry), acls)

    def _make_directory(self, name: bytes, mode: int) -> None:
        os.mkdir(name, mode)
        self._begin(os.lstat(name))

    def _begin(self, made: os.stat_result) -> None:
        """Know nothing of a new directory: its number may be that of an inode that has gone."""
        self._deferred.forget(made)

    def _link(self, name: bytes, entry: Entry) -> None:
        """Another name for a file that is there; the entry's metadata are the file's already."""
        both = f"{named(entry.path)}: a hard link to {named(entry.link)}"
        try:
            *parents, target = split(entry.link) or [b"."]
            directory = open_directory(b"/" + b"/".join(parents))
            try:
                if stat.S_ISDIR(lstat(target, directory).st_mode):
                    raise ArchiveError(f"{both}, which is a directory")
                self._link_from(directory, target, name)
            finally:
                os.close(directory)
        except OSError as error:
            if error.errno in ABSENT:
                raise ArchiveError(f"{both}, which is not in the tree") from error
            raise

    def _link_from(self, directory: int, target: bytes, name: bytes) -> None:
        try:
            os.link(target, name, src_dir_fd=directory, follow_symlinks=False)
        except FileExistsError:
            if identity(lstat(target, directory)) == identity(os.lstat(name)):
                return
            self._remove(name)
            os.link(target, name, src_dir_fd=directory, follow_symlinks=False)

    def _attributes(self, place: int | bytes, entry: Entry, made: os.stat_result) -> None:
        """Set the attributes and ACLs of a new inode that is no directory."""
        self._deferred.forget(made)
        for attribute, value in entry.xattrs.items():
            set_xattr(place, attribute, value, entry.path)
        deferred: dict[bytes, bytes | list[acl.Line]] = {}
        for attribute, text in entry.acls.items():
            lines = parse_acl(text, entry.path)
            if acl.names(lines):
                deferred[attribute] = lines
            else:
                value = self._deferred.encode(lines, entry.path)
                set_xattr(place, attribute, value, entry.path)
        if deferred:
            self._deferred.keep_acls(made, entry.path, deferred)

    def _own(self, place: int | bytes, entry: Entry) -> None:
        try:
            if isinstance(place, int):
                os.fchown(place, entry.uid, entry.gid)
            else:
                os.lchown(place, entry.uid, entry.gid)
        except OSError as error:
            if self._uid != 0 and error.errno in (errno.EPERM, errno.EINVAL):
                owner = f"{named(entry.path)} to {entry.uid}:{entry.gid}"
                raise Unavailable(f"not root: cannot give {owner}; run as root") from error
            raise

    def _remove(self, name: bytes) -> None:
        """Make way for an entry: the last of several with one name wins."""
        mode = os.lstat(name).st_mode
        if stat.S_ISDIR(mode):
            erase(os.path.join(".", os.fsdecode(name)))
        else:
            os.unlink(name)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            # The directory of the last entry may be reached through what has gone.
            self._entered = None

    def _enter(self, parent: bytes) -> None:
        """Go to the directory `parent`, made if it is missing."""
        before, self._entered = self._entered, None
        path = b"/" + parent
        if before and parent.startswith(before + b"/"):
            path = parent[len(before) + 1 :]
        try:
            change_directory(path)
        except FileNotFoundError:
            self._make_parents(parent)
        self._look_around()
        self._entered = parent

    def _make_parents(self, parent: bytes) -> None:
        os.chdir("/")
        for name in parent.split(b"/"):
            try:
                os.chdir(name)
                continue
            except FileNotFoundError:
                self._look_around()
            try:
                self._make_directory(name, 0o755)
            except FileExistsError as error:
                raise OSError(errno.ELOOP, f"{named(name)} is a link to nowhere") from error
            if self._uid == 0:
                os.lchown(name, 0, 0)
            if self._inherits:
                drop_inherited_acls(name)
                os.chmod(name, 0o755)
            os.chdir(name)

    def _look_around(self) -> None:
        """Note whether what is made here takes its group or an ACL from the directory."""
        here = os.stat(b".")
        self._inherits = bool(here.st_mode & stat.S_ISGID) or (
            not self._deferred.knows(here) and has_default_acl()
        )


def _write(fd: int, piece: memoryview) -> None:
    written = os.write(fd, piece)
    while written < len(piece):
        written += os.write(fd, piece[written:])


def _write_sparse(fd: int, pieces: Sequence[int], size: int, reader: Reader) -> None:
    os.ftruncate(fd, size)
    at_hand = memoryview(b"")
    for index in range(0, len(pieces), 2):
        os.lseek(fd, pieces[index], os.SEEK_SET)
        left = pieces[index + 1]
        while left:
            at_hand = at_hand or reader.piece()
            taken = at_hand[:left]
            _write(fd, taken)
            left -= len(taken)
            at_hand = at_hand[len(taken) :]


def _times(entry: Entry) -> tuple[int, int]:
    """The times to set, in nanoseconds since the epoch: of access and of modification."""
    return (entry.mtime if entry.atime is None else entry.atime, entry.mtime)
