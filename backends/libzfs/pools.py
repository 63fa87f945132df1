"""Pools: ZFSPool."""

import dataclasses
import errno
import os
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, Self

from backends.libzfs import poolproperties, run, status
from backends.libzfs.crypto import take_key
from backends.libzfs.enums import DatasetType, Error, PoolState, PoolStatus, ZpoolWaitActivity
from backends.libzfs.errors import ZFSException, also_oserror, not_available
from backends.libzfs.listing import Rows
from backends.libzfs.names import check
from backends.libzfs.poolproperties import FEATURE, ZPoolFeature, ZPoolProperty
from backends.libzfs.reasons import WARNINGS, detail, status_code
from backends.libzfs.run import options
from backends.libzfs.scans import ZPoolRaidzExpand, ZPoolScrub
from backends.libzfs.snapshots import create_unmounted
from backends.libzfs.topology import Topology, topology_arguments
from backends.libzfs.vdevs import Counters, ZFSVdev, read_counters

if TYPE_CHECKING:
    from backends.libzfs.datasets import ZFSDataset
    from backends.libzfs.zfs import ZFS

_NOT_SHOWN = ("hole", "indirect")
_ACTIVITIES = {activity.name: activity.name.lower() for activity in ZpoolWaitActivity}


class ZFSPool:
    """A pool. Its status and its properties are read when first asked for, a command each, and
    kept until it changes something itself."""

    root: "ZFS"
    _name: str
    _known_rows: Rows | None
    _known_status: status.Status | None
    _known_shown: dict[str, str] | None
    _known_counters: dict[str, Counters] | None

    def __init__(self) -> None:
        raise RuntimeError("ZFSPool cannot be instantiated by the user")

    @classmethod
    def _of(cls, root: "ZFS", name: str, rows: Rows | None = None) -> Self:
        self = cls.__new__(cls)
        self.root = root
        self._name = name
        self._forget()
        self._known_rows = rows
        return self

    def _forget(self) -> None:
        """The pool may have changed: read everything again when it is next asked for."""
        self._known_rows = None
        self._known_status = None
        self._known_shown = None
        self._known_counters = None

    def _rows(self) -> Rows:
        if self._known_rows is None:
            self._known_rows = poolproperties.read(self._name)[self._name]
        return self._known_rows

    def _status(self) -> status.Status:
        if self._known_status is None:
            found = status.read(self._name)
            if found.guid is None:
                # The text of a status names the pool and has no number for it.
                root = dataclasses.replace(found.root, guid=self.guid)
                found = dataclasses.replace(found, guid=self.guid, root=root)
            self._known_status = found
        return self._known_status

    def _shown(self) -> dict[str, str]:
        """The properties as `zpool get` prints them for people."""
        if self._known_shown is None:
            argv = ["zpool", "get", "-H", "-o", "property,value", "all", self._name]
            lines = run.run(argv).split("\n")[:-1]
            self._known_shown = {key: value for key, _, value in (x.partition("\t") for x in lines)}
        return self._known_shown

    def _vdev_counters(self) -> dict[str, Counters]:
        if self._known_counters is None:
            self._known_counters = read_counters(self._name)
        return self._known_counters

    def __str__(self) -> str:
        return f"<libzfs.{type(self).__name__} name '{self.name}' guid '{self.guid}'>"

    __repr__ = __str__

    def asdict(self, datasets_recursive: bool = True) -> dict[str, Any]:
        """The pool in plain types, with its datasets."""
        try:
            root = self.root_dataset
            root_dataset = root.asdict(datasets_recursive) if root else None
        except ZFSException:
            root_dataset = None
        properties, features = self.properties, self.features
        code = self.status_code
        return {
            "name": self.name,
            "id": self.name,
            "guid": str(self.guid),
            "hostname": self.hostname,
            "status": self.status,
            "healthy": self.healthy,
            "warning": self.warning,
            "error_count": self.error_count,
            "root_dataset": root_dataset,
            "properties": (
                None
                if properties is None
                else {name: each.asdict() for name, each in properties.items()}
            ),
            "features": None if features is None else [each.asdict() for each in features],
            "scan": self.scrub.asdict(),
            "expand": self.expand.asdict(),
            "root_vdev": self.root_vdev.asdict(False),
            "groups": {
                group: [vdev.asdict() for vdev in vdevs if vdev.type not in _NOT_SHOWN]
                for group, vdevs in self.groups.items()
            },
            "status_code": code.name if code is not None else None,
            "status_detail": self.status_detail,
        }

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._name

    @property
    def guid(self) -> int | None:
        """The number that names it for ever."""
        return int(self._rows()["guid"].raw)

    @property
    def hostname(self) -> str | None:
        """The host that has it imported: this one."""
        return os.uname().nodename

    @property
    def state(self) -> PoolState:
        """ACTIVE: it is imported."""
        return PoolState.ACTIVE

    @property
    def status(self) -> str:
        """ONLINE, DEGRADED, FAULTED, UNAVAIL, ..."""
        return self._status().root.state

    @property
    def status_code(self) -> PoolStatus | None:
        """What is wrong with it, or OK."""
        return status_code(self._status())

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong that would need an administrator."""
        return self.status_code in (PoolStatus.OK, *WARNINGS)

    @property
    def warning(self) -> bool:
        """Whether it is healthy, but something should be looked at."""
        return self.status_code in WARNINGS

    @property
    def status_detail(self) -> str | None:
        """What is wrong with it, in words; None if nothing is."""
        return detail(self._status())

    @property
    def error_count(self) -> int | None:
        """How many data errors are known."""
        return self._status().error_count

    @property
    def config(self) -> dict[str, Any]:
        """Of the pool's configuration, what commands print, under ZFS's own keys."""
        found = self._status()
        return {
            "name": self.name,
            "state": int(self.state),
            "pool_guid": self.guid,
            "hostname": self.hostname,
            "error_count": self.error_count,
            "vdev_tree": _tree(found.root),
        }

    @property
    def properties(self) -> dict[str, ZPoolProperty] | None:
        """All properties, by name; features are not among them."""
        rows = self._rows()
        return {
            name: ZPoolProperty._of(self, name, row)
            for name, row in rows.items()
            if not name.startswith((FEATURE, "unsupported@"))
        }

    @property
    def features(self) -> Generator[ZPoolFeature] | None:
        """All features that this OpenZFS knows."""
        return (
            ZPoolFeature(self, name.removeprefix(FEATURE), row.raw)
            for name, row in self._rows().items()
            if name.startswith(FEATURE)
        )

    @property
    def root_dataset(self) -> "ZFSDataset | None":
        """The filesystem that has the pool's name."""
        return self.root._dataset(self._name)

    @property
    def root_vdev(self) -> ZFSVdev:
        """The vdev that is made of all others."""
        return ZFSVdev._of(self, self._status().root, None)

    def _group(self, group: str) -> Generator[ZFSVdev]:
        for node in self._status().groups[group]:
            yield ZFSVdev._of(self, node, group)

    @property
    def data_vdevs(self) -> Generator[ZFSVdev]:
        """What holds the data."""
        return self._group("data")

    @property
    def log_vdevs(self) -> Generator[ZFSVdev]:
        """What holds the intent log."""
        return self._group("log")

    @property
    def cache_vdevs(self) -> Generator[ZFSVdev]:
        """What caches reads."""
        return self._group("cache")

    @property
    def spare_vdevs(self) -> Generator[ZFSVdev]:
        """What stands by."""
        return self._group("spare")

    @property
    def special_vdevs(self) -> Generator[ZFSVdev]:
        """What holds metadata and small blocks."""
        return self._group("special")

    @property
    def dedup_vdevs(self) -> Generator[ZFSVdev]:
        """What holds deduplication tables."""
        return self._group("dedup")

    @property
    def groups(self) -> dict[str, list[ZFSVdev]]:
        """The vdevs of each group."""
        return {group: list(self._group(group)) for group in status.GROUPS}

    @property
    def disks(self) -> list[str]:
        """The paths of all disks in it."""
        return [disk for vdevs in self.groups.values() for vdev in vdevs for disk in vdev.disks]

    @property
    def scrub(self) -> ZPoolScrub:
        """The last scrub or resilver."""
        return ZPoolScrub(self.root, self)

    @property
    def expand(self) -> ZPoolRaidzExpand:
        """The last raidz expansion."""
        return ZPoolRaidzExpand(self.root, self)

    def vdev_by_guid(self, guid: int) -> ZFSVdev | None:
        """The vdev with that number, or None."""
        waiting = [self.root_vdev]
        for group in ("cache", "log", "spare", "special", "dedup"):
            waiting += self._group(group)
        while waiting:
            vdev = waiting.pop()
            if vdev.guid == guid:
                return vdev
            waiting += vdev.children
        return None

    def create(
        self,
        name: str,
        fsopts: Mapping[str, object],
        fstype: DatasetType = DatasetType.FILESYSTEM,
        sparse_vol: bool = False,
        create_ancestors: bool = False,
    ) -> None:
        """Make a filesystem, or, with `fstype` VOLUME and a `volsize`, a volume.

        It is left unmounted. `key` among the options is the key of an encrypted one.
        """
        check(name, "create", DatasetType.FILESYSTEM, DatasetType.VOLUME)
        key, wanted = take_key(dict(fsopts))
        volume: list[str] = []
        if fstype == DatasetType.VOLUME:
            if "volsize" not in wanted:
                raise ZFSException(Error.BADPROP, f"cannot create '{name}': missing volume size")
            volume = [*(["-s"] if sparse_vol else []), "-V", str(wanted.pop("volsize"))]
        parent = name.rpartition("/")[0]
        if create_ancestors and "/" in parent:
            # Not `create -p NAME`: that succeeds where NAME exists.
            run.run(["zfs", "create", "-p", parent])
        unmounted = [] if volume else ["-u"]
        argv = ["zfs", "create", *unmounted, *volume, *options(wanted), name]
        create_unmounted(argv, name, key)

    def attach_vdevs(self, vdevs_tree: Topology, check_ashift: int = 0) -> None:
        """Add top-level vdevs. `check_ashift`: refuse those with other sectors (OpenZFS 2.3)."""
        argv = ["zpool", "add", "-f"]
        if check_ashift:
            run.needs((2, 3), "attach_vdevs(check_ashift=1)")
            # -f allows everything; these allow what libzfs does not look at.
            argv = ["zpool", "add", "--allow-in-use", "--allow-replication-mismatch"]
        run.run([*argv, self._name, *topology_arguments(vdevs_tree)])
        self._forget()

    def delete(self) -> None:
        """Destroy the pool and all that is in it. Raises ZFSException, BUSY, while it is in use."""
        self.root._require_unmounted(self._name)
        run.run(["zpool", "destroy", self._name])

    def _change(self, *argv: str) -> None:
        run.run(["zpool", *argv, self._name])
        self._forget()

    def start_scrub(self) -> None:
        """Begin a scrub, or go on with one that is paused."""
        self._change("scrub")

    def stop_scrub(self) -> None:
        """Stop the scrub. Raises ZFSException, SCRUB, if none runs."""
        self._change("scrub", "-s")

    def clear(self) -> bool:
        """Forget the errors counted so far, and go on after an I/O failure; whether that worked."""
        self._forget()
        return run.attempt(["zpool", "clear", self._name]).status == 0

    def upgrade(self) -> None:
        """Let the pool use all features that this OpenZFS has."""
        self._change("upgrade")

    def wait(self, operation_type: str) -> None:
        """Wait for an activity, by its name in ZpoolWaitActivity, to end."""
        if operation_type not in _ACTIVITIES or operation_type == "NUM_ACTIVITIES":
            raise ZFSException(errno.EINVAL, "Specify valid operation type for wait")
        with also_oserror():
            run.run(["zpool", "wait", "-t", _ACTIVITIES[operation_type], self._name])
        self._forget()

    def sync(self, force: bool = False) -> None:
        """Write out everything that waits to be written."""
        if force:
            raise not_available("sync(force=True)", "`zpool sync` cannot force an empty txg")
        with also_oserror():
            run.run(["zpool", "sync", self._name])

    def ddt_prefetch(self) -> None:
        """Read the deduplication tables into memory (OpenZFS 2.3)."""
        run.needs((2, 3), "ddt_prefetch")
        run.run(["zpool", "prefetch", "-t", "ddt", self._name])

    def ddt_prune(self, percentage: int | None = None, days: int | None = None) -> None:
        """Drop old single entries from the deduplication tables (OpenZFS 2.3)."""
        if percentage is not None and days is not None:
            message = 'Only one of "days" or "percentage" should be defined, not both'
            raise ZFSException(errno.EINVAL, message)
        if percentage is not None and not 1 <= percentage <= 100:
            message = "Invalid percentage value it must be between 1 to 100"
            raise ZFSException(errno.EINVAL, message)
        if percentage is None and (days is None or days < 1):
            message = "Invalid number of days they must be greater than 1"
            raise ZFSException(errno.EINVAL, message)
        run.needs((2, 3), "ddt_prune")
        how = ["-p", str(percentage)] if percentage is not None else ["-d", str(days)]
        self._change("ddtprune", *how)


def _tree(node: status.Node) -> dict[str, Any]:
    found: dict[str, Any] = {"type": node.type, "guid": node.guid, "state": node.state}
    if node.path:
        found["path"] = node.path
    if node.children:
        found["children"] = [_tree(child) for child in node.children]
    return found
