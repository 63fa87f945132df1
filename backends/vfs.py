"""Volumes as plain directories: for filesystems without snapshots and for users who are not root.

A clone is a copy, reflinked where the filesystem can. A volume is made under `staging`, synced, and
renamed to its name, so it is there whole or not at all; its record, made just before with O_EXCL,
decides between two that want the same name. A removed one is renamed into `removing` first.

A sealed volume is written to by nobody who goes through `open`: for root it gives a read-only
mount that no other process sees and that ends with the process.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import time
from collections.abc import Iterator

from backends import busy, mounts
from backends.base import LAYERS, STAGING, VOLUMES, Backend, Edit, Found, Space, Usage, Volume
from backends.changes import Compared, walk
from backends.copy import FICLONE, copy_tree
from backends.detached import AT_FDCWD, checked, path_of, read_only_view, sync_filesystem
from backends.errors import (
    BackendError,
    NotSupported,
    Unavailable,
    VolumeBusy,
    VolumeExists,
    VolumeNotFound,
    from_os_error,
)
from backends.layout import Layout, locked, sync_directory
from backends.tree import TreeChanged, erase

ATTEMPTS = 5
"""Copies of a tree in use that are begun before its snapshot is given up."""

PAUSE = 0.1
"""Seconds after the first of them that failed; each time as much longer."""

_RENAME_NOREPLACE = 1  # linux/fs.h


def prepare(base: str) -> None:
    """Make the pool at `base`; idempotent. Raises Unavailable where that cannot be."""
    try:
        os.makedirs(base, mode=0o700, exist_ok=True)
        Layout(base).make()
    except OSError as error:
        raise Unavailable(f"cannot make a pool at {base}: {error.strerror}") from error


class VfsBackend(Backend):
    """See the contract. `base` is a prepared pool."""

    name = "vfs"

    def __init__(self, base: str) -> None:
        self._layout = Layout(base)

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not os.path.isdir(f"{self._layout.base}/{STAGING}"):
                raise Unavailable(
                    f"cannot {what}: the pool at {self._layout.base} is not there any more"
                ) from error
            raise from_os_error(error, what) from error

    # Making

    def create(self, volume: Volume, parent: Volume | None = None, record: bytes = b"") -> None:
        with self._doing(f"create {volume}"):
            self._require_absent(volume)
            if volume.kind == VOLUMES:
                self._layout.require_volumes()
            if parent is not None:
                self._require(parent)
            with self._being_made(volume) as tree:
                if parent is not None:
                    copy_tree(self._layout.path(parent), tree)
                if volume.kind != STAGING:
                    self._publish(tree, volume, record)
                    return
                self._layout.hold(volume.id)
                try:
                    self._name(tree, volume, record)
                except BaseException:
                    self._layout.release(volume.id)
                    raise

    def seal(self, volume: Volume, target: Volume, record: bytes = b"") -> None:
        with self._doing(f"seal {volume} as {target}"):
            self._require(volume)
            self._require_absent(target)
            self._publish(self._layout.path(volume), target, record)
            self._layout.drop_record(volume)
            self._layout.release(volume.id)

    def snapshot(
        self, source: Volume, target: Volume, record: bytes = b"", edit: Edit | None = None
    ) -> list[str]:
        with self._doing(f"snapshot {source} as {target}"):
            self._require(source)
            self._require_absent(target)
            with self._being_made(target) as tree:
                self._copy_in_use(source, tree)
                if edit is not None:
                    edit(tree)
                self._publish(tree, target, record)
        return []

    def _copy_in_use(self, source: Volume, tree: str) -> None:
        """Copy a tree that may be in use, from the start again if something vanished."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                copy_tree(self._layout.path(source), tree)
                return
            except TreeChanged as error:
                reason = error
            erase(tree)
            os.mkdir(tree)
            time.sleep(attempt * PAUSE)
        raise VolumeBusy(
            f"{source} changes while it is copied ({reason}); stop what writes to it"
        ) from reason

    @contextlib.contextmanager
    def _being_made(self, volume: Volume) -> Iterator[str]:
        """An empty directory under `staging`, erased at the end if it has not become the volume."""
        with self._layout.working(f"{volume.id}-{os.urandom(4).hex()}") as tree:
            os.mkdir(tree, 0o755)
            os.chmod(tree, 0o755)
            try:
                yield tree
            finally:
                erase(tree)

    def _publish(self, tree: str, volume: Volume, record: bytes) -> None:
        """Make the directory `tree` the volume, durably: all of it or nothing."""
        sync_filesystem(tree)
        self._name(tree, volume, record)
        for directory in (f"{self._layout.base}/{volume.kind}", os.path.dirname(tree)):
            sync_directory(directory)

    def _name(self, tree: str, volume: Volume, record: bytes) -> None:
        self._layout.add_record(volume, record)
        try:
            _rename_to_new(tree, self._layout.path(volume))
        except BaseException:
            self._layout.drop_record(volume)
            raise

    def _require(self, volume: Volume) -> None:
        if not os.path.lexists(self._layout.path(volume)):
            os.stat(f"{self._layout.base}/{STAGING}")
            raise VolumeNotFound(f"{volume} is not on disk")

    def _require_absent(self, volume: Volume) -> None:
        if os.path.lexists(self._layout.path(volume)):
            raise VolumeExists(f"{volume} exists already")

    # Removing

    def remove(self, volume: Volume, *, force: bool = False) -> list[str]:
        with self._doing(f"remove {volume}"):
            path = self._layout.path(volume)
            if os.path.lexists(path):
                users = busy.users(volume.fragment)
                if users:
                    raise VolumeBusy(f"cannot remove {volume}: {'; '.join(users)}")
                self._take_away(volume)
            else:
                os.stat(f"{self._layout.base}/{STAGING}")
            self._layout.drop_record(volume)
            if volume.kind == STAGING:
                self._layout.release(volume.id)
        return []

    def require_removable(self, volume: Volume, *, force: bool = False) -> None:
        """Nobody else can make snapshots that are in the way."""

    def _take_away(self, volume: Volume) -> None:
        """Rename, then erase; a lock on the directory says that somebody is at it."""
        path, aside = self._layout.path(volume), self._layout.removing(volume)
        with contextlib.suppress(FileNotFoundError), locked(path):
            os.rename(path, aside)
            # The volume is gone from here on, even if something in it cannot be erased.
            self._layout.drop_record(volume)
            erase(aside)

    # Reading

    def frozen(self, volume: Volume) -> contextlib.AbstractContextManager[str]:
        return self.open(volume)

    def sync(self, volume: Volume) -> None:
        with self._doing(f"sync {volume}"):
            self._require(volume)
            sync_filesystem(self._layout.path(volume))

    def location(self, volume: Volume) -> str:
        return self._layout.path(volume)

    def mount(self, volume: Volume, point: str) -> None:
        with self._doing(f"mount {volume}"), self.open(volume):
            mounts.bind(self._layout.path(volume), point)

    @contextlib.contextmanager
    def open(self, volume: Volume) -> Iterator[str]:
        with contextlib.ExitStack() as stack:
            with self._doing(f"open {volume}"):
                self._require(volume)
                path = self._layout.path(volume)
                view = read_only_view(path) if volume.kind == LAYERS else None
                if view is not None:
                    stack.callback(os.close, view)
                    path = path_of(view)
            yield path

    @contextlib.contextmanager
    def compared(self, volume: Volume, base: Volume | None) -> Iterator[Compared]:
        with self._doing(f"compare {volume}"):
            for tree in filter(None, (volume, base)):
                self._require(tree)
        before = self._layout.path(base) if base is not None else None
        after = self._layout.path(volume)
        yield Compared(before, after, walk(before, after))

    # Accounting

    def usage(self, volume: Volume) -> Usage:
        with self._doing(f"measure {volume}"):
            self._require(volume)
        return Usage(None, None)

    def limit(self, volume: Volume, size: int | None) -> None:
        with self._doing(f"limit {volume}"):
            self._require(volume)
        if size is not None:
            raise NotSupported("plain directories have no quotas: take a root on btrfs")

    # Keeping

    def describe(self, volume: Volume, record: bytes) -> None:
        with self._doing(f"describe {volume}"):
            self._require(volume)
            self._layout.replace_record(volume, record)

    def volumes(self) -> Iterator[Found]:
        with self._doing("list the volumes"):
            for volume in self._layout.found():
                record = self._layout.record(volume)
                path = self._layout.path(volume)
                problem = "it has no record" if record is None else None
                if os.path.islink(path) or not os.path.isdir(path):
                    problem = "it is not a directory"
                yield Found(volume, record, problem)

    def leftovers(self) -> list[str]:
        with self._doing("look for leftovers"), self._layout.unowned() as names:
            return [name for name in names if not self._layout.is_being_removed(name)]

    def sweep(self) -> list[str]:
        swept, failed = [], []
        with self._doing("sweep"), self._layout.unowned() as names:
            for name in names:
                if self._layout.is_being_removed(name):
                    continue
                try:
                    erase(f"{self._layout.base}/{name}")
                except BackendError as error:
                    failed.append(error)
                    continue
                kind, _, identity = name.partition("/")
                if kind == STAGING:
                    self._layout.drop_record(Volume(STAGING, identity))
                swept.append(name)
        if failed:
            raise failed[0]
        return swept

    def quarantine(self, volume: Volume) -> str:
        with self._doing(f"put {volume} aside"):
            self._require(volume)
            aside = self._layout.quarantined(volume)
            os.rename(self._layout.path(volume), aside)
            record = self._layout.record(volume)
            if record is not None:
                with open(f"{aside}.record", "xb") as file:
                    file.write(record)
                self._layout.drop_record(volume)
            return aside

    def space(self) -> Space:
        with self._doing("measure the pool"):
            counts = os.statvfs(self._layout.base)
            return Space(counts.f_blocks * counts.f_frsize, counts.f_bavail * counts.f_frsize, 0)

    def info(self) -> dict[str, str]:
        with self._doing("describe the pool"):
            shares = _can_reflink(f"{self._layout.base}/{STAGING}")
        protected = read_only_view(self._layout.base)
        if protected is not None:
            os.close(protected)
        clones = "reflinked" if shares else "full copies, each as large as its image"
        layers = "read-only when opened" if protected else "not write-protected: that needs root"
        return {"Clones": clones, "Layers": layers}

    def warnings(self) -> list[str]:
        return []


def _rename_to_new(source: str, target: str) -> None:
    """Rename a directory to a name that is free. Raises FileExistsError if it is not."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(source), os.fsencode(target)
    try:
        checked(libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], _RENAME_NOREPLACE), target)
    except OSError as error:
        # Not every filesystem has the flag. The volume's record, made with O_EXCL, guards the name.
        if error.errno != errno.EINVAL:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target)


def _can_reflink(directory: str) -> bool:
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    with contextlib.ExitStack() as stack:
        try:
            pair = []
            for _ in range(2):
                pair.append(os.open(directory, flags, 0o600))
                stack.callback(os.close, pair[-1])
            os.write(pair[0], bytes(4096))
            fcntl.ioctl(pair[1], FICLONE, pair[0])
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EISDIR):
                raise
            return False
    return True
