"""ZFS's enumerations, with the numbers that OpenZFS 2.3 gives them.

The member names are py-libzfs's. The numbers of `Error` shift between releases of OpenZFS, where
new errors were put between old ones (SHAREFAILED, ERRORSCRUBBING, ...); nothing here takes a
number from a command, so a program that compares with the members is right everywhere.

Source: include/libzfs.h, include/libzutil.h and include/sys/fs/zfs.h of OpenZFS 2.3.2.
"""

import enum


class DatasetType(enum.IntEnum):
    """What a dataset is (zfs_type_t)."""

    FILESYSTEM = 1
    VOLUME = 4
    SNAPSHOT = 2
    BOOKMARK = 16


class UserquotaProp(enum.IntEnum):
    """What `userspace` can report (zfs_userquota_prop_t)."""

    USERUSED = 0
    USERQUOTA = 1
    GROUPUSED = 2
    GROUPQUOTA = 3
    USEROBJUSED = 4
    USEROBJQUOTA = 5
    GROUPOBJUSED = 6
    GROUPOBJQUOTA = 7
    PROJECTUSED = 8
    PROJECTQUOTA = 9
    PROJECTOBJUSED = 10
    PROJECTOBJQUOTA = 11


class Error(enum.IntEnum):
    """What went wrong (zfs_error_t)."""

    SUCCESS = 0
    NOMEM = 2000
    BADPROP = 2001
    PROPREADONLY = 2002
    PROPTYPE = 2003
    PROPNONINHERIT = 2004
    PROPSPACE = 2005
    BADTYPE = 2006
    BUSY = 2007
    EXISTS = 2008
    NOENT = 2009
    BADSTREAM = 2010
    DSREADONLY = 2011
    VOLTOOBIG = 2012
    INVALIDNAME = 2013
    BADRESTORE = 2014
    BADBACKUP = 2015
    BADTARGET = 2016
    NODEVICE = 2017
    BADDEV = 2018
    NOREPLICAS = 2019
    RESILVERING = 2020
    BADVERSION = 2021
    POOLUNAVAIL = 2022
    DEVOVERFLOW = 2023
    BADPATH = 2024
    CROSSTARGET = 2025
    ZONED = 2026
    MOUNTFAILED = 2027
    UMOUNTFAILED = 2028
    UNSHARENFSFAILED = 2029
    SHARENFSFAILED = 2030
    PERM = 2031
    NOSPC = 2032
    FAULT = 2033
    IO = 2034
    INTR = 2035
    ISSPARE = 2036
    INVALCONFIG = 2037
    RECURSIVE = 2038
    NOHISTORY = 2039
    POOLPROPS = 2040
    POOL_NOTSUP = 2041
    INVALARG = 2042
    NAMETOOLONG = 2043
    OPENFAILED = 2044
    NOCAP = 2045
    LABELFAILED = 2046
    BADWHO = 2047
    BADPERM = 2048
    BADPERMSET = 2049
    NODELEGATION = 2050
    UNSHARESMBFAILED = 2051
    SHARESMBFAILED = 2052
    BADCACHE = 2053
    ISL2CACHE = 2054
    VDEVNOTSUP = 2055
    NOTSUP = 2056
    SPARE = 2057
    LOGS = 2058
    RELE = 2059
    HOLD = 2060
    TAGTOOLONG = 2061
    PIPEFAILED = 2062
    THREADCREATEFAILED = 2063
    ONLINE = 2064
    SCRUBBING = 2065
    ERRORSCRUBBING = 2066
    ERRORSCRUB_PAUSED = 2067
    SCRUB = 2068
    DIFF = 2069
    DIFFDATA = 2070
    POOLREADONLY = 2071
    SCRUB_PAUSED = 2072
    SCRUB_PAUSED_TO_CANCEL = 2073
    ACTIVE_POOL = 2074
    CRYPTO_FAILED = 2075
    NO_PENDING = 2076
    CHECKPOINT_EXISTS = 2077
    DISCARDING_CHECKPOINT = 2078
    NO_CHECKPOINT = 2079
    DEVRM_IN_PROGRESS = 2080
    VDEV_TOO_BIG = 2081
    IOC_NOTSUPPORTED = 2082
    TOOMANY = 2083
    INITIALIZING = 2084
    NO_INITIALIZE = 2085
    WRONG_PARENT = 2086
    TRIMMING = 2087
    NO_TRIM = 2088
    TRIM_NOTSUP = 2089
    NO_RESILVER_DEFER = 2090
    EXPORT_IN_PROGRESS = 2091
    REBUILDING = 2092
    VDEV_NOTSUP = 2093
    NOT_USER_NAMESPACE = 2094
    CKSUM = 2095
    RESUME_EXISTS = 2096
    SHAREFAILED = 2097
    RAIDZ_EXPAND_IN_PROGRESS = 2098
    ASHIFT_MISMATCH = 2099
    UNKNOWN = 2100


class LpcError(enum.IntEnum):
    """Why a search for pools to import failed (lpc_error_t)."""

    SUCCESS = 0
    BADCACHE = 2000
    BADPATH = 2001
    NOMEM = 2002
    EACCESS = 2003
    UNKNOWN = 2004


class PropertySource(enum.IntEnum):
    """Where the value of a property comes from (zprop_source_t)."""

    NONE = 1
    DEFAULT = 2
    TEMPORARY = 4
    LOCAL = 8
    INHERITED = 16
    RECEIVED = 32


class VDevState(enum.IntEnum):
    """vdev_state_t."""

    UNKNOWN = 0
    CLOSED = 1
    OFFLINE = 2
    REMOVED = 3
    CANT_OPEN = 4
    FAULTED = 5
    DEGRADED = 6
    HEALTHY = 7


class VDevAuxState(enum.IntEnum):
    """vdev_aux_t."""

    NONE = 0
    OPEN_FAILED = 1
    CORRUPT_DATA = 2
    NO_REPLICAS = 3
    BAD_GUID_SUM = 4
    TOO_SMALL = 5
    BAD_LABEL = 6
    VERSION_NEWER = 7
    VERSION_OLDER = 8
    UNSUP_FEAT = 9
    SPARED = 10
    ERR_EXCEEDED = 11
    IO_FAILURE = 12
    BAD_LOG = 13
    EXTERNAL = 14
    SPLIT_POOL = 15
    ASHIFT_TOO_BIG = 20


class PoolState(enum.IntEnum):
    """pool_state_t."""

    ACTIVE = 0
    EXPORTED = 1
    DESTROYED = 2
    SPARE = 3
    L2CACHE = 4
    UNINITIALIZED = 5
    UNAVAIL = 6
    POTENTIALLY_ACTIVE = 7


class ScanFunction(enum.IntEnum):
    """pool_scan_func_t."""

    NONE = 0
    SCRUB = 1
    RESILVER = 2
    ERRORSCRUB = 3


class ScanState(enum.IntEnum):
    """dsl_scan_state_t."""

    NONE = 0
    SCANNING = 1
    FINISHED = 2
    CANCELED = 3
    ERRORSCRUBBING = 4


class PoolStatus(enum.IntEnum):
    """What is wrong with a pool (zpool_status_t)."""

    CORRUPT_CACHE = 0
    MISSING_DEV_R = 1
    MISSING_DEV_NR = 2
    CORRUPT_LABEL_R = 3
    CORRUPT_LABEL_NR = 4
    BAD_GUID_SUM = 5
    CORRUPT_POOL = 6
    CORRUPT_DATA = 7
    FAILING_DEV = 8
    VERSION_NEWER = 9
    HOSTID_MISMATCH = 10
    HOSTID_ACTIVE = 11
    HOSTID_REQUIRED = 12
    IO_FAILURE_WAIT = 13
    IO_FAILURE_CONTINUE = 14
    IO_FAILURE_MMP = 15
    BAD_LOG = 16
    ERRATA = 17
    UNSUP_FEAT_READ = 18
    UNSUP_FEAT_WRITE = 19
    FAULTED_DEV_R = 20
    FAULTED_DEV_NR = 21
    VERSION_OLDER = 22
    FEAT_DISABLED = 23
    RESILVERING = 24
    OFFLINE_DEV = 25
    REMOVED_DEV = 26
    REBUILDING = 27
    REBUILD_SCRUB = 28
    NON_NATIVE_ASHIFT = 29
    COMPATIBILITY_ERR = 30
    INCOMPATIBLE_FEAT = 31
    OK = 32


class ZIOType(enum.IntEnum):
    """The kinds of I/O a vdev counts, in the order of its counters (zio_type_t)."""

    NONE = 0
    READ = 1
    WRITE = 2
    FREE = 3
    CLAIM = 4
    IOCTL = 5


class ZpoolWaitActivity(enum.IntEnum):
    """What `ZFSPool.wait` can wait for (zpool_wait_activity_t)."""

    DISCARD = 0
    FREE = 1
    INITIALIZE = 2
    REPLACE = 3
    REMOVE = 4
    RESILVER = 5
    SCRUB = 6
    TRIM = 7
    NUM_ACTIVITIES = 9


class FeatureState(enum.Enum):
    """How far a pool uses a feature."""

    DISABLED = 0
    ENABLED = 1
    ACTIVE = 2


class SendFlag(enum.Enum):
    """What a stream shall hold and how it is made. VERBOSE is VERBOSITY's older name."""

    VERBOSITY = 0
    VERBOSE = 0  # noqa: PIE796
    REPLICATE = 1
    DOALL = 2
    FROMORIGIN = 3
    PROPS = 4
    DRYRUN = 5
    PARSABLE = 6
    PROGRESS = 7
    LARGEBLOCK = 8
    EMBED_DATA = 9
    COMPRESS = 10
    RAW = 11
    BACKUP = 12
    HOLDS = 13
    SAVED = 14
    PROGRESSASTITLE = 15
    DEDUP = 16


class SendFlags(enum.IntEnum):
    """lzc_send_flags."""

    EMBED_DATA = 1


class DiffRecordType(enum.Enum):
    """What `zfs diff` says has happened to a path."""

    ADD = "+"
    REMOVE = "-"
    MODIFY = "M"
    RENAME = "R"


class DiffFileType(enum.Enum):
    """What a path of `zfs diff` is. The last four are missing in py-libzfs, which then fails."""

    BLOCK = "B"
    CHAR = "C"
    FILE = "F"
    DIRECTORY = "/"
    SYMLINK = "@"
    SOCKET = "="
    FIFO = "|"
    DOOR = ">"
    EVENT_PORT = "P"
    UNKNOWN = "?"
