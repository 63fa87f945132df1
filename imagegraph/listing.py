"""What `images`, `ps`, `history` and `df` show, as records.

A layer's size is the bytes of the regular files that it adds or changes. It is counted from the
layer's changes when somebody first asks, and kept.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from backends.base import LAYERS, Volume
from backends.changes import ChangesError
from backends.errors import VolumeNotFound
from imagegraph import config as configs
from imagegraph import running
from imagegraph.differences import bytes_of
from imagegraph.model import (
    Container,
    ContainerSummary,
    HistoryEntry,
    Image,
    ImageSummary,
    Layer,
)
from imagegraph.mounting import all_mounted
from imagegraph.running import State
from imagegraph.times import stated

if TYPE_CHECKING:
    from imagegraph.store import Store


def images(store: "Store", *, every: bool = False) -> list[ImageSummary]:
    """All images, the newest first; without `every` untagged ones with children are left out."""
    tags = store.graph.all_tags()
    parents = store.graph.parents()
    counts = store.graph.container_counts()
    sizes = _Sizes(store)
    summaries = []
    for image in store.graph.images():
        own = tuple(tags.get(image.id, ()))
        dangling = not own and image.id not in parents
        if own or dangling or every:
            size, used = sizes.of_chain(image.layer), counts.get(image.id, 0)
            summaries.append(ImageSummary(image, own, size, used, dangling))
    return summaries


def image_size(store: "Store", image: Image) -> int:
    """Bytes of the files of all the image's layers, as far as those are on disk."""
    return sum(layer_size(store, layer) or 0 for layer in store.graph.chain(image.layer))


def layer_size(store: "Store", layer: Layer) -> int | None:
    """Bytes of the regular files that the layer adds or changes; counted once, then kept.

    None if the layer is not on disk, or was removed meanwhile.
    """
    if layer.size is not None:
        return layer.size
    volume = Volume(LAYERS, layer.id)
    below = Volume(LAYERS, layer.parent) if layer.parent else None
    try:
        with store.backend.open(volume) as tree:
            size = bytes_of(tree, store.backend.changes(volume, below))
    except VolumeNotFound:
        return None
    except ChangesError:
        if store.graph.known("layers", [layer.id]).get(layer.id) == "ready":
            raise
        return None
    with store.graph.writing():
        store.graph.set_layer_size(layer.id, size)
    return size


def container_size(store: "Store", container: Container) -> int:
    """Bytes of the regular files that the container adds to its image or changes."""
    with store.open_tree(container) as tree:
        return bytes_of(tree, store.diff(container))


class _Sizes:
    """Sizes of chains, each layer asked for once."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._layers = {layer.id: layer for layer in store.graph.layers()}
        self._chains: dict[str, int] = {}

    def of_layer(self, id: str) -> int:
        layer = self._layers[id]
        if layer.size is None:
            layer = layer._replace(size=layer_size(self._store, layer))
            self._layers[id] = layer
        return layer.size or 0

    def of_chain(self, id: str) -> int | None:
        pending = []
        step: str | None = id
        while step is not None and step not in self._chains:
            if step not in self._layers:
                return None
            pending.append(step)
            step = self._layers[step].parent
        total = self._chains[step] if step is not None else 0
        for layer in reversed(pending):
            total += self.of_layer(layer)
            self._chains[layer] = total
        return total


def containers(store: "Store", *, every: bool = False) -> list[ContainerSummary]:
    """The containers that run or are mounted, or with `every` all; the newest first."""
    mounted, states, created = all_mounted(), running.states(store.root), State("created")
    tags = store.graph.all_tags()
    summaries = []
    for container in store.graph.containers():
        places, state = tuple(mounted.get(container.id, ())), states.get(container.id, created)
        if every or places or state.lives:
            names = tags.get(container.image)
            name = str(names[0]) if names else container.image[:12]
            summaries.append(ContainerSummary(container, name, places, state))
    return summaries


def history(store: "Store", image: Image) -> list[HistoryEntry]:
    """The steps that made the image, the last first, as `docker history` tells them."""
    document = configs.load(image.config)
    steps: list[dict[str, Any]] = list(reversed(document.get("history") or []))
    layers = store.graph.chain(image.layer)
    tags = store.graph.all_tags()
    entries = []
    for step in steps:
        if step.get("empty_layer") or not layers:
            entries.append(_entry(step, None, 0, ()))
            continue
        layer = layers.pop(0)
        entries.append(_of_layer(store, step, layer, image, tags))
    entries += [_of_layer(store, {}, layer, image, tags) for layer in layers]
    return entries


def _of_layer(
    store: "Store", step: dict[str, Any], layer: Layer, image: Image, tags: dict[str, list[Any]]
) -> HistoryEntry:
    if layer.id == image.layer:
        above: str | None = image.id
    else:
        tops = store.graph.images_on(layer.id)
        above = tops[0].id if tops else None
    own = tuple(tags.get(above, ())) if above else ()
    return _entry(step, above, layer_size(store, layer) or 0, own)


def _entry(
    step: dict[str, Any], image: str | None, size: int, tags: tuple[Any, ...]
) -> HistoryEntry:
    return HistoryEntry(
        image,
        stated(step.get("created") or ""),
        step.get("created_by") or "",
        step.get("author") or "",
        size,
        step.get("comment") or "",
        tags,
    )


class Line(NamedTuple):
    """A row of `df`: how many, how many in use, bytes in all and bytes that a prune would free."""

    kind: str
    total: int
    active: int
    size: int | None
    reclaimable: int | None


def disk_usage(store: "Store") -> list[Line]:
    """Images count the files of each layer once; containers what quotas count, if there are any."""
    layers = {layer.id: layer for layer in store.graph.layers()}
    used: set[str] = set()
    summaries = images(store, every=True)
    for summary in summaries:
        step = summary.image.layer if summary.containers else None
        while step is not None and step not in used:
            used.add(step)
            step = layers[step].parent if step in layers else None
    sizes = {id: layer_size(store, layer) or 0 for id, layer in layers.items()}
    active = sum(1 for summary in summaries if summary.containers)
    idle = sum(size for id, size in sizes.items() if id not in used)
    rows = containers(store, every=True)
    busy = [row for row in rows if row.is_used]
    own = {row.container.id: _exclusive(store, row.container) for row in rows}
    kept = {row.container.id for row in busy}
    return [
        Line("Images", len(summaries), active, sum(sizes.values()), idle),
        Line(
            "Containers",
            len(rows),
            len(busy),
            _total(own.values()),
            _total(size for id, size in own.items() if id not in kept),
        ),
    ]


def _exclusive(store: "Store", container: Container) -> int | None:
    try:
        return store.backend.usage(store.volume(container)).exclusive
    except VolumeNotFound:
        return 0


def _total(sizes: Iterable[int | None]) -> int | None:
    known = list(sizes)
    return None if None in known else sum(size or 0 for size in known)
