"""How an image comes to be: a layer's row, its volume, and then the image and its tag at once."""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from backends.base import CONTAINERS, LAYERS, STAGING, Volume
from imagegraph import config as configs
from imagegraph import records
from imagegraph.errors import Conflict, NotFound
from imagegraph.model import Container, Image, new_id
from imagegraph.reference import Reference

if TYPE_CHECKING:
    from imagegraph.store import Store

    Frozen = Callable[[], contextlib.AbstractContextManager[None]]


def add_image(
    store: "Store",
    fill: Callable[[str], int],
    document: dict[str, Any],
    reference: Reference | None,
    form: str,
) -> Image:
    """See Store.add_image."""
    layer, created = new_id(), time.time_ns()
    image = Image(new_id(), layer, None, created, configs.dump(document), None)
    staging, sealed = Volume(STAGING, layer), Volume(LAYERS, layer)
    with _making_layer(store, layer, None, created):
        store.backend.create(staging)
        with store.backend.open(staging) as tree:
            size = fill(tree)
        store.backend.seal(staging, sealed, _record(image, None, reference))
        before = _publish(store, image, size, reference, form)
    _describe(store, before)
    return image


def commit(
    store: "Store",
    container: Container,
    reference: Reference | None,
    *,
    author: str,
    comment: str,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    squash: bool,
    form: str,
    frozen: "Frozen",
) -> tuple[Image, list[str]]:
    """See Store.commit."""
    base = store.graph.image(container.image)
    if base is None:
        raise Conflict(f"container {container.name} or its image was removed meanwhile")
    layer, created = new_id(), time.time_ns()
    inner = configs.load(base.config).get("config") or {}
    merged = configs.overlaid(inner, container.options.get("Config", {}))
    document = configs.committed(
        base.config,
        created=created,
        created_by=" ".join(merged.get("Cmd") or []),
        author=author,
        comment=comment,
        config=change(merged),
    )
    if squash:
        document = configs.squashed(document)
    below, parent = (None, None) if squash else (base.layer, base.id)
    image = Image(new_id(), layer, parent, created, configs.dump(document), None)
    with _making_layer(store, layer, below, created):
        record = _record(image, below, reference)
        with frozen():
            copied = _snapshot(store, container, Volume(LAYERS, layer), record)
        before = _publish(store, image, None, reference, form)
    _describe(store, before)
    return image, copied


def _snapshot(store: "Store", container: Container, layer: Volume, record: bytes) -> list[str]:
    """A sealed copy of the container, but of the mount points that were made for it to run."""
    source = Volume(CONTAINERS, container.id)
    if not store.graph.mount_points(container.id):
        copied = store.backend.snapshot(source, layer, record)
        if not store.graph.mount_points(container.id):
            return copied
        # It was started for the first time meanwhile.
        store.backend.remove(layer)
    from imagegraph import mount_points

    def edit(tree: str) -> None:
        mount_points.strip(tree, store.graph.mount_points(container.id))

    return store.backend.snapshot(source, layer, record, edit)


def tag(store: "Store", image: Image, reference: Reference) -> None:
    """See Store.tag."""
    try:
        with store.graph.writing():
            before = _point(store, reference, image)
    except sqlite3.IntegrityError as error:
        raise NotFound(f"image {image.id[:12]} was removed meanwhile") from error
    _describe(store, image)
    _describe(store, before)


@contextlib.contextmanager
def _making_layer(store: "Store", layer: str, parent: str | None, created: int) -> Iterator[None]:
    """A layer's row from `creating` on; if the body fails, nothing of the layer stays."""
    with store.graph.writing():
        if not store.graph.add_layer(layer, parent, created, store.owner.token):
            raise Conflict("the image below was removed meanwhile")
    try:
        yield
    except BaseException:
        store.undo("layers", [layer])
        raise


def _publish(
    store: "Store", image: Image, size: int | None, reference: Reference | None, form: str
) -> Image | None:
    """Let everyone see the image; returns the one that its tag pointed to before."""
    graph = store.graph
    with graph.writing():
        graph.ready_layer(image.layer, size)
        if image.parent and graph.image(image.parent) is None:
            image = image._replace(parent=None)
        graph.add_image(image, form)
        return _point(store, reference, image) if reference else None


def _point(store: "Store", reference: Reference, image: Image) -> Image | None:
    """Within a transaction; returns the image that the tag pointed to before."""
    before = store.graph.image_with_tag(reference.repository, reference.tag or "latest")
    store.graph.set_tag(reference, image.id)
    return before


def _record(image: Image, below: str | None, reference: Reference | None) -> bytes:
    return records.of_layer(
        image.layer, below, [(image, [reference.with_default_tag()] if reference else [])]
    )


def _describe(store: "Store", image: Image | None) -> None:
    if image:
        records.describe_layer(store.graph, store.backend, image.layer)
