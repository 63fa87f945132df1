"""What the ZFS backend raises for what the commands and the channel programs said."""

import os
from typing import Any

from backends.base import Volume
from backends.errors import (
    BackendError,
    NoSpace,
    SnapshotsInTheWay,
    Unavailable,
    VolumeBusy,
    VolumeExists,
    VolumeNotFound,
)
from backends.libzfs.enums import Error
from backends.libzfs.errors import ZFSException, ZFSUnavailableException
from backends.zfs_programs import listed


def typed(error: ZFSException, doing: str) -> BackendError:
    """The contract's error for what a command said."""
    if isinstance(error, ZFSUnavailableException):
        return Unavailable(f"cannot {doing}: {error}")
    match error.code:
        case Error.NOENT:
            return VolumeNotFound(f"cannot {doing}: it is not there")
        case Error.EXISTS:
            return VolumeExists(f"cannot {doing}: it exists already")
        case Error.NOSPC:
            return NoSpace(f"cannot {doing}: the pool or a quota is full; free space or grow it")
        case Error.PROPSPACE:
            return NoSpace(f"cannot {doing}: it holds more than that already")
        case Error.BUSY:
            return VolumeBusy(f"cannot {doing}: it is in use")
        case Error.PERM:
            return Unavailable(f"cannot {doing}: permission denied; run as root")
        case Error.POOLREADONLY | Error.POOLUNAVAIL:
            return Unavailable(f"cannot {doing}: {error}")
        case _:
            return BackendError(f"cannot {doing}: {error}")


REFUSALS = {
    "children": ("datasets that cowshed did not make are in it", "move or destroy them first"),
    "clones": ("datasets that cowshed did not make are clones of it", "destroy them first"),
    "held": ("snapshots of it are held", "zfs release them first; zfs holds names the tags"),
    "foreign": (
        "cowshed did not make these snapshots of it",
        "--force destroys them, and so does zfs destroy",
    ),
}


def failed(volume: Volume, found: dict[str, Any]) -> BackendError:
    """The error for a removal of which a step failed."""
    reason = os.strerror(found["errno"])
    conflicts = listed(found.get("conflicts"))
    if conflicts:
        reason += f" ({', '.join(conflicts)})"
    return BackendError(f"cannot remove {volume}: {found['what']}: {reason}")


def in_the_way(volume: Volume, found: dict[str, Any]) -> VolumeBusy:
    """The error for a removal that was refused, naming all that is in the way."""
    reasons = [
        f"{what}: {', '.join(names)}; {advice}"
        for kind, (what, advice) in REFUSALS.items()
        if (names := listed(found[kind]))
    ]
    only_foreign = all(not found[kind] for kind in REFUSALS if kind != "foreign")
    refusal = SnapshotsInTheWay if only_foreign else VolumeBusy
    return refusal(f"cannot remove {volume}: {'. Also, '.join(reasons)}")
