"""Where a volume on btrfs comes from, and since when two volumes have gone their own ways.

The first line of a volume's record says it, as JSON: `origin`, the layer that the volume, or the
container that it is a commit of, was cloned from (null: none); `cloned`, when, in nanoseconds since
the epoch; `uuid` and `transid` of that layer's subvolume, whose last transaction that is; and
`source`, the UUID of the subvolume that this one is a snapshot of. What a subvolume says of itself
must agree, or the record is no proof.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import btrfsutil

from backends.base import LAYERS, Volume
from backends.changes import CLOCK_MARGIN
from backends.layout import Layout


class Step(NamedTuple):
    """A volume, or a layer above it: since which transaction, and which moment, what descends from
    it may have changed. Both are of the earliest clone on the way; `uuid` is the subvolume's."""

    id: str
    uuid: str
    transid: int | None
    cloned: int


class Parted(NamedTuple):
    """Since which transaction two volumes may have changed, None for one that has not.

    `settled` is the moment before which nothing that has the same ctime on both sides can have
    changed, in nanoseconds since the epoch; 0 where none is known.
    """

    before: int | None
    after: int | None
    settled: int


def cloned_from(path: str | None, id: str | None) -> dict[str, Any]:
    """The lineage of a volume that is about to be made a snapshot of the layer at `path`."""
    head: dict[str, Any] = {"origin": id, "cloned": time.time_ns()}
    if path is not None:
        layer = btrfsutil.subvolume_info(path)
        head |= {"uuid": layer.uuid.hex(), "transid": layer.otransid, "source": layer.uuid.hex()}
    return head


def copied_from(path: str, head: dict[str, Any]) -> dict[str, Any]:
    """The lineage of what is about to be made a snapshot of the subvolume at `path`."""
    return head | {"source": btrfsutil.subvolume_info(path).uuid.hex()}


def head(layout: Layout, volume: Volume) -> dict[str, Any]:
    """The lineage in the volume's record; empty where there is none."""
    line = (layout.record(volume) or b"").partition(b"\n")[0]
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def parted(layout: Layout, before: Volume, after: Volume) -> Parted | None:
    """Since when the volumes differ from the one that both descend from; None if that is not known.

    Raises OSError where a volume is not there.
    """
    older = {step.id: step for step in _descent(layout, before)}
    for step in _descent(layout, after):
        same = older.get(step.id)
        if same is None:
            continue
        if same.uuid != step.uuid:
            return None
        direct = step.id in (before.id, after.id)
        settled = max(0, min(step.cloned, same.cloned) - CLOCK_MARGIN) if direct else 0
        return Parted(same.transid, step.transid, settled)
    return None


def _descent(layout: Layout, volume: Volume) -> Iterator[Step]:
    """The volume and the layers above it, the nearest first, as far as that can be proved."""
    found = btrfsutil.subvolume_info(layout.path(volume))
    if volume.kind == LAYERS and found.ctransid > found.otransid:
        # Somebody has written to it.
        return
    step = Step(volume.id, found.uuid.hex(), None, time.time_ns())
    yield step
    while True:
        told = head(layout, volume)
        origin, cloned = told.get("origin"), told.get("cloned")
        uuid, transid = told.get("uuid"), told.get("transid")
        if not isinstance(origin, str) or not isinstance(cloned, int):
            return
        if not isinstance(uuid, str) or not isinstance(transid, int):
            return
        if told.get("source") != found.parent_uuid.hex():
            return
        step = Step(origin, uuid, transid, min(step.cloned, cloned))
        yield step
        volume = Volume(LAYERS, origin)
        path = layout.path(volume)
        if not os.path.lexists(path):
            return
        found = btrfsutil.subvolume_info(path)
        if found.uuid.hex() != uuid or found.otransid != transid or found.ctransid > transid:
            return
