"""The dataset that a store keeps its volumes in: where it is, and how it is made.

<root>/dataset       its name and guid, as JSON; the claims on unfinished work are locks on it
<dataset>/layers     sealed volumes: readonly=on, and a snapshot that is called as the layer is
<dataset>/containers
<dataset>/volumes    what containers mount and outlives them
<dataset>/staging    being made
<dataset>/quarantine put aside by a repair

The dataset itself says in a user property which root it belongs to, so that no two stores share
one. Its volumes have the mount point "legacy": neither ZFS nor systemd mounts them.
"""

import contextlib
import errno
import json
import os
import time
from collections.abc import Iterator
from typing import NamedTuple

from backends import detached
from backends.base import CONTAINERS, LAYERS, STAGING, VOLUMES
from backends.errors import BackendError, NoSpace, Unavailable, from_os_error
from backends.layout import QUARANTINE, sync_directory
from backends.libzfs import run
from backends.libzfs.enums import DatasetType, Error
from backends.libzfs.errors import ZFSException
from backends.libzfs.names import check
from backends.mounts import holding

FILE = "dataset"
ROOT = "cowshed:root"

LONGEST = 255 - len("/quarantine/-12345678@") - 2 * 64
"""Characters of the store's dataset: with the longest of its snapshots, ZFS takes 255."""

_FOR_VOLUMES = {
    "mountpoint": "legacy",
    "canmount": "off",
    "com.sun:auto-snapshot": "false",
    "org.openzfs.systemd:ignore": "on",
    "snapdir": "hidden",
    "atime": "off",
    "acltype": "posix",
    "xattr": "sa",
    "devices": "on",
    "exec": "on",
    "setuid": "on",
    "sharenfs": "off",
    "sharesmb": "off",
}
"""Inherited by the volumes. What a tree holds is to work, whatever the pool's defaults are."""

LOOKS, PAUSE = 20, 0.05
"""How often, and after how many seconds, a mount that is refused as busy is tried again."""

OF_A_NEW_TREE = {"casesensitivity": "sensitive", "normalization": "none", "utf8only": "off"}
"""Given when a dataset is made and never afterwards: a name may be any bytes."""


class Home(NamedTuple):
    """A store's dataset; the guid tells it from another of the same name."""

    dataset: str
    guid: int

    @property
    def pool(self) -> str:
        return self.dataset.partition("/")[0]


def read(root: str) -> Home | None:
    """The dataset that the root names; None if it names none. Raises Unavailable."""
    try:
        with open(f"{root}/{FILE}", encoding="utf-8") as file:
            fields = json.load(file)
        return Home(str(fields["dataset"]), int(fields["guid"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, f"read {root}/{FILE}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(
            f"{root}/{FILE} is damaged: it is to hold the dataset's name and guid, as"
            ' {"dataset": "pool/name", "guid": 1}'
        ) from error


def require_pool(pool: str, doing: str) -> None:
    """Raises Unavailable where the pool is not there or takes no writes.

    Read from the kernel (/proc/spl/kstat/zfs/POOL/state), for a command would wait on a pool that
    is suspended until it is not.
    """
    try:
        with open(f"/proc/spl/kstat/zfs/{pool}/state", encoding="ascii") as file:
            state = file.read().strip()
    except OSError as error:
        if not os.path.isdir("/proc/spl/kstat/zfs"):
            raise Unavailable(
                f"cannot {doing}: the kernel has no ZFS; install zfs-dkms, then modprobe zfs"
            ) from error
        raise Unavailable(
            f"cannot {doing}: there is no pool {pool}; zpool import {pool} brings it back"
        ) from error
    if state == "SUSPENDED":
        raise Unavailable(
            f"cannot {doing}: the pool {pool} is suspended, as its devices fail; mend them, then"
            f" zpool clear {pool}"
        )


def verify(home: Home, doing: str) -> None:
    """Raises Unavailable if the dataset is not there, or is another of the same name."""
    try:
        found = int(run.run(["zfs", "get", "-Hpo", "value", "guid", home.dataset]))
    except ZFSException as error:
        raise unavailable(error, f"{doing}: the store's dataset {home.dataset}") from error
    if found != home.guid:
        raise Unavailable(
            f"cannot {doing}: the dataset {home.dataset} is not the one that the store was made"
            " with; rename it back, or take another --root"
        )


def unavailable(error: ZFSException, what: str) -> BackendError:
    """The error for a dataset that cannot be looked at or made."""
    match error.code:
        case Error.NOENT:
            return Unavailable(f"cannot {what}: it is not there; zfs list shows what is")
        case Error.PERM:
            return Unavailable(f"cannot {what}: permission denied; run as root")
        case Error.NOSPC:
            return NoSpace(f"cannot {what}: the pool or a quota is full; free space")
        case _:
            return Unavailable(f"cannot {what}: {error}")


def of_root(root: str) -> str:
    """The dataset for a root on ZFS: the one mounted there, or a new child of the one it lies on.

    Raises Unavailable where the root is not on ZFS.
    """
    found = holding(root)
    if found is None or found.kind != "zfs" or "@" in found.source:
        raise Unavailable(
            f"{root} is not on ZFS: say with --dataset POOL/NAME where the volumes are to be"
        )
    inside = os.path.relpath(root, found.point)
    return found.source if inside == "." else f"{found.source}/{inside.replace('/', '-')}"


def prepare(root: str, dataset: str | None) -> Home:
    """Make the store's dataset, or finish making it; by default that of `of_root`. Idempotent.

    Nothing that is somebody else's is changed but by a property that says whose it is now.
    Raises Unavailable, BackendError.
    """
    known = read(root)
    if known:
        if dataset not in (None, known.dataset):
            raise Unavailable(f"the store at {root} keeps its volumes in {known.dataset} already")
        require_pool(known.pool, "open the store")
        verify(known, "open the store")
        make_kinds(known.dataset)
        return known
    name = of_root(root) if dataset is None else dataset
    try:
        check(name, "use the dataset", DatasetType.FILESYSTEM)
    except ZFSException as error:
        raise Unavailable(f"{error}; give another with --dataset") from error
    if len(name) > LONGEST:
        raise Unavailable(
            f"the dataset name {name} is too long: with a volume's it may have"
            f" {LONGEST} characters; give a shorter one with --dataset"
        )
    require_pool(name.partition("/")[0], f"use the dataset {name}")
    try:
        _take(name, root)
        make_kinds(name)
        guid = int(run.run(["zfs", "get", "-Hpo", "value", "guid", name]))
    except ZFSException as error:
        raise unavailable(error, f"use the dataset {name}") from error
    home = Home(name, guid)
    _write(root, home)
    return home


def _take(name: str, root: str) -> None:
    """Have a dataset of that name that says it is the root's."""
    try:
        columns = "type,mountpoint,mounted"
        kind, point, mounted = run.run(["zfs", "list", "-Hpo", columns, name]).split("\t")
    except ZFSException as error:
        if error.code != Error.NOENT:
            raise
        above = name.rpartition("/")[0]
        try:
            _require_own(above, root)
        except ZFSException as missing:
            raise Unavailable(
                f"cannot make the dataset {name}: {above} is not there; zfs create -p {above}"
            ) from missing
        given = {"canmount": "off", "mountpoint": "none", ROOT: root}
        try:
            run.run(["zfs", "create", *run.options(given), name])
        except ZFSException as late:
            # Another process makes the same store.
            if late.code != Error.EXISTS:
                raise
            _take(name, root)
        return
    if kind != "filesystem":
        raise Unavailable(f"{name} is a {kind}: give --dataset a name that is not there yet")
    if _require_own(name, root):
        return
    is_roots = mounted.strip() == "yes" and point == root
    if not (is_roots or _is_empty(name)) or _children(name):
        raise Unavailable(
            f"the dataset {name} is there already and is not cowshed's: give --dataset a name that"
            " is not there yet, or an empty one"
        )
    run.run(["zfs", "set", f"{ROOT}={root}", name])


def _require_own(name: str, root: str) -> bool:
    """Whether the dataset is the root's already. Raises Unavailable if it is another store's."""
    owner = run.run(["zfs", "get", "-Hpo", "value", ROOT, name]).removesuffix("\n")
    if owner not in ("-", root):
        raise Unavailable(
            f"the dataset {name} holds the volumes of the store at {owner}; if there is no such"
            f" store any more: zfs inherit {ROOT} {name}"
        )
    return owner == root


def _is_empty(name: str) -> bool:
    with view(name, read_only=False, doing=f"use the dataset {name}") as tree:
        return not os.listdir(detached.path_of(tree))


def _children(name: str) -> list[str]:
    listed = run.run(["zfs", "list", "-Hpo", "name", "-t", "filesystem,volume", "-d", "1", name])
    return listed.splitlines()[1:]


def make_kinds(name: str) -> None:
    """Make the datasets below the store's that are not there yet. Raises ZFSException."""
    there = _children(name)
    for kind in (STAGING, LAYERS, CONTAINERS, VOLUMES, QUARANTINE):
        if f"{name}/{kind}" in there:
            continue
        read_only = {"readonly": "on" if kind in (LAYERS, QUARANTINE) else "off"}
        try:
            run.run(["zfs", "create", *run.options(_FOR_VOLUMES | read_only), f"{name}/{kind}"])
        except ZFSException as error:
            # Another process makes the same store.
            if error.code != Error.EXISTS:
                raise


def _write(root: str, home: Home) -> None:
    fresh = f"{root}/{FILE}.{os.getpid()}"
    try:
        with open(fresh, "x", encoding="utf-8") as file:
            json.dump(home._asdict(), file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, f"{root}/{FILE}")
        sync_directory(root)
    except OSError as error:
        raise from_os_error(error, f"write {root}/{FILE}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


@contextlib.contextmanager
def view(dataset: str, *, read_only: bool, doing: str) -> Iterator[int]:
    """A descriptor of a mount of the dataset or snapshot, attached nowhere; `doing` what with it.

    Raises BackendError: VolumeBusy where it is mounted the other way, read-only or not.
    """
    for patience in range(LOOKS, -1, -1):
        try:
            mounted = detached.filesystem("zfs", dataset, read_only=read_only)
            break
        except OSError as error:
            # Who looks whether it is in use has it for a moment, and so has a mount that ends.
            if error.errno == errno.EACCES and not os.geteuid():
                # Root is denied only what is encrypted.
                raise Unavailable(
                    f"cannot {doing}: the key of {dataset} is not loaded; zfs load-key -a"
                ) from error
            if error.errno != errno.EBUSY or not patience:
                raise from_os_error(error, doing) from error
            time.sleep(PAUSE)
    try:
        yield mounted
    finally:
        os.close(mounted)
