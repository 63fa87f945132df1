"""Mount points: what a container's tree needs so that something can be mounted on it.

They are made in the tree before the container runs, recorded with it, and are no part of what it
holds: an entry that is recorded and still as it was made (a file without a byte and without
another name, or a directory with nothing but such entries in it; owner, mode and extended
attributes untouched) stands in no diff, commit or export. What is made is recorded before, so what
a crash leaves is at most a record of something that is not there.

A tree is hostile, and may change meanwhile. Links in it are resolved as in the container (see
backends.resolved); what is made is made by one name below a directory that is held open.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING

from backends.changes import ADDED, Change, Compared
from backends.errors import from_os_error
from backends.resolved import opened, resolve
from backends.tree import (
    CHANGED,
    TreeChanged,
    by_name,
    lstat,
    shown,
    xattrs,
)
from imagegraph.errors import Conflict
from imagegraph.model import Container

if TYPE_CHECKING:
    from imagegraph.store import Store

DIRECTORY, FILE, TEMPORARY = "directory", "file", "temporary"
_MODES = {
    DIRECTORY: stat.S_IFDIR | 0o755,
    FILE: stat.S_IFREG | 0o644,
    # Or another mode: runc gives a tmpfs that of what it is mounted on.
    TEMPORARY: stat.S_IFDIR | 0o1777,
}
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACLS = {"system.posix_acl_access", "system.posix_acl_default"}
# A kernel with SELinux gives it to every file by itself.
_LABEL = "security.selinux"
_ATTEMPTS = 100

Point = tuple[bytes, str]
"""A path relative to the tree, without links, and DIRECTORY, FILE or TEMPORARY."""


# Making


def prepare(
    store: "Store",
    container: Container,
    tree: int,
    wanted: Sequence[tuple[str, str]],
    modes: Mapping[str, int] | None = None,
) -> list[str]:
    """Make the mount points that the container's tree, open as `tree`, does not have yet.

    `wanted` are paths in the container, each with DIRECTORY, FILE or TEMPORARY. Returns for each
    where it really is in the tree, "/etc/hosts", with every link resolved there as in the
    container. The directories above get their times back. `modes`: of those that are TEMPORARY,
    where it is not 01777.

    Raises Conflict where something else is in the way, NotFound, BackendError.
    """
    for _ in range(_ATTEMPTS):
        try:
            places = [_find(tree, path, kind) for path, kind in wanted]
            missing = sorted({point for _, points in places for point in points})
            for (path, _), (other, _) in pairwise(missing):
                if path == other:
                    raise _refused(b"/" + path, "a file goes on it, and something below it")
            if missing:
                with store.graph.writing():
                    store.graph.add_mount_points(container.id, missing)
            asked = {
                real: (modes or {}).get(path)
                for (path, _), (real, _) in zip(wanted, places, strict=True)
            }
            for path, kind in missing:
                _make(tree, path, kind, asked.get(path))
        except (FileExistsError, TreeChanged):
            continue
        except OSError as error:
            if error.errno not in CHANGED:
                doing = f"make mount points in container {container.name}"
                raise from_os_error(error, doing) from error
        except Conflict as conflict:
            raise Conflict(f"container {container.name}: {conflict}") from conflict
        else:
            return [f"/{os.fsdecode(path)}" for path, _ in places]
    raise Conflict(f"container {container.name}: its tree does not stop changing: try again")


def _find(tree: int, path: str, kind: str) -> tuple[bytes, list[Point]]:
    """Where `path` is in the tree, and which entries on the way there, and there, are missing."""
    try:
        real, missing, mode = resolve(tree, path)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            why = f"{shown(error.filename)} in it is not a directory: remove it"
        else:
            why = (error.strerror or "").lower()
        raise _refused(path, why) from error
    if not missing and stat.S_ISDIR(mode) != (kind != FILE):
        there, wanted = "no directory", "a directory"
        if kind == FILE:
            there, wanted = "a directory", "a file"
        raise _refused(path, f"it is {there} there, and {wanted} goes on it: remove it")
    names = real.split(b"/")
    ends = range(len(names) - missing + 1, len(names) + 1)
    points = [(b"/".join(names[:end]), DIRECTORY) for end in ends]
    return real, points[:-1] + [(real, kind)] * bool(missing)


def _refused(path: str | bytes, why: str) -> Conflict:
    text = path if isinstance(path, str) else os.fsdecode(path)
    return Conflict(f"cannot mount on {text[:300]!r}: {why}")


def _make(tree: int, path: bytes, kind: str, mode: int | None) -> None:
    above, _, name = path.rpartition(b"/")
    with opened(tree, above) as directory, _times_kept(directory):
        if kind == FILE:
            made = os.open(name, _NEW_FILE, 0o644, dir_fd=directory)
        else:
            os.mkdir(name, 0o755, dir_fd=directory)
            made = os.open(name, _OLD_DIRECTORY, dir_fd=directory)
        try:
            # What the directory above and the umask made different.
            os.fchown(made, 0, 0)
            for attribute in xattrs(made).keys() & _ACLS:
                os.removexattr(made, attribute)
            os.fchmod(made, stat.S_IMODE(_MODES[kind]) if mode is None else mode)
        finally:
            os.close(made)


@contextlib.contextmanager
def _times_kept(directory: int) -> Iterator[None]:
    status = os.fstat(directory)
    try:
        yield
    finally:
        os.utime(directory, ns=(status.st_atime_ns, status.st_mtime_ns))


# Leaving out


def hidden(tree: str, points: Sequence[Point]) -> set[bytes]:
    """The paths of the `points`, in byte order, that are in the tree as they were made."""
    found: set[bytes] = set()
    for path, kind in reversed(points):
        above, _, name = path.rpartition(b"/")
        try:
            with opened(tree, above) as directory:
                if _is_as_made(directory, name, kind, path, found):
                    found.add(path)
        except OSError as error:
            if error.errno not in CHANGED:
                raise from_os_error(error, f"read the mount point {shown(path)}") from error
    return found


def _is_as_made(
    directory: int, name: bytes, kind: str, path: bytes, below: Collection[bytes]
) -> bool:
    status = lstat(name, directory)
    if (status.st_uid, status.st_gid) != (0, 0):
        return False
    if status.st_mode != _MODES[kind] and not (kind == TEMPORARY and stat.S_ISDIR(status.st_mode)):
        return False
    if xattrs(by_name(name, directory)).keys() - {_LABEL}:
        return False
    if kind == FILE:
        return status.st_size == 0 and status.st_nlink == 1
    with opened(directory, name) as inside, os.scandir(inside) as listing:
        return all(path + b"/" + os.fsencode(entry.name) in below for entry in listing)


@contextlib.contextmanager
def left_out(
    store: "Store", container: Container, compared: AbstractContextManager[Compared]
) -> Iterator[Compared]:
    """What is compared without the additions that are mount points of the container."""
    with compared as both:
        # Asked for now: all that is in the frozen tree was recorded before.
        if points := store.graph.mount_points(container.id):
            changes = _without(both.changes, hidden(both.after, points))
            both = both._replace(changes=changes)
        yield both


def _without(changes: Iterable[Change], paths: Collection[bytes]) -> Iterator[Change]:
    return (change for change in changes if change.kind != ADDED or change.path not in paths)


def strip(tree: str, points: Sequence[Point]) -> None:
    """Remove the mount points from a copy of the tree; directories keep their times.

    Raises OSError, BackendError.
    """
    for path in sorted(hidden(tree, points), reverse=True):
        above, _, name = path.rpartition(b"/")
        with opened(tree, above) as directory, _times_kept(directory):
            remove = os.rmdir if stat.S_ISDIR(lstat(name, directory).st_mode) else os.unlink
            remove(name, dir_fd=directory)
