"""Images out of a store: docker-archive, OCI archive and OCI layout.

The docker-archive is what Docker writes from 25 on: an OCI layout with Docker's manifest.json and
repositories beside it, so that old and new readers take it. An image that came from elsewhere goes
out with the config and the layers it came with, byte for byte. Every layer is held against its
digest on the way; if it does not agree, the archive is not finished.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, Protocol

from imagegraph.model import Blob, Image, Layer
from imagegraph.reference import Reference
from imagegraph.store import Store
from oci import compression, documents
from oci.digest import Digest
from oci.dockerarchive import (
    ArchivePath,
    DockerImage,
    dump_docker_manifest,
    dump_repositories,
)
from oci.documents import LAYOUT, OCI_CONFIG, OCI_MANIFEST, Descriptor
from oci.identity import PLAIN, described, identify, plain, write_tar
from oci.tarheader import DIRECTORY, END_OF_ARCHIVE, FILE, NOTHING, Entry, encode, padding

DOCKER_ARCHIVE, OCI_ARCHIVE, OCI_LAYOUT = FORMATS = ("docker-archive", "oci-archive", "oci")
COMPRESSIONS = (PLAIN, compression.GZIP, compression.ZSTD)

_PIECE = 1 << 20

Write = Callable[[bytes | memoryview], object]
Progress = Callable[[int], None]


class Named(NamedTuple):
    """An image to be saved, and the tags that go with it."""

    image: Image
    tags: tuple[Reference, ...]


class Out(Protocol):
    """Where the files of an archive go, one after another."""

    def file(self, path: str, size: int, fill: Callable[[Write], object]) -> None:
        """Add a file that has `size` bytes, which `fill` writes."""


class TarOut:
    """A tar; call `end` after the last file."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._directories: set[str] = set()

    def file(self, path: str, size: int, fill: Callable[[Write], object]) -> None:
        above = ""
        for part in path.split("/")[:-1]:
            above += f"{part}/"
            if above not in self._directories:
                self._directories.add(above)
                self._write(_header(DIRECTORY, above, 0, 0o755))
        self._write(_header(FILE, path, size, 0o644))
        fill(self._write)
        self._write(padding(size))

    def end(self) -> None:
        self._write(END_OF_ARCHIVE)


class DirectoryOut:
    """The files below a directory, which is there."""

    def __init__(self, path: str) -> None:
        self._path = path

    def file(self, path: str, size: int, fill: Callable[[Write], object]) -> None:
        final = f"{self._path}/{path}"
        os.makedirs(os.path.dirname(final), exist_ok=True)
        with open(final, "xb") as file:
            fill(file.write)
            file.flush()
            os.fsync(file.fileno())


def save(
    store: Store,
    images: Sequence[Named],
    out: Out,
    *,
    docker: bool,
    packed: str = PLAIN,
    progress: Progress | None = None,
) -> None:
    """Write the images, which share their layers, to `out`; `docker`: with Docker's documents.

    `packed` says how layers are compressed: none, gzip or zstd. `progress` hears of the bytes of
    layers that were written. Raises BackendError, TreeChanged; an OSError is that of `out`.
    """
    saving = _Saving(store, out, packed, progress or _say_nothing)
    listed = [saving.image(each) for each in images]
    index = documents.dump_index([entry for entries, _ in listed for entry in entries])
    _put(out, "index.json", index)
    if docker:
        entries = [entry for _, entry in listed]
        _put(out, "manifest.json", dump_docker_manifest(entries))
    _put(out, "oci-layout", LAYOUT)
    if docker:
        _put(out, "repositories", dump_repositories(saving.repositories))


class _Saving:
    """The images of one archive; a blob is written once."""

    def __init__(self, store: Store, out: Out, packed: str, tell: Progress) -> None:
        self._store = store
        self._out = out
        self._packed = packed
        self._tell = tell
        self._written: dict[str, Descriptor] = {}
        self.repositories: dict[str, dict[str, str]] = {}

    def image(self, what: Named) -> tuple[list[Descriptor], DockerImage]:
        """Write an image's blobs; what index.json and manifest.json are to say of it."""
        image = identify(self._store, what.image)
        chain = list(reversed(self._store.graph.chain(image.layer)))
        layers = [self._layer(layer) for layer in chain]
        config = self._document(image.config, OCI_CONFIG)
        manifest = self._document(documents.dump_manifest(config, layers), OCI_MANIFEST)
        for tag in what.tags:
            own = self.repositories.setdefault(tag.familiar, {})
            own[tag.tag or "latest"] = (chain[-1].diff_id or "").removeprefix("sha256:")
        entries = [documents.tagged(manifest, tag) for tag in what.tags] or [manifest]
        return entries, DockerImage(
            config=ArchivePath(_path(config.digest)),
            repo_tags=tuple(map(str, what.tags)) or None,
            layers=tuple(ArchivePath(_path(layer.digest)) for layer in layers),
            layer_sources={
                Digest(layer.diff_id or ""): written
                for layer, written in zip(chain, layers, strict=True)
            },
        )

    def _document(self, data: bytes, media_type: str) -> Descriptor:
        described = documents.descriptor(data, media_type)
        if described.digest not in self._written:
            self._written[described.digest] = described
            _put(self._out, _path(described.digest), data)
        return described

    def _layer(self, layer: Layer) -> Descriptor:
        diff_id = layer.diff_id
        assert diff_id is not None
        if diff_id not in self._written:
            self._written[diff_id] = self._packed_layer(layer)
        return self._written[diff_id]

    def _packed_layer(self, layer: Layer) -> Descriptor:
        if self._packed == PLAIN:
            blob = plain(self._store, layer)
            self._out.file(_path(blob.digest), blob.size, self._counted(layer))
            return described(blob)
        with tempfile.TemporaryFile(dir=self._store.root) as file:
            blob = self._pack(layer, file)
            file.seek(0)

            def copy(write: Write) -> None:
                while piece := file.read(_PIECE):
                    write(piece)

            if blob.digest not in self._written:
                self._out.file(_path(blob.digest), blob.size, copy)
        return described(blob)

    def _counted(self, layer: Layer) -> Callable[[Write], object]:
        def fill(write: Write) -> None:
            def counted(data: bytes | memoryview) -> None:
                write(data)
                self._tell(len(data))

            write_tar(self._store, layer, counted)

        return fill

    def _pack(self, layer: Layer, file: BinaryIO) -> Blob:
        """Write the layer, compressed, to a file; the blob that it is, which is kept."""
        packing = compression.Packing(self._packed, file.write)
        self._counted(layer)(packing.write)
        blob = Blob(*packing.end(), self._packed, compression.compressor(self._packed))
        with self._store.graph.writing():
            self._store.graph.add_blob(layer.id, blob)
        return blob


def _path(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _put(out: Out, path: str, data: bytes) -> None:
    out.file(path, len(data), lambda write: write(data))


def _header(kind: int, path: str, size: int, mode: int) -> bytes:
    name = path.encode()
    return encode(Entry(kind, name, b"", mode, 0, 0, size, size, 0, None, 0, 0, NOTHING))


def _say_nothing(count: int) -> None:
    """The progress that nobody asked for."""
