"""The end of what was begun and not finished, by this process or by one that died."""

import contextlib
from typing import TYPE_CHECKING

from backends.base import CONTAINERS, LAYERS, STAGING, VOLUMES, Volume
from backends.errors import BackendError
from imagegraph import splits
from imagegraph.errors import StoreError
from imagegraph.model import Removed

if TYPE_CHECKING:
    from imagegraph.store import Store

_KINDS = {"containers": (CONTAINERS,), "layers": (STAGING, LAYERS), "volumes": (VOLUMES,)}
"""Where the volumes of a table's rows are, from their making on."""


def undo(store: "Store", table: str, ids: list[str]) -> None:
    """See Store.undo."""
    # What is raised in here would hide why the operation failed.
    with contextlib.suppress(StoreError):
        states = store.graph.known(table, ids)
        for id in ids:
            if states.get(id) in ("creating", "removing"):
                try:
                    _end(store, table, id)
                except (BackendError, StoreError):
                    leave(store, table, id)


def leave(store: "Store", table: str, id: str) -> None:
    """Let whoever comes next end what cannot be ended now."""
    with store.graph.writing():
        store.graph.claim(table, id, store.owner.token, None)


def reap(store: "Store") -> list[Removed]:
    """See Store.reap."""
    ended = []
    for table, id, state, owner in store.graph.undone():
        if store.owner.lives(owner):
            continue
        if table == "volumes" and state == "ready":
            ended += _emptied(store, id, owner)
            continue
        with store.graph.writing():
            if state == "ready" and store.graph.layer_is_needed(id):
                store.graph.release([id])
                continue
            claimed = store.graph.claim(table, id, owner, store.owner.token)
        if not claimed:
            continue
        try:
            _end(store, table, id)
        except BackendError:
            leave(store, table, id)
        else:
            ended.append(Removed(table.removesuffix("s"), id))
    return ended


def _end(store: "Store", table: str, id: str) -> None:
    for kind in _KINDS[table]:
        store.backend.remove(Volume(kind, id))
    if table == "layers":
        splits.drop(store.root, id)
    with store.graph.writing():
        store.graph.drop(table, id)


def _emptied(store: "Store", id: str, owner: int | None) -> list[Removed]:
    """What became of a data volume that a dead process was filling."""
    from imagegraph import filling

    try:
        return [Removed("filling", id)] if filling.recover(store, id, owner) else []
    except BackendError:
        return []
