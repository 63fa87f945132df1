"""How an image that was made elsewhere comes in: layer by layer, then the image and its tags.

A layer is known by its chain ID: one that is here already is never made twice, and the row that
claims a chain ID is the lock for all processes that want it. The layers of an image on its way in
are held by the process that brings it, until the image stands on them; if that process dies,
`reap` ends those that nobody needs.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from backends.base import LAYERS, STAGING, Volume
from imagegraph import records
from imagegraph.errors import Conflict, StoreError
from imagegraph.model import Blob, Image, Manifest, new_id
from imagegraph.reference import Reference

if TYPE_CHECKING:
    from imagegraph.store import Store

PAUSE = 0.05
"""Seconds between two looks at a layer that another process is making."""

Fill = Callable[[str, str], tuple[int, Sequence[Blob]]]
"""Given a tree that is the parent's and the new layer's id, makes it the layer's.

Returns the bytes of the regular files that the layer brings, and the forms its tar was seen in.
"""


def call(
    store: "Store", image: Image, manifests: Iterable[Manifest], references: Iterable[Reference]
) -> None:
    """Have an image that is here known and called so; most often it is."""
    fresh = set(manifests).difference(store.graph.manifests(image.id))
    if fresh:
        with store.graph.writing():
            for manifest in fresh:
                store.graph.add_manifest(image.id, manifest)
    for reference in references:
        key = reference.repository, reference.tag or "latest"
        if store.graph.image_with_tag(*key) != image:
            store.tag(image, reference)


class Arrival:
    """The layers of one image on their way in; end it with `publish` or `give_up`."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._made: list[str] = []
        self.top: str | None = None

    def layer(self, diff_id: str, chain_id: str, fill: Fill) -> bool:
        """Have the layer on top of those there are; whether it had to be made.

        Raises what `fill` raises; Conflict if the layer below is removed by somebody meanwhile.
        """
        graph, owner = self._store.graph, self._store.owner
        while (known := graph.layer_with_chain(chain_id)) is not None or not (
            made := self._claimed(diff_id, chain_id)
        ):
            if known is None:
                continue
            id, state, token = known
            if state == "ready" and (
                token is None or owner.lives(token) or self._inherited(*known)
            ):
                self.top = id
                return False
            if owner.lives(token):
                time.sleep(PAUSE)
            else:
                self._store.reap()
        self._make(made, fill)
        self.top = made
        return True

    def _claimed(self, diff_id: str, chain_id: str) -> str | None:
        """The id of a new layer in state `creating`; None if somebody else was quicker."""
        graph, layer = self._store.graph, new_id()
        with suppress(sqlite3.IntegrityError), graph.writing():
            token, created = self._store.owner.token, time.time_ns()
            if not graph.add_layer(
                layer, self.top, created, token, diff_id=diff_id, chain_id=chain_id
            ):
                raise Conflict("a layer below was removed meanwhile: try again")
            return layer
        return None

    def _inherited(self, layer: str, state: str, dead: int | None) -> bool:
        """Whether this process holds a layer now that a dead one held."""
        with self._store.graph.writing():
            inherited = self._store.graph.inherit(layer, dead, self._store.owner.token)
        if inherited:
            self._made.append(layer)
        return inherited

    def _make(self, layer: str, fill: Fill) -> None:
        backend, graph = self._store.backend, self._store.graph
        staging, sealed = Volume(STAGING, layer), Volume(LAYERS, layer)
        try:
            backend.create(staging, Volume(LAYERS, self.top) if self.top else None)
            with backend.open(staging) as tree:
                size, blobs = fill(tree, layer)
            backend.seal(staging, sealed, records.of_layer(layer, self.top, []))
            with graph.writing():
                graph.ready_layer(layer, size, self._store.owner.token)
                for blob in blobs:
                    graph.add_blob(layer, blob)
        except BaseException:
            self._store.undo("layers", [layer])
            raise
        self._made.append(layer)

    def publish(
        self,
        config: bytes,
        digest: str,
        created: int,
        references: Iterable[Reference],
        form: str,
        manifests: Iterable[Manifest] = (),
    ) -> Image:
        """Let everyone see the image, or the one that has the digest already, with these tags.

        `config`: the very bytes that have the digest; `form`: docker or oci; `manifests`: what
        repositories call it.
        """
        graph = self._store.graph
        assert self.top is not None
        before: list[Image | None] = []
        with graph.writing():
            image = graph.image_with_digest(digest)
            if image is None:
                id = digest.removeprefix("sha256:")
                image = Image(id, self.top, None, created, config, digest)
                if graph.known("layers", [self.top]).get(self.top) != "ready":
                    raise Conflict("a layer was removed meanwhile: try again")
                graph.add_image(image, form)
            for reference in references:
                key = reference.repository, reference.tag or "latest"
                before.append(graph.image_with_tag(*key))
                graph.set_tag(reference, image.id)
            for manifest in manifests:
                graph.add_manifest(image.id, manifest)
            graph.release(self._made)
        for each in (image, *before):
            if each is not None:
                records.describe_layer(graph, self._store.backend, each.layer)
        return image

    def give_up(self) -> None:
        """Remove the layers that were made and that nobody else stands on."""
        graph, token = self._store.graph, self._store.owner.token
        # What is raised in here would hide why the image did not come in.
        with suppress(StoreError):
            for layer in reversed(self._made):
                with graph.writing():
                    needed = graph.layer_is_needed(layer)
                    if needed:
                        graph.release([layer])
                    else:
                        graph.claim("layers", layer, token, token)
                if not needed:
                    self._store.undo("layers", [layer])
