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

import errno
import os
import warnings
from collections.abc import Set
from typing import NamedTuple

from backends import zfs_ioctl, zfs_programs
from backends.changes import CLOCK_MARGIN, never
from backends.hints import Hints, Marks, linked_below
from backends.libzfs.batch import program
from backends.tree import CHANGED, Cursor, open_directory

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
            return Parted(settled, _hints(before.path, after.path, written))
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


def _hints(before: str, after: str, written: Set[int]) -> Hints:
    """Where the trees at these paths may differ, if only those inodes can."""
    new = _Names(after, written)
    linked = _linked_in_moved(before, after, new.directories)
    suspects = written | linked
    if linked - written:
        new = _Names(after, suspects)
    # Only what has several names is looked for in the older tree.
    return Hints(suspects, _Names(before, suspects).marks if new.linked else {}, new.marks)


def _linked_in_moved(before: str, after: str, directories: dict[int, "_Place"]) -> set[int]:
    """The numbers of the files with several names below what is not where it was before."""
    found, moved = set[int](), set[int]()
    for number, place in directories.items():
        if place.above not in moved:
            if _number_at(before, place.path) == number:
                continue
            directory = open_directory(after, place.path)
            try:
                found |= linked_below(directory, never)
            finally:
                os.close(directory)
        moved.add(number)
    return found


def _number_at(root: str, path: bytes) -> int | None:
    """The inode number of a directory; None where there is none."""
    try:
        directory = open_directory(root, path)
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        return None
    try:
        return os.fstat(directory).st_ino
    finally:
        os.close(directory)


class _Place(NamedTuple):
    """Where a directory is: the number of the one above, and its path."""

    above: int
    path: bytes


class _Names:
    """The names of the suspects in a tree.

    Read from the directories alone: nothing else is looked at. `linked` says whether a file has
    several names, `directories` where those suspects are that are directories, outer ones first.
    """

    def __init__(self, root: str, suspects: Set[int]) -> None:
        self.marks: Marks = {}
        self.linked = False
        self.directories: dict[int, _Place] = {}
        self._suspects = suspects
        self._files = set[int]()
        with Cursor(root) as cursor:
            self._above = [(os.fstat(cursor.fd).st_ino, b"")]
            pending = [self._read(cursor)]
            while pending:
                if pending[-1]:
                    number, name = pending[-1].pop()
                    cursor.enter(name)
                    self._above.append((number, name))
                    pending.append(self._read(cursor))
                else:
                    pending.pop()
                    self._above.pop()
                    if pending:
                        cursor.leave()

    def _read(self, cursor: Cursor) -> list[tuple[int, bytes]]:
        """Take note of the suspects in the directory; returns the directories in it."""
        below = []
        # Not by the cursor's own listings, which would take as long again.
        with os.scandir(cursor.fd) as listing:
            for entry in listing:
                number, is_directory = entry.inode(), entry.is_dir(follow_symlinks=False)
                if is_directory:
                    below.append((number, os.fsencode(entry.name)))
                if number in self._suspects:
                    self._note(number, os.fsencode(entry.name), is_directory)
        return below

    def _note(self, number: int, name: bytes, is_directory: bool) -> None:
        if is_directory:
            path = b"/".join([*(above for _, above in self._above[1:]), name])
            self.directories[number] = _Place(self._above[-1][0], path)
        else:
            self.linked = self.linked or number in self._files
            self._files.add(number)
        for directory, own_name in reversed(self._above):
            marked = self.marks.get(directory)
            if marked is not None:
                # So all above it is marked.
                marked.add(name)
                return
            self.marks[directory] = {name}
            name = own_name
