"""The forest of layers, drawn."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from cli import output
from cli.formats import NONE, size_text

if TYPE_CHECKING:
    from imagegraph.model import Image, Layer
    from imagegraph.store import Store


_ID_WIDTH = 12


class Node(NamedTuple):
    """One line: a layer with the image that has it on top, if one has, or one more such image."""

    id: str
    text: str
    children: list["Node"]


def draw(store: "Store") -> None:
    """A line for each layer: the image's id, the bytes of its own files, the image's tags."""
    lines = list(_walk(_forest(store)))
    width = max((len(prefix) + _ID_WIDTH for prefix, _ in lines), default=0)
    for prefix, node in lines:
        output.line(f"{prefix}{node.id}".ljust(width) + "  " + output.printable(node.text))


def _forest(store: "Store") -> list[Node]:
    layers = sorted(store.graph.layers(), key=lambda layer: (layer.created, layer.id))
    tops: dict[str, list[Image]] = {}
    for image in reversed(store.graph.images()):
        tops.setdefault(image.layer, []).append(image)
    nodes = {layer.id: _node(store, layer, tops.get(layer.id, [])) for layer in layers}
    roots: list[Node] = []
    for layer in layers:
        siblings = nodes[layer.parent].children if layer.parent in nodes else roots
        siblings.append(nodes[layer.id])
    return roots


def _node(store: "Store", layer: "Layer", images: "list[Image]") -> Node:
    from imagegraph.listing import layer_size

    lines = [_line(store, image, layer_size(store, layer)) for image in images[:1]]
    lines += [_line(store, image, 0) for image in images[1:]]
    if not lines:
        lines = [(NONE, size_text(layer_size(store, layer)))]
    return Node(*lines[0], [Node(*line, []) for line in lines[1:]])


def _line(store: "Store", image: "Image", size: int | None) -> tuple[str, str]:
    tags = ", ".join(map(str, store.graph.tags(image.id)))
    return image.id[:_ID_WIDTH], f"{size_text(size):<6}  {tags or NONE}"


def _walk(roots: list[Node]) -> Iterator[tuple[str, Node]]:
    """Each node with what is drawn before it; without recursion, for a chain may be long."""
    pending = [("", "", node) for node in reversed(roots)]
    while pending:
        before, below, node = pending.pop()
        yield before, node
        last = len(node.children) - 1
        pending += [
            (f"{below}└─ ", f"{below}   ", child)
            if number == last
            else (f"{below}├─ ", f"{below}│  ", child)
            for number, child in reversed(list(enumerate(node.children)))
        ]
