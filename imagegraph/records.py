"""The records beside the volumes: what a lost database could be made again from.

Each is one JSON object. A layer's names its parent layer and the images that have it on top, with
their configs and tags; that of a container or a data volume is its row.

The graph comes first: a record for which the disk has no room stays as it was, until `check` with
repair writes it again.
"""

import contextlib
import json
from collections.abc import Iterable
from typing import Any

from backends.base import CONTAINERS, LAYERS, VOLUMES, Backend, Volume
from backends.errors import NoSpace, VolumeNotFound
from imagegraph import config as configs
from imagegraph.graph import Graph
from imagegraph.model import Container, DataVolume, Image
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
            "config": _document(image.config),
            "digest": image.digest,
            "tags": [str(tag) for tag in tags],
        }
        for image, tags in images
    ]
    return _dump({"kind": "layer", "id": id, "parent": parent, "images": listed})


def of_container(container: Container) -> bytes:
    """The record of a container."""
    return _dump({"kind": "container", **container._asdict()})


def of_volume(volume: DataVolume) -> bytes:
    """The record of a data volume."""
    return _dump({"kind": "volume", **volume._asdict()})


def _document(config: bytes) -> Any:
    """The document, or its text where the document alone would not give the same bytes again."""
    document = configs.load(config)
    return document if configs.dump(document) == config else config.decode()


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def describe(graph: Graph, backend: Backend, volume: Volume) -> None:
    """Bring a volume's record up to date; success if it is gone or the disk is full.

    Everyone who changes the graph does so, and again until the same is wanted afterwards, hence
    the last one to write has read the last change.
    """
    written = None
    with contextlib.suppress(VolumeNotFound, NoSpace):
        while (record := wanted(graph, volume)) is not None and record != written:
            backend.describe(volume, record)
            written = record


def describe_layer(graph: Graph, backend: Backend, id: str) -> None:
    """Bring a layer's record up to date; success if the layer is gone or the disk is full."""
    describe(graph, backend, Volume(LAYERS, id))


def describe_container(graph: Graph, backend: Backend, id: str) -> None:
    """Bring a container's record up to date; success if it is gone or the disk is full."""
    describe(graph, backend, Volume(CONTAINERS, id))


def wanted(graph: Graph, volume: Volume) -> bytes | None:
    """What the record of the volume is to say; None if the graph does not know it."""
    if volume.kind == CONTAINERS:
        container = graph.container_by_prefix(volume.id)
        return of_container(container) if container else None
    if volume.kind == VOLUMES:
        kept = graph.data_volume(volume.id)
        return of_volume(kept) if kept else None
    chain = graph.chain(volume.id)
    images = [(image, graph.tags(image.id)) for image in graph.images_on(volume.id)]
    return of_layer(volume.id, chain[0].parent, images) if chain else None
