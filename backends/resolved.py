"""Where a path leads in a tree that somebody hostile may have made, though it may not be there yet.

Links are followed as a process would for which the tree is its root directory, one name at a time,
below directories that are opened without following any. What is found can be made afterwards, where
`backends.inside` only opens what is there.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

from backends.tree import CHANGED, TreeChanged, link_target, lstat, open_directory

# As many as the kernel follows, and the longest path and name that it takes (limits.h).
_MOST_LINKS = 40
_PATH_MAX = 4096
_NAME_MAX = 255


class Resolved(NamedTuple):
    """A path relative to the tree, empty for the tree itself, in which no name is a link's.

    `missing`: how many of its last names are not there. `mode`: st_mode of the last one that is.
    """

    path: bytes
    missing: int
    mode: int


def resolve(tree: int, path: str | bytes) -> Resolved:
    """Where `path` is, with the open directory `tree` for its root.

    What is missing counts as a directory. Raises OSError: ELOOP for links in a circle, ENOTDIR,
    naming what is no directory, EINVAL or ENAMETOOLONG for what can be no path; TreeChanged.
    """
    pending = _names(path)
    names: list[bytes] = []
    missing = links = 0
    mode = stat.S_IFDIR
    while pending:
        name = pending.pop()
        if not stat.S_ISDIR(mode):
            raise _error(errno.ENOTDIR, b"/" + b"/".join(names))
        if name == b"..":
            names, missing = names[:-1], max(missing - 1, 0)
            continue
        status, target = (None, b"") if missing else _look(tree, names, name)
        if target:
            links += 1
            if links > _MOST_LINKS:
                raise _error(errno.ELOOP, path)
            names = [] if target.startswith(b"/") else names
            pending += _names(target)
            continue
        names.append(name)
        missing += status is None
        mode = stat.S_IFDIR if status is None else status.st_mode
    return Resolved(b"/".join(names), missing, mode)


def _names(path: str | bytes) -> list[bytes]:
    """The names to go through, the first one last."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise _error(errno.EINVAL, path) from error
    if b"\0" in encoded:
        raise _error(errno.EINVAL, path)
    names = [name for name in reversed(encoded.split(b"/")) if name not in (b"", b".")]
    if len(encoded) >= _PATH_MAX or max(map(len, names), default=0) > _NAME_MAX:
        raise _error(errno.ENAMETOOLONG, path)
    return names


def _look(tree: int, above: list[bytes], name: bytes) -> tuple[os.stat_result | None, bytes]:
    """The status of a name, None if there is none, and of a link where it leads."""
    try:
        with opened(tree, b"/".join(above)) as directory:
            try:
                status = lstat(name, directory)
            except FileNotFoundError:
                return None, b""
            return status, link_target(name, directory) if stat.S_ISLNK(status.st_mode) else b""
    except OSError as error:
        if error.errno not in CHANGED:
            raise
        raise TreeChanged("a directory vanished, or became something else") from error


@contextlib.contextmanager
def opened(tree: int | str, path: bytes) -> Iterator[int]:
    """The directory at `path` below `tree`, of which no component may be a link."""
    directory = open_directory(tree, path)
    try:
        yield directory
    finally:
        os.close(directory)


def _error(code: int, path: str | bytes) -> OSError:
    return OSError(code, os.strerror(code), path)
