"""Compares graph and disk, and repairs.

Repair never deletes the last copy of anything. What was never acknowledged goes (rows of dead
processes, leftovers of the backend), and so does what was removed and came back when the power
went; a volume without a row is put aside in quarantine and named; an image or container whose
volume is gone is named, and stays until the user removes it.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from backends.base import CONTAINERS, LAYERS, VOLUMES, Found, Volume
from backends.errors import VolumeBusy, VolumeNotFound
from imagegraph import records, splits
from imagegraph.model import Problem

if TYPE_CHECKING:
    from imagegraph.store import Store

REWRITE = "write its record again"

REMOVER = {LAYERS: "rmi", CONTAINERS: "rm", VOLUMES: "volume rm"}
"""The command that removes what a volume of that kind belongs to."""

LOOKS = 10
PAUSE = 0.1
"""Seconds before the first of the LOOKS at a record that may be about to be written; the second
comes after twice as many, and so on."""


def check(store: "Store", *, repair: bool = False) -> list[Problem]:
    """Everything that is wrong with the store; `repair` mends what can be mended.

    Raises BackendError, StoreError if the store cannot be read at all.
    """
    found = [*_database(store), *_half_done(store, repair), *_leftovers(store, repair)]
    # The disk is read before the graph: a volume made meanwhile then has its row already.
    disk = list(store.backend.volumes())
    suspects = []
    for table, kind in (("layers", LAYERS), ("containers", CONTAINERS), ("volumes", VOLUMES)):
        known = store.graph.known(table)
        there = [met for met in disk if met.volume.kind == kind]
        found += _missing(store, kind, known, {met.volume.id for met in there})
        for met in there:
            if met.volume.id not in known:
                found += _stray(store, met.volume, repair)
            elif met.problem and known[met.volume.id] == "ready":
                found.append(_damaged(store, met, repair))
            elif known[met.volume.id] == "ready" and not _is_described(store, met):
                suspects.append(met.volume)
    return [*found, *_outdated(store, suspects, repair), *_strays_beside(store, repair)]


def _database(store: "Store") -> Iterator[Problem]:
    for fault in store.graph.faults():
        yield Problem("graph", fault, "put a copy of the database back", False)


def _half_done(store: "Store", repair: bool) -> Iterator[Problem]:
    dead = [row for row in store.graph.undone() if not store.owner.lives(row[3])]
    # Asked again, because its owner may have finished it just before its end.
    still = set(store.graph.undone())
    left = [row for row in dead if row in still]
    ended = {removed.name for removed in store.reap()} if repair else set()
    for table, id, state, owner in left:
        what = f"left {state} by a process that died"
        if state == "ready" and table == "volumes":
            what = "left half-filled by a process that died"
        elif state == "ready":
            what = "left by a pull or load that was broken off, for the next to go on from"
        elif owner is None:
            what = "its removal was put off because it was in use"
        yield Problem(f"{table}/{id}", what, "end it", id in ended)


def _leftovers(store: "Store", repair: bool) -> list[Problem]:
    names = store.backend.leftovers()
    # What is in use is left to the next repair.
    swept = store.backend.sweep() if repair else []
    return [
        Problem(name, "left behind by a process that died", "remove it", name in swept)
        for name in names
    ]


def _missing(
    store: "Store", kind: str, known: dict[str, str], there: set[str]
) -> Iterator[Problem]:
    for id, state in known.items():
        # Asked again, because it may have been made or removed since the disk was read.
        if state != "ready" or id in there or _is_there(store, Volume(kind, id)):
            continue
        if store.graph.known(kind, [id]).get(id) == "ready":
            remedy = f"its files are lost: remove it with {REMOVER[kind]}, or put the volume back"
            yield Problem(f"{kind}/{id}", "its volume is not on disk", remedy, False)


def _stray(store: "Store", volume: Volume, repair: bool) -> Iterator[Problem]:
    # A volume goes before its row does, so what is still there has no row and will have none.
    if not _is_there(store, volume):
        return
    what = "a volume that the graph does not know"
    if volume.id in store.graph.removed():
        yield _remove_again(store, volume, repair)
    elif repair:
        where = store.backend.quarantine(volume)
        yield Problem(volume.fragment, what, f"moved to {where}", True)
    else:
        yield Problem(volume.fragment, what, "put it aside", False)


def _strays_beside(store: "Store", repair: bool) -> Iterator[Problem]:
    """A layer's volume goes before what is kept of its archive."""
    # The directory is read before the graph: what is written meanwhile has its row already.
    for name in splits.strays(store.root, lambda: store.graph.known("layers")):
        if repair:
            splits.remove(store.root, name)
        what = "it belongs to no layer, or was begun by a process that died"
        yield Problem(f"{splits.DIRECTORY}/{name}", what, "remove it", repair)


def _remove_again(store: "Store", volume: Volume, repair: bool) -> Problem:
    """A removal is not awaited to be durable, so the power may go before it is."""
    what = "it was removed, but came back when the power went"
    if repair:
        try:
            store.backend.remove(volume)
        except VolumeBusy as busy:
            return Problem(volume.fragment, what, str(busy), False)
    return Problem(volume.fragment, what, "remove it again", repair)


def _is_there(store: "Store", volume: Volume) -> bool:
    try:
        with store.backend.open(volume):
            return True
    except VolumeNotFound:
        return False


def _damaged(store: "Store", met: Found, repair: bool) -> Problem:
    where, what = met.volume.fragment, met.problem or ""
    if met.record is not None:
        return Problem(where, what, "do not trust its contents: remove it and make it anew", False)
    if repair:
        records.describe(store.graph, store.backend, met.volume)
    return Problem(where, what, REWRITE, repair)


def _is_described(store: "Store", met: Found) -> bool:
    return met.record == records.wanted(store.graph, met.volume)


def _outdated(store: "Store", suspects: list[Volume], repair: bool) -> list[Problem]:
    """A crash or a full disk may have come between a change of the graph and its record."""
    left = set(suspects)
    for look in range(LOOKS):
        left = _undescribed(store, left, PAUSE * (look + 1))
    wrong = sorted(left)
    if repair:
        for volume in wrong:
            records.describe(store.graph, store.backend, volume)
        left = _undescribed(store, left, PAUSE)
    what = "its record is out of date"
    return [
        Problem(volume.fragment, what, REWRITE, repair and volume not in left) for volume in wrong
    ]


def _undescribed(store: "Store", suspects: set[Volume], pause: float) -> set[Volume]:
    """Those that are still there and whose record is still not what the graph says.

    Who has just changed the graph has the record to write yet, and is given a moment for it.
    """
    if not suspects:
        return suspects
    time.sleep(pause)
    there = [met for met in store.backend.volumes() if met.volume in suspects]
    return {
        met.volume
        for met in there
        if records.wanted(store.graph, met.volume) is not None and not _is_described(store, met)
    }
