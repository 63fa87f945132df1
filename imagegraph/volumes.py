"""Data volumes: what containers mount and what outlives them; no part of any image.

A volume is made as everything in a store is: a row in state `creating`, the backend's volume, the
row `ready`. Anonymous ones of a new container become ready with it, or go with it.

What the image has in their place is copied into them by `fill` (filling.py).
"""

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.base import VOLUMES, Volume
from backends.errors import Unavailable, VolumeBusy, VolumeNotFound
from imagegraph import records
from imagegraph.attachments import Wanted, named, wanted
from imagegraph.errors import Conflict, NotFound, StoreError
from imagegraph.filling import fill as fill
from imagegraph.filling import recover
from imagegraph.model import Container, DataVolume, Removed, new_id
from imagegraph.names import valid
from imagegraph.volume_rows import Attached

if TYPE_CHECKING:
    from imagegraph.listing import Line
    from imagegraph.store import Store

PAUSE = 0.01
"""Seconds between two looks at what another process is making."""

LEFT = ("removing", None)
"""State and owner of what could not be removed, and waits for whoever comes."""


class Attachment(NamedTuple):
    """A container's data volume: where, whether it may write, whether it is to be filled."""

    target: str
    volume: DataVolume
    read_only: bool
    copy: bool


def kept(volume: DataVolume) -> Volume:
    """What the backend keeps of it."""
    return Volume(VOLUMES, volume.id)


# Making and finding


def create(
    store: "Store", name: str | None = None, labels: Mapping[str, str] | None = None
) -> DataVolume:
    """Make a volume, an anonymous one without a name; one that has the name is returned as it is.

    Raises StoreError for what is no name, BackendError.
    """
    if name is not None and not valid(name):
        raise StoreError(
            f"invalid volume name {name[:64]!r}: take two or more letters, digits, '_', '.' and"
            " '-', a letter or digit first"
        )
    while True:
        if name is not None and (found := store.graph.volume_named(name)):
            return found
        volume = _new(name, labels or {})
        try:
            with store.graph.writing():
                store.graph.add_volume(volume, store.owner.token)
            break
        except sqlite3.IntegrityError:
            _await(store, volume.name)
    try:
        store.backend.create(kept(volume), record=records.of_volume(volume))
        with store.graph.writing():
            store.graph.ready_volume(volume.id)
    except BaseException:
        store.undo("volumes", [volume.id])
        raise
    return volume


def _new(name: str | None, labels: Mapping[str, str]) -> DataVolume:
    id = new_id()
    return DataVolume(id, name or id, name is None, time.time_ns(), dict(labels))


def _await(store: "Store", name: str) -> None:
    """Wait for who makes or removes the volume. Raises Conflict if it cannot be removed now."""
    store.reap()
    state = store.graph.volume_state(name)
    if state == LEFT:
        raise Conflict(
            f"volume {name} was removed but is in use yet: end what uses it, then"
            " cowshed check --repair"
        )
    if state is not None and state[0] != "ready":
        time.sleep(PAUSE)


def find(store: "Store", name: str) -> DataVolume:
    """The volume of that name, or the anonymous one whose id begins so.

    Raises NotFound, Ambiguous.
    """
    found = store.graph.volume_named(name) if valid(name) else None
    if found is None and re.fullmatch("[0-9a-f]{1,64}", name):
        found = store.graph.volume_by_prefix(name)
    if found is None:
        raise NotFound(f"no volume is called {name}: cowshed volume ls lists those there are")
    return found


def listed(store: "Store") -> list[DataVolume]:
    """Every volume, in order of their names."""
    return store.graph.data_volumes()


def in_use(store: "Store") -> dict[str, int]:
    """Volume id -> how many containers have it attached, if any."""
    found: dict[str, int] = {}
    for own in store.graph.all_attached().values():
        for id in {volume.id for volume in own}:
            found[id] = found.get(id, 0) + 1
    return found


# Containers and their volumes


def ensure(store: "Store", container: Container, config: Mapping[str, Any]) -> list[Attachment]:
    """Make and attach what the container wants and does not have yet; idempotent.

    `config` is its merged config. Raises NotFound, Conflict, StoreError, BackendError.
    """
    wants = wanted(config, container.options)
    while True:
        rows = {each.target: each for each in store.graph.attached(container.id)} if wants else {}
        if missing := [want for want in wants if want.target not in rows]:
            _attach_now(store, container, missing)
        elif all(_is_whole(store, container, rows[want.target]) for want in wants):
            return [
                Attachment(want.target, rows[want.target].volume, want.read_only, want.copy)
                for want in wants
            ]


def _attach_now(store: "Store", container: Container, wants: Sequence[Wanted]) -> None:
    try:
        made = attach(store, [container], wants)
        with store.graph.writing():
            for volume in made:
                store.graph.ready_volume(volume.id)
    except sqlite3.IntegrityError as error:
        undo(store, [container])
        # Else another process attaches to the same container.
        if store.graph.container_by_prefix(container.id) is None:
            raise NotFound(f"container {container.name} was removed meanwhile") from error
    except BaseException:
        undo(store, [container])
        raise


def _is_whole(store: "Store", container: Container, row: Attached) -> bool:
    """Whether the volume is ready; what another process has begun is waited for, or ended."""
    if row.state == "ready":
        if row.owner is not None and not store.owner.lives(row.owner):
            recover(store, row.volume.id, row.owner)
        return True
    if (row.state, row.owner) == LEFT:
        raise Conflict(f"volume {row.volume.name} of container {container.name} is being removed")
    store.reap()
    time.sleep(PAUSE)
    return False


def attach(
    store: "Store", containers: Sequence[Container], wants: Iterable[Wanted]
) -> list[DataVolume]:
    """Attach volumes to the containers, which have none at these targets yet.

    Returns the anonymous ones that were made for them: these are to become ready with the
    containers, or to be ended by `undo`, also after an error of this.
    Raises StoreError, BackendError; sqlite3.IntegrityError if a container is gone or has some.
    """
    made = []
    for want in wants:
        if want.name is not None:
            _attach_named(store, containers, want)
            continue
        with store.graph.writing():
            for container in containers:
                volume = _new(None, want.labels)
                store.graph.add_volume(volume, store.owner.token)
                store.graph.attach(container.id, want.target, volume.id)
                made.append(volume)
    for volume in made:
        store.backend.create(kept(volume), record=records.of_volume(volume))
    return made


def _attach_named(store: "Store", containers: Sequence[Container], want: Wanted) -> None:
    """Again where the volume is removed before it is attached."""
    done = False
    while not done:
        volume = create(store, want.name, want.labels)
        with store.graph.writing():
            attached = [store.graph.attach(each.id, want.target, volume.id) for each in containers]
            done = all(attached)


def undo(store: "Store", containers: Sequence[Container]) -> None:
    """End the volumes that this process was making for the containers."""
    with contextlib.suppress(StoreError):
        for container in containers:
            rows = store.graph.attached(container.id)
            mine = "creating", store.owner.token
            made = [row.volume.id for row in rows if (row.state, row.owner) == mine]
            store.undo("volumes", made)


def attached(store: "Store", container: Container) -> list[Attachment]:
    """What the container has attached, in order of the targets."""
    said = {want.target: want for want in wanted({}, container.options)}
    found = []
    for row in store.graph.attached(container.id):
        if row.state == "ready":
            want = said.get(row.target, Wanted(row.target))
            found.append(Attachment(row.target, row.volume, want.read_only, want.copy))
    return found


# Removing


def remove(store: "Store", volume: DataVolume, *, force: bool = False) -> list[str]:
    """Remove a volume that no container has attached.

    `force` also destroys the snapshots that others have made of it: their names are returned.
    Raises Conflict, naming the containers, or the mount or process that uses it; NotFound.
    """
    for patience in (True, False):
        with store.graph.writing():
            if store.graph.doom_volume(volume.id, store.owner.token):
                break
        if patience:
            store.reap()
    else:
        raise _refusal(store, volume)
    return _end(store, volume, force)


def _refusal(store: "Store", volume: DataVolume) -> StoreError:
    if users := store.graph.containers_with(volume.id):
        more = f" and {len(users) - 3} more" if len(users) > 3 else ""
        return Conflict(
            f"volume {volume.name} is in use by container {', '.join(users[:3])}{more}:"
            " remove the container first"
        )
    if store.graph.data_volume(volume.id):
        return Conflict(f"volume {volume.name} is being filled: try again")
    return NotFound(f"volume {volume.name} was removed meanwhile")


def _end(store: "Store", volume: DataVolume, force: bool = False) -> list[str]:
    """Remove a volume whose row says so already. Raises Conflict; it then stays."""
    try:
        destroyed = store.backend.remove(kept(volume), force=force)
    except (VolumeBusy, Unavailable) as error:
        keep(store, [volume])
        if isinstance(error, VolumeBusy):
            raise Conflict(f"volume {volume.name} stays: {error}") from error
        raise
    with store.graph.writing():
        store.graph.drop("volumes", volume.id)
    return destroyed


def keep(store: "Store", doomed: Sequence[DataVolume]) -> None:
    """Have volumes back that were to be removed, but for what is not there any more."""
    for volume in doomed:
        try:
            with store.backend.open(kept(volume)):
                pass
        except VolumeNotFound:
            store.undo("volumes", [volume.id])
            continue
        except Unavailable:
            pass  # Nothing was touched: the pool is not there.
        with store.graph.writing():
            store.graph.ready_volume(volume.id)


def doom(store: "Store", container: Container) -> list[DataVolume]:
    """Within a transaction: the volumes that go with a container that is removed with them.

    Those are the anonymous ones that it does not name and that no other container has attached.
    """
    names = named(container.options)
    return [
        each.volume
        for each in store.graph.attached(container.id)
        if each.volume.anonymous
        and each.volume.name not in names
        and store.graph.doom_volume(each.volume.id, store.owner.token, container.id)
    ]


def discard(store: "Store", container: Container, doomed: Sequence[DataVolume]) -> None:
    """Remove what was doomed with the container. Raises Conflict if some of it is in use."""
    busy = []
    for volume in doomed:
        try:
            _end(store, volume)
        except Conflict as conflict:
            busy.append(str(conflict))
    if busy:
        raise Conflict(f"container {container.name} is removed, but: {'; '.join(busy)}")


class Pruned(NamedTuple):
    """What went, what was in use ("busy"), and the bytes that each took; None where unknown."""

    removed: list[Removed]
    sizes: list[int | None]


def prune(
    store: "Store", *, every: bool = False, wanted: Callable[[DataVolume], bool] = lambda _: True
) -> Pruned:
    """Remove the anonymous volumes that no container has attached; with `every`, named ones too.

    `wanted` says which of them may go.
    """
    store.reap()
    removed, sizes = [], []
    used = in_use(store)
    for volume in listed(store):
        if volume.id in used or not (every or volume.anonymous) or not wanted(volume):
            continue
        own = size(store, volume)
        try:
            remove(store, volume)
        except Conflict as conflict:
            removed.append(Removed("busy", str(conflict)))
        except NotFound:
            pass  # Another process was quicker.
        else:
            removed.append(Removed("volume", volume.name))
            sizes.append(own)
    return Pruned(removed, sizes)


def size(store: "Store", volume: DataVolume) -> int | None:
    """Bytes that the volume takes on disk; None where the filesystem keeps no count."""
    try:
        return store.backend.usage(kept(volume)).exclusive
    except VolumeNotFound:
        return 0


def disk_usage(store: "Store") -> "Line":
    """The row of `df`: what no container has attached is to be reclaimed."""
    from imagegraph.listing import Line

    used = in_use(store)
    sizes = {volume.id: size(store, volume) for volume in listed(store)}
    idle = [own for id, own in sizes.items() if id not in used]
    active = len(sizes) - len(idle)
    return Line("Local Volumes", len(sizes), active, _total(sizes.values()), _total(idle))


def _total(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size or 0 for size in known)
