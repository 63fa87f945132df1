"""What a name that a user typed means: repository:tag, repository@digest, or an id prefix."""

import re

from imagegraph.errors import InvalidReference, NotFound
from imagegraph.graph import Graph
from imagegraph.model import Container, Image
from imagegraph.names import valid
from imagegraph.reference import Reference, parse

_HEX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})\Z")


def find_image(graph: Graph, name: str) -> Image:
    """Raises NotFound, Ambiguous, and InvalidReference for what is neither a name nor an id."""
    return find_image_and_tag(graph, name)[0]


def find_image_and_tag(graph: Graph, name: str) -> tuple[Image, Reference | None]:
    """The image, and the tag by which it was named if it was not by its id."""
    prefix = _HEX.match(name)
    try:
        reference = parse(name)
    except InvalidReference:
        if prefix is None:
            raise
    else:
        found = _by_reference(graph, reference)
        if found is not None:
            return found
    image = graph.image_by_prefix(prefix[1]) if prefix else None
    if image is None:
        raise NotFound(f"no image is called {name}: cowshed images lists those there are")
    return image, None


def _by_reference(graph: Graph, reference: Reference) -> tuple[Image, Reference | None] | None:
    if reference.digest is None:
        reference = reference.with_default_tag()
        image = graph.image_with_tag(reference.repository, reference.tag or "latest")
        return (image, reference) if image else None
    image = graph.image_with_manifest(reference.repository, reference.digest)
    if image is not None:
        return image, None
    image = graph.image_by_prefix(reference.digest.removeprefix("sha256:"))
    if image and any(tag.repository == reference.repository for tag in graph.tags(image.id)):
        return image, None
    return None


def find_container(graph: Graph, name: str) -> Container:
    """The container with that name, or whose id begins so. Raises NotFound, Ambiguous."""
    found = graph.container_named(name) if valid(name) else None
    if found is None and (prefix := _HEX.match(name)):
        found = graph.container_by_prefix(prefix[1])
    if found is None:
        raise NotFound(f"no container is called {name}: cowshed ps -a lists those there are")
    return found
