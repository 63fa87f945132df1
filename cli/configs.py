"""The configs that a listing needs, each image's read once."""

import json
from typing import TYPE_CHECKING, Any

from imagegraph import config as configs

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagegraph.model import Container
    from imagegraph.store import Store


def inner(document: bytes) -> dict[str, Any]:
    """The part of an image's document that its containers run with."""
    return configs.load(document).get("config") or {}


def labels(config: dict[str, Any]) -> dict[str, str]:
    return config.get("Labels") or {}


class Configs:
    """What containers run with: the image's config, with their own over it."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._images: dict[str, dict[str, Any]] = {}

    def read(self, images: "Iterable[str]") -> None:
        """Read the configs of many images, by their ids, in one question to the graph."""
        ids = set(images).difference(self._images)
        found = self._store.graph.inner_configs(ids)
        self._images.update((id, json.loads(found.get(id, "{}"))) for id in ids)

    def _of_image(self, id: str) -> dict[str, Any]:
        if id not in self._images:
            self.read([id])
        return self._images[id]

    def labels(self, container: "Container") -> dict[str, str]:
        own = container.options.get("Config", {})
        return {**labels(self._of_image(container.image)), **labels(own)}

    def command(self, container: "Container") -> list[str]:
        """Entrypoint and arguments."""
        config, own = self._of_image(container.image), container.options.get("Config", {})
        if "Entrypoint" in own or "Cmd" in own:
            config = configs.overlaid(config, own)
        return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
