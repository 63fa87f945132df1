"""Change, and the two-tree walk that every faster engine is checked against.

`walk` reads both trees once, side by side, and yields every difference in byte order of paths.
It holds the names of the directories on the way down, never a tree. It takes nothing on trust
but an inode whose number and change time are the same on both sides and whose change time is
older than the moment at which the trees parted: size and modification time prove nothing.

A filesystem that knows what was written gives `Hints`: the same walk then goes only where they
lead, and costs what changed.

Hard links make one entry depend on others: the names that share an inode are compared too. An
entry whose other names have not been met on both sides is held back, with what comes after it,
until they have.
"""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack
from typing import NamedTuple

from backends.errors import BackendError
from backends.hints import Hints
from backends.tree import (
    CHANGED,
    Cursor,
    TreeChanged,
    by_name,
    data_from,
    link_target,
    open_regular,
    shown,
    xattrs,
)

ADDED = "added"
MODIFIED = "modified"
DELETED = "deleted"

_BASE, _VOLUME = 1, 2
_SLASH = ord("/")
_CHUNK = 1 << 18
_TYPE = 0o170000
"""The type bits of a mode (inode(7)); S_ISDIR and its like are calls, too slow for every entry."""

CLOCK_MARGIN = 100_000_000
"""Nanoseconds by which a ctime may lag behind the clock: coarse ticks are 1 to 10 ms."""


class Change(NamedTuple):
    """One difference between two trees: `path` is relative and in bytes, empty for the root."""

    path: bytes
    kind: str


class Compared(NamedTuple):
    """Two trees that nobody writes to (`before` None: an empty one), and the changes between them.

    The paths are good, and the changes to be had once, while the context lasts that gave this.
    """

    before: str | None
    after: str
    changes: Iterator[Change]


class ChangesError(BackendError):
    """A tree could not be read to its end, so the changes are not known."""


def never(status: os.stat_result) -> bool:
    """No directory is the stub of a nested subvolume."""
    return False


def walk(
    base: str | None,
    volume: str,
    *,
    settled: int = 0,
    is_stub: Callable[[os.stat_result], bool] = never,
    hints: Hints | None = None,
) -> Iterator[Change]:
    """The changes from the tree at `base` (None: an empty one) to the tree at `volume`.

    `settled` is a moment, in nanoseconds since the epoch, before which the trees cannot have
    parted, less a margin for the clock: an inode with the same number and change time on both
    sides, and older than that, is the same and is not read. 0 trusts nothing. A directory for
    which `is_stub` holds counts as absent on its side. With `hints`, nothing else is looked at.

    Raises ChangesError when an entry cannot be read or changes under way; nothing is skipped.
    """
    held: deque[Change | _Held] = deque()
    comparison = _Comparison(settled, is_stub, hints)
    with ExitStack() as stack:
        try:
            before = stack.enter_context(Cursor(base)) if base is not None else None
            after = stack.enter_context(Cursor(volume))
            for found in comparison.run(before, after):
                held.append(found)
                while held and (verdict := _verdict(held[0])) is not None:
                    settled_one = held.popleft()
                    if verdict:
                        yield Change(settled_one.path, settled_one.kind)
        except (OSError, TreeChanged) as error:
            trees = f"{volume} with {base}" if base is not None else volume
            raise ChangesError(
                f"cannot compare {trees}: {shown(comparison.where())}: {_reason(error)}"
            ) from error
    yield from (Change(left.path, left.kind) for left in held if _verdict(left))


class _Inode:
    """An inode with several names on its side: the one inode that shares all of them on the other.

    `partner` is None once two of its names lead to different inodes over there. `equal` says
    whether the partner's contents are the same, once they have been compared.
    """

    __slots__ = ("equal", "fresh", "partner", "unseen")

    def __init__(self, names: int) -> None:
        self.partner: _Inode | None = None
        self.equal: bool | None = None
        self.fresh = True
        self.unseen = names

    def meet(self, other: "_Inode | None") -> None:
        """Take note of one more name, which belongs to `other` on the other side."""
        if self.fresh:
            self.partner, self.fresh = other, False
        elif self.partner is not other:
            self.partner = None
        self.unseen -= 1


class _Held(NamedTuple):
    """An entry that is the same but for its other names, not all of which have been met."""

    path: bytes
    before: _Inode
    after: _Inode
    kind: str = MODIFIED


def _verdict(entry: Change | _Held) -> bool | None:
    """Whether the entry differs; None while names that would tell may still come."""
    if isinstance(entry, Change):
        return True
    before, after = entry.before, entry.after
    if before.partner is not after or after.partner is not before:
        return True
    return False if before.unseen <= 0 and after.unseen <= 0 else None


class _Directory(NamedTuple):
    """A directory on the way down: what is left of it to visit, in byte order of full paths.

    `keys` has a name for each entry, and the name with a slash for the place in that order where
    the contents of a directory come. `sides` says on which sides an entry was listed, `descend`
    on which its contents are to be visited.
    """

    keys: Iterator[bytes]
    sides: dict[bytes, int]
    here: int
    descend: dict[bytes, int]
    path_length: int


class _Comparison:
    """One run over two trees, and where it is."""

    def __init__(
        self, settled: int, is_stub: Callable[[os.stat_result], bool], hints: Hints | None
    ) -> None:
        self._settled = settled
        self._is_stub = is_stub
        self._hints = hints
        self._path = bytearray()
        self._key = b""
        self._cursors: dict[int, Cursor] = {}
        self._known: dict[int, dict[int, _Inode]] = {_BASE: {}, _VOLUME: {}}

    def where(self) -> bytes:
        """The path of the entry that is being looked at."""
        return bytes(self._path) + self._key.removesuffix(b"/")

    def run(self, before: Cursor | None, after: Cursor) -> Iterator[Change | _Held]:
        """Every difference, in order; entries that depend on their other names as _Held."""
        self._cursors = {_VOLUME: after} if before is None else {_BASE: before, _VOLUME: after}
        if before is not None and not self._same(os.fstat(before.fd), os.fstat(after.fd)):
            yield Change(b"", MODIFIED)
        settled, pending = self._settled, [self._list(_BASE | _VOLUME)]
        while pending:
            directory = pending[-1]
            old_fd, new_fd = before.fd if before is not None else -1, after.fd
            for key in directory.keys:
                self._key = key
                if key[-1] == _SLASH:
                    if here := directory.descend.pop(key, 0):
                        pending.append(self._enter(here))
                        break
                    continue
                side = directory.sides[key]
                old = os.stat(key, dir_fd=old_fd, follow_symlinks=False) if side & _BASE else None
                new = os.stat(key, dir_fd=new_fd, follow_symlinks=False) if side & _VOLUME else None
                if (
                    old is not None
                    and new is not None
                    and old.st_ctime_ns == new.st_ctime_ns < settled
                    and old.st_ino == new.st_ino
                    and old.st_size == new.st_size
                    and old.st_nlink == 1 == new.st_nlink
                    and new.st_mode & _TYPE != stat.S_IFDIR
                ):
                    continue
                found = self._entry(directory, old, new)
                if found is not None:
                    yield found
            else:
                pending.pop()
                if pending:
                    self._leave(directory.here, pending[-1].path_length)

    def _list(self, here: int) -> _Directory:
        sides = self._whole(here) if self._hints is None else self._hinted(here, self._hints)
        return _Directory(iter(sorted(sides)), sides, here, {}, len(self._path))

    def _whole(self, here: int) -> dict[bytes, int]:
        """The `sides` of a directory of which every entry is to be visited."""
        sides: dict[bytes, int] = {}
        for side, cursor in self._cursors.items():
            if here & side:
                for name, is_directory in cursor.entries():
                    sides[name] = sides.get(name, 0) | side
                    if is_directory:
                        sides[name + b"/"] = 0
        return sides

    def _hinted(self, here: int, hints: Hints) -> dict[bytes, int]:
        """The `sides` of a directory of which only what may differ is to be visited."""
        if here == _VOLUME:
            return self._whole(here)
        old, new = (os.fstat(cursor.fd).st_ino for cursor in self._cursors.values())
        if not self._unsuspected(old, new):
            return self._differing(hints.suspects)
        marked = hints.marks.get(new, set())
        sides = dict.fromkeys(marked, here)
        sides.update((name + b"/", 0) for name in marked)
        return sides

    def _differing(self, suspects: Set[int]) -> dict[bytes, int]:
        """The `sides` of a directory without the files that are the same on both."""
        numbers = {}
        sides: dict[bytes, int] = {}
        for name, is_directory, number in self._cursors[_BASE].numbered():
            sides[name] = _BASE
            if is_directory:
                sides[name + b"/"] = 0
            elif number not in suspects:
                numbers[name] = number
        for name, is_directory, number in self._cursors[_VOLUME].numbered():
            if is_directory:
                sides[name + b"/"] = 0
            elif numbers.get(name) == number:
                del sides[name]
                continue
            sides[name] = sides.get(name, 0) | _VOLUME
        return sides

    def _enter(self, here: int) -> _Directory:
        for side, cursor in self._cursors.items():
            if here & side:
                cursor.enter(self._key[:-1])
        self._path += self._key
        return self._list(here)

    def _leave(self, here: int, path_length: int) -> None:
        for side, cursor in self._cursors.items():
            if here & side:
                cursor.leave()
        del self._path[path_length:]

    def _entry(
        self, directory: _Directory, old: os.stat_result | None, new: os.stat_result | None
    ) -> Change | _Held | None:
        """What is to be said of a name with this status on either side, None where it is not."""
        if old is not None and self._is_directory(old) and self._is_stub(old):
            old = None
        if new is not None and self._is_directory(new) and self._is_stub(new):
            new = None
        self._plan_descent(directory, old, new)
        inodes = self._meet(old, new)
        if new is None:
            seen = old is not None and directory.here & _VOLUME
            return Change(self.where(), DELETED) if seen else None
        if old is None:
            return Change(self.where(), ADDED)
        if inodes is None:
            return None if self._same(old, new) else Change(self.where(), MODIFIED)
        before, after = inodes
        if self._hints is not None and old.st_nlink != new.st_nlink:
            # All names are in these trees, but not all are visited.
            return Change(self.where(), MODIFIED)
        if before.equal is None:
            before.equal = self._same(old, new)
        if not before.equal:
            return Change(self.where(), MODIFIED)
        return _Held(self.where(), before, after)

    def _plan_descent(
        self, directory: _Directory, old: os.stat_result | None, new: os.stat_result | None
    ) -> None:
        """Have the contents visited where the entry is a directory.

        One that is gone is visited too, in silence: a name in it may have been another name of
        a file that is still there. Hints lead to a name that tells.
        """
        sides = 0
        if old is not None and self._is_directory(old):
            sides |= _BASE
        if new is not None and self._is_directory(new):
            sides |= _VOLUME
        if sides == _BASE | _VOLUME and old is not None and new is not None:
            sides = sides if self._leads_on(old.st_ino, new.st_ino) else 0
        elif sides == _BASE and self._hints is not None:
            sides = 0
        if sides:
            if self._key + b"/" not in directory.sides:
                raise TreeChanged("it became a directory under way")
            directory.descend[self._key + b"/"] = sides

    def _unsuspected(self, old: int, new: int) -> bool:
        """Whether the inodes of these numbers are known to be the same."""
        return self._hints is not None and old == new and old not in self._hints.suspects

    def _leads_on(self, old: int, new: int) -> bool:
        """Whether there may be differences below the directories of these numbers."""
        if self._hints is None or not self._unsuspected(old, new):
            return True
        return new in self._hints.marks

    def _meet(
        self, old: os.stat_result | None, new: os.stat_result | None
    ) -> tuple[_Inode, _Inode] | None:
        """Take note of a name of an inode that has several; both inodes if both sides have it."""
        files = [
            status if status is not None and not self._is_directory(status) else None
            for status in (old, new)
        ]
        if all(status is None or status.st_nlink == 1 for status in files):
            return None
        before = self._inode(_BASE, files[0])
        after = self._inode(_VOLUME, files[1])
        if before is not None:
            before.meet(after)
        if after is not None:
            after.meet(before)
        return None if before is None or after is None else (before, after)

    def _inode(self, side: int, status: os.stat_result | None) -> _Inode | None:
        if status is None or status.st_nlink == 1:
            return None if status is None else _Inode(1)
        known, number = self._known[side], status.st_dev << 64 | status.st_ino
        inode = known.setdefault(number, _Inode(status.st_nlink))
        if inode.unseen == 1:
            del known[number]
        return inode

    def _same(self, old: os.stat_result, new: os.stat_result) -> bool:
        """Whether the entries at the present key (none: the roots) are equal, names aside."""
        if self._unsuspected(old.st_ino, new.st_ino):
            return True
        if (
            old.st_ino == new.st_ino
            and old.st_ctime_ns == new.st_ctime_ns < self._settled
            and old.st_size == new.st_size
        ):
            return True
        kind = new.st_mode & _TYPE
        if (
            (old.st_mode, old.st_uid, old.st_gid) != (new.st_mode, new.st_uid, new.st_gid)
            or old.st_mtime_ns != new.st_mtime_ns
            or (kind != stat.S_IFDIR and old.st_size != new.st_size)
            or (kind in (stat.S_IFCHR, stat.S_IFBLK) and old.st_rdev != new.st_rdev)
        ):
            return False
        before, after = self._cursors[_BASE].fd, self._cursors[_VOLUME].fd
        key = self._key
        if not key:
            return xattrs(before) == xattrs(after)
        if xattrs(by_name(key, before)) != xattrs(by_name(key, after)):
            return False
        if kind == stat.S_IFLNK:
            return link_target(key, before) == link_target(key, after)
        return kind != stat.S_IFREG or same_contents(key, before, old, after, new)

    @staticmethod
    def _is_directory(status: os.stat_result) -> bool:
        return status.st_mode & _TYPE == stat.S_IFDIR


def same_contents(
    name: bytes, before: int, old: os.stat_result, after: int, new: os.stat_result
) -> bool:
    """Compare two files of one size piece by piece, passing over what is a hole in both."""
    with ExitStack() as stack:
        one = open_regular(name, before, old)
        stack.callback(os.close, one)
        other = open_regular(name, after, new)
        stack.callback(os.close, other)
        size, offset = new.st_size, 0
        while offset < size:
            offset = min(data_from(one, offset, size), data_from(other, offset, size))
            if offset == size:
                break
            chunk = os.pread(one, _CHUNK, offset)
            if chunk != os.pread(other, _CHUNK, offset):
                return False
            if not chunk:
                raise TreeChanged("it became shorter while it was read")
            offset += len(chunk)
        return True


def _reason(error: OSError | TreeChanged) -> str:
    if isinstance(error, TreeChanged):
        return str(error)
    if error.errno in CHANGED:
        return "it changed while it was read; try again when nothing writes to it"
    return error.strerror or str(error)
