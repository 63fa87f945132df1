"""What property values mean: text to Python and back, and numbers as people read them.

`parse_*` and `serialize_*` give what py-libzfs gives, which for a switch with a third state
(`canmount=noauto`, `xattr=sa`, `checksum=sha256`) is None: the text is in `value`.
"""

import datetime
import time
from collections.abc import Callable
from typing import NamedTuple

from backends.libzfs.native import BY_NAME, Kind

UINT64_MAX = "18446744073709551615"


class Converter(NamedTuple):
    """How one property is read and written."""

    type: type
    readonly: bool = False
    nullable: bool = False
    null: str = "-"
    read_null: str | None = None
    yes: str = "on"
    no: str = "off"

    def to_native(self, text: str | None) -> object:
        """The Python value of what ZFS printed; None if there is none."""
        null = self.null if self.read_null is None else self.read_null
        if text is None or (self.nullable and text == null):
            return None
        if self.type is int:
            return int(text) if text.isascii() and text.isdigit() else None
        if self.type is bool:
            return {self.yes: True, self.no: False}.get(text)
        if self.type is datetime.datetime:
            return utc(int(text)) if text.isdigit() else None
        return text

    def to_property(self, value: object) -> str:
        """The text that sets the property to `value`; raises ValueError if it cannot be set."""
        if self.readonly:
            raise ValueError("Property is read-only")
        if value is None:
            if not self.nullable:
                raise ValueError("Property is not nullable")
            return self.null
        if self.type is bool:
            return self.yes if value else self.no
        return str(value)


def utc(seconds: float) -> datetime.datetime:
    """A time as py-libzfs gives it: in UTC, without saying so."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(tzinfo=None)


_TEXT = Converter(str)
_TEXT_OR_NONE = Converter(str, nullable=True)
_SHOWN = Converter(str, readonly=True)
_SHOWN_OR_NONE = Converter(str, readonly=True, nullable=True)
_COUNT = Converter(int, readonly=True)
_COUNT_OR_NONE = Converter(int, readonly=True, nullable=True)
_INT = Converter(int)
_INT_OR_NONE = Converter(int, nullable=True)
_SWITCH = Converter(bool)
_SWITCH_OR_NONE = Converter(bool, nullable=True)
_QUOTA = Converter(int, nullable=True, null="none", read_null="0")
_SHARE = Converter(str, nullable=True, null="off")
_LIMIT = Converter(int, nullable=True, null="none", read_null=UINT64_MAX)
_LIMIT_COUNT = Converter(int, readonly=True, nullable=True, read_null=UINT64_MAX)


def _each(names: str, converter: Converter) -> dict[str, Converter]:
    return dict.fromkeys(names.split(), converter)


ZPOOL_CONVERTERS: dict[str, Converter] = {
    **_each("name health", _SHOWN),
    **_each("capacity dedupratio fragmentation", _SHOWN_OR_NONE),
    **_each("guid", _COUNT),
    **_each("size dedup_table_size dedupcached dedupditto free allocated", _COUNT_OR_NONE),
    **_each("freeing leaked", _COUNT_OR_NONE),
    **_each("ashift", _INT),
    **_each("version expandsize", _INT_OR_NONE),
    **_each("altroot bootfs cachemode failmode comment", _TEXT_OR_NONE),
    **_each("delegation autoreplace listsnapshots autoexpand readonly", _SWITCH_OR_NONE),
}

ZFS_CONVERTERS: dict[str, Converter] = {
    **_each("type refcompressratio", _SHOWN),
    **_each("used available referenced written logicalused logicalreferenced", _COUNT),
    **_each("usedbysnapshots usedbydataset usedbychildren usedbyrefreservation", _COUNT),
    **_each("creation", Converter(datetime.datetime, readonly=True)),
    **_each("mounted", Converter(bool, readonly=True, yes="yes", no="no")),
    **_each("quota reservation refquota refreservation", _QUOTA),
    **_each("recordsize", _INT_OR_NONE),
    **_each("version", Converter(int, nullable=True, null="")),
    **_each("copies volsize volblocksize", _INT),
    **_each("sharenfs sharesmb", _SHARE),
    **_each("checksum atime devices exec setuid readonly jailed canmount xattr", _SWITCH),
    **_each("utf8only vscan nbmand", _SWITCH),
    **_each("filesystem_limit snapshot_limit", _LIMIT),
    **_each("filesystem_count snapshot_count", _LIMIT_COUNT),
    **_each("mountpoint compression snapdir aclmode aclinherit normalization", _TEXT),
    **_each("casesensitivity primarycache secondarycache logbias dedup mislabel", _TEXT),
    **_each("sync volmode redundant_metadata", _TEXT),
}


def parse_zfs_prop(name: str, text: str | None) -> object:
    """The Python value of a dataset's property."""
    converter = ZFS_CONVERTERS.get(name)
    return text if converter is None else converter.to_native(text)


def serialize_zfs_prop(name: str, value: object) -> str:
    """The text that sets a dataset's property; raises ValueError if it cannot be set."""
    converter = ZFS_CONVERTERS.get(name)
    return str(value) if converter is None else converter.to_property(value)


def parse_zpool_prop(name: str, text: str | None) -> object:
    """The Python value of a pool's property."""
    converter = ZPOOL_CONVERTERS.get(name)
    return text if converter is None else converter.to_native(text)


def serialize_zpool_prop(name: str, value: object) -> str:
    """The text that sets a pool's property; raises ValueError if it cannot be set."""
    converter = ZPOOL_CONVERTERS.get(name)
    return str(value) if converter is None else converter.to_property(value)


def nicenum(number: int, unit: str = "") -> str:
    """A number as ZFS prints it for people: at most five characters (zfs_nicenum).

    `unit` is what follows a number below 1024: "B" for bytes, nothing for counts.
    """
    index = 0
    while number >> (10 * (index + 1)) and index < 6:
        index += 1
    suffix = (unit or "") if index == 0 else "KMGTPE"[index - 1]
    scale = 1 << (10 * index)
    if number % scale == 0:
        return f"{number // scale}{suffix}"
    shown = ""
    for places in (2, 1, 0):
        shown = f"{number / scale:.{places}f}{suffix}"
        if len(shown) <= 5:
            break
    return shown


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _date(text: str, seconds: bool = False) -> str:
    """A time as the commands print it: in the local zone, in English whatever the locale."""
    at = time.localtime(int(text))
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    tail = f":{at.tm_sec:02}" if seconds else ""
    return f"{day} {month} {at.tm_mday:2} {at.tm_hour:2}:{at.tm_min:02}{tail} {at.tm_year}"


_SHOWN_AS: dict[Kind, Callable[[str], str]] = {
    Kind.BYTES: lambda text: nicenum(int(text), "B"),
    Kind.QUOTA: lambda text: "none" if text == "0" else nicenum(int(text), "B"),
    Kind.NUMBER: lambda text: nicenum(int(text)),
    # OpenZFS 2.1 prints no limit as the largest number.
    Kind.LIMIT: lambda text: "none" if text == UINT64_MAX else nicenum(int(text)),
    Kind.RATIO: lambda text: f"{text}x",
    Kind.DATE: _date,
    Kind.DATE_SECONDS: lambda text: _date(text, seconds=True),
}


def shown(name: str, raw: str) -> str | None:
    """What `zfs get` prints for the value that `zfs get -p` prints as `raw`.

    None if only the command knows: a number of a property that this package has not heard of.
    """
    if not raw.replace(".", "", 1).isdigit() or not raw.isascii():
        return raw
    native = BY_NAME.get(name)
    if native is None:
        return raw if ":" in name else None
    show = _SHOWN_AS.get(native.kind)
    return raw if show is None else show(raw)
