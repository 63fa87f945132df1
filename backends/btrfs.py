"""Volumes as btrfs subvolumes, over btrfsutil.

A sealed volume is a read-only snapshot made by one ioctl: the kernel writes the source's dirty
pages, commits the transaction, and only then is the name there. The read-only flag is never
flipped: a flip alone left files of size 0 after a power cut.

A record begins with one line of our own, by which changes between volumes are found: where the
volume comes from (btrfs_lineage.py).
"""

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

from backends import btrfs_ioctl, busy, mounts
from backends.base import LAYERS, STAGING, VOLUMES, Backend, Edit, Found, Space, Usage, Volume
from backends.changes import Compared, walk
from backends.errors import (
    BackendError,
    NotSupported,
    Unavailable,
    VolumeBusy,
    VolumeExists,
    VolumeNotFound,
    from_os_error,
)
from backends.hints import Hints
from backends.layout import Layout, locked, sync_directory
from backends.tree import CHANGED

try:
    import btrfsutil

    from backends import btrfs_changes, btrfs_quota, subvolumes
    from backends import btrfs_lineage as lineage
    from backends.btrfs_changes import Side
    from backends.btrfs_lineage import Parted
except ImportError as missing:
    raise Unavailable(
        "the btrfs backend needs the Python package btrfsutil: install libbtrfsutil-dev, gcc and"
        " python3-dev, then pip install 'btrfsutil>=6.10,<6.13'"
    ) from missing

SCARCE = 8
"""Below one part in this many, free space is scarce enough to wait for more."""

PATIENCE = 5.0
"""Seconds to wait for the kernel to free one more of the volumes that were removed."""

ATTEMPTS = 5
"""Copies of a tree in use that are begun before its snapshot is given up."""


def prepare(base: str) -> None:
    """Make the pool at `base`, itself a subvolume, so that no snapshot of the host holds it.

    Idempotent. Raises Unavailable where `base` cannot be one.
    """
    try:
        if not os.path.lexists(base):
            try:
                btrfsutil.create_subvolume(base)
                os.chmod(base, 0o700)
            except OSError as error:
                # Another process was quicker.
                if error.errno != errno.EEXIST:
                    raise
        if not btrfs_ioctl.is_subvolume(base):
            raise Unavailable(f"{base} is in the way: it is not a btrfs subvolume; move it")
        Layout(base).make()
    except OSError as error:
        raise from_os_error(error, f"make a btrfs pool at {base}") from error


def _require_subvolume(path: str, doing: str) -> None:
    """Raises BackendError for what somebody put in a volume's place; OSError where nothing is."""
    if not btrfs_ioctl.is_subvolume(path):
        os.lstat(path)
        raise BackendError(
            f"cannot {doing}: what is there is not a subvolume; cowshed check says what to do"
        )


class BtrfsBackend(Backend):
    """See the contract. `base` is a prepared pool; `ours` if its filesystem serves nothing else."""

    name = "btrfs"

    def __init__(self, base: str, *, ours: bool = False) -> None:
        self._layout = Layout(base)
        self._ours = ours

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, VolumeNotFound) as error:
            if not self._pool_is_there():
                raise Unavailable(
                    f"cannot {what}: the pool at {self._layout.base} is not mounted any more"
                ) from error
            if isinstance(error, VolumeNotFound):
                raise
            raise from_os_error(error, what) from error

    def _pool_is_there(self) -> bool:
        base = self._layout.base
        return btrfs_ioctl.is_subvolume(base) and os.path.isdir(f"{base}/{STAGING}")

    # Making

    def create(self, volume: Volume, parent: Volume | None = None, record: bytes = b"") -> None:
        path = self._layout.path(volume)
        with self._doing(f"create {volume}"):
            if os.path.lexists(path):
                raise VolumeExists(f"cannot create {volume}: it exists already")
            if parent is not None and not btrfs_ioctl.is_subvolume(self._layout.path(parent)):
                raise VolumeNotFound(
                    f"cannot create {volume}: {parent} is not on disk as a subvolume; cowshed check"
                    " says what to do"
                )
            if volume.kind == STAGING:
                self._layout.hold(volume.id)
                self._make_room()
            if volume.kind == VOLUMES:
                self._layout.require_volumes()
            above = self._layout.path(parent) if parent is not None else None
            head = lineage.cloned_from(above, parent and parent.id)
            with self._recorded(volume, head, record, durable=volume.kind == VOLUMES):
                if above is None:
                    self._create_empty(volume, path)
                else:
                    btrfsutil.create_snapshot(above, path)

    def _create_empty(self, volume: Volume, path: str) -> None:
        btrfsutil.create_subvolume(path)
        try:
            os.chmod(path, 0o755)
            if volume.kind == VOLUMES:
                # Since Linux 6.0 a new subvolume, unlike a snapshot, is not committed by itself.
                sync_directory(path)
                sync_directory(os.path.dirname(path))
        except BaseException:
            subvolumes.destroy(path)
            raise

    def _make_room(self) -> None:
        """Where little is free, wait for what was removed: the kernel frees it in its own time."""
        counts = os.statvfs(self._layout.base)
        if counts.f_bavail * SCARCE > counts.f_blocks:
            return
        if btrfsutil.deleted_subvolumes(self._layout.base):
            # Filesystem-wide, but it is what wakes the kernel's cleaner.
            btrfsutil.sync(self._layout.base)
        left, deadline = None, 0.0
        while (pending := btrfsutil.deleted_subvolumes(self._layout.base)) != []:
            if pending != left:
                left, deadline = pending, time.monotonic() + PATIENCE
            elif time.monotonic() > deadline:
                return
            time.sleep(0.05)

    def seal(self, volume: Volume, target: Volume, record: bytes = b"") -> None:
        with self._doing(f"seal {volume} as {target}"):
            self._publish(
                self._layout.path(volume), target, lineage.head(self._layout, volume), record
            )
            subvolumes.destroy(self._layout.path(volume))
            self._layout.drop_record(volume)
            self._layout.release(volume.id)

    def snapshot(
        self, source: Volume, target: Volume, record: bytes = b"", edit: Edit | None = None
    ) -> list[str]:
        doing = f"snapshot {source} as {target}"
        with self._doing(doing):
            path = self._layout.path(source)
            _require_subvolume(path, doing)
            head = lineage.head(self._layout, source)
            if edit is None and not subvolumes.nested(path):
                self._publish(path, target, head, record)
                if not subvolumes.nested(path):
                    return []
                # One was made meanwhile, and is an empty directory in what nobody has seen yet.
                subvolumes.destroy(self._layout.path(target))
                self._layout.drop_record(target)
            with self._layout.working(target.id) as staging:
                nested = self._copy_whole(source, staging)
                try:
                    if edit is not None:
                        edit(staging)
                    self._publish(staging, target, head, record)
                finally:
                    subvolumes.destroy(staging)
            return nested

    def _copy_whole(self, source: Volume, staging: str) -> list[str]:
        """Snapshot a container with all that is nested in it, again if that moves meanwhile."""
        path = self._layout.path(source)
        for _ in range(ATTEMPTS):
            btrfsutil.create_snapshot(path, staging)
            try:
                btrfs_quota.lift(staging)
                nested = subvolumes.nested(path)
                for inner in nested:
                    subvolumes.copy_nested(path, staging, inner)
                if subvolumes.nested(path) == nested:
                    return nested
            except OSError as error:
                if error.errno not in CHANGED:
                    subvolumes.destroy(staging)
                    raise
            except BaseException:
                subvolumes.destroy(staging)
                raise
            subvolumes.destroy(staging)
        raise VolumeBusy(
            f"the subvolumes nested in {source} come and go while it is copied; stop what does it"
        )

    def _publish(self, source: str, target: Volume, head: dict[str, Any], record: bytes) -> None:
        path = self._layout.path(target)
        if os.path.lexists(path):
            raise VolumeExists(f"cannot make {target}: it exists already")
        head = lineage.copied_from(source, head)
        with self._recorded(target, head, record, durable=True):
            btrfsutil.create_snapshot(source, path, read_only=True)
            btrfs_quota.lift(path)

    @contextlib.contextmanager
    def _recorded(
        self, volume: Volume, head: dict[str, Any], record: bytes, *, durable: bool
    ) -> Iterator[None]:
        """Write the record, then make the volume; the record goes again if that fails.

        The transaction that the snapshot commits carries the record's name with it.
        """
        line = json.dumps(head).encode() + b"\n"
        self._layout.add_record(volume, line + record, durable=durable)
        try:
            yield
        except BaseException:
            self._layout.drop_record(volume)
            raise

    # Removing

    def remove(self, volume: Volume, *, force: bool = False) -> list[str]:
        path = self._layout.path(volume)
        with self._doing(f"remove {volume}"):
            try:
                device = os.lstat(path).st_dev
            except FileNotFoundError:
                # Absent from a pool that is there, that is; otherwise this raises in its turn.
                os.lstat(f"{self._layout.base}/{STAGING}")
                device = None
            if device is not None:
                users = busy.users(volume.fragment, device)
                if users:
                    raise VolumeBusy(f"cannot remove {volume}: {'; '.join(users)}")
                self._take_away(volume, path)
            self._layout.drop_record(volume)
            if volume.kind == STAGING:
                self._layout.release(volume.id)
        return []

    def require_removable(self, volume: Volume, *, force: bool = False) -> None:
        """Nobody else can make snapshots that are in the way."""

    def _take_away(self, volume: Volume, path: str) -> None:
        # A read-only subvolume cannot be renamed, and has nothing nested to take a second step.
        if volume.kind == LAYERS:
            subvolumes.destroy(path)
            return
        aside = self._layout.removing(volume)
        with contextlib.suppress(FileNotFoundError), locked(path):
            subvolumes.loosen(path)
            os.rename(path, aside)
            subvolumes.destroy(aside)

    # Reading

    def sync(self, volume: Volume) -> None:
        # A snapshot writes back its subvolume alone; syncfs(2) waits for the whole filesystem.
        with self.frozen(volume):
            pass

    def location(self, volume: Volume) -> str:
        return self._layout.path(volume)

    def mount(self, volume: Volume, point: str) -> None:
        with self._doing(f"mount {volume}"), self.open(volume):
            mounts.bind(self._layout.path(volume), point)

    @contextlib.contextmanager
    def open(self, volume: Volume) -> Iterator[str]:
        path = self._layout.path(volume)
        doing = f"open {volume}"
        with self._doing(doing):
            _require_subvolume(path, doing)
        yield path

    @contextlib.contextmanager
    def compared(self, volume: Volume, base: Volume | None) -> Iterator[Compared]:
        with contextlib.ExitStack() as stack:
            new = stack.enter_context(self.frozen(volume))
            if base is None:
                yield Compared(None, new, walk(None, new, is_stub=btrfs_ioctl.is_stub))
                return
            old = stack.enter_context(self.frozen(base))
            with self._doing(f"compare {volume} with {base}"):
                parted = lineage.parted(self._layout, base, volume)
                hints = self._hints(old, new, parted) if parted else None
            if parted is None:
                self.note(f"{volume} and {base} have no common origin: both are read")
            settled = parted.settled if parted else 0
            found = walk(old, new, settled=settled, is_stub=btrfs_ioctl.is_stub, hints=hints)
            yield Compared(old, new, found)

    def _hints(self, old: str, new: str, parted: Parted) -> Hints | None:
        """Where the subvolumes differ; None where the kernel does not say it to this user."""
        with contextlib.ExitStack() as stack:
            sides = []
            for path, since in ((old, parted.before), (new, parted.after)):
                root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, root)
                sides.append(Side(root, since))
            try:
                return btrfs_changes.hints(*sides)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP):
                    raise
                warnings.warn(
                    f"the kernel does not say what was changed ({error.strerror}): both trees are"
                    " read",
                    stacklevel=1,
                )
                return None

    @contextlib.contextmanager
    def frozen(self, volume: Volume) -> Iterator[str]:
        path = self._layout.path(volume)
        if volume.kind == LAYERS:
            with self.open(volume):
                yield path
            return
        with contextlib.ExitStack() as stack:
            doing = f"read {volume}"
            with self._doing(doing):
                _require_subvolume(path, doing)
                name = f"{volume.id}-{os.urandom(4).hex()}"
                staging = stack.enter_context(self._layout.working(name))
                btrfsutil.create_snapshot(path, staging, read_only=True)
                stack.callback(subvolumes.destroy, staging)
            yield staging

    # Accounting

    def usage(self, volume: Volume) -> Usage:
        with self._doing(f"measure {volume}"):
            return btrfs_quota.usage(self._layout.path(volume))

    def limit(self, volume: Volume, size: int | None) -> None:
        with self._doing(f"limit {volume}"):
            if btrfs_quota.mode(self._layout.base) is None:
                if size is None:
                    return
                if not self._ours:
                    raise NotSupported(
                        "quotas are off on this filesystem: cowshed init --quota turns simple"
                        " quotas on (Linux 6.7; older btrfs-progs then refuse the filesystem)"
                    )
                btrfs_quota.enable(self._layout.base)
            btrfs_quota.limit(self._layout.path(volume), size)

    def enable_quota(self) -> None:
        """Turn on simple quotas if no quotas are on. Raises NotSupported before Linux 6.7."""
        with self._doing("turn quotas on"):
            btrfs_quota.enable(self._layout.base)

    # Keeping

    def describe(self, volume: Volume, record: bytes) -> None:
        with self._doing(f"describe {volume}"):
            os.lstat(self._layout.path(volume))
            line = json.dumps(lineage.head(self._layout, volume)).encode() + b"\n"
            self._layout.replace_record(volume, line + record)

    def volumes(self) -> Iterator[Found]:
        with self._doing("list the volumes"):
            for volume in self._layout.found():
                record = self._layout.record(volume)
                kept = None if record is None else record.partition(b"\n")[2]
                try:
                    problem = self._problem(volume, record)
                except OSError as error:
                    # Removed since its name was read.
                    if error.errno != errno.ENOENT:
                        raise
                    continue
                yield Found(volume, kept, problem)

    def _problem(self, volume: Volume, record: bytes | None) -> str | None:
        path = self._layout.path(volume)
        if not btrfs_ioctl.is_subvolume(path):
            return "it is not a subvolume"
        if record is None:
            return "it has no record"
        if volume.kind == LAYERS:
            if not btrfsutil.get_subvolume_read_only(path):
                return "it is a layer and yet writable"
            known = btrfsutil.subvolume_info(path)
            if known.ctransid > known.otransid:
                return "it is a layer and was written to after it was sealed"
        return None

    def leftovers(self) -> list[str]:
        with self._doing("look for leftovers"), self._layout.unowned() as names:
            return [name for name in names if not self._layout.is_being_removed(name)]

    def sweep(self) -> list[str]:
        swept = []
        with self._doing("sweep"), self._layout.unowned() as names:
            for name in names:
                if self._layout.is_being_removed(name):
                    continue
                swept.append(name)
                if name.startswith(f"{STAGING}/record-"):
                    os.unlink(f"{self._layout.base}/{name}")
                    continue
                subvolumes.destroy(f"{self._layout.base}/{name}")
                kind, _, identity = name.partition("/")
                self._layout.drop_record(Volume(kind, identity)) if kind == STAGING else None
        return swept

    def quarantine(self, volume: Volume) -> str:
        with self._doing(f"put {volume} aside"):
            path, aside = self._layout.path(volume), self._layout.quarantined(volume)
            if volume.kind == LAYERS and btrfs_ioctl.is_subvolume(path):
                # A read-only subvolume cannot be renamed; its snapshot is the same tree.
                btrfsutil.create_snapshot(path, aside, read_only=True)
                subvolumes.destroy(path)
            else:
                os.rename(path, aside)
            record = self._layout.record(volume)
            if record is not None:
                with open(f"{aside}.record", "xb") as file:
                    file.write(record)
                self._layout.drop_record(volume)
            return aside

    def space(self) -> Space:
        with self._doing("measure the pool"):
            counts = os.statvfs(self._layout.base)
            return Space(
                counts.f_blocks * counts.f_frsize,
                counts.f_bavail * counts.f_frsize,
                len(btrfsutil.deleted_subvolumes(self._layout.base)),
            )

    def info(self) -> dict[str, str]:
        with self._doing("describe the pool"):
            descriptor = os.open(self._layout.base, os.O_RDONLY | os.O_DIRECTORY)
            try:
                uuid = btrfs_ioctl.fsid(descriptor)
            finally:
                os.close(descriptor)
            quotas = {None: "off", "squota": "simple", "qgroup": "full"}
            return {"Filesystem UUID": uuid, "Quotas": quotas[btrfs_quota.mode(self._layout.base)]}

    def warnings(self) -> list[str]:
        return []
