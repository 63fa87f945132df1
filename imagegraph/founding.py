"""A directory becomes a store: through one process at a time, and whole or not at all.

The store's database comes first, empty, which tells the directory from anybody else's; it is
filled when the backend stands. Whoever fails before that takes away what was made.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator

from imagegraph.errors import StoreError


def founded(database: str) -> bool:
    """Whether there is a store whose database this is."""
    return os.path.exists(database) and os.path.getsize(database) > 0


@contextlib.contextmanager
def founding(database: str) -> Iterator[bool]:
    """Hold the directory of the database, which is made, while a store is set up there.

    Gives whether it is a new store; if that then fails, nothing of it is left. Raises StoreError.
    """
    root = os.path.dirname(database)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as undo:
        try:
            descriptor = _hold(root, undo)
            held.callback(os.close, descriptor)
            new = not founded(database)
            if new:
                _begin(descriptor, database, undo)
        except OSError as error:
            raise StoreError(
                f"cannot make the store {root}: {error.strerror}; run as root, or give"
                " another --root"
            ) from error
        yield new
        undo.pop_all()


def _hold(root: str, undo: contextlib.ExitStack) -> int:
    """A descriptor of the directory, locked; raises OSError."""
    while True:
        _make_directories(root, 0o700, undo)
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # Whoever held it before may have taken it away.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(root), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _make_directories(path: str, mode: int, undo: contextlib.ExitStack) -> None:
    """The directory in that mode, and those above it as the umask has it. Raises OSError."""
    if os.path.isdir(path):
        return
    _make_directories(os.path.dirname(path), 0o777, undo)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
        undo.callback(_unless_in_use, os.rmdir, path)


def _begin(descriptor: int, database: str, undo: contextlib.ExitStack) -> None:
    """Make the directory private, and the empty database in it. Raises StoreError, OSError."""
    root, name = os.path.split(database)
    foreign = set(os.listdir(root)) - {"lost+found"}
    if foreign and name not in foreign:
        raise StoreError(
            f"{root} is not empty and has no {name}: give a directory of its own as --root"
        )
    undo.callback(os.fchmod, descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode))
    os.fchmod(descriptor, 0o700)
    os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    undo.callback(_forget, database)


def _forget(database: str) -> None:
    """Remove the empty database, unless something else is there that needs it to be told ours."""
    if not set(os.listdir(os.path.dirname(database))) - {"lost+found", os.path.basename(database)}:
        _unless_in_use(os.unlink, database)


def _unless_in_use(remove: Callable[[str], None], path: str) -> None:
    with contextlib.suppress(OSError):
        remove(path)
