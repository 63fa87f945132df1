"""Data volumes that get what the image has in their place: once, whole or not at all.

Who fills a volume owns its row meanwhile; others wait for the end of that. If that process dies,
whoever meets the row empties the volume again, so that nobody takes a half-filled one for a full
one. What somebody else writes to a volume while it is being filled may go with that.
"""

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

from backends.base import VOLUMES, Volume
from backends.copy import copy_tree
from backends.errors import BackendError, from_os_error
from backends.inside import open_inside
from backends.tree import erase, xattrs
from imagegraph.errors import NotFound, StoreError
from imagegraph.model import DataVolume

if TYPE_CHECKING:
    from imagegraph.store import Store

PAUSE = 0.01
"""Seconds between two looks at a volume that another process is filling."""

NOBODY = 0
"""An owner that does not live: no process has that token (owners.py)."""

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# A kernel with SELinux gives it to every file by itself, and lets nobody take it away.
_LABEL = "security.selinux"


def fill(store: "Store", volume: DataVolume, tree: int, path: str) -> None:
    """Copy the directory at `path` of a container's `tree` into the volume, if that is empty.

    A volume is filled once: one that was emptied since stays empty. Its root becomes as the
    directory is; without a directory there, nothing is changed. What links lead to is looked for
    inside the tree. Raises NotFound, BackendError; the volume is then as empty as it was.
    """
    if _known(store, volume)[0]:
        return
    with contextlib.ExitStack() as stack:
        source = _directory(stack, tree, path)
        root = stack.enter_context(store.backend.open(Volume(VOLUMES, volume.id)))
        if source is not None and not os.listdir(source) and not _is_new(root):
            # An empty directory gives no more than its owner and mode, and those once.
            source = None
        half_filled = _begin(store, volume, root, source)
        if half_filled is None:
            return
        entries = 0
        try:
            if half_filled:
                _empty(root)
            # What somebody has put there since we looked is not ours to touch.
            if source is not None and not os.listdir(root):
                entries = copy_tree(source, root).entries
            store.backend.sync(Volume(VOLUMES, volume.id))
        except BaseException as error:
            _give_up(store, volume, root)
            if isinstance(error, BackendError) and source is not None:
                said = str(error).replace(source, path)
                raise type(error)(f"volume {volume.name} is not filled: {said}") from error
            raise
        with store.graph.writing():
            # While it is empty, another image may fill it yet, as with Docker.
            store.graph.end_filling(volume.id, entries > 0)


def recover(store: "Store", id: str, owner: int | None) -> bool:
    """Empty a volume that `owner`, who died, was filling; False if another process was quicker.

    Raises BackendError; it is then left to the next.
    """
    with store.graph.writing():
        mine = store.graph.begin_filling(id, owner, store.owner.token)
    if mine:
        try:
            with store.backend.open(Volume(VOLUMES, id)) as root:
                _empty(root)
            store.backend.sync(Volume(VOLUMES, id))
        except BaseException:
            _hand_on(store, id)
            raise
        with store.graph.writing():
            store.graph.end_filling(id, False)
    return mine


def _known(store: "Store", volume: DataVolume) -> tuple[bool, int | None]:
    found = store.graph.filling(volume.id)
    if found is None:
        raise NotFound(f"volume {volume.name} was removed meanwhile")
    return found


def _directory(stack: contextlib.ExitStack, tree: int, path: str) -> str | None:
    """A path of the directory at `path` inside the tree, while the stack lasts; None if none."""
    try:
        found = open_inside(tree, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise from_os_error(error, f"open {path}") from error
        return None
    stack.callback(os.close, found)
    return f"/proc/self/fd/{found}"


def _begin(store: "Store", volume: DataVolume, root: str, source: str | None) -> bool | None:
    """Own the volume's row: whether it was left half-filled; None where there is nothing to do."""
    while True:
        filled, owner = _known(store, volume)
        if filled or (owner is None and (source is None or os.listdir(root))):
            return None
        if owner not in (None, store.owner.token) and store.owner.lives(owner):
            time.sleep(PAUSE)
            continue
        with store.graph.writing():
            if store.graph.begin_filling(volume.id, owner, store.owner.token):
                return owner is not None


def _give_up(store: "Store", volume: DataVolume, root: str) -> None:
    """Have the volume empty again; where that fails, `recover` is tried by whoever comes."""
    try:
        _empty(root)
        store.backend.sync(Volume(VOLUMES, volume.id))
        with store.graph.writing():
            store.graph.end_filling(volume.id, False)
    except (BackendError, StoreError):
        _hand_on(store, volume.id)


def _hand_on(store: "Store", id: str) -> None:
    with contextlib.suppress(StoreError), store.graph.writing():
        store.graph.begin_filling(id, store.owner.token, NOBODY)


def _is_new(root: str) -> bool:
    """Whether an empty volume's root is as it was made."""
    status = os.stat(root)
    mine = (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    return mine and status.st_mode & 0o7777 == 0o755


def _empty(root: str) -> None:
    """Make the volume as it was when it was new. Raises BackendError."""
    try:
        for name in os.listdir(root):
            erase(f"{root}/{name}")
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in xattrs(descriptor).keys() - {_LABEL}:
                os.removexattr(descriptor, name)
            os.fchown(descriptor, os.geteuid(), os.getegid())
            os.fchmod(descriptor, 0o755)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_os_error(error, "empty a volume") from error
