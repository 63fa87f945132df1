"""What changes come to: entries, regular files and their bytes."""

import os
import stat
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Self

from backends.changes import ADDED, DELETED, MODIFIED, Change
from backends.tree import CHANGED, below, lstat, open_directory


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

    def status(self, path: bytes) -> os.stat_result:
        """The status of the entry; raises OSError."""
        above, _, name = path.rpartition(b"/")
        if above != self._above:
            self._close()
            self._directory = open_directory(self._root, above)
            self._above = above
        return lstat(name or b".", self._directory)

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


def totals(base: str | None, tree: str, changes: Iterable[Change]) -> dict[str, Total]:
    """What the changes between two trees, which nobody writes to, come to, by their kind.

    Raises OSError, and BackendError for a tree that changes after all.
    """
    found = dict.fromkeys((ADDED, MODIFIED, DELETED), Total())
    with _Tree(tree) as after, _Tree(base or tree) as before:
        for path, kind in changes:
            side = before if kind == DELETED else after
            status, files, size = side.status(path), 0, 0
            for file in side.all_below(path, status) if kind == DELETED else [status]:
                if stat.S_ISREG(file.st_mode):
                    files, size = files + 1, size + side.size(file)
            total = found[kind]
            found[kind] = Total(total.entries + 1, total.files + files, total.bytes + size)
    return found
