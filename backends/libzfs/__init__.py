"""py-libzfs's API over the `zfs` and `zpool` commands.

    from backends import libzfs

    with libzfs.ZFS() as zfs:
        for dataset in zfs.get("tank").root_dataset.children:
            print(dataset.name, dataset.properties["used"].parsed)

After `libzfs.install()`, `import libzfs` in an unmodified program finds this package. Names,
arguments, return types, laziness and exceptions are py-libzfs's (truenas/py-libzfs as of 2026-03),
without its bugs. It needs the commands of OpenZFS 2.1, 2.2 or 2.3 and no other package.

What it promises: every command goes through one seam (run.py), and nothing is asked of a
library or an ioctl, but for core.py; every failure is a ZFSException
whose code is a member of `Error` (errors.py); a listing is one command, and the properties of
everything in it one more, when the first is asked for; names may hold every byte that ZFS takes.

Where things are:

    run, errors, batch          commands started, what their words mean, several steps as one
    core                        a clone by libzfs_core's own call
    enums, names, native, values        ZFS's numbers, names, properties and their values
    listing, mounts, status, diff, events, nvlist, labels   what commands and kernel say, read
    objects, properties, datasets, snapshots, crypto, streams, serialized      datasets
    pools, poolproperties, vdevs, topology, scans, reasons, importable         pools
    zfs                         the entry to all of it

What a command line cannot give raises NotImplementedError naming it:

    ZFS.write_history                      the commands write their own history
    ZFS.receive(limitds=)                  only TrueNAS's ZFS
    ZFSSnapshot.get_send_progress          an ioctl
    ZFSPool.sync(force=True)               zpool sync has no such option
    ZFSPool.ddt_prefetch, ddt_prune        before OpenZFS 2.3
    ZFSPool.attach_vdevs(check_ashift=1)   before OpenZFS 2.3
    ZFSVdev.set_ashift                     zpool create takes one for the whole pool
    ZFSVdev.set_whole_disk                 the commands find out by themselves
    ZFSVdev.degrade; .fault but EXTERNAL   zpool offline -f gives that reason only
    ZFSVdev.size                           before OpenZFS 2.2
    ZFSVdevStats.timestamp, .nvlist, .logical_ashift, .physical_ashift (unless it differs)
    ZFSVdevStats.ops, .bytes, .size, .allocated, .fragmentation, .configured_ashift
                                           before OpenZFS 2.2
    ZFSVdevStats.self_healed               before OpenZFS 2.3
    ZFSPropertyDict: ways to change a dict other than d[name] = ZFSUserProperty(x) and del

`asdict` gives None for such a counter. Hidden properties that `zfs get` does not print are not
in property dictionaries. `ZFSPool.config` holds what `zpool status` prints. Byte counts of a scan
and the state of a raidz expansion are None before OpenZFS 2.3, whose status is not JSON.

What differs from py-libzfs on purpose: records of `diff` have the right names, all file types and
no escapes; the length of a property dictionary is right; a snapshot with clones that is deleted
is Error.EXISTS and not 1; leaving the context manager re-raises nothing of its own; `userspace`
has no default quotas; `read_label` takes files and block devices; `dataset == dataset` compares
names. What py-libzfs does past libzfs (`bookmark`, `wait`, `sync`) raises ZFSCoreException, which
is the OSError that it is there, and a ZFSException too.

Not in py-libzfs: `snapshots_taken_together`, `destroy_snapshots`, `program` (batch.py), and a clone
that costs no more beside a thousand others (core.py).
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backends.libzfs.batch import destroy as destroy_snapshots
    from backends.libzfs.batch import program
    from backends.libzfs.batch import snapshot as snapshots_taken_together
    from backends.libzfs.datasets import ZFSDataset
    from backends.libzfs.diff import DiffRecord
    from backends.libzfs.enums import (
        DatasetType,
        DiffFileType,
        DiffRecordType,
        Error,
        FeatureState,
        LpcError,
        PoolState,
        PoolStatus,
        PropertySource,
        ScanFunction,
        ScanState,
        SendFlag,
        SendFlags,
        UserquotaProp,
        VDevAuxState,
        VDevState,
        ZIOType,
        ZpoolWaitActivity,
    )
    from backends.libzfs.errors import (
        ZFSCoreException,
        ZFSException,
        ZFSInvalidCachefileException,
        ZFSPoolRaidzExpandStatsException,
        ZFSPoolScanStatsException,
        ZFSUnavailableException,
        ZFSVdevStatsException,
    )
    from backends.libzfs.importable import ZFSImportablePool
    from backends.libzfs.labels import clear_label, read_label
    from backends.libzfs.names import (
        nicestrtonum,
        validate_dataset_name,
        validate_pool_name,
        validate_snapshot_name,
    )
    from backends.libzfs.objects import ZFSObject, ZFSResource
    from backends.libzfs.poolproperties import ZPoolFeature, ZPoolProperty
    from backends.libzfs.pools import ZFSPool
    from backends.libzfs.properties import ZFSProperty, ZFSPropertyDict, ZFSUserProperty
    from backends.libzfs.scans import ZPoolRaidzExpand, ZPoolScrub
    from backends.libzfs.snapshots import ZFSBookmark, ZFSSnapshot
    from backends.libzfs.topology import update_draid_config, validate_draid_configuration
    from backends.libzfs.values import (
        parse_zfs_prop,
        parse_zpool_prop,
        serialize_zfs_prop,
        serialize_zpool_prop,
    )
    from backends.libzfs.vdevs import ZFSVdev, ZFSVdevStats
    from backends.libzfs.zfs import GLOBAL_CONTEXT_LOCK, ZFS

__all__ = [
    "GLOBAL_CONTEXT_LOCK",
    "ZFS",
    "DatasetType",
    "DiffFileType",
    "DiffRecord",
    "DiffRecordType",
    "Error",
    "FeatureState",
    "LpcError",
    "PoolState",
    "PoolStatus",
    "PropertySource",
    "ScanFunction",
    "ScanState",
    "SendFlag",
    "SendFlags",
    "UserquotaProp",
    "VDevAuxState",
    "VDevState",
    "ZFSBookmark",
    "ZFSCoreException",
    "ZFSDataset",
    "ZFSException",
    "ZFSImportablePool",
    "ZFSInvalidCachefileException",
    "ZFSObject",
    "ZFSPool",
    "ZFSPoolRaidzExpandStatsException",
    "ZFSPoolScanStatsException",
    "ZFSProperty",
    "ZFSPropertyDict",
    "ZFSResource",
    "ZFSSnapshot",
    "ZFSUnavailableException",
    "ZFSUserProperty",
    "ZFSVdev",
    "ZFSVdevStats",
    "ZFSVdevStatsException",
    "ZIOType",
    "ZPoolFeature",
    "ZPoolProperty",
    "ZPoolRaidzExpand",
    "ZPoolScrub",
    "ZpoolWaitActivity",
    "clear_label",
    "destroy_snapshots",
    "install",
    "nicestrtonum",
    "parse_zfs_prop",
    "parse_zpool_prop",
    "program",
    "read_label",
    "serialize_zfs_prop",
    "serialize_zpool_prop",
    "snapshots_taken_together",
    "update_draid_config",
    "validate_dataset_name",
    "validate_draid_configuration",
    "validate_pool_name",
    "validate_snapshot_name",
]


# Which of its files has a name; a program loads only what it uses.
_NAMES = {
    "batch": "destroy_snapshots program snapshots_taken_together",
    "datasets": "ZFSDataset",
    "diff": "DiffRecord",
    "enums": (
        "DatasetType DiffFileType DiffRecordType Error FeatureState LpcError PoolState "
        "PoolStatus PropertySource ScanFunction ScanState SendFlag SendFlags UserquotaProp "
        "VDevAuxState VDevState ZIOType ZpoolWaitActivity"
    ),
    "errors": (
        "ZFSCoreException ZFSException ZFSInvalidCachefileException "
        "ZFSPoolRaidzExpandStatsException ZFSPoolScanStatsException ZFSUnavailableException "
        "ZFSVdevStatsException"
    ),
    "importable": "ZFSImportablePool",
    "labels": "clear_label read_label",
    "names": "nicestrtonum validate_dataset_name validate_pool_name validate_snapshot_name",
    "objects": "ZFSObject ZFSResource",
    "poolproperties": "ZPoolFeature ZPoolProperty",
    "pools": "ZFSPool",
    "properties": "ZFSProperty ZFSPropertyDict ZFSUserProperty",
    "scans": "ZPoolRaidzExpand ZPoolScrub",
    "snapshots": "ZFSBookmark ZFSSnapshot",
    "topology": "update_draid_config validate_draid_configuration",
    "values": "parse_zfs_prop parse_zpool_prop serialize_zfs_prop serialize_zpool_prop",
    "vdevs": "ZFSVdev ZFSVdevStats",
    "zfs": "GLOBAL_CONTEXT_LOCK ZFS",
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names.split()}
_RENAMED = {"destroy_snapshots": "destroy", "snapshots_taken_together": "snapshot"}


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{module}"), _RENAMED.get(name, name))
    globals()[name] = found
    return found


def install() -> None:
    """Make `import libzfs` find this package in this process.

    Raises RuntimeError if another module of that name is loaded already.
    """
    loaded = sys.modules.setdefault("libzfs", sys.modules[__name__])
    if loaded is not sys.modules[__name__]:
        raise RuntimeError("another module named libzfs is loaded already")
