"""What changes are: the entries on either side, in what they differ, and what all come to."""

import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from backends.changes import ADDED, DELETED, MODIFIED, Change, Compared, same_contents
from backends.tree import (
    CHANGED,
    below,
    by_name,
    link_target,
    lstat,
    open_directory,
    xattrs,
)


class Difference(NamedTuple):
    """A change with the status of the entry on each side, None where it is not.

    `differs` says in what an entry that was modified differs: type, mode, owner, mtime, xattrs,
    content, target (of a link), device, links (which names share the inode; told where nothing
    else differs, or their number does).
    """

    path: bytes
    kind: str
    before: os.stat_result | None
    after: os.stat_result | None
    differs: tuple[str, ...]


class Total(NamedTuple):
    """Of one kind of change: how many, regular files among them, and bytes of those.

    Files with several names are counted with each, their bytes once. What was in a directory that
    was deleted is counted too.
    """

    entries: int = 0
    files: int = 0
    bytes: int = 0


class _Tree:
    """A tree whose entries are asked for in byte order: their directory is kept open."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._above: bytes | None = None
        self._directory = -1
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._above is not None:
            os.close(self._directory)
            self._above = None

    def place(self, path: bytes) -> tuple[bytes, int]:
        """The entry's name, and its directory, open; raises OSError."""
        above, _, name = path.rpartition(b"/")
        if above != self._above:
            self._close()
            self._directory = open_directory(self._root, above)
            self._above = above
        return name or b".", self._directory

    def status(self, path: bytes) -> os.stat_result:
        """The status of the entry; raises OSError."""
        return lstat(*self.place(path))

    def size(self, status: os.stat_result) -> int:
        """Bytes of a regular file, 0 if it was asked for under another name."""
        if status.st_nlink > 1:
            if status.st_ino in self._seen:
                return 0
            self._seen.add(status.st_ino)
        return status.st_size

    def all_below(self, path: bytes, status: os.stat_result) -> Iterator[os.stat_result]:
        """The entry, and if it is a directory all that is in it but directories.

        Raises OSError, TreeChanged.
        """
        yield status
        if not stat.S_ISDIR(status.st_mode):
            return
        top = open_directory(self._root, path)
        try:
            yield from below(top)
        finally:
            os.close(top)


def bytes_of(tree: str, changes: Iterable[Change]) -> int:
    """Bytes of the regular files that were added or modified, each inode counted once.

    What is not there any more when it is looked at counts nothing.
    """
    total = 0
    with _Tree(tree) as after:
        for path, kind in changes:
            if kind == DELETED:
                continue
            try:
                status = after.status(path)
            except OSError as error:
                if error.errno not in CHANGED:
                    raise
                continue
            if stat.S_ISREG(status.st_mode):
                total += after.size(status)
    return total


def differences(compared: Compared) -> Iterator[Difference]:
    """The changes between two trees, with what they are. Raises OSError, BackendError."""
    with _Tree(compared.after) as after, _Tree(compared.before or compared.after) as before:
        for path, kind in compared.changes:
            old = before.status(path) if kind != ADDED else None
            new = after.status(path) if kind != DELETED else None
            differs: tuple[str, ...] = ()
            if old is not None and new is not None:
                differs = tuple(_differs(before.place(path), old, after.place(path), new))
            yield Difference(path, kind, old, new, differs)


def _differs(
    one: tuple[bytes, int], old: os.stat_result, other: tuple[bytes, int], new: os.stat_result
) -> Iterator[str]:
    """In what two entries differ, each given with its name and directory."""
    kind = stat.S_IFMT(new.st_mode)
    same_type = stat.S_IFMT(old.st_mode) == kind
    found = {
        "type": not same_type,
        "mode": stat.S_IMODE(old.st_mode) != stat.S_IMODE(new.st_mode),
        "owner": (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid),
        "mtime": old.st_mtime_ns != new.st_mtime_ns,
        "xattrs": xattrs(by_name(*one)) != xattrs(by_name(*other)),
        "content": same_type and kind == stat.S_IFREG and not _same(one, old, other, new),
        "target": same_type and kind == stat.S_IFLNK and link_target(*one) != link_target(*other),
        "device": same_type and old.st_rdev != new.st_rdev,
    }
    links = kind != stat.S_IFDIR and same_type and old.st_nlink != new.st_nlink
    found["links"] = links or not any(found.values())
    return (name for name, is_so in found.items() if is_so)


def _same(
    one: tuple[bytes, int], old: os.stat_result, other: tuple[bytes, int], new: os.stat_result
) -> bool:
    return old.st_size == new.st_size and same_contents(*one, old, other[1], new)


def totals(compared: Compared) -> dict[str, Total]:
    """What the changes between two trees come to, by their kind. Raises OSError, BackendError."""
    found = dict.fromkeys((ADDED, MODIFIED, DELETED), Total())
    with _Tree(compared.after) as after, _Tree(compared.before or compared.after) as before:
        for path, kind in compared.changes:
            side = before if kind == DELETED else after
            status, files, size = side.status(path), 0, 0
            for file in side.all_below(path, status) if kind == DELETED else [status]:
                if stat.S_ISREG(file.st_mode):
                    files, size = files + 1, size + side.size(file)
            total = found[kind]
            found[kind] = Total(total.entries + 1, total.files + files, total.bytes + size)
    return found
