"""What a pool shall be made of, as the end of a command line; the arithmetic of dRAID.

Source of the latter: cmd/zpool/zpool_vdev.c of OpenZFS 2.3.2 (draid_config_by_type,
get_replication).
"""

import errno
from collections.abc import Mapping, MutableMapping
from typing import Any

from backends.libzfs.enums import Error
from backends.libzfs.errors import ZFSException
from backends.libzfs.vdevs import LEAVES, ZFSVdev

Topology = Mapping[str, Any]

MAX_CHILDREN = 255
MAX_PARITY = 3
MAX_SPARES = 100
DEFAULT_DATA = 8


def topology_arguments(topology: Topology) -> list[str]:
    """A topology as the end of a `zpool create` or `zpool add` command line."""
    argv: list[str] = []
    for vdev in topology.get("data", ()):
        argv += _arguments(vdev)
    # A word such as "special" holds for all that follows, so data comes first.
    for draid in sorted(topology.get("draid", ()), key=_is_special):
        argv += _draid_arguments(draid)
    for group in ("special", "dedup", "log", "cache", "spare"):
        if topology.get(group):
            argv.append(group)
            for vdev in topology[group]:
                argv += _arguments(vdev)
    return argv


def _arguments(vdev: ZFSVdev) -> list[str]:
    if vdev.type in LEAVES:
        if not vdev.path or not vdev.path.startswith("/"):
            raise ZFSException(Error.BADPATH, f"the path of a vdev must be absolute: {vdev.path}")
        return [vdev.path]
    return [vdev.type, *(part for child in vdev.children for part in _arguments(child))]


def _is_special(draid: Mapping[str, Any]) -> bool:
    return bool(draid["parameters"].get("special_vdev", False))


def _draid_arguments(draid: Mapping[str, Any]) -> list[str]:
    """{"disk": ZFSVdev, "parameters": {...}} as draid2:4d:11c:1s and its disks."""
    given = dict(draid["parameters"])
    special = ["special"] if _is_special(draid) else []
    parity = given.get("draid_parity", 1)
    spares = given.get("draid_spare_disks", 0)
    data = given.get("draid_data_disks")
    shape = f"draid{parity}" + (f":{data}d" if data else "") + f":{given['children']}c:{spares}s"
    leaves = [part for child in draid["disk"].children for part in _arguments(child)]
    return [*special, shape, *leaves]


def validate_draid_configuration(
    children: int, draid_parity: int, draid_spare_disks: int, draid_data_disks: int | None
) -> int:
    """The number of data disks of a group, chosen if it is not given.

    Raises ZFSException with EINVAL if these disks cannot make such a dRAID.
    """
    usable = children - draid_spare_disks - draid_parity
    if draid_data_disks is None or draid_data_disks == MAX_CHILDREN:
        if usable <= 0:
            raise _refusal(
                f"Requested number of distributed spares {draid_spare_disks} and parity level"
                f" {draid_parity} leave no disks available for data"
            )
        draid_data_disks = min(usable, DEFAULT_DATA)
    if not 0 < draid_data_disks <= usable:
        raise _refusal(
            f"Requested number of dRAID data disks per group {draid_data_disks} is too high, at"
            f" most {usable} disks are available for data"
        )
    if not 0 < draid_parity <= MAX_PARITY:
        raise _refusal(
            f"Invalid dRAID parity level {draid_parity}; must be between 1 and {MAX_PARITY}"
        )
    if draid_spare_disks > MAX_SPARES:
        raise _refusal(
            f"Invalid number of dRAID spares {draid_spare_disks}."
            " Additional disks would be required"
        )
    if children > MAX_CHILDREN:
        raise _refusal(
            f"{children} disks were provided, but dRAID only supports up to {MAX_CHILDREN} disks"
        )
    return draid_data_disks


def update_draid_config(
    nvlist: MutableMapping[str, int],
    children: int,
    draid_parity: int = 1,
    draid_spare_disks: int = 0,
    draid_data_disks: int | None = None,
) -> None:
    """Put the configuration of such a dRAID into `nvlist`, under ZFS's own keys."""
    data = validate_draid_configuration(children, draid_parity, draid_spare_disks, draid_data_disks)
    groups = 1
    while groups * (data + draid_parity) % (children - draid_spare_disks):
        groups += 1
    nvlist["nparity"] = draid_parity
    nvlist["draid_ndata"] = data
    nvlist["draid_nspares"] = draid_spare_disks
    nvlist["draid_ngroups"] = groups


def _refusal(message: str) -> ZFSException:
    return ZFSException(errno.EINVAL, message)
