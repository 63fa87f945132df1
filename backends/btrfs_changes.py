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
    """One side: the inodes written since, and the marks that lead to the suspects."""

    def __init__(self, side: Side) -> None:
        self.root = side.root
        self.directories: dict[int, Inode] = {}
        self.linked: list[int] = []
        self.written: set[int] = set()
        self.marks: Marks = {}
        self._since = side.since

    def read(self) -> None:
        """Find and mark what was written; directories and what has several names are kept."""
        if self._since is None:
            return
        for inode in btrfs_ioctl.inodes_since(self.root, self._since):
            self.written.add(inode.number)
            is_directory = stat.S_ISDIR(inode.mode)
            if is_directory and inode.generation <= self._since:
                self.directories[inode.number] = inode
            if not is_directory and inode.links > 1:
                self.linked.append(inode.number)
            self.mark(inode.number, is_directory, self.names(inode))

    def names(self, inode: Inode) -> list[Name]:
        """All names of an inode; those that are missing lie in a leaf that is older."""
        if len(inode.names) == inode.links or inode.number == btrfs_ioctl.FIRST_FREE_OBJECTID:
            return inode.names
        return btrfs_ioctl.names(self.root, inode.number)

    def mark(self, number: int, is_directory: bool, names: list[Name] | None = None) -> None:
        """Mark the names of an inode (None: all that it has), and the directories above them."""
        pending = [(number, is_directory, names)]
        while pending:
            number, is_directory, names = pending.pop()
            if number == btrfs_ioctl.FIRST_FREE_OBJECTID:
                continue
            for directory, name in btrfs_ioctl.names(self.root, number) if names is None else names:
                marked = self.marks.get(directory)
                if marked is not None:
                    marked[name] = is_directory
                else:
                    self.marks[directory] = {name: is_directory}
                    pending.append((directory, True, None))


class _Search:
    def __init__(self, before: Side, after: Side) -> None:
        self._before = _Tree(before)
        self._after = _Tree(after)

    def hints(self) -> Hints:
        before, after = self._before, self._after
        before.read()
        after.read()
        suspects = before.written | after.written
        for here, there in ((before, after), (after, before)):
            for number in here.linked:
                there.mark(number, False)
        for directory in self._moved():
            for number in self._linked_below(directory):
                if number not in suspects:
                    suspects.add(number)
                    before.mark(number, False)
                    after.mark(number, False)
        return Hints(suspects, before.marks, after.marks)

    def _moved(self) -> set[int]:
        """The directories that are in both trees, but not under the same name in the same place."""
        found = set()
        for here, there in ((self._before, self._after), (self._after, self._before)):
            for number, inode in here.directories.items():
                if number == btrfs_ioctl.FIRST_FREE_OBJECTID:
                    continue
                if number in there.written and number not in there.directories:
                    # Another inode, which got the number when it was free.
                    continue
                elsewhere = btrfs_ioctl.names(there.root, number)
                if elsewhere and elsewhere != here.names(inode):
                    found.add(number)
        return found

    def _linked_below(self, directory: int) -> set[int]:
        root = self._after.root
        opened = open_directory(root, btrfs_ioctl.path_of(root, directory))
        try:
            return linked_below(opened, btrfs_ioctl.is_stub)
        finally:
            os.close(opened)
