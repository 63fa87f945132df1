"""What goes with an image: tags, untagged ancestors, and the layers that serve no one else."""

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from backends.base import LAYERS, Volume
from backends.errors import VolumeBusy, VolumeNotFound
from imagegraph import records, splits
from imagegraph.errors import Conflict, NotFound
from imagegraph.lookup import find_image_and_tag
from imagegraph.model import Container, Image, Removed
from imagegraph.reference import Reference

if TYPE_CHECKING:
    from imagegraph.store import Store


def remove_image(store: "Store", name: str, *, force: bool, prune: bool) -> list[Removed]:
    """See Store.remove_image."""
    store.reap()
    graph = store.graph
    _require_removable(store, *find_image_and_tag(graph, name), force)
    with graph.writing():
        image, tag = find_image_and_tag(graph, name)
        tags = graph.tags(image.id)
        going = [tag] if tag else tags
        containers = graph.containers_of(image.id)
        stays = len(going) < len(tags)
        if not stays:
            _refuse(image, tag, tags, containers, graph.children(image.id), force)
        for reference in going:
            graph.drop_tag(reference)
        removed = [Removed("untagged", str(reference)) for reference in going]
        touched = {image.layer}
        doomed: list[str] = []
        if not (stays or containers or graph.children(image.id)):
            dropped, doomed = _drop(store, image, lambda _: prune)
            removed += [Removed("image", gone.id) for gone in dropped]
            touched |= {gone.layer for gone in dropped}
    ended = _remove_layers(store, touched, doomed, force)
    busy = [left.name for left in ended if left.kind == "busy"]
    if busy:
        raise Conflict(f"the image is removed, but not all of its layers: {'; '.join(busy)}")
    return removed + ended


def _require_removable(store: "Store", image: Image, tag: Reference | None, force: bool) -> None:
    """Raises what would stop the removal half-way, before anything is removed."""
    _require_pool(store, image)
    graph = store.graph
    last = tag is None or graph.tags(image.id) == [tag]
    if last and not graph.containers_of(image.id) and not graph.children(image.id):
        try:
            store.backend.require_removable(Volume(LAYERS, image.layer), force=force)
        except VolumeBusy as error:
            raise Conflict(f"image {tag or image.id[:12]} stays: {error}") from error


def _require_pool(store: "Store", image: Image) -> None:
    """Raises Unavailable, before anything is removed, where nothing can be."""
    with contextlib.suppress(VolumeNotFound), store.backend.open(Volume(LAYERS, image.layer)):
        pass


def _refuse(
    image: Image,
    tag: Reference | None,
    tags: list[Reference],
    containers: list[Container],
    children: list[str],
    force: bool,
) -> None:
    short = image.id[:12]
    users = ", ".join(container.name for container in containers[:3])
    more = f" and {len(containers) - 3} more" if len(containers) > 3 else ""
    if containers and not force:
        raise Conflict(
            f"image {tag or short} is in use by container {users}{more}:"
            " remove the container first, or untag with -f"
        )
    if containers and not tags:
        raise Conflict(
            f"image {short} is in use by container {users}{more}: remove the container first"
        )
    if children and not tags:
        listed = ", ".join(child[:12] for child in children[:3])
        raise Conflict(f"image {short} has images made from it: remove {listed} first")
    if len({reference.repository for reference in tags}) > 1 and tag is None and not force:
        listed = ", ".join(map(str, tags))
        raise Conflict(f"image {short} has tags in several repositories ({listed}): use -f")


def _drop(
    store: "Store", image: Image, wanted: Callable[[Image], bool]
) -> tuple[list[Image], list[str]]:
    """Delete the image's row, and those of untagged ancestors that now serve no one.

    Only ancestors that are `wanted` gone, that is. Within a transaction. Returns the images that
    went, and the layers that are doomed by it, upper ones first.
    """
    graph = store.graph
    dropped = []
    going: Image | None = image
    while going:
        graph.drop_image(going.id)
        dropped.append(going)
        parent = graph.image(going.parent) if going.parent else None
        needed = parent and (
            not wanted(parent)
            or graph.tags(parent.id)
            or graph.containers_of(parent.id)
            or graph.children(parent.id)
        )
        going = None if needed else parent
    doomed = []
    for layer in graph.chain(image.layer):
        if graph.layer_is_needed(layer.id):
            break
        graph.doom_layer(layer.id, store.owner.token)
        doomed.append(layer.id)
    return dropped, doomed


def _remove_layers(
    store: "Store", touched: set[str], doomed: list[str], force: bool = False
) -> list[Removed]:
    """Remove the volumes of layers in state `removing`, then their rows.

    The records of the other layers whose images or tags were `touched` are brought up to date
    after that, when there is room again.
    One that is in use is in the answer as "busy"; it is invisible, and left for `reap`.
    """
    removed = []
    for layer in doomed:
        try:
            destroyed = store.backend.remove(Volume(LAYERS, layer), force=force)
        except VolumeBusy as busy:
            with store.graph.writing():
                store.graph.doom_layer(layer, None)
            advice = "cowshed prune or check --repair removes it afterwards"
            removed.append(Removed("busy", f"{busy}; {advice}"))
            continue
        splits.drop(store.root, layer)
        with store.graph.writing():
            store.graph.drop("layers", layer)
        removed.append(Removed("layer", layer))
        removed += [Removed("snapshot", name) for name in destroyed]
    for layer in touched.difference(doomed):
        records.describe_layer(store.graph, store.backend, layer)
    return removed


def prune(
    store: "Store",
    *,
    unused: bool = False,
    wanted: Callable[[Image | Container], bool] = lambda _: True,
    remove: Callable[[Container], object] | None = None,
) -> list[Removed]:
    """Remove containers that neither run nor are mounted, then dangling images.

    `unused`: also tagged images that no container is cloned from. `wanted` says which
    of them may go, `remove` how a container does. What dead processes left behind goes as well.
    What turned out to be in use is in the answer as kind "busy", with the reason for its name.
    """
    from imagegraph.mounting import all_mounted
    from imagegraph.running import process

    removed = store.reap()
    used = all_mounted()
    for container in store.graph.containers():
        if container.id not in used and process(container.id) is None and wanted(container):
            try:
                (remove or store.remove_container)(container)
                removed.append(Removed("container", container.id))
            except Conflict as conflict:
                removed.append(Removed("busy", str(conflict)))
            except NotFound:
                pass  # Another process was quicker.
    # The newest come first, so that a parent is met when its children are gone.
    for image in store.graph.images():
        removed += _prune_image(store, image, unused, wanted)
    return removed


def _prune_image(
    store: "Store", image: Image, unused: bool, wanted: Callable[[Image | Container], bool]
) -> list[Removed]:
    graph = store.graph
    _require_pool(store, image)
    with graph.writing():
        tags = graph.tags(image.id)
        needed = (
            graph.image(image.id) is None
            or graph.containers_of(image.id)
            or graph.children(image.id)
            or (tags and not unused)
        )
        if needed or not wanted(image):
            return []
        for tag in tags:
            graph.drop_tag(tag)
        dropped, doomed = _drop(store, image, wanted)
    removed = [Removed("untagged", str(tag)) for tag in tags]
    removed += [Removed("image", gone.id) for gone in dropped]
    return removed + _remove_layers(store, {gone.layer for gone in dropped}, doomed)
