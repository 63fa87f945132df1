"""How a container goes: its volume, its mount point, what is kept of its runs, and its rows."""

from typing import TYPE_CHECKING

from backends.base import CONTAINERS, Volume
from backends.errors import Unavailable, VolumeBusy, VolumeNotFound
from imagegraph import running, undoing
from imagegraph.errors import Conflict, NotFound
from imagegraph.model import Container, DataVolume

if TYPE_CHECKING:
    from imagegraph.store import Store


def remove_container(
    store: "Store", container: Container, *, force: bool, with_volumes: bool
) -> list[str]:
    """See Store.remove_container."""
    from imagegraph import mounting

    if force:
        mounting.unmount(store, container, missing_ok=True)
    places = mounting.mounted(container.id)
    if places:
        raise Conflict(
            f"container {container.name} is mounted at {', '.join(places)}:"
            f" cowshed umount {container.name}, or rm -f"
        )
    with store.graph.writing():
        if not store.graph.doom_container(container.id, store.owner.token):
            raise NotFound(f"container {container.name} was removed meanwhile")
        doomed = _doom(store, container) if with_volumes else []
    try:
        destroyed = store.backend.remove(Volume(CONTAINERS, container.id), force=force)
    except (VolumeBusy, Unavailable) as error:
        _keep(store, container, doomed)
        if isinstance(error, VolumeBusy):
            raise Conflict(f"container {container.name} stays: {error}") from error
        raise
    with store.graph.writing():
        store.graph.drop("containers", container.id)
    mounting.forget(store, container)
    running.forget(store.root, container.id)
    if doomed:
        from imagegraph import volumes

        volumes.discard(store, container, doomed)
    return destroyed


def _doom(store: "Store", container: Container) -> list[DataVolume]:
    # Most containers have no volumes, and all are removed.
    from imagegraph import volumes

    return volumes.doom(store, container)


def _keep(store: "Store", container: Container, doomed: list[DataVolume]) -> None:
    """Have a container back that could not be removed, unless its removal had begun."""
    try:
        with store.open_tree(container):
            pass
    except VolumeNotFound:
        undoing.leave(store, "containers", container.id)
        for volume in doomed:
            undoing.leave(store, "volumes", volume.id)
        return
    except Unavailable:
        pass  # Nothing was touched: the pool is not there.
    with store.graph.writing():
        for volume in doomed:
            store.graph.ready_volume(volume.id)
        store.graph.ready_container(container.id)
