"""What btrfs knows of the differences between two subvolumes, for the walk to go only there.

Every change of an inode, of its names or of a directory's entries is written with its inode item,
which holds the transaction (fill_inode_item in fs/btrfs/inode.c and delayed-inode.c). A snapshot is
made by the commit of a transaction: what is written to it later has a later one. So between two
subvolumes that were, a while ago, snapshots of one and the same, only those inodes can differ that
have been written since in either. An inode's number says which one it is: another inode of the
same number, made after it was free again, is written later too.
"""

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from backends import btrfs_ioctl
from backends.btrfs_ioctl import Inode, Name
from backends.hints import Hints, Marks, linked_below
from backends.tree import open_directory


class Side(NamedTuple):
    """A read-only subvolume: its root, open, and the transaction at which the two were equal.

    `since` is None for the one that is what both were then.
    """

    root: int
    since: int | None


def hints(before: Side, after: Side) -> Hints:
    """Where the subvolumes may differ. Raises OSError."""
    return _Search(before, after).hints()


class _Tree:
    """One side: the inodes written since; `directories` are those that were there before."""

    def __init__(self, side: Side) -> None:
        self.root = side.root
        self.directories: dict[int, Inode] = {}
        self.written: set[int] = set()
        self.marks: Marks = {}
        self._since = side.since

    def read(self, *, marking: bool) -> None:
        """Find what was written, and mark it if that is asked for."""
        if self._since is None:
            return
        for inode in btrfs_ioctl.inodes_since(self.root, self._since):
            self.written.add(inode.number)
            if stat.S_ISDIR(inode.mode) and inode.generation <= self._since:
                self.directories[inode.number] = inode
            if marking:
                self.mark(inode.number, self.names(inode))

    def names(self, inode: Inode) -> list[Name]:
        """All names of an inode; those that are missing lie in a leaf that is older."""
        if len(inode.names) == inode.links or inode.number == btrfs_ioctl.FIRST_FREE_OBJECTID:
            return inode.names
        return btrfs_ioctl.names(self.root, inode.number)

    def is_new(self, number: int) -> bool:
        """Whether the inode of this number, if that is a directory elsewhere, was made since."""
        return number in self.written and number not in self.directories

    def mark(self, number: int, names: list[Name] | None = None) -> None:
        """Mark the names of an inode (None: all that it has), and the directories above them."""
        pending = [(number, names)]
        while pending:
            number, names = pending.pop()
            if number == btrfs_ioctl.FIRST_FREE_OBJECTID:
                continue
            for directory, name in btrfs_ioctl.names(self.root, number) if names is None else names:
                marked = self.marks.get(directory)
                if marked is not None:
                    marked.add(name)
                else:
                    self.marks[directory] = {name}
                    pending.append((directory, None))


class _Search:
    def __init__(self, before: Side, after: Side) -> None:
        self._before = _Tree(before)
        self._after = _Tree(after)

    def hints(self) -> Hints:
        before, after = self._before, self._after
        before.read(marking=False)
        after.read(marking=True)
        suspects = before.written | after.written
        suspects.update(self._linked_below(self._moved()))
        for number in suspects - after.written:
            after.mark(number)
        return Hints(suspects, after.marks)

    def _moved(self) -> set[int]:
        """The directories that are in both trees, but not under the same name in the same place."""
        found = set()
        for here, there in ((self._before, self._after), (self._after, self._before)):
            for number, inode in here.directories.items():
                if number == btrfs_ioctl.FIRST_FREE_OBJECTID:
                    continue
                if there.is_new(number):
                    # Another inode, which got the number when it was free.
                    continue
                elsewhere = btrfs_ioctl.names(there.root, number)
                if not elsewhere:
                    continue
                [(parent, _)] = names = here.names(inode)
                # Two new directories may have the same number, and yet are in different places.
                if elsewhere != names or here.is_new(parent) or there.is_new(parent):
                    found.add(number)
        return found

    def _linked_below(self, directories: set[int]) -> Iterator[int]:
        """The files with several names below these; what is below several of them is read once."""
        root = self._after.root
        passed: set[int] = set()

        def skip(status: os.stat_result) -> bool:
            if btrfs_ioctl.is_stub(status) or status.st_ino in passed:
                return True
            passed.add(status.st_ino)
            return False

        # An outer directory is mostly older than those in it, and has a lower number.
        for directory in sorted(directories):
            if directory in passed:
                continue
            passed.add(directory)
            opened = open_directory(root, btrfs_ioctl.path_of(root, directory))
            try:
                yield from linked_below(opened, skip)
            finally:
                os.close(opened)
