"""What this package raises, and the one place where a command's words become a typed error.

The commands print what libzfs says: "cannot ACTION 'NAME': DESCRIPTION". The description, and
where that is not enough the command, decide the member of `Error`. `from_stderr` is the only
function that reads such text; whatever it does not know is `Error.UNKNOWN`, never a guess.

Source of the descriptions: lib/libzfs and cmd/zfs, cmd/zpool of OpenZFS 2.1.15, 2.2.7 and 2.3.2.
"""

import contextlib
import errno
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Self

from backends.libzfs.enums import Error

_ERRNO: dict[int, int] = {
    Error.EXISTS: errno.EEXIST,
    Error.NOENT: errno.ENOENT,
    Error.PERM: errno.EPERM,
    Error.NOSPC: errno.ENOSPC,
    Error.CROSSTARGET: errno.EXDEV,
    Error.BADVERSION: errno.ENOTSUP,
    Error.POOLUNAVAIL: errno.EAGAIN,
    Error.BADTYPE: errno.EINVAL,
    Error.INVALIDNAME: errno.EINVAL,
}


class ZFSException(RuntimeError):
    """ZFS refused or failed; `code` is a member of `Error` (of errno's numbers in some cases)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return (self.__class__, (self.code, *self.args))


class ZFSUnavailableException(ZFSException):
    """There is no ZFS here: the command is not installed or the kernel module is not loaded."""


class ZFSCoreException(ZFSException, OSError):
    """What py-libzfs does past libzfs, and so reports as OSError: bookmark, wait, sync.

    Has a `code` like any ZFSException, and an `errno`.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.errno = _ERRNO.get(code, errno.EIO)


class ZFSVdevStatsException(ZFSException):
    """The statistics of a vdev cannot be had."""

    def __init__(self, code: int, message: str = "Failed to fetch ZFS Vdev Stats") -> None:
        super().__init__(code, message)


class ZFSPoolRaidzExpandStatsException(ZFSException):
    """The state of a raidz expansion cannot be had."""

    def __init__(
        self, code: int, message: str = "Failed to retrieve ZFS pool raidz expansion stats"
    ) -> None:
        super().__init__(code, message)


class ZFSPoolScanStatsException(ZFSException):
    """The state of a scrub or resilver cannot be had."""

    def __init__(self, code: int, message: str = "Failed to retrieve ZFS pool scan stats") -> None:
        super().__init__(code, message)


class ZFSInvalidCachefileException(OSError):
    """The cache file given to `find_import` cannot be used."""


_UNAVAILABLE = (
    "The ZFS modules are not loaded",
    "The ZFS modules cannot be auto-loaded",
    "/dev/zfs and /proc/self/mounts are required",
    "Failed to initialize the libzfs library",
)

# By command, where the same words mean different things; tried before _DESCRIPTIONS.
_BY_COMMAND: dict[str, tuple[tuple[str, Error], ...]] = {
    "zfs load-key": ((".", Error.CRYPTO_FAILED),),
    "zfs unload-key": ((".", Error.CRYPTO_FAILED),),
    "zfs change-key": (
        ("permission denied", Error.PERM),
        ("dataset does not exist", Error.NOENT),
        (".", Error.CRYPTO_FAILED),
    ),
    "zfs mount": (
        ("permission denied|Insufficient privileges", Error.PERM),
        ("dataset does not exist", Error.NOENT),
        (".", Error.MOUNTFAILED),
    ),
    "zfs unmount": (
        ("permission denied", Error.PERM),
        ("dataset does not exist", Error.NOENT),
        (".", Error.UMOUNTFAILED),
    ),
    "umount": ((".", Error.UMOUNTFAILED),),
    "zfs send": (
        ("does not exist|no longer exists", Error.NOENT),
        ("not an earlier snapshot from the same fs", Error.CROSSTARGET),
        ("permission denied", Error.PERM),
        ("dataset key must be loaded|source key must be loaded", Error.CRYPTO_FAILED),
        ("resume token is corrupt", Error.FAULT),
        ("invalid character|missing|delimiter", Error.INVALIDNAME),
        ("invalid option|usage:", Error.INVALARG),
        (".", Error.BADBACKUP),
    ),
    "zfs diff": (
        ("permission denied|delegated permission is needed", Error.PERM),
        ("does not exist|No such file", Error.NOENT),
        ("must be loaded", Error.CRYPTO_FAILED),
        ("invalid character|delimiter|[Bb]adly formed", Error.INVALIDNAME),
        ("[Nn]ot an earlier snapshot", Error.CROSSTARGET),
        (".", Error.DIFF),
    ),
    "zfs bookmark": (
        ("bookmark exists", Error.EXISTS),
        ("different pool", Error.CROSSTARGET),
        ("not an ancestor", Error.BADTYPE),
        ("invalid argument", Error.BADTYPE),
        ("not enabled", Error.BADVERSION),
    ),
    "zfs destroy": (
        ("operation does not apply to pools", Error.BADTYPE),
        ("could not find (the|any) snapshot", Error.NOENT),
        ("bookmark '.*' does not exist", Error.NOENT),
    ),
    "zfs program": (
        ("Permission denied|permission denied", Error.PERM),
        ("Invalid instruction or memory limit", Error.INVALARG),
        ("Memory limit exhausted|Return value too large", Error.NOMEM),
        ("cannot open pool|no such pool", Error.NOENT),
    ),
    "zpool scrub": (
        ("scrub is paused", Error.SCRUB_PAUSED),
        ("no active scrub", Error.SCRUB),
    ),
    "zpool add": (
        ("mismatched replication level|mismatch", Error.INVALCONFIG),
        ("in use|is part of|is busy|cannot open", Error.BADDEV),
    ),
    "zpool create": (
        ("pool already exists", Error.EXISTS),
        ("exists and is not empty", Error.MOUNTFAILED),
        ("cannot open|cannot resolve path|in use|is part of|is busy", Error.BADDEV),
        ("mismatched replication level", Error.INVALCONFIG),
        ("invalid vdev specification", Error.INVALCONFIG),
    ),
    "zpool import": (
        ("a pool with that name (is )?already exists|already exists", Error.EXISTS),
        ("no such pool available|no pools available to import", Error.NOENT),
        ("invalid or corrupt cache file|cachefile", Error.BADCACHE),
    ),
    "zpool attach": (("no such device in pool", Error.NODEVICE),),
    "zpool replace": (("no such device in pool", Error.NODEVICE),),
    "zpool initialize": (("cannot initialize", Error.INITIALIZING),),
}

# (what stderr holds, its error); the first that matches decides. Regular expressions.
_DESCRIPTIONS: tuple[tuple[str, Error], ...] = (
    ("utilities must be run as root", Error.PERM),
    ("out of memory", Error.NOMEM),
    ("unable to discover path names|diff delegated permission", Error.PERM),
    # Names
    (
        "invalid character|empty component|leading slash in name|trailing slash in name"
        "|delimiter|name is reserved|pool name is reserved|self reference,"
        "|parent reference,|name must begin with a letter|pool doesn't begin"
        "|missing dataset name|New dataset name cannot be a descendant|reserved disk name"
        "|maximum name nesting depth|invalid bookmark name|invalid name|name is too long",
        Error.INVALIDNAME,
    ),
    (
        "dataset name is too long|maximum allowable length|snapshot name is too long",
        Error.NAMETOOLONG,
    ),
    # Holds
    ("tag already exists on this dataset", Error.HOLD),
    ("no such tag on this dataset", Error.RELE),
    ("tag too long", Error.TAGTOOLONG),
    # Things that are there, and things that are not
    ("has dependent clones|snapshot is cloned|has dependent clone", Error.EXISTS),
    ("already exists|destination already exists|destination '.*' exists", Error.EXISTS),
    ("conflicting snapshot|multiple snapshots of same fs", Error.EXISTS),
    ("more recent snapshots or bookmarks exist|clones of previous snapshots", Error.EXISTS),
    ("there is a snapshot or bookmark more recent", Error.EXISTS),
    ("destination has snapshots|is a clone\\s*must destroy it", Error.EXISTS),
    ("cannot promote dataset outside its encryption root", Error.EXISTS),
    ("parent is not a filesystem|parent '.*' is not a filesystem", Error.WRONG_PARENT),
    ("invalid parent dataset|cannot overwrite with a ZVOL", Error.WRONG_PARENT),
    # Streams
    ("Partially received snapshot is saved|checksum mismatch|incomplete stream", Error.BADSTREAM),
    ("contains partially-complete state", Error.BUSY),
    ("Resuming recv on existing", Error.RESUME_EXISTS),
    ("has been modified\\s*since most recent|does not\\s*match incremental", Error.BADRESTORE),
    ("cannot be used to destroy an encrypted|raw receive on top of", Error.BADRESTORE),
    ("invalid stream|invalid backup stream|failed to read from stream", Error.BADSTREAM),
    ("stream has (un)?supported|deprecated feature|IV set guid", Error.BADSTREAM),
    ("invalid record type|incorrect header checksum|multi-snapshot stream", Error.BADSTREAM),
    ("space quota exceeded", Error.NOSPC),
    ("backup failed", Error.BADBACKUP),
    # Encryption
    ("encryption failure|[Kk]ey(s)? must be (un)?loaded|key not loaded", Error.CRYPTO_FAILED),
    ("encryption root's key is not loaded|outside of its encryption root", Error.CRYPTO_FAILED),
    ("Encryption (feature|must|properties)|Keyformat required", Error.CRYPTO_FAILED),
    ("(Passphrase|Raw key|Hex key) too|Invalid (hex|key|URI)", Error.CRYPTO_FAILED),
    ("Incorrect key|Key already|Failed to (get|open|generate|add|lookup)", Error.CRYPTO_FAILED),
    ("Provided keys do not match|URI scheme is not supported", Error.CRYPTO_FAILED),
    ("Cannot (enter raw keys|specify pbkdf2iters|use '')", Error.CRYPTO_FAILED),
    # Properties
    ("is readonly|read-only property", Error.PROPREADONLY),
    (
        "does not apply to datasets|doesn't apply to datasets|can not be modified for snapshots",
        Error.PROPTYPE,
    ),
    ("cannot be inherited|property cannot be inherited", Error.PROPNONINHERIT),
    (
        "size is less than current used|size is greater than available|invalid quota",
        Error.PROPSPACE,
    ),
    ("not allowed on (bootable datasets|root pools)", Error.NOTSUP),
    (
        "must be one of|must be a number|must be a string|must be an absolute path, '"
        "|must be power of 2|invalid property|bad numeric value|invalid numeric suffix"
        "|numeric value is too large|property value too long|property value '.*' is too long"
        "|is invalid|cannot be set|can only be set|is too long|bad property list"
        "|invalid keylocation|missing volume|volume size|volume block size|must be a multiple"
        "|comment may only|comment must not|use '' to disable|unsupported by kernel"
        "|must be set ''|minimum pbkdf2|block size out of range|keylocation must"
        "|keylocation may only|no properties specified",
        Error.BADPROP,
    ),
    # State of the system
    ("permission denied|[Pp]ermission denied|Insufficient privileges", Error.PERM),
    ("delegated administration is disabled", Error.NODELEGATION),
    ("out of space|No space left|disk quota exceeded|quota exceeded", Error.NOSPC),
    ("I/O is currently suspended|pool is unavailable", Error.POOLUNAVAIL),
    ("pool is read-only|pool is readonly|read-only mode", Error.POOLREADONLY),
    ("dataset is read-only", Error.DSREADONLY),
    ("imported on a different host|last accessed by another system", Error.ACTIVE_POOL),
    ("may be in use from other system|pool was previously in use", Error.ACTIVE_POOL),
    ("active shared spare", Error.SPARE),
    ("unplayed intent logs", Error.LOGS),
    ("currently resilvering", Error.RESILVERING),
    ("currently sequentially resilvering", Error.REBUILDING),
    ("currently scrubbing", Error.SCRUBBING),
    ("there is no active scrub", Error.SCRUB),
    ("pool export in progress", Error.EXPORT_IN_PROGRESS),
    ("raidz expansion in progress", Error.RAIDZ_EXPAND_IN_PROGRESS),
    ("unmount failed", Error.UMOUNTFAILED),
    ("mount failed|directory is not empty|failed to create mountpoint", Error.MOUNTFAILED),
    ("busy|being held", Error.BUSY),
    # Pools and vdevs
    ("no such device in pool", Error.NODEVICE),
    ("no valid replicas", Error.NOREPLICAS),
    (
        "devices? (is|are) currently unavailable|less than the minimum size|device is too small",
        Error.BADDEV,
    ),
    ("refer to the same device|already in use|devices is (read only|out of space)", Error.BADDEV),
    (
        "can only attach to mirrors|only applicable to mirror|can only be replaced by",
        Error.BADTARGET,
    ),
    ("cannot replace a|already in replacing", Error.BADTARGET),
    ("new device must be a single disk|invalid vdev|invalid config", Error.INVALCONFIG),
    ("different physical sector sizes", Error.ASHIFT_MISMATCH),
    ("reserved as a hot spare", Error.ISSPARE),
    ("in use as a cache", Error.ISL2CACHE),
    ("operation not supported on this type of vdev", Error.VDEV_NOTSUP),
    ("operation not supported on this type of pool", Error.POOL_NOTSUP),
    ("invalid argument for this pool operation", Error.INVALARG),
    ("no history available", Error.NOHISTORY),
    ("operation is not in progress", Error.NO_PENDING),
    # Kinds of dataset
    (
        "operation not applicable|not a cloned filesystem|snapshots can not be promoted",
        Error.BADTYPE,
    ),
    ("operation does not apply|recursive rename must be a snapshot|incompatible", Error.BADTYPE),
    (
        "within same pool|part of same dataset|pools differ|crosses datasets|different pool",
        Error.CROSSTARGET,
    ),
    ("recursive dataset dependency", Error.RECURSIVE),
    ("must be upgraded|unsupported version|not compatible with", Error.BADVERSION),
    ("does not support (this|an option)|not supported by zfs kernel", Error.IOC_NOTSUPPORTED),
    ("operation not supported|not supported", Error.NOTSUP),
    ("argument list too long", Error.TOOMANY),
    # Last of all: these words stand inside many of the descriptions above.
    (
        "does not exist|no such pool|no such parent|no such dataset|could not be found"
        "|cannot open '.*': no such|missing pool name",
        Error.NOENT,
    ),
    ("I/O error|Input/output error", Error.IO),
    ("invalid option|missing argument|usage:", Error.INVALARG),
)


def _children_error(stderr: str) -> Error:
    """What libzfs reports where `zfs destroy` speaks of children.

    The kernel refuses with EBUSY for snapshots and with EEXIST for child datasets.
    """
    _, _, listed = stderr.partition("following datasets:\n")
    return Error.EXISTS if any("@" not in name for name in listed.splitlines()) else Error.BUSY


_QUOTED = re.compile(r"(?<!\w)'[^'\n]*'(?!\w)")


def _without_names(argv: Sequence[str], stderr: str) -> str:
    """stderr without what the command was given: a dataset may be called "already exists"."""
    for argument in argv[2:]:
        if argument and not argument.startswith("-"):
            whole = rf"(?<![\w/@']){re.escape(argument)}(?![\w/@'])"
            stderr = re.sub(whole, "NAME", stderr, count=1)
    return _QUOTED.sub("''", stderr)


def code_of(argv: Sequence[str], stderr: str) -> Error:
    """The member of `Error` for what the command `argv` printed on stderr."""
    command = " ".join(argv[:2]) if argv[0] in ("zfs", "zpool") else argv[0]
    said = _without_names(argv, stderr)
    if command == "zfs destroy" and "has children" in said:
        return _children_error(stderr)
    for pattern, error in (*_BY_COMMAND.get(command, ()), *_DESCRIPTIONS):
        if re.search(pattern, said, re.DOTALL):
            return error
    return Error.UNKNOWN


_last = threading.local()


def last() -> ZFSException | None:
    """The last error of a command in this thread."""
    return getattr(_last, "error", None)


@contextlib.contextmanager
def also_oserror() -> Iterator[None]:
    """For what py-libzfs does past libzfs: the error is an OSError too."""
    try:
        yield
    except ZFSException as error:
        raise ZFSCoreException(error.code, str(error)) from error


@contextlib.contextmanager
def absent_is_success() -> Iterator[None]:
    """For what makes a thing go away: that it does not exist is no error."""
    try:
        yield
    except ZFSException as error:
        if error.code != Error.NOENT:
            raise


def from_stderr(argv: Sequence[str], stderr: str, status: int) -> ZFSException:
    """The typed error for a command that failed with `status`; its message is one line."""
    # Some failures are followed by a page on how the command is used.
    stderr = stderr.partition("\nusage:")[0]
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    message = (
        "; ".join(lines).replace(".; ", "; ") or f"{' '.join(argv[:2])} ended with status {status}"
    )
    error = ZFSException(code_of(argv, stderr), message)
    if any(words in _without_names(argv, stderr) for words in _UNAVAILABLE):
        error = ZFSUnavailableException(Error.OPENFAILED, message)
    _last.error = error
    return error


def only_absent(argv: Sequence[str], stderr: str) -> bool:
    """Whether a command that goes on after each failure found nothing wrong but names of what
    does not exist."""
    lines = stderr.splitlines()
    return bool(lines) and all(code_of(argv, line) is Error.NOENT for line in lines)


def not_available(what: str, why: str) -> NotImplementedError:
    """The error for what py-libzfs can and the commands cannot."""
    return NotImplementedError(f"not to be had from the zfs and zpool commands: {what}: {why}")
