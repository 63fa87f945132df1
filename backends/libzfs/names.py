"""Which names ZFS takes, and numbers with a unit.

Names are checked before a command sees them, by the rules of ZFS's own name check, so a name is
never taken for an option and an error is the same everywhere. Legal in a component: ASCII letters
and digits, and `-_.: `; the space is legal, also at the ends.

Source: module/zcommon/zfs_namecheck.c, zfs_validate_name, zpool_name_valid and zfs_nicestrtonum
of OpenZFS 2.3.2.
"""

import re

from backends.libzfs.enums import DatasetType, Error
from backends.libzfs.errors import ZFSException

MAX_NAME = 256
MAX_NESTING = 50
_COMPONENT = re.compile(r"[A-Za-z0-9_.: %-]+")
_RESERVED_POOLS = ("mirror", "raidz", "draid", "spare")
_NUMBER = re.compile(r"(\d+)(\.\d*)?|\.\d+")
_UNITS = "BKMGTPEZ"
_UINT64_MAX = (1 << 64) - 1


def _entity_problem(name: str) -> str | None:
    if len(name.encode("utf-8", "surrogateescape")) >= MAX_NAME:
        return "name is too long"
    if name.startswith("/"):
        return "leading slash in name"
    if name.endswith("/"):
        return "trailing slash in name"
    dataset, delimiter, rest = _split(name)
    if delimiter and ("@" in rest or "#" in rest):
        return "multiple '@' and/or '#' delimiters in name"
    components = dataset.split("/")
    for component in [*components, rest] if delimiter else components:
        if not component:
            return "empty component or misplaced '@' or '#' delimiter in name"
        if not _COMPONENT.fullmatch(component):
            return "invalid character in name"
    if "." in components:
        return "self reference, '.' is found in name"
    if ".." in components:
        return "parent reference, '..' is found in name"
    return None


def _split(name: str) -> tuple[str, str, str]:
    places = [place for place in (name.find("@"), name.find("#")) if place >= 0]
    if not places:
        return name, "", ""
    cut = min(places)
    return name[:cut], name[cut], name[cut + 1 :]


def problem(name: str, *types: DatasetType) -> str | None:
    """What is wrong with `name` as the name of one of `types`, or None."""
    delimiter = _split(name)[1]
    if delimiter == "@" and DatasetType.SNAPSHOT not in types:
        return "snapshot delimiter '@' is not expected here"
    if delimiter == "#" and DatasetType.BOOKMARK not in types:
        return "bookmark delimiter '#' is not expected here"
    if not delimiter and set(types) <= {DatasetType.SNAPSHOT, DatasetType.BOOKMARK}:
        return "missing '@' or '#' delimiter in name"
    if not re.match("[A-Za-z]", name):
        return "pool doesn't begin with a letter" if name else "missing dataset name"
    if name.count("/") >= MAX_NESTING:
        return "maximum name nesting depth exceeded"
    return _entity_problem(name)


ANY = (DatasetType.FILESYSTEM, DatasetType.VOLUME, DatasetType.SNAPSHOT, DatasetType.BOOKMARK)
DATASET = (DatasetType.FILESYSTEM, DatasetType.VOLUME)


def check(name: str, doing: str, *types: DatasetType) -> str:
    """`name`, if it is one that ZFS takes; `doing` reads after "cannot".

    Raises ZFSException(Error.INVALIDNAME).
    """
    reason = problem(name, *(types or ANY))
    if reason is not None:
        shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise ZFSException(Error.INVALIDNAME, f"cannot {doing} {shown!r}: {reason}")
    return name


def check_snapshot_part(name: str, doing: str) -> str:
    """The part of a snapshot's name after the `@`, or a bookmark's after the `#`, checked."""
    if len(name) >= MAX_NAME or not _COMPONENT.fullmatch(name) or "%" in name:
        raise ZFSException(Error.INVALIDNAME, f"cannot {doing} {name!r}: invalid snapshot name")
    return name


def validate_dataset_name(name: str) -> bool:
    """Whether `name` is one of a filesystem or volume."""
    return not set("@#") & set(name) and _entity_problem(name) is None and bool(name)


def validate_snapshot_name(name: str) -> bool:
    """Whether `name` is one of a snapshot, with its dataset: `pool/data@monday`."""
    return "@" in name and "#" not in name and _entity_problem(name) is None


def validate_pool_name(name: str) -> bool:
    """Whether a pool may be called `name`."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.: -]*", name) or "%" in name:
        return False
    if len(name) >= MAX_NAME - 2 - 2 * len("$ORIGIN"):
        return False
    return not (name.startswith(_RESERVED_POOLS) or name == "log")


def nicestrtonum(zfs: object, value: str) -> int:
    """The number of bytes in a text such as "10G", "1.5TiB" or "512".

    `zfs` is not used; py-libzfs takes its handle there. Raises ValueError.
    """
    match = _NUMBER.match(value)
    shift = _shift(value[match.end() :]) if match else None
    if match is None or shift is None:
        raise ValueError(f"Cannot convert {value} to integer")
    whole = int(match[1]) if match[1] else 0
    if "." in match[0]:
        number = int(float(match[0] if match[0] != "." else "0") * 2**shift)
    else:
        number = whole << shift
    if number > _UINT64_MAX:
        raise ValueError(f"Cannot convert {value} to integer")
    return number


def _shift(unit: str) -> int | None:
    """The power of two that a suffix stands for: K, KB and KiB are 10; None if it is no suffix."""
    if not unit:
        return 0
    letter, rest = unit[0].upper(), unit[1:].upper()
    if letter not in _UNITS or rest not in ("", "B", "IB") or (letter == "B" and rest):
        return None
    return 10 * _UNITS.index(letter)
