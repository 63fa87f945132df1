"""Properties and features of pools: ZPoolProperty, ZPoolFeature."""

import re
from typing import TYPE_CHECKING, Any

from backends.libzfs import run
from backends.libzfs.enums import Error, FeatureState, PropertySource
from backends.libzfs.errors import ZFSException
from backends.libzfs.listing import MisreadableError, Row, Rows, parse
from backends.libzfs.values import parse_zpool_prop, serialize_zpool_prop

if TYPE_CHECKING:
    from backends.libzfs.pools import ZFSPool

FEATURE = "feature@"
_HEADING = re.compile(r"(\w+)(?: +\(read-only compatible\))?")
_descriptions: dict[str, str] = {}

# The names under which features are stored, from module/zcommon/zfeature_common.c of OpenZFS 2.3.2.
GUIDS: dict[str, str] = {
    "async_destroy": "com.delphix:async_destroy",
    "empty_bpobj": "com.delphix:empty_bpobj",
    "lz4_compress": "org.illumos:lz4_compress",
    "multi_vdev_crash_dump": "com.joyent:multi_vdev_crash_dump",
    "spacemap_histogram": "com.delphix:spacemap_histogram",
    "enabled_txg": "com.delphix:enabled_txg",
    "hole_birth": "com.delphix:hole_birth",
    "zpool_checkpoint": "com.delphix:zpool_checkpoint",
    "spacemap_v2": "com.delphix:spacemap_v2",
    "extensible_dataset": "com.delphix:extensible_dataset",
    "bookmarks": "com.delphix:bookmarks",
    "filesystem_limits": "com.joyent:filesystem_limits",
    "embedded_data": "com.delphix:embedded_data",
    "livelist": "com.delphix:livelist",
    "log_spacemap": "com.delphix:log_spacemap",
    "large_blocks": "org.open-zfs:large_blocks",
    "large_dnode": "org.zfsonlinux:large_dnode",
    "sha512": "org.illumos:sha512",
    "skein": "org.illumos:skein",
    "edonr": "org.illumos:edonr",
    "redaction_bookmarks": "com.delphix:redaction_bookmarks",
    "redacted_datasets": "com.delphix:redacted_datasets",
    "bookmark_written": "com.delphix:bookmark_written",
    "device_removal": "com.delphix:device_removal",
    "obsolete_counts": "com.delphix:obsolete_counts",
    "userobj_accounting": "org.zfsonlinux:userobj_accounting",
    "bookmark_v2": "com.datto:bookmark_v2",
    "encryption": "com.datto:encryption",
    "project_quota": "org.zfsonlinux:project_quota",
    "allocation_classes": "org.zfsonlinux:allocation_classes",
    "resilver_defer": "com.datto:resilver_defer",
    "device_rebuild": "org.openzfs:device_rebuild",
    "zstd_compress": "org.freebsd:zstd_compress",
    "draid": "org.openzfs:draid",
    "zilsaxattr": "org.openzfs:zilsaxattr",
    "head_errlog": "com.delphix:head_errlog",
    "blake3": "org.openzfs:blake3",
    "block_cloning": "com.fudosecurity:block_cloning",
    "vdev_zaps_v2": "com.klarasystems:vdev_zaps_v2",
    "redaction_list_spill": "com.delphix:redaction_list_spill",
    "raidz_expansion": "org.openzfs:raidz_expansion",
    "fast_dedup": "com.klarasystems:fast_dedup",
    "longname": "org.zfsonlinux:longname",
    "large_microzap": "com.klarasystems:large_microzap",
}


def read(*pools: str) -> dict[str, Rows]:
    """All properties of the named pools, or of all pools, by pool: one command.

    Raises ZFSException(NOENT) for a pool that is not imported.
    """
    output = run.run(["zpool", "get", "-Hp", "-o", "name,property,source,value", "all", *pools])
    try:
        return parse(output, lead="size")
    except MisreadableError as error:
        raise ZFSException(
            Error.BADPROP, "cannot list pool properties: a value holds line breaks"
        ) from error


class ZPoolProperty:
    """One property of one pool."""

    pool: "ZFSPool"
    _name: str
    _row: Row

    def __init__(self) -> None:
        raise RuntimeError("ZPoolProperty cannot be instantiated by the user")

    @classmethod
    def _of(cls, pool: "ZFSPool", name: str, row: Row) -> "ZPoolProperty":
        self = cls.__new__(cls)
        self.pool = pool
        self._name = name
        self._row = row
        return self

    def asdict(self) -> dict[str, Any]:
        """value, rawvalue, parsed and the name of the source."""
        return {
            "value": self.value,
            "rawvalue": self.rawvalue,
            "parsed": self.parsed,
            "source": self.source.name,
        }

    def __str__(self) -> str:
        return f"<libzfs.ZPoolProperty name '{self.name}' value '{self.value}'>"

    __repr__ = __str__

    @property
    def name(self) -> str:
        """The property's name."""
        return self._name

    @property
    def value(self) -> str:
        """The value as `zpool get` prints it; setting it is `zpool set`."""
        if not self._row.raw.replace(".", "", 1).isdigit():
            return self._row.raw
        return self.pool._shown().get(self._name, self._row.raw)

    @value.setter
    def value(self, value: object) -> None:
        run.run(["zpool", "set", f"{self._name}={value}", self.pool.name])
        self.pool._forget()
        self._row = self.pool._rows().get(self._name, self._row)

    @property
    def rawvalue(self) -> str:
        """The value as `zpool get -p` prints it; "-" for none."""
        return self._row.raw

    @property
    def source(self) -> PropertySource:
        """Where the value comes from."""
        return self._row.source

    @property
    def parsed(self) -> Any:
        """The value in Python; None for none."""
        return parse_zpool_prop(self._name, self._row.raw)

    @parsed.setter
    def parsed(self, value: object) -> None:
        self.value = serialize_zpool_prop(self._name, value)

    @property
    def allowed_values(self) -> None:
        """None: py-libzfs looks the pool's property up among those of datasets, by chance."""
        return None

    def reset(self) -> None:
        """Nothing, as in py-libzfs: a pool's property has no default to go back to."""


class ZPoolFeature:
    """One feature of one pool."""

    def __init__(self, pool: "ZFSPool", name: str, state: str) -> None:
        self.pool = pool
        self._name = name
        self._state = FeatureState[state.upper()]

    def asdict(self) -> dict[str, Any]:
        """The feature in plain types."""
        return {
            "name": self.name,
            "guid": self.guid,
            "description": self.description,
            "state": self.state.name,
        }

    @property
    def name(self) -> str:
        """The feature's short name."""
        return self._name

    @property
    def guid(self) -> str | None:
        """The name under which it is stored: "com.delphix:async_destroy"; None if this package
        has not heard of it."""
        return GUIDS.get(self._name)

    @property
    def description(self) -> str:
        """What it is, in the words of `zpool upgrade -v` (one command for all features)."""
        if not _descriptions:
            _descriptions.update(parse_descriptions(run.run(["zpool", "upgrade", "-v"])))
        return _descriptions.get(self._name, "")

    @property
    def state(self) -> FeatureState:
        """Whether the pool may use it, or does."""
        return self._state

    def enable(self) -> None:
        """Let the pool use it."""
        run.run(["zpool", "set", f"{FEATURE}{self._name}=enabled", self.pool.name])
        self.pool._forget()


def parse_descriptions(text: str) -> dict[str, str]:
    """Feature -> description, of what `zpool upgrade -v` printed."""
    found: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        heading = _HEADING.fullmatch(line.rstrip())
        if line.startswith("     ") and name:
            found[name] = " ".join([*found[name].split(), *line.split()])
        elif heading:
            name = heading[1]
            found[name] = ""
        else:
            name = ""
    return {name: text for name, text in found.items() if text}
