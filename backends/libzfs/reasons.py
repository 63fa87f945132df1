"""What is wrong with a pool: from what `zpool status` says to PoolStatus.

A message id decides where there is one, the beginning of the text where not.
Source: lib/libzfs/libzfs_status.c and print_status_reason of OpenZFS 2.1 to 2.3.
"""

from backends.libzfs.enums import PoolStatus
from backends.libzfs.status import Status

WARNINGS = (
    PoolStatus.RESILVERING,
    PoolStatus.VERSION_OLDER,
    PoolStatus.FEAT_DISABLED,
    PoolStatus.NON_NATIVE_ASHIFT,
)

_BY_MESSAGE = {
    "ZFS-8000-14": PoolStatus.CORRUPT_CACHE,
    "ZFS-8000-2Q": PoolStatus.MISSING_DEV_R,
    "ZFS-8000-3C": PoolStatus.MISSING_DEV_NR,
    "ZFS-8000-4J": PoolStatus.CORRUPT_LABEL_R,
    "ZFS-8000-5E": PoolStatus.CORRUPT_LABEL_NR,
    "ZFS-8000-6X": PoolStatus.BAD_GUID_SUM,
    "ZFS-8000-72": PoolStatus.CORRUPT_POOL,
    "ZFS-8000-8A": PoolStatus.CORRUPT_DATA,
    "ZFS-8000-9P": PoolStatus.FAILING_DEV,
    "ZFS-8000-A5": PoolStatus.VERSION_NEWER,
    "ZFS-8000-EY": PoolStatus.HOSTID_MISMATCH,
    "ZFS-8000-HC": PoolStatus.IO_FAILURE_WAIT,
    "ZFS-8000-JQ": PoolStatus.IO_FAILURE_CONTINUE,
    "ZFS-8000-MM": PoolStatus.IO_FAILURE_MMP,
    "ZFS-8000-K4": PoolStatus.BAD_LOG,
    "ZFS-8000-ER": PoolStatus.ERRATA,
}

# (words in the text, status); the first that fits decides.
_BY_TEXT = (
    ("uses the following feature(s) not supported", PoolStatus.UNSUP_FEAT_READ),
    ("only be accessed in read-only mode", PoolStatus.UNSUP_FEAT_WRITE),
    ("faulted in response to persistent errors. There are insufficient", PoolStatus.FAULTED_DEV_NR),
    ("faulted in response to persistent errors", PoolStatus.FAULTED_DEV_R),
    ("legacy on-disk format", PoolStatus.VERSION_OLDER),
    ("legacy on-disk version", PoolStatus.VERSION_OLDER),
    ("features are not enabled on the pool", PoolStatus.FEAT_DISABLED),
    ("currently being resilvered", PoolStatus.RESILVERING),
    ("were being resilvered", PoolStatus.RESILVERING),
    ("taken offline by the administrator", PoolStatus.OFFLINE_DEV),
    ("been removed by the administrator", PoolStatus.REMOVED_DEV),
    ("have been removed", PoolStatus.REMOVED_DEV),
    ("been sequentially resilvered", PoolStatus.REBUILD_SCRUB),
    ("non-native block size", PoolStatus.NON_NATIVE_ASHIFT),
    ("compatibility list specified", PoolStatus.COMPATIBILITY_ERR),
    ("despite not being requested by the 'compatibility'", PoolStatus.INCOMPATIBLE_FEAT),
)


def status_code(found: Status) -> PoolStatus | None:
    """What is wrong with the pool; None if it says so in words that this package does not know."""
    if found.message_id:
        return _BY_MESSAGE.get(found.message_id)
    if not found.reason:
        return PoolStatus.OK
    return next((code for words, code in _BY_TEXT if words in found.reason), None)


def detail(found: Status) -> str | None:
    """What is wrong with the pool, in the words of `zpool status`; None if nothing is."""
    return found.reason or None
