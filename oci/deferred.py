"""What the inodes of an extraction get only when every entry is in its place.

Directories get their modes, ACLs and times at the end, since making what is in them changes
times, inherits ACLs, and may need the permission to write. So do ACLs that name users or groups,
which are looked up in the tree's own files. Such records are kept by inode, because what a path
leads to can change from one entry to the next.

The process has the tree as its root directory, as in oci.extract.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from backends.tree import Cursor, lstat
from oci import acl
from oci.attributes import set_times, set_xattr
from oci.errors import ArchiveError, explained, named
from oci.paths import ABSENT, change_directory, split

Identity = tuple[int, int]
"""Device and inode number."""

Acls = Mapping[bytes, bytes | list[acl.Line]]
"""ACLs by the name of their attribute: its value, or entries with names to look up."""

_LARGEST_TABLE = 64 << 20


class _Record(NamedTuple):
    """What an inode gets: ACLs, and a directory its mode and times (access, modification)."""

    path: bytes
    mode: int
    times: tuple[int, int]
    acls: Acls


class Deferred:
    """The records of one extraction."""

    def __init__(self) -> None:
        self._directories: dict[Identity, _Record] = {}
        self._acls: dict[Identity, _Record] = {}
        self._resolve: acl.Resolve | None = None

    @property
    def has_acls(self) -> bool:
        """Whether the inode of each new file must be told to `forget`: its number may be reused."""
        return bool(self._acls)

    def knows(self, status: os.stat_result) -> bool:
        """Whether this is a directory that the extraction made or was told of."""
        return identity(status) in self._directories

    def keep_directory(
        self, status: os.stat_result, path: bytes, mode: int, times: tuple[int, int], acls: Acls
    ) -> None:
        """Complete this directory in the end; of several records the last counts."""
        self._directories[identity(status)] = _Record(path, mode, times, acls)

    def keep_acls(self, status: os.stat_result, path: bytes, acls: Acls) -> None:
        """Give this inode, no directory, its ACLs in the end."""
        self._acls[identity(status)] = _Record(path, 0, (0, 0), acls)

    def forget(self, status: os.stat_result) -> None:
        """Drop the record of a removed inode whose number a new one has got."""
        self._directories.pop(identity(status), None)
        self._acls.pop(identity(status), None)

    def complete(self) -> None:
        """Give every inode what was kept for it. Raises as Extraction.run does."""
        missing: dict[Identity, _Record] = {}
        here = None
        for kept in (self._directories, self._acls):
            for inode, record in kept.items():
                *parents, name = split(record.path) or [b"."]
                parent = b"/" + b"/".join(parents)
                try:
                    if parent != here:
                        here = None
                        change_directory(parent)
                        here = parent
                    found = identity(os.lstat(name)) == inode
                except OSError as error:
                    if error.errno not in ABSENT:
                        raise explained(error, record.path) from error
                    found = False
                if found:
                    self._complete_one(name, record)
                else:
                    missing[inode] = record
        if missing:
            self._complete_wherever(missing)

    def _complete_wherever(self, missing: dict[Identity, _Record]) -> None:
        """Complete the inodes whose paths lead elsewhere by now; most of them were removed."""
        with Cursor("/") as cursor:
            above = [list(cursor.entries())]
            while missing:
                if not above[-1]:
                    above.pop()
                    if not above:
                        return
                    cursor.leave()
                    continue
                name, is_directory = above[-1].pop()
                record = missing.pop(identity(lstat(name, cursor.fd)), None)
                if record is not None:
                    os.fchdir(cursor.fd)
                    self._complete_one(name, record)
                if is_directory:
                    cursor.enter(name)
                    above.append(list(cursor.entries()))

    def _complete_one(self, name: bytes, record: _Record) -> None:
        try:
            is_directory = stat.S_ISDIR(os.lstat(name).st_mode)
            if is_directory:
                os.chmod(name, record.mode)
            for attribute, value in record.acls.items():
                if not isinstance(value, bytes):
                    value = self.encode(value, record.path)
                set_xattr(name, attribute, value, record.path)
            if is_directory:
                set_times(name, record.times, record.path)
        except OSError as error:
            raise explained(error, record.path) from error

    def encode(self, lines: list[acl.Line], path: bytes) -> bytes:
        """The value of an ACL's attribute; names are looked up in the tree as it is now."""
        with _acl_of(path):
            return acl.encode(lines, self._number)

    def _number(self, word: bytes, name: bytes) -> int:
        if self._resolve is None:
            self._resolve = acl.resolver(_table("/etc/passwd"), _table("/etc/group"))
        return self._resolve(word, name)


def parse_acl(text: bytes, path: bytes) -> list[acl.Line]:
    """The entries of the ACL of the entry at `path`."""
    with _acl_of(path):
        return acl.parse(text)


def identity(status: os.stat_result) -> Identity:
    """What tells an inode from all others that there are at the time."""
    return status.st_dev, status.st_ino


@contextmanager
def _acl_of(path: bytes) -> Iterator[None]:
    """Say whose ACL it is that is wrong."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{named(path)}: {error}") from error


def _table(path: str) -> bytes:
    """A file of the tree, empty if it is not there or is no regular file."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return b""
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(_LARGEST_TABLE)
    except OSError as error:
        if error.errno in ABSENT:
            return b""
        raise
