"""Volumes as ZFS datasets, over the zfs command and channel programs.

A sealed volume is a dataset with readonly=on and a snapshot that is called as the layer is; a
container is a clone of such a snapshot. Nothing is mounted but while it is open, and then by a
mount that is attached nowhere, except for `mount`.

A commit is a snapshot of the container, a clone of that as the layer, and the promotion of the
layer: the snapshot is then the layer's, and the container a clone of it. So nothing depends on
where it came from: whatever is removed gives its snapshots to one of its clones, where they are
destroyed as soon as no clone is left (zfs_programs.py).
"""

import contextlib
import errno
import os
from collections.abc import Iterator

from backends import (
    busy,
    detached,
    zfs_changes,
    zfs_dataset,
    zfs_listing,
    zfs_programs,
    zfs_records,
)
from backends.base import LAYERS, STAGING, VOLUMES, Backend, Edit, Found, Space, Usage, Volume
from backends.changes import Compared, walk
from backends.claims import Claims
from backends.errors import (
    BackendError,
    Unavailable,
    VolumeBusy,
    VolumeNotFound,
    from_os_error,
)
from backends.layout import QUARANTINE
from backends.libzfs import run
from backends.libzfs.batch import destroy, program
from backends.libzfs.core import clone, snapshot
from backends.libzfs.enums import Error
from backends.libzfs.errors import ZFSException, absent_is_success
from backends.zfs_changes import Parted, Tree
from backends.zfs_errors import failed, in_the_way, typed
from backends.zfs_programs import TEMPORARY

FULL = 90
"""Percent of a pool from which on it is told to be full."""


class ZfsBackend(Backend):
    """See the contract. `root` names the dataset, prepared by `zfs_dataset.prepare`."""

    name = "zfs"

    def __init__(self, root: str) -> None:
        home = zfs_dataset.read(root)
        if home is None:
            raise Unavailable(
                f"{root}/{zfs_dataset.FILE} is gone, which names the store's dataset: put it back"
            )
        self._home = home
        self._claims = Claims(f"{root}/{zfs_dataset.FILE}")
        self._verified = False

    def _dataset(self, volume: Volume) -> str:
        return f"{self._home.dataset}/{volume.kind}/{volume.id}"

    def _origin(self, layer: Volume) -> str:
        """The snapshot that is the layer, and that its clones are made of."""
        return f"{self._dataset(layer)}@{layer.id}"

    @contextlib.contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        zfs_dataset.require_pool(self._home.pool, what)
        if not self._verified:
            zfs_dataset.verify(self._home, what)
            self._verified = True
        try:
            yield
        except (ZFSException, VolumeNotFound, OSError) as error:
            zfs_dataset.require_pool(self._home.pool, what)
            raised = typed(error, what) if isinstance(error, ZFSException) else error
            if isinstance(raised, OSError):
                raised = from_os_error(raised, what)
            if isinstance(raised, VolumeNotFound):
                zfs_dataset.verify(self._home, what)
            raise raised from error

    # Making

    def create(self, volume: Volume, parent: Volume | None = None, record: bytes = b"") -> None:
        with self._doing(f"create {volume}"):
            given = zfs_records.properties(record)
            if volume.kind == STAGING:
                self._claims.hold(volume.id)
            if parent is None:
                self._create_empty(volume, given)
                return
            try:
                clone(self._origin(parent), self._dataset(volume), given)
            except ZFSException as error:
                if error.code != Error.NOENT:
                    raise
                doing = f"cannot create {volume}: {parent}"
                with absent_is_success():
                    [above] = self._values("origin", self._dataset(parent))
                    what = zfs_listing.lost(self._dataset(parent), parent, above)
                    raise BackendError(f"{doing} has {what}") from error
                raise VolumeNotFound(f"{doing} is not there") from error

    def _create_empty(self, volume: Volume, given: dict[str, str]) -> None:
        options = run.options({**given, **zfs_dataset.OF_A_NEW_TREE})
        create = ["zfs", "create", *options, self._dataset(volume)]
        try:
            run.run(create)
        except ZFSException as error:
            if error.code != Error.NOENT or volume.kind != VOLUMES:
                raise
            # The store is older than its data volumes, or its dataset is not there at all.
            zfs_dataset.verify(self._home, f"create {volume}")
            zfs_dataset.make_kinds(self._home.dataset)
            run.run(create)

    def seal(self, volume: Volume, target: Volume, record: bytes = b"") -> None:
        with self._doing(f"seal {volume} as {target}"):
            source = self._dataset(volume)
            self._record(source, record)
            self._publish(source, target)
            self._claims.release(volume.id)

    def _record(self, dataset: str, record: bytes) -> None:
        values = [f"{name}={text}" for name, text in zfs_records.properties(record).items()]
        run.run(["zfs", "set", *values, dataset])

    def _publish(self, source: str, target: Volume) -> None:
        """Make the dataset in `staging` the layer: it is read-only where it comes to."""
        snapshot(f"{source}@{target.id}")
        try:
            run.run(["zfs", "rename", source, self._dataset(target)])
        except BaseException:
            destroy(source, [target.id])
            raise

    def snapshot(
        self, source: Volume, target: Volume, record: bytes = b"", edit: Edit | None = None
    ) -> list[str]:
        doing = f"snapshot {source} as {target}"
        with self._doing(doing), self._claims.claimed(target.id):
            if edit is None:
                with self._snapshot(source, target.id):
                    self._clone_away(source, target.id, target, record)
                return []
            staging, name = Volume(STAGING, target.id), f"{TEMPORARY}{target.id}"
            with self._snapshot(source, name):
                self._clone_away(source, name, staging, record)
            try:
                destroy(self._dataset(staging), [name], defer=True)
                with self._view(staging) as tree:
                    edit(detached.path_of(tree))
                self._publish(self._dataset(staging), target)
            except BaseException:
                self._remove(staging, force=False)
                raise
        return []

    @contextlib.contextmanager
    def _snapshot(self, volume: Volume, name: str) -> Iterator[None]:
        """A snapshot of a container as it is now; the container is in use while this lasts."""
        with self._claims.alone_at(volume.id), self._view(volume) as tree:
            # What was written is in a snapshot anyway, but for stores to a memory map.
            detached.sync_filesystem(detached.path_of(tree))
            snapshot(f"{self._dataset(volume)}@{name}")
            yield

    def _clone_away(self, source: Volume, name: str, target: Volume, record: bytes) -> None:
        """Make `target` of the snapshot, which becomes its own; `source` is a clone of it then."""
        self._clone(source, name, target, zfs_records.properties(record))
        try:
            run.run(["zfs", "promote", self._dataset(target)])
        except BaseException:
            self._remove(target, force=False)
            raise

    def _clone(self, source: Volume, name: str, target: Volume, given: dict[str, str]) -> None:
        """Make `target` of a snapshot that is gone, too, if that fails, and when it is removed."""
        try:
            clone(f"{self._dataset(source)}@{name}", self._dataset(target), given)
        except BaseException:
            with absent_is_success():
                destroy(self._dataset(source), [name], defer=True)
            raise

    # Removing

    def remove(self, volume: Volume, *, force: bool = False) -> list[str]:
        with self._doing(f"remove {volume}"):
            self._require_unused(volume)
            destroyed = self._remove(volume, force=force)
            if volume.kind == STAGING:
                self._claims.release(volume.id)
            return destroyed

    def require_removable(self, volume: Volume, *, force: bool = False) -> None:
        with self._doing(f"remove {volume}"):
            self._remove(volume, force=force, act=False)

    def _require_unused(self, volume: Volume) -> None:
        """Raises VolumeBusy for what is mounted, before anything is done; layers are not."""
        if volume.kind == LAYERS:
            return
        try:
            # The kernel has one mode for all mounts of a dataset: the other one is refused.
            os.close(detached.filesystem("zfs", self._dataset(volume), read_only=True))
        except OSError as error:
            # Whatever else is wrong with it is no reason to keep it.
            if error.errno == errno.EBUSY:
                raise self._busy(volume) from error

    def _busy(self, volume: Volume) -> VolumeBusy:
        device = None
        with contextlib.suppress(BackendError), self._view(volume) as tree:
            device = os.fstat(tree).st_dev
        users = busy.users(volume.fragment, device) or ["something uses it"]
        return VolumeBusy(f"cannot remove {volume}: {'; '.join(users)}")

    def _remove(self, volume: Volume, *, force: bool, act: bool = True) -> list[str]:
        """Run the program that removes a volume, or, without `act`, that says what is in the way.

        Returns the foreign snapshots that were destroyed.
        """
        arguments = [self._dataset(volume), self._home.dataset]
        arguments += ["force" if force else "", "act" if act else "look"]
        # When it was cut short, it cannot say any more which snapshots of others are gone.
        found = program(
            self._home.pool,
            zfs_programs.REMOVE,
            arguments,
            readonly=not act,
            repeatable=not force,
        )
        match found["state"]:
            case "refused":
                raise in_the_way(volume, found)
            case "busy":
                raise self._busy(volume)
            case "failed":
                raise failed(volume, found)
            case "absent":
                # That proves nothing if the store's dataset is absent too.
                zfs_dataset.verify(self._home, f"remove {volume}")
        return list(zfs_programs.listed(found.get("destroyed")))

    # Reading

    def sync(self, volume: Volume) -> None:
        with self._doing(f"sync {volume}"), self._view(volume) as tree:
            detached.sync_filesystem(detached.path_of(tree))

    def location(self, volume: Volume) -> str:
        return self._dataset(volume)

    def mount(self, volume: Volume, point: str) -> None:
        with self._doing(f"mount {volume}"), self._view(volume) as tree:
            detached.attach(tree, point)

    def _view(self, volume: Volume) -> contextlib.AbstractContextManager[int]:
        doing = f"open {volume}"
        if volume.kind == LAYERS:
            # Its snapshot, which nobody can have written to. A mount of the dataset itself writes
            # to it, even a read-only one.
            return zfs_dataset.view(self._origin(volume), read_only=True, doing=doing)
        return zfs_dataset.view(self._dataset(volume), read_only=False, doing=doing)

    @contextlib.contextmanager
    def open(self, volume: Volume) -> Iterator[str]:
        with contextlib.ExitStack() as stack:
            with self._doing(f"open {volume}"):
                tree = stack.enter_context(self._view(volume))
            yield detached.path_of(tree)

    @contextlib.contextmanager
    def frozen(self, volume: Volume) -> Iterator[str]:
        with self._frozen(volume) as tree:
            yield tree.path

    @contextlib.contextmanager
    def _frozen(self, volume: Volume) -> Iterator[Tree]:
        if volume.kind == LAYERS:
            with self.open(volume) as path:
                yield Tree(path, self._origin(volume))
            return
        doing, name = f"read {volume}", f"{TEMPORARY}{os.urandom(8).hex()}"
        with contextlib.ExitStack() as stack:
            with self._doing(doing):
                stack.enter_context(self._claims.claimed(name))
                # A clone: the snapshot itself, while it is mounted, would stop every commit.
                copy = Volume(STAGING, name)
                with self._snapshot(volume, name):
                    self._clone(volume, name, copy, {})
                stack.callback(self._end_reading, copy)
                view = zfs_dataset.view(self._dataset(copy), read_only=True, doing=doing)
                tree = stack.enter_context(view)
            yield Tree(detached.path_of(tree), self._dataset(copy))

    def _end_reading(self, copy: Volume) -> None:
        with self._doing("end reading"):
            self._remove(copy, force=False)

    @contextlib.contextmanager
    def compared(self, volume: Volume, base: Volume | None) -> Iterator[Compared]:
        with contextlib.ExitStack() as stack:
            new = stack.enter_context(self._frozen(volume))
            if base is None:
                yield Compared(None, new.path, walk(None, new.path))
                return
            old = stack.enter_context(self._frozen(base))
            with self._doing(f"compare {volume} with {base}"):
                parted = zfs_changes.parted(self._home.pool, old, new)
            if parted is None:
                self.note(f"{volume} and {base} have no common origin: both are read")
                parted = Parted(0, None)
            found = walk(old.path, new.path, settled=parted.settled, hints=parted.hints)
            yield Compared(old.path, new.path, found)

    # Accounting

    def _values(self, names: str, dataset: str) -> list[str]:
        """The values of properties (comma separated) of one dataset or snapshot, in that order."""
        return run.run(["zfs", "get", "-Hpo", "value", names, dataset]).split("\n")[:-1]

    def usage(self, volume: Volume) -> Usage:
        with self._doing(f"measure {volume}"):
            referenced, used = self._values("referenced,used", self._dataset(volume))
            if volume.kind == LAYERS and self._values("clones", self._origin(volume)) != [""]:
                # What its clones share with it is counted here, and would stay.
                return Usage(int(referenced), None)
            return Usage(int(referenced), int(used))

    def limit(self, volume: Volume, size: int | None) -> None:
        with self._doing(f"limit {volume}"):
            quota = "none"
            if size is not None:
                [origin] = self._values("origin", self._dataset(volume))
                base = 0 if origin == "-" else int(self._values("referenced", origin)[0])
                quota = str(base + size)
            run.run(["zfs", "set", f"refquota={quota}", self._dataset(volume)])

    # Keeping

    def describe(self, volume: Volume, record: bytes) -> None:
        with self._doing(f"describe {volume}"):
            self._record(self._dataset(volume), record)

    def volumes(self) -> Iterator[Found]:
        with self._doing("list the volumes"):
            yield from zfs_listing.volumes(self._home.dataset)

    def leftovers(self) -> list[str]:
        with self._doing("look for leftovers"), self._claims.alone() as alone:
            return zfs_listing.leftovers(self._home.dataset) if alone else []

    def sweep(self) -> list[str]:
        swept = []
        with self._doing("sweep"), self._claims.alone() as alone:
            for name in zfs_listing.leftovers(self._home.dataset) if alone else []:
                # What is in use, or has snapshots of others, stays for the next time.
                with contextlib.suppress(VolumeBusy):
                    self._sweep(name)
                    swept.append(name)
        return swept

    def _sweep(self, name: str) -> None:
        dataset, _, snapshot = name.partition("@")
        if snapshot:
            with self._doing(f"sweep {name}"):
                destroy(f"{self._home.dataset}/{dataset}", [snapshot], defer=True)
        else:
            volume = Volume(STAGING, dataset.removeprefix(f"{STAGING}/"))
            self._require_unused(volume)
            self._remove(volume, force=False)

    def quarantine(self, volume: Volume) -> str:
        with self._doing(f"put {volume} aside"):
            aside = f"{self._home.dataset}/{QUARANTINE}/{volume.id}"
            try:
                run.run(["zfs", "rename", self._dataset(volume), aside])
            except ZFSException as error:
                if error.code != Error.EXISTS:
                    raise
                aside += f"-{os.urandom(4).hex()}"
                run.run(["zfs", "rename", self._dataset(volume), aside])
            return aside

    def space(self) -> Space:
        with self._doing("measure the pool"):
            used, free = map(int, self._values("used,available", self._home.dataset))
            return Space(used + free, free, 0)

    def info(self) -> dict[str, str]:
        with self._doing("describe the pool"):
            compression, encryption = self._values("compression,encryption", self._home.dataset)
            return {
                "Dataset": self._home.dataset,
                "Pool": self._home.pool,
                "OpenZFS": ".".join(map(str, run.version())),
                "Compression": compression,
                "Encryption": encryption,
            }

    def warnings(self) -> list[str]:
        with self._doing("look at the pool"):
            columns = ["zpool", "list", "-Hpo", "health,capacity", self._home.pool]
            health, capacity = run.run(columns).split()
        found = []
        if health != "ONLINE":
            found.append(f"the pool {self._home.pool} is {health}: see zpool status")
        if int(capacity) >= FULL:
            found.append(
                f"the pool {self._home.pool} is {capacity} % full: ZFS becomes slow, then refuses"
                " to write; free space or add devices"
            )
        return found
