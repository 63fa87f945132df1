"""What ZFS knows of the differences between two trees, for the walk to go only there.

An inode's number is its object's. Whenever an object changes, in what it holds or in its
attributes, its dnode is written anew, and so is that of a directory of which an entry changes. A
snapshot holds what was written up to its transaction. So between two trees that descend from one
snapshot, only the objects whose dnodes were written since, in either, can differ; another object of
the same number, made after it was free again, is written later too. `zfs diff` begins with the same
question to the kernel, and then leaves out what has kept its ctime.

The names of those objects are read from the directories, without a look at any file. The kernel
would say them, too (ZFS_IOC_OBJ_TO_STATS, as `zfs diff` has it do), but up to 2.4 at least it
writes a path of more than 8 KiB over whatever lies beside its buffer, and any user of a container
can make such a path.
"""

import contextlib
import errno
import os
import stat
import warnings
from collections.abc import Set
from typing import NamedTuple

from backends import zfs_ioctl, zfs_programs
from backends.changes import CLOCK_MARGIN, never
from backends.hints import Hints, Marks, linked_below
from backends.libzfs.batch import program
from backends.tree import CHANGED, Cursor, lstat, open_directory

ATTEMPTS = 5
"""How often the kernel is asked when a commit or a removal moves the snapshots meanwhile."""

_AGAIN = frozenset({errno.ENOENT, errno.EXDEV, errno.EINTR})


class Tree(NamedTuple):
    """A tree that nobody writes to: its path, and the snapshot that it is, or is a clone of."""

    path: str
    source: str


class Parted(NamedTuple):
    """What is known of two trees.

    `settled` is the moment before which nothing that has the same ctime on both sides can have
    changed, in nanoseconds since the epoch, 0 where none is known; `hints` say where the trees may
    differ, None where the kernel does not.
    """

    settled: int
    hints: Hints | None


class _Step(NamedTuple):
    """A snapshot that a tree is or descends from; `creation` in seconds since the epoch."""

    snapshot: str
    createtxg: int
    creation: int

    @property
    def dataset(self) -> str:
        return self.snapshot.partition("@")[0]


def parted(pool: str, before: Tree, after: Tree) -> Parted | None:
    """What is known of two trees; None if they descend from no common snapshot.

    Warns where the kernel does not say what was written. Raises OSError and ZFSException.
    """
    refusal = ""
    for _ in range(ATTEMPTS):
        sources = [before.source, after.source]
        lines = program(pool, zfs_programs.DESCENT, sources, readonly=True)
        old, new = (
            [_Step(*zfs_programs.listed(step)) for step in zfs_programs.listed(line)]
            for line in zfs_programs.listed(lines)
        )
        common = _common(old, new)
        if common is None:
            return None
        settled = 0
        if common in (old[0], new[0]):
            settled = max(0, common.creation * 1_000_000_000 - CLOCK_MARGIN)
        try:
            written = _written(common, old[0]) | _written(common, new[0])
        except OSError as error:
            refusal = error.strerror or str(error)
            if error.errno not in _AGAIN:
                break
        else:
            return Parted(settled, _hints_or_none(before.path, after.path, written))
    warnings.warn(
        f"the kernel does not say what was changed ({refusal}): both trees are read", stacklevel=1
    )
    return Parted(settled, None)


def _common(before: list[_Step], after: list[_Step]) -> _Step | None:
    """The nearest snapshot that two trees descend from, given each one's descent.

    Where the lines meet, both are at snapshots of one dataset, and the older is in both.
    """
    older = {step.dataset: step for step in before}
    for step in after:
        if step.dataset in older:
            return min(step, older[step.dataset], key=lambda step: step.createtxg)
    return None


def _written(common: _Step, tree: _Step) -> set[int]:
    if tree == common:
        return set()
    ranges = zfs_ioctl.objects_since(tree.snapshot, common.snapshot)
    return {number for numbers in ranges for number in numbers}


def _hints_or_none(before: str, after: str, written: Set[int]) -> Hints | None:
    try:
        return _hints(before, after, written)
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        # Where a directory that nobody wrote to since was, the other tree, which parted from this
        # one before that, has something else or nothing: both are read.
        return None


def _hints(before: str, after: str, written: Set[int]) -> Hints:
    """Where the trees at these paths may differ, if only those inodes can."""
    with Cursor(before) as old, Cursor(after) as new:
        found = _Names(old, new, written)
    suspects = written | found.linked
    if found.linked - written:
        with Cursor(before) as old, Cursor(after) as new:
            found = _Names(old, new, suspects)
    return Hints(suspects, found.marks)


class _Names:
    """The names of the suspects in the newer tree, by two cursors at the roots.

    Read from the directories alone; only below one that was moved are the files looked at, of
    which `linked` are those with several names.
    """

    def __init__(self, before: Cursor, after: Cursor, suspects: Set[int]) -> None:
        self.marks: Marks = {}
        self.linked = set[int]()
        self._before, self._after = before, after
        self._suspects = suspects
        self._above = [(os.fstat(after.fd).st_ino, b"")]
        self._followed = 1
        pending = [self._read(moved=False)]
        while pending:
            if pending[-1]:
                number, name, moved = pending[-1].pop()
                after.enter(name)
                self._above.append((number, name))
                pending.append(self._read(moved=moved))
            else:
                pending.pop()
                if pending:
                    self._leave()

    def _read(self, *, moved: bool) -> list[tuple[int, bytes, bool]]:
        """Mark the suspects in the directory, which may lie below one that was moved.

        Returns the directories in it, and whether each was moved or lies below one that was.
        """
        below, suspects = [], self._suspects
        # Not by the cursor's own listings, which would take as long again.
        with os.scandir(self._after.fd) as listing:
            found = [
                entry
                for entry in listing
                if entry.inode() in suspects or entry.is_dir(follow_symlinks=False)
            ]
        for entry in found:
            number, name = entry.inode(), os.fsencode(entry.name)
            suspected = number in suspects
            if entry.is_dir(follow_symlinks=False):
                below.append((number, name, moved or (suspected and self._moved(number, name))))
            if suspected:
                self._mark(name)
        return below

    def _leave(self) -> None:
        if self._followed == len(self._above):
            self._before.leave()
            self._followed -= 1
        self._above.pop()
        self._after.leave()

    def _mark(self, name: bytes) -> None:
        for directory, own_name in reversed(self._above):
            marked = self.marks.get(directory)
            if marked is not None:
                # So all above it is marked.
                marked.add(name)
                return
            self.marks[directory] = {name}
            name = own_name

    def _moved(self, number: int, name: bytes) -> bool:
        """Whether a directory is not where it was; the files below it have other names then."""
        for _, above in self._above[self._followed :]:
            self._before.enter(above)
            self._followed += 1
        with contextlib.suppress(FileNotFoundError):
            status = lstat(name, self._before.fd)
            if status.st_ino == number and stat.S_ISDIR(status.st_mode):
                return False
        directory = open_directory(self._after.fd, name)
        try:
            self.linked |= linked_below(directory, never)
        finally:
            os.close(directory)
        return True
