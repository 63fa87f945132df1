"""Room for the graph on a full disk, so that what fills it can still be removed.

`<root>/reserve/` holds a few files that are nothing but allocated blocks. Where SQLite cannot open
its files, or a removal has no room for its log, one of them is unlinked; they are made again when
there is room. Nothing but opening and removing may draw on them.

SQLite maps the `-shm` file, and a process that writes to a mapped page for which a full btrfs has
no room dies of SIGBUS. So there the graph's files are not copied on write; for kernels that want
room for such a page all the same (Linux 6.1 does), a file is unlinked before SQLite touches it.
"""

import contextlib
import os
import time

from backends import flags
from backends.detect import filesystem

DIRECTORY = "reserve"
PIECES = 8
PIECE = 1 << 20
"""Bytes of one file: the index of the log (32 KiB) and LOG fit in it."""

LOG = 512 << 10
"""Bytes of the log that a removal has before it begins: several transactions."""

SHORT = 256 << 10
"""Free bytes below which there may not be room for the pages that SQLite maps."""

LOOKS, PAUSE = 60, 0.1
"""How often, and after how many seconds, room is looked for: zfs_txg_timeout is 5 s."""

AMPLE = 64 << 20
"""Free bytes from which on the disk is not full, and the reserve is filled up."""


def overwrite_in_place(database: str) -> None:
    """Have the empty database, and what is made beside it, not copied on write. Raises OSError."""
    for path in (database, os.path.dirname(database)):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            flags.change(descriptor, on=flags.NO_COW)
        finally:
            os.close(descriptor)


def fill(root: str, *, scarce: bool = False) -> None:
    """Make what is missing of the reserve, if there is room; `scarce`: whatever room there is.

    Whoever may not write here, or finds no room, goes on without.
    """
    with contextlib.suppress(OSError):
        missing = _names(root) - set(_pieces(root))
        if not missing or not (scarce or _free(root) > AMPLE):
            return
        os.makedirs(f"{root}/{DIRECTORY}", mode=0o700, exist_ok=True)
        for path in sorted(missing):
            _make(path)


def _make(path: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, PIECE)
        if os.fstat(descriptor).st_blocks * 512 < PIECE:
            # ZFS only looks whether there is room; random bytes cannot be compressed.
            os.pwrite(descriptor, os.urandom(PIECE), 0)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def is_short(root: str) -> bool:
    """Whether the disk is as good as full."""
    try:
        return _free(root) < SHORT
    except OSError:
        return False


def draw(root: str) -> bool:
    """Give one piece of the reserve to whoever needs it now; False if there is none."""
    for path in _pieces(root):
        # Another process may have drawn it.
        with contextlib.suppress(OSError):
            os.unlink(path)
            _await_room(root)
            return True
    return False


def _await_room(root: str) -> None:
    """Wait for what was unlinked: the filesystem gives it back when it has written that down."""
    _count(root)
    if filesystem(root) == "zfs":
        for _ in range(LOOKS):
            if _free(root) >= LOG:
                return
            time.sleep(PAUSE)


def _count(root: str) -> None:
    """Have what was allocated and unlinked told by statvfs: btrfs counts it when it is written."""
    if filesystem(root) == "btrfs":
        from backends.detached import sync_filesystem

        sync_filesystem(root)


def lengthen(log: str) -> None:
    """Give SQLite's log LOG more bytes if the disk is all but full, of the reserve if need be.

    Where that fails, the transaction tells what is wrong. Zeros at its end are no part of a log.
    """
    root = os.path.dirname(log)
    try:
        if _free(root) > AMPLE:
            return
        descriptor = os.open(log, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for _ in range(PIECES + 1):
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, LOG)
                _count(root)
                return
            if not draw(root):
                return
    finally:
        os.close(descriptor)


def _names(root: str) -> set[str]:
    return {f"{root}/{DIRECTORY}/{number}" for number in range(PIECES)}


def _pieces(root: str) -> list[str]:
    try:
        return [f"{root}/{DIRECTORY}/{name}" for name in sorted(os.listdir(f"{root}/{DIRECTORY}"))]
    except OSError:
        return []


def _free(root: str) -> int:
    counts = os.statvfs(root)
    return counts.f_bavail * counts.f_frsize
