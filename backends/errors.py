"""What a backend may raise.

One class for each thing that can go wrong, so that a caller decides by type and never by
text. The message of every error is one line for a person: what is wrong, with which thing,
and what to do about it.
"""

import errno
import os


class CowshedError(Exception):
    """The root of every error that cowshed raises on purpose; its text is shown as it is."""


class BackendError(CowshedError):
    """A storage operation failed."""


class VolumeExists(BackendError):
    """The volume to be made is there already; nothing was changed."""


class VolumeNotFound(BackendError):
    """The volume is not on disk."""


class VolumeBusy(BackendError):
    """A process or a mount holds the volume; the message names it."""


class SnapshotsInTheWay(VolumeBusy):
    """The volume has snapshots that cowshed did not make; removing it by force destroys them."""


class NoSpace(BackendError):
    """The disk, or the volume's quota, is full."""


class NotSupported(BackendError):
    """This backend, kernel or filesystem cannot do it; the message says what could."""


class Unavailable(BackendError):
    """The backend cannot work here: a package, a privilege or the pool itself is missing."""


def from_os_error(error: OSError, doing: str) -> BackendError:
    """The typed error for what the kernel answered while `doing` something to a volume.

    `doing` reads after "cannot", and names the volume: "create containers/4f…".
    """
    reason = os.strerror(error.errno) if error.errno else str(error)
    match error.errno:
        case errno.ENOSPC:
            return NoSpace(f"cannot {doing}: the disk is full; free space or grow the pool")
        case errno.EDQUOT:
            return NoSpace(
                f"cannot {doing}: the quota is full; what was committed counts while its image"
                " lives, so remove images or give a larger --size"
            )
        case errno.EEXIST | errno.ENOTEMPTY:
            return VolumeExists(f"cannot {doing}: it exists already")
        case errno.ENOENT:
            return VolumeNotFound(
                f"cannot {doing}: it is not on disk; cowshed check says what to do"
            )
        case errno.EBUSY | errno.ETXTBSY:
            return VolumeBusy(f"cannot {doing}: it is in use")
        case errno.EPERM | errno.EACCES:
            advice = "run as root" if os.geteuid() else "chattr -i frees what is immutable"
            return Unavailable(f"cannot {doing}: permission denied; {advice}")
        case errno.EROFS:
            return Unavailable(f"cannot {doing}: the filesystem is mounted read-only")
        case _:
            return BackendError(f"cannot {doing}: {reason}")
