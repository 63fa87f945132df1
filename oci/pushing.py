"""Images into a registry, straight out of snapshots.

A layer goes only if the registry has it in none of the forms that are known here: as it was pulled,
or as it was compressed for a push before. Where another repository of the registry has it, it is
mounted from there. Otherwise its tar is made, compressed and sent in one stream, without a file
between. What comes out of a compressor here is the same whenever and wherever it is pushed.
"""

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import BinaryIO, NamedTuple, cast

from backends.errors import BackendError, CowshedError
from imagegraph.model import Blob, Image, Layer, Manifest
from imagegraph.reference import Reference, in_repository
from imagegraph.store import Store
from oci import compression, documents
from oci.digest import Digest, digest
from oci.documents import OCI_CONFIG, OCI_MANIFEST, Descriptor
from oci.identity import PLAIN, described, identify, plain, write_tar
from oci.registry.client import Registry

AT_ONCE = 3
"""Layers that are sent at the same time."""

_PIECE = 1 << 20

Told = Callable[[int], None]
"""Told how many bytes of a layer's tar were sent since it was last called; by any thread."""

Progress = Callable[[Layer, int], Told]
"""Given each layer that is sent, and the bytes of its tar."""


class Packed(NamedTuple):
    """How layers are compressed that have no form yet: gzip or zstd, and how hard."""

    kind: str = compression.GZIP
    level: int | None = None


class _Known(NamedTuple):
    """A layer, the forms its tar is known in, those wanted first, and where each was seen.

    `size` is that of the tar, in bytes.
    """

    layer: Layer
    size: int
    blobs: Sequence[Blob]
    places: dict[str, list[Reference]]


def push(
    store: Store,
    registry: Registry,
    image: Image,
    reference: Reference,
    *,
    packed: Packed = Packed(),  # noqa: B008 - a record, never changed
    progress: Progress | None = None,
) -> Digest:
    """Have the image in the registry under the tag of `reference`; the digest of its manifest.

    The manifest that it was pulled by is sent again, if the registry can have all of its blobs.
    Raises RegistryError, BackendError for what no layer can hold, and StoreError.
    """
    image = identify(store, image)
    chain = list(reversed(store.graph.chain(image.layer)))
    former = _former(store, image)
    known = [
        _known(store, layer, [manifest.layers[number].digest for _, manifest in former])
        for number, layer in enumerate(chain)
    ]
    pushing = _Pushing(store, registry, reference, packed, progress)
    sent = pushing.layers(known)
    config = documents.descriptor(image.config, OCI_CONFIG)
    if not registry.has_blob(reference.path, config.digest):
        whole = partial(_opened_at, lambda: io.BytesIO(image.config))
        registry.upload(reference.path, config.digest, config.size, whole)
    call = _manifest(reference, config, sent, former)
    assert call.document is not None
    tag = reference.tag or "latest"
    registry.put_manifest(reference.path, tag, call.document, call.media_type)
    with store.graph.writing():
        for layer, blob in zip(chain, sent, strict=True):
            if store.graph.add_blob(layer.id, blob):
                store.graph.add_place(layer.id, blob.digest, reference.repository)
        store.graph.add_manifest(image.id, call)
    return Digest(call.digest)


def _former(store: Store, image: Image) -> list[tuple[Manifest, documents.Manifest]]:
    """The manifests that the image was known by, as they are and parsed."""
    return [
        (each, documents.parse_manifest(each.digest, each.document))
        for each in store.graph.manifests(image.id)
        if each.document is not None
    ]


def _known(store: Store, layer: Layer, wanted: Sequence[str]) -> _Known:
    blobs = {blob.digest: blob for blob in store.graph.blobs(layer.id)}
    first = [blobs[digest] for digest in dict.fromkeys(wanted) if digest in blobs]
    others = [
        blob
        for blob in blobs.values()
        if blob not in first and blob.compression in compression.LEVELS
    ]
    listed = [*first, *others]
    places = {
        blob.digest: [in_repository(name) for name in store.graph.places(blob.digest)]
        for blob in listed
    }
    return _Known(layer, plain(store, layer).size, listed, places)


class _Pushing:
    """The layers of one image on their way; by any number of threads."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        target: Reference,
        packed: Packed,
        progress: Progress | None,
    ) -> None:
        self._store, self._registry, self._target = store, registry, target
        self._packed, self._progress = packed, progress
        self._compressor = compression.compressor(packed.kind, packed.level)
        self._is_stopped = False

    def layers(self, known: Sequence[_Known]) -> list[Blob]:
        """Have the layers in the registry; the forms that they have there.

        The first error, or an interrupt, is raised at once; threads that wait for the registry
        then do not hold up the end of the program.
        """
        todo = deque(enumerate(known))
        done: SimpleQueue[tuple[int, Blob | BaseException]] = SimpleQueue()

        def work() -> None:
            while True:
                try:
                    number, one = todo.popleft()
                except IndexError:
                    return
                try:
                    done.put((number, self._layer(one)))
                except BaseException as error:  # noqa: BLE001 - raised by who waits for it
                    done.put((number, error))

        for _ in range(min(AT_ONCE, len(known))):
            threading.Thread(target=work, daemon=True).start()
        found: dict[int, Blob] = {}
        try:
            while len(found) < len(known):
                number, outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                found[number] = outcome
        except BaseException:
            self._is_stopped = True
            todo.clear()
            raise
        return [found[number] for number in range(len(known))]

    def _layer(self, known: _Known) -> Blob:
        blob = self._there(known) or self._mounted(known)
        return blob or self._sent(known)

    def _there(self, known: _Known) -> Blob | None:
        path = self._target.path
        for blob in known.blobs:
            if self._registry.has_blob(path, Digest(blob.digest)):
                return blob
        return None

    def _mounted(self, known: _Known) -> Blob | None:
        target = self._target
        for blob in known.blobs:
            for place in known.places[blob.digest]:
                if place.domain != target.domain or place.path == target.path:
                    continue
                if self._registry.mount_blob(target.path, Digest(blob.digest), place.path):
                    return blob
        return None

    def _sent(self, known: _Known) -> Blob:
        tell = self._progress(known.layer, known.size) if self._progress else _say_nothing
        for blob in known.blobs:
            if blob.compression == PLAIN or blob.compressor == self._compressor:
                content = partial(self._content, known.layer, blob.compression, tell)
                whole = partial(_opened_at, content)
                self._registry.upload(self._target.path, Digest(blob.digest), blob.size, whole)
                return blob
        content = partial(self._content, known.layer, self._packed.kind, tell)
        digest, size = self._registry.upload_stream(self._target.path, content)
        return Blob(digest, size, self._packed.kind, self._compressor)

    def _content(self, layer: Layer, kind: str, tell: Told) -> BinaryIO:
        """The layer's tar, compressed, as a stream."""

        def produce(write: Callable[[bytes | memoryview], object]) -> None:
            packing = (
                None if kind == PLAIN else compression.Packing(kind, write, self._packed.level)
            )
            take = packing.write if packing else write

            def counted(data: bytes | memoryview) -> None:
                if self._is_stopped:
                    raise BackendError("the push was broken off")
                take(data)
                tell(len(data))

            write_tar(self._store, layer, counted)
            if packing:
                packing.end()

        return cast(BinaryIO, io.BufferedReader(_Produced(produce), _PIECE))


class _Produced(io.RawIOBase):
    """What another thread writes, as a stream; what it raises is raised at the end of that."""

    def __init__(self, produce: Callable[[Callable[[bytes | memoryview], object]], None]) -> None:
        self._from, self._to = os.pipe()
        self._error: CowshedError | None = None
        self._thread = threading.Thread(target=self._run, args=(produce,), daemon=True)
        self._thread.start()

    def _run(self, produce: Callable[[Callable[[bytes | memoryview], object]], None]) -> None:
        self._error = BackendError("the thread that makes the layer's tar died")
        try:
            with open(self._to, "wb", buffering=_PIECE) as out:
                produce(out.write)
            self._error = None
        except CowshedError as error:
            self._error = error
        except BrokenPipeError:
            # Whoever reads has enough.
            self._error = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.readv(self._from, [buffer])
        if not count:
            self._thread.join()
            if self._error is not None:
                raise self._error
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._from)
            self._thread.join()
        super().close()


def _opened_at(content: Callable[[], BinaryIO], offset: int) -> BinaryIO:
    """A stream that begins at the offset of the content."""
    stream = content()
    while offset:
        offset -= len(stream.read(min(offset, _PIECE))) or offset
    return stream


def _manifest(
    target: Reference,
    config: Descriptor,
    layers: Sequence[Blob],
    former: Sequence[tuple[Manifest, documents.Manifest]],
) -> Manifest:
    """The manifest of an image with these layers: one that it had, if it is of just these."""
    digests = [blob.digest for blob in layers]
    for call, manifest in former:
        if digests == [layer.digest for layer in manifest.layers]:
            return call._replace(repository=target.repository)
    document = documents.dump_manifest(config, [described(blob) for blob in layers])
    return Manifest(target.repository, digest(document), OCI_MANIFEST, document)


def _say_nothing(count: int) -> None:
    """The progress that nobody asked for."""
