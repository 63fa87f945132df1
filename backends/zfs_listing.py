"""What is in a store's dataset, and what is wrong with it: one command for each listing."""

import shlex
from collections.abc import Iterator

from backends import zfs_records
from backends.base import CONTAINERS, LAYERS, STAGING, VOLUMES, Found, Volume
from backends.libzfs import run
from backends.libzfs.errors import absent_is_success
from backends.zfs_programs import is_ours

_TYPES = "filesystem,volume,snapshot"


def volumes(home: str) -> Iterator[Found]:
    """Every layer, container and data volume in the store's dataset. Raises ZFSException."""
    for kind in (LAYERS, CONTAINERS):
        yield from _of_kind(f"{home}/{kind}/", kind)
    # A store that is older than its data volumes has no place for them.
    with absent_is_success():
        yield from _of_kind(f"{home}/{VOLUMES}/", VOLUMES)


def _of_kind(top: str, kind: str) -> Iterator[Found]:
    columns = ",".join(("name", "type", "readonly", "origin", *zfs_records.NAMES))
    listed = run.run(["zfs", "list", "-Hpr", "-t", _TYPES, "-o", columns, top.rstrip("/")])
    about: dict[str, list[list[str]]] = {}
    for line in listed.splitlines():
        row = line.split("\t")
        if row[0].startswith(top):
            id = row[0].removeprefix(top).partition("/")[0].partition("@")[0]
            about.setdefault(id, []).append(row)
    for id, rows in about.items():
        # A dataset is listed before its snapshots and what is in it.
        record = zfs_records.record(rows[0][4:])
        volume = Volume(kind, id)
        yield Found(volume, record, _problem(volume, rows, record))


def _problem(volume: Volume, rows: list[list[str]], record: bytes | None) -> str | None:
    name, kind, read_only, origin = rows[0][:4]
    if kind != "filesystem":
        return f"it is a {kind} and not a filesystem"
    inside = [row[0] for row in rows if row[0].startswith(f"{name}/") and "@" not in row[0]]
    if inside:
        return f"it has datasets in it that cowshed did not make: {', '.join(inside)}"
    if record is None:
        return "it has no record"
    if volume.kind != LAYERS:
        return None
    if read_only != "on":
        return "it is a layer and yet writable"
    # What was written to it nevertheless is nowhere seen: the snapshot is what is read and cloned.
    if all(row[0] != f"{name}@{volume.id}" for row in rows):
        return f"it has {lost(name, volume, origin)}"
    return None


def lost(name: str, volume: Volume, origin: str) -> str:
    """What is wrong with a layer whose own snapshot is not in it, and what helps."""
    if origin.endswith(f"@{volume.id}"):
        return f"lost its snapshot to a clone: zfs promote {shlex.quote(name)} brings it back"
    own = shlex.quote(f"{name}@{volume.id}")
    return f"lost its snapshot: if nothing was written to it since, zfs snapshot {own}"


def leftovers(home: str) -> list[str]:
    """Names below the store's dataset of what was begun and not finished. Raises ZFSException."""
    listed = run.run(["zfs", "list", "-Hpr", "-t", _TYPES, "-o", "name,defer_destroy", home])
    rows = [line.removeprefix(f"{home}/").split("\t") for line in listed.splitlines()]
    there = {name for name, _ in rows}
    found = []
    for name, deferred in rows:
        dataset, _, snapshot = name.partition("@")
        kind, _, id = dataset.partition("/")
        if kind not in (STAGING, LAYERS, CONTAINERS, VOLUMES):
            continue
        if kind == STAGING:
            unfinished = id != "" and not snapshot and "/" not in id
        else:
            # One that was deferred goes with its last clone.
            unfinished = is_ours(snapshot) and snapshot != id and deferred == "off"
            # A layer's own, which somebody's promotion took from it.
            unfinished = unfinished and f"{LAYERS}/{snapshot}" not in there
        if unfinished:
            found.append(name)
    return found
