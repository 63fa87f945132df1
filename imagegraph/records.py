"""The records beside the volumes: what a lost database could be made again from.

Each is one JSON object. A layer's names its parent layer and the images that have it on top, with
their configs and tags; a container's is its row.
"""

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any

from backends.base import CONTAINERS, LAYERS, Backend, Volume
from backends.errors import VolumeNotFound
from imagegraph import config as configs
from imagegraph.graph import Graph
from imagegraph.model import Container, Image
from imagegraph.reference import Reference


def of_layer(
    id: str, parent: str | None, images: Iterable[tuple[Image, Iterable[Reference]]]
) -> bytes:
    """The record of a layer that these images, with these tags, have on top."""
    listed = [
        {
            "id": image.id,
            "parent": image.parent,
            "created": image.created,
            "config": configs.load(image.config),
            "digest": image.digest,
            "tags": [str(tag) for tag in tags],
        }
        for image, tags in images
    ]
    return _dump({"kind": "layer", "id": id, "parent": parent, "images": listed})


def of_container(container: Container) -> bytes:
    """The record of a container."""
    return _dump({"kind": "container", **container._asdict()})


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def describe_layer(graph: Graph, backend: Backend, id: str) -> None:
    """Bring a layer's record up to date with the graph; success if the layer is gone."""

    def record() -> bytes | None:
        chain = graph.chain(id)
        images = [(image, graph.tags(image.id)) for image in graph.images_on(id)]
        return of_layer(id, chain[0].parent, images) if chain else None

    _describe(backend, Volume(LAYERS, id), record)


def describe_container(graph: Graph, backend: Backend, id: str) -> None:
    """Bring a container's record up to date; success if the container is gone."""

    def record() -> bytes | None:
        container = graph.container_by_prefix(id)
        return of_container(container) if container else None

    _describe(backend, Volume(CONTAINERS, id), record)


def _describe(backend: Backend, volume: Volume, read: Callable[[], bytes | None]) -> None:
    """Write what `read` answers until it answers the same afterwards.

    Everyone who changes the graph does so, hence the last one to write has read the last change.
    """
    written = None
    with contextlib.suppress(VolumeNotFound):
        while (record := read()) is not None and record != written:
            backend.describe(volume, record)
            written = record
