"""Whole listings in plain types: datasets_serialized and snapshots_serialized.

One command for all datasets, one for all their snapshots, and one for all holds.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from backends.libzfs import mounts, run
from backends.libzfs.enums import DatasetType
from backends.libzfs.listing import FILESYSTEMS, TYPE_NAMES, Rows, get
from backends.libzfs.names import DATASET, problem
from backends.libzfs.native import of_type
from backends.libzfs.properties import serialized
from backends.libzfs.snapshots import holds as read_holds

_SIMPLE = {"name", "createtxg"}


def _wanted(kind: DatasetType, rows: Rows, props: Collection[str] | None, user: bool) -> list[str]:
    """The properties of one dataset to be shown: of ZFS's own those in `props` (None: all)."""
    keys = [key for key in rows if ":" in key] if user else []
    for native in of_type(kind, run.version()):
        if props is None or native.name in props:
            keys.append(native.name)
    return keys


def datasets(
    names: Sequence[str],
    *,
    props: Collection[str] | None,
    user_props: bool,
    snapshots: bool,
    retrieve_children: bool,
    snapshots_recursive: bool,
    snapshot_props: Collection[str] | None,
) -> Iterator[dict[str, Any]]:
    """Each named dataset as a tree of dicts; one that does not exist is left out."""
    legal = [name for name in names if problem(name, *DATASET) is None]
    if retrieve_children:
        listing = get(legal, types=FILESYSTEMS, depth=None, absent_ok=True)
    else:
        listing = get(legal, absent_ok=True)
    found = {
        each: _dataset(each, rows, props, user_props, retrieve_children)
        for each, rows in listing.items()
    }
    for each, entry in found.items() if retrieve_children else ():
        parent = each.rpartition("/")[0]
        if parent in found:
            found[parent]["children"].append(entry)
    if snapshots or snapshots_recursive:
        below = retrieve_children or snapshots_recursive
        _add_snapshots(legal, None if below else 1, found, snapshots_recursive, snapshot_props)
    yield from (found[name] for name in legal if name in found)


def _dataset(
    name: str, rows: Rows, props: Collection[str] | None, user_props: bool, children: bool
) -> dict[str, Any]:
    kind = TYPE_NAMES[rows["type"].raw]
    keys = _wanted(kind, rows, props, user_props)
    properties = {key: serialized(name, rows, key, with_info=True) for key in keys}
    entry: dict[str, Any] = {
        "properties": properties,
        "id": name,
        "type": kind.name,
        "name": name,
        "pool": name.split("/")[0],
    }
    if "encryption" in properties:
        entry["encrypted"] = properties["encryption"]["value"] != "off"
    if "encryptionroot" in properties:
        root = properties["encryptionroot"]["value"]
        entry["encryption_root"] = root if root not in ("", "-") else None
    if "keystatus" in properties:
        entry["key_loaded"] = properties["keystatus"]["value"] == "available"
    if children:
        entry["children"] = []
    return entry


def _add_snapshots(
    names: Sequence[str],
    depth: int | None,
    found: dict[str, dict[str, Any]],
    recursive: bool,
    props: Collection[str] | None,
) -> None:
    """Give each dataset its snapshots, or those of all below it too."""
    wanted = None if props is None else ["name", *props]
    for entry in found.values():
        entry["snapshots"] = []
    for snapshot in snapshots_of(names, props=wanted, depth=depth):
        owner = snapshot["dataset"]
        if owner in found:
            found[owner]["snapshots"].append(snapshot)
        while recursive and "/" in owner:
            owner = owner.rpartition("/")[0]
            if owner in found:
                found[owner]["snapshots"].append(snapshot)


def snapshots_of(
    names: Sequence[str],
    *,
    props: Collection[str] | None = None,
    holds: bool = False,
    mounted: bool = False,
    depth: int | None = None,
    min_txg: int = 0,
    max_txg: int = 0,
) -> list[dict[str, Any]]:
    """The snapshots of the named datasets, and the named snapshots; what does not exist is left
    out. Transaction groups of 0 bound nothing."""
    chosen = None if not props else set(props)
    simple = chosen is not None and chosen <= _SIMPLE
    legal = [name for name in names if problem(name, *DATASET, DatasetType.SNAPSHOT) is None]
    asked = "createtxg" if simple else "all"
    below = [name for name in legal if "@" not in name]
    listing = get(below, asked, types="snapshot", depth=depth, absent_ok=True)
    listing |= get([name for name in legal if "@" in name], asked, absent_ok=True)
    found = []
    for name, rows in listing.items():
        txg = int(rows["createtxg"].raw)
        if txg < min_txg or (max_txg and txg > max_txg):
            continue
        found.append(_snapshot(name, rows, None if simple else (chosen,), txg))
    _add(found, holds, mounted)
    return found


def _snapshot(
    name: str, rows: Rows, shown: tuple[Collection[str] | None] | None, txg: int
) -> dict[str, Any]:
    dataset, _, short = name.partition("@")
    entry: dict[str, Any] = {}
    if shown is not None:
        keys = _wanted(DatasetType.SNAPSHOT, rows, shown[0], user=True)
        entry["properties"] = {key: serialized(name, rows, key, with_info=False) for key in keys}
    entry |= {
        "pool": name.split("/")[0].split("@")[0],
        "name": name,
        "type": DatasetType.SNAPSHOT.name,
        "snapshot_name": short,
        "dataset": dataset,
        "id": name,
        "createtxg": str(txg),
    }
    return entry


def _add(found: list[dict[str, Any]], holds: bool, mounted: bool) -> None:
    """Give the snapshots their holds (one command for all) and their mount points."""
    tags = read_holds((entry["name"] for entry in found), absent_ok=True) if holds else {}
    points = mounts.points() if mounted else {}
    for entry in found:
        if holds:
            entry["holds"] = tags[entry["name"]]
        if mounted:
            entry["mountpoint"] = points.get(entry["name"])
