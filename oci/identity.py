"""What a layer is as a tar, and what an image is by its digests.

A commit is a snapshot and has no digests. When something needs them, the tar of its layer is made
once, in one pass over what changed, and its diff ID kept, with a tar-split record from which the
same bytes can be had again. A layer that came in has both from then.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Callable
from typing import BinaryIO

from backends.base import LAYERS, Volume
from backends.errors import BackendError, VolumeNotFound
from imagegraph import config as configs
from imagegraph import records, splits
from imagegraph.errors import NotFound
from imagegraph.model import Blob, Image, Layer
from imagegraph.store import Store
from oci import changeset, compression, documents, tarsplit
from oci.digest import Digest, chain_ids, digest
from oci.documents import Descriptor
from oci.errors import named

Write = Callable[[bytes | memoryview], object]

PLAIN = "none"
"""The compression of a blob that has none."""


class _Hashed:
    """Passes bytes on, and knows their digest and how many they were."""

    def __init__(self, write: Write = lambda data: None) -> None:
        self._write = write
        self._sha256 = hashlib.sha256()
        self.length = 0

    def write(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self.length += len(data)
        self._write(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def identify(store: Store, image: Image) -> Image:
    """The image with its digest, and its layers with theirs; made once, then kept.

    Raises BackendError for what no layer can hold. Warns of sockets, which are left out.
    """
    layers = list(reversed(store.graph.chain(image.layer)))
    if image.digest is not None and all(layer.diff_id for layer in layers):
        return image
    try:
        diff_ids = [layer.diff_id or _identify_layer(store, layer) for layer in layers]
    except VolumeNotFound as error:
        if store.graph.image(image.id) is not None:
            raise
        raise NotFound(f"image {image.id[:12]} was removed meanwhile") from error
    with store.graph.writing():
        for layer, diff_id, chain_id in zip(layers, diff_ids, chain_ids(diff_ids), strict=True):
            if layer.chain_id is None:
                store.graph.identify_layer(layer.id, diff_id, chain_id)
        document = configs.load(image.config)
        document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        config = configs.dump(document)
        store.graph.identify_image(image.id, config, digest(config))
    records.describe_layer(store.graph, store.backend, image.layer)
    known = store.graph.image(image.id)
    if known is None:
        raise NotFound(f"image {image.id[:12]} was removed meanwhile")
    # Another image may have the digest already; this one's is the same.
    return known._replace(config=config, digest=digest(config))


def _identify_layer(store: Store, layer: Layer) -> str:
    made = _Hashed()
    with splits.written(store.root, layer.id, splits.SPLIT) as record:
        _make(store, layer, made, record)
    with store.graph.writing():
        is_there = store.graph.add_blob(layer.id, Blob(made.digest, made.length, PLAIN, ""))
    if not is_there:
        splits.drop(store.root, layer.id)
        raise NotFound(f"layer {layer.id[:12]} was removed meanwhile")
    return made.digest


def _make(store: Store, layer: Layer, out: _Hashed, record: BinaryIO | None = None) -> None:
    """Make the tar of a layer of our own from what changed."""
    below = Volume(LAYERS, layer.parent) if layer.parent else None
    with store.backend.compared(Volume(LAYERS, layer.id), below) as compared:
        if record is None:
            changeset.make(compared, out.write)
            return
        with contextlib.closing(tarsplit.Writer(record.fileno())) as writer:
            sockets = changeset.make(compared, out.write, writer)
    for socket in sockets:
        warnings.warn(f"{named(socket)} is a socket, which no layer holds: left out", stacklevel=1)


def plain(store: Store, layer: Layer) -> Blob:
    """The layer's tar, uncompressed, as a blob. The layer is identified."""
    return next(blob for blob in store.graph.blobs(layer.id) if blob.digest == layer.diff_id)


def described(blob: Blob) -> Descriptor:
    """The descriptor of a blob that is plain, gzip or zstd."""
    media_type = documents.layer_type(blob.compression)
    return Descriptor(media_type=media_type, digest=Digest(blob.digest), size=blob.size)


def write_tar(store: Store, layer: Layer, write: Write) -> None:
    """Write the tar that has the layer's diff ID. The layer is identified.

    Raises BackendError where it cannot be had any more; what was written then is to be given up.
    """
    out, kept = _Hashed(write), splits.kept(store.root, layer.id)
    if kept is None:
        # What was made here can be made again.
        _make(store, layer, out)
    else:
        with open(kept, "rb") as file:
            if kept.endswith(splits.TAR):
                for piece in compression.pieces(compression.ZSTD, file.read):
                    out.write(piece)
            else:
                with store.backend.open(Volume(LAYERS, layer.id)) as tree:
                    tarsplit.rebuild(file, tree, out.write)
    if out.digest != layer.diff_id:
        raise BackendError(
            f"layers/{layer.id[:12]} does not give the tar any more that has its digest"
            f" {layer.diff_id}: it was changed, or {splits.DIRECTORY} was; nothing is written"
        )
