"""The entry to everything: ZFS."""

import os
import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

from backends.libzfs import (
    errors,
    events,
    importable,
    mounts,
    native,
    nvlist,
    poolproperties,
    run,
    serialized,
    streams,
)
from backends.libzfs.crypto import take_key
from backends.libzfs.datasets import ZFSDataset
from backends.libzfs.enums import DatasetType, Error, SendFlag
from backends.libzfs.errors import ZFSException, not_available
from backends.libzfs.importable import ZFSImportablePool
from backends.libzfs.listing import FILESYSTEMS, TYPE_NAMES, Batch, Rows, get, names_below
from backends.libzfs.names import problem
from backends.libzfs.objects import ZFSObject
from backends.libzfs.pools import ZFSPool
from backends.libzfs.run import options
from backends.libzfs.snapshots import ZFSBookmark, ZFSSnapshot, create_unmounted, require_snapshot
from backends.libzfs.topology import Topology, topology_arguments
from backends.libzfs.vdevs import ZFSVdev

GLOBAL_CONTEXT_LOCK = threading.Lock()
_HISTORY_GROUPS = ("data", "cache", "log", "dedup", "special")


class ZFS:
    """The pools and datasets of this host.

    As a context manager it lets one thread of the process in at a time, as py-libzfs does; its
    methods themselves may be called from any thread. `history`, `history_prefix` and
    `mnttab_cache` are accepted: the commands write the pools' history themselves.
    """

    # DatasetType -> the numbers of its properties (zfs_prop_t)
    proptypes: ClassVar[dict[DatasetType, list[int]]] = {}

    def __init__(
        self,
        history: bool = True,
        history_prefix: str = "py-libzfs:",
        mnttab_cache: bool = True,
    ) -> None:
        if not isinstance(history, bool):
            raise ZFSException(Error.BADTYPE, "history is a boolean parameter")
        if history and not isinstance(history_prefix, str):
            raise ZFSException(Error.BADTYPE, "history_prefix is a string parameter")
        self.history = history
        if not ZFS.proptypes:
            for kind in DatasetType:
                ZFS.proptypes[kind] = [each.id for each in native.of_type(kind, run.version())]

    def __enter__(self) -> Self:
        GLOBAL_CONTEXT_LOCK.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        GLOBAL_CONTEXT_LOCK.release()

    # Objects by name

    def _pool(self, name: str, rows: Rows | None = None) -> ZFSPool:
        return ZFSPool._of(self, name, rows)

    def _dataset(self, name: str) -> ZFSDataset:
        """The dataset, without asking whether it exists."""
        return ZFSDataset._of(self, name)

    def _object(
        self,
        name: str,
        kind: DatasetType,
        batch: Batch | None = None,
        rows: Rows | None = None,
    ) -> Any:
        classes: dict[DatasetType, type[ZFSObject]] = {
            DatasetType.SNAPSHOT: ZFSSnapshot,
            DatasetType.BOOKMARK: ZFSBookmark,
        }
        return classes.get(kind, ZFSDataset)._of(self, name, kind, batch, rows)

    def _found(self, name: str, what: str, *types: DatasetType) -> Any:
        """The existing object of that name: one command, its properties with it."""
        absent = ZFSException(Error.NOENT, f"{what} {name} not found")
        if problem(name, *types) is not None:
            raise absent
        try:
            rows = get([name])[name]
        except ZFSException as error:
            if error.code == Error.NOENT:
                raise absent from error
            raise
        return self._object(name, TYPE_NAMES[rows["type"].raw], rows=rows)

    def get(self, name: str) -> ZFSPool:
        """The pool of that name. Raises ZFSException(NOENT)."""
        try:
            if problem(name, DatasetType.FILESYSTEM) is None and "/" not in name:
                return self._pool(name, poolproperties.read(name)[name])
        except ZFSException as error:
            if error.code != Error.NOENT:
                raise
        raise ZFSException(Error.NOENT, f"Pool {name} not found")

    def get_dataset(self, name: str) -> ZFSDataset:
        """The filesystem or volume of that name. Raises ZFSException(NOENT)."""
        found: ZFSDataset = self._found(name, "Dataset", DatasetType.FILESYSTEM, DatasetType.VOLUME)
        return found

    def get_snapshot(self, name: str) -> ZFSSnapshot:
        """The snapshot of that name. Raises ZFSException(NOENT)."""
        found: ZFSSnapshot = self._found(require_snapshot(name), "Snapshot", DatasetType.SNAPSHOT)
        return found

    def get_object(self, name: str) -> ZFSDataset | ZFSSnapshot:
        """The snapshot, filesystem or volume of that name. Raises ZFSException(NOENT)."""
        return self.get_snapshot(name) if "@" in name else self.get_dataset(name)

    def get_dataset_by_path(self, path: str) -> ZFSDataset:
        """The mounted filesystem that the path lies on. Raises ZFSException(NOENT)."""
        absent = ZFSException(Error.NOENT, f"Dataset with path {path} not found")
        try:
            device = os.stat(path).st_dev
        except OSError as error:
            raise absent from error
        for mount in mounts.mounted():
            if "@" not in mount.source and mount.device == device:
                return self.get_dataset(mount.source)
        raise absent

    # Listings

    @property
    def errno(self) -> Error:
        """The last error of a command in this thread; SUCCESS if there was none."""
        error = errors.last()
        return Error(error.code) if error else Error.SUCCESS

    @property
    def errstr(self) -> str:
        """The last error's message."""
        error = errors.last()
        return str(error) if error else "no error"

    @property
    def pools(self) -> Generator[ZFSPool]:
        """All imported pools: one command."""
        for name, rows in poolproperties.read().items():
            yield self._pool(name, rows)

    @property
    def datasets(self) -> Generator[ZFSDataset]:
        """All filesystems and volumes of all pools: one command, and one for their properties."""
        return self._listed(FILESYSTEMS)

    @property
    def snapshots(self) -> Generator[ZFSSnapshot]:
        """All snapshots of all pools: one command, and one for their properties."""
        return self._listed("snapshot")

    def _listed(self, types: str) -> Generator[Any]:
        batch = Batch(None, types, None)
        for name, kind in names_below(None, types, None):
            yield self._object(name, kind, batch)

    def asdict(self) -> list[dict[str, Any]]:
        """All pools in plain types."""
        return [pool.asdict() for pool in self.pools]

    def datasets_serialized(
        self,
        props: Collection[str] | None = None,
        user_props: bool = True,
        datasets: Sequence[str] | None = None,
        snapshots: bool = False,
        retrieve_children: bool = True,
        snapshots_recursive: bool = False,
        snapshot_props: Collection[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Datasets (all pools if none are named) as trees in plain types.

        `props`: which of ZFS's own properties; None is all, an empty list is none.
        """
        yield from serialized.datasets(
            datasets or [pool.name for pool in self.pools],
            props=props,
            user_props=user_props,
            snapshots=snapshots,
            retrieve_children=retrieve_children,
            snapshots_recursive=bool(snapshots_recursive),
            snapshot_props=snapshot_props,
        )

    def snapshots_serialized(
        self,
        props: Collection[str] | None = None,
        holds: bool = False,
        mounted: bool = False,
        datasets: Sequence[str] | None = None,
        recursive: bool = True,
        min_txg: int = 0,
        max_txg: int = 0,
    ) -> list[dict[str, Any]]:
        """Snapshots of datasets (of all pools if none are named), and named ones, in plain types.

        With `props` of nothing but name and createtxg, no properties are read: much cheaper.
        """
        return serialized.snapshots_of(
            datasets or [pool.name for pool in self.pools],
            props=props,
            holds=holds,
            mounted=mounted,
            depth=None if recursive else 1,
            min_txg=min_txg,
            max_txg=max_txg,
        )

    # Pools

    def create(
        self,
        name: str,
        topology: Topology,
        opts: Mapping[str, object],
        fsopts: Mapping[str, object],
        enable_all_feat: bool = True,
    ) -> ZFSPool:
        """Make a pool of {"data": [ZFSVdev, ...], "log": [...], ...}; its root stays unmounted.

        As libzfs does, it uses devices whatever they hold, unless an imported pool has them.
        """
        key, wanted = take_key(dict(fsopts))
        features = [] if enable_all_feat else ["-d"]
        argv = ["zpool", "create", "-f", *features, *options(opts), *options(wanted, "-O")]
        if problem(name, DatasetType.FILESYSTEM) is not None:
            raise ZFSException(Error.INVALIDNAME, f"cannot create {name!r}: invalid pool name")
        create_unmounted([*argv, name, *topology_arguments(topology)], name, key)
        return self.get(name)

    def destroy(self, name: str, force: bool = False) -> None:
        """Destroy a pool and all that is in it; `force`: though its filesystems are in use."""
        self.get(name)
        run.run(["zpool", "destroy", *(["-f"] if force else []), name])

    def find_import(
        self,
        cachefile: str | None = None,
        name: str | None = None,
        destroyed: bool = False,
        search_paths: Sequence[str] | None = None,
    ) -> Iterator[ZFSImportablePool]:
        """The pools that could be imported, found in /dev or below `search_paths`."""
        return importable.find(self, cachefile, name, destroyed, search_paths)

    def import_pool(
        self,
        pool: ZFSImportablePool,
        newname: str,
        opts: Mapping[str, object],
        missing_log: bool = False,
        any_host: bool = False,
        load_keys: bool = False,
        enable_shares: bool = False,
    ) -> ZFSPool:
        """Import the pool under that name, mount its filesystems, and share them where their
        properties say so (the command always does)."""
        importable.import_pool(
            pool,
            newname,
            opts,
            missing_log=missing_log,
            any_host=any_host,
            load_keys=load_keys,
        )
        return self.get(newname)

    def export_pool(self, pool: ZFSPool) -> None:
        """Unmount everything in the pool, by force, and export it."""
        run.run(["zpool", "export", "-f", pool.name])

    def _require_unmounted(self, pool: str) -> None:
        if mounts.below(pool):
            raise ZFSException(Error.BUSY, f"cannot destroy '{pool}': pool is busy")

    # Streams

    def receive(
        self,
        name: str,
        fd: int,
        force: bool = False,
        nomount: bool = False,
        resumable: bool = False,
        props: Mapping[str, object] | None = None,
        limitds: Mapping[str, object] | None = None,
    ) -> None:
        """Read a stream from the file descriptor into the dataset or snapshot `name`.

        `force` rolls the dataset back first; `resumable` keeps what came of a stream that broke
        (ZFSException, BADSTREAM), to go on with `send_resume`. `props` are set instead of the
        stream's; None leaves the stream's out.
        """
        if problem(name, DatasetType.FILESYSTEM, DatasetType.SNAPSHOT) is not None:
            raise ZFSException(Error.INVALIDNAME, f"cannot receive into {name!r}: invalid name")
        streams.receive(
            name,
            fd,
            force=force,
            nomount=nomount,
            resumable=resumable,
            props=props,
            limitds=limitds,
        )

    def send_resume(self, fd: int, token: str, flags: Collection[SendFlag] | None = None) -> None:
        """Write to the file descriptor what the receiver that gave `token` still lacks."""
        streams.send_resume(fd, token, flags if flags else set())

    def describe_resume_token(self, token: str) -> dict[str, Any]:
        """What a token says; no command is run. Raises ZFSException(FAULT) if it is damaged."""
        return nvlist.describe_resume_token(token)

    # History and events

    def write_history(self, *args: object) -> NoReturn:
        """Not to be had: the commands write what they do into the history themselves."""
        raise not_available("write_history", "no command writes a line of its own")

    def generate_history_opts(
        self, opt_dict: Mapping[str, object] | None, prefix: str
    ) -> dict[str, object]:
        """The options with the prefix before each name."""
        return {f"{prefix} {name}": value for name, value in (opt_dict or {}).items()}

    def history_vdevs_list(self, topology: Topology) -> list[str]:
        """The topology as words for the history; empty without history."""
        words: list[str] = []
        for group in _HISTORY_GROUPS if self.history else ():
            if group not in topology:
                continue
            if group != "data":
                words.append(group)
            words += _words(topology[group])
        return words

    def zpool_events(
        self, blocking: bool = True, skip_existing_events: bool = False
    ) -> Iterator[dict[str, Any]]:
        """What happens to pools, as dicts; `blocking` waits for more, for ever."""
        return events.events(blocking, skip_existing_events)

    def run(self) -> None:
        """Mount every filesystem of the pool called "pool": what py-libzfs has for its tests."""
        self.get_dataset("pool").mount_recursive()


def _words(vdevs: Sequence[ZFSVdev]) -> list[str]:
    """Plain disks first, then each vdev's type and the paths of its parts."""
    disks = [str(vdev.path) for vdev in vdevs if vdev.type == "disk"]
    others = [
        word
        for vdev in vdevs
        if vdev.type != "disk"
        for word in (vdev.type, *(str(child.path) for child in vdev.children))
    ]
    return disks + others
