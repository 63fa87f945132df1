"""Images into a store from an archive: docker-archive, old and new, OCI archive and OCI layout.

All documents are read and judged before anything is made. A layer whose chain ID is here already
is not looked at; another goes into a clone of the layer below, is held against its digests, and is
then sealed. An image is seen when all of it is there, and when something is wrong with it nothing
of it stays.
"""

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, NamedTuple, cast

from imagegraph import splits
from imagegraph.arrival import Arrival
from imagegraph.errors import Conflict, InvalidReference, StoreError
from imagegraph.model import Blob, Image
from imagegraph.reference import Reference, parse_tag_target
from imagegraph.store import Store
from imagegraph.times import parse_rfc3339
from oci import compression, dockerarchive, documents
from oci.bundle import Bundle, DirectoryBundle, opened, read
from oci.digest import chain_ids, digest
from oci.documents import IMAGE_NAME, INDEXES, REF_NAME, Config, Descriptor, Platform
from oci.errors import ArchiveError
from oci.identity import PLAIN
from oci.json import MAX_SIZE
from oci.layer import apply_layer
from oci.platforms import pick, select
from oci.rootfs import STDIN

ATTEMPTS = 3
"""How often an image is brought in anew when somebody removes a layer of it meanwhile."""

_NESTED = 4
"""Indexes within each other."""

_BLOB = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?\Z")
_PIECE = 1 << 20

Progress = Callable[[int], None]


class Loaded(NamedTuple):
    """An image that is in the store now, and the names that the archive gave it."""

    image: Image
    names: tuple[Reference, ...]


class _Part(NamedTuple):
    """Where the archive has a layer; its digest as it lies there, None where nothing says it."""

    path: str
    digest: str | None


class _Incoming(NamedTuple):
    """An image of the archive: its config as it is, and its layers from the lowest up."""

    document: bytes
    config: Config
    layers: tuple[_Part, ...]
    names: tuple[Reference, ...]
    form: str

    @property
    def digest(self) -> str:
        return digest(self.document)


def load(
    store: Store,
    source: str,
    *,
    platform: Platform | None = None,
    progress: Progress | None = None,
) -> list[Loaded]:
    """Bring in all images of an archive: a file, compressed or not, a layout directory, or STDIN.

    Of an index the image for `platform` is taken, this machine's if None. `progress` hears of
    the bytes of layers that are read. Raises ArchiveError, BackendError and StoreError; images
    that came before the one that fails stay.
    """
    tell = progress or _say_nothing
    try:
        with _bundle(store, source) as bundle:
            incoming = list(_images(bundle, platform))
            if not incoming:
                raise ArchiveError(f"{source} has no images")
            return [_bring(store, bundle, each, tell) for each in incoming]
    except OSError as error:
        raise ArchiveError(f"cannot read {source}: {error.strerror}") from error


@contextmanager
def _bundle(store: Store, source: str) -> Iterator[Bundle]:
    if source != STDIN and os.path.isdir(source):
        yield DirectoryBundle(source)
        return
    with (
        open(0 if source == STDIN else source, "rb", closefd=source != STDIN) as file,
        opened(file, store.root) as bundle,
    ):
        yield bundle


# What is in the archive


def _images(bundle: Bundle, platform: Platform | None) -> Iterator[_Incoming]:
    # Docker, from 25 on, writes both; which tags an image has stands in its own.
    if bundle.size("manifest.json") is not None:
        data = read(bundle, "manifest.json", MAX_SIZE)
        return (_docker_image(bundle, each) for each in dockerarchive.parse_docker_manifest(data))
    if bundle.size("index.json") is not None:
        documents.parse_layout("oci-layout", read(bundle, "oci-layout", MAX_SIZE))
        return _oci_images(bundle, platform)
    if bundle.size("repositories") is not None:
        return _legacy_images(bundle)
    raise ArchiveError(
        "it is no archive of images: manifest.json, index.json and repositories are missing;"
        " import takes a root filesystem"
    )


def _docker_image(bundle: Bundle, image: dockerarchive.DockerImage) -> _Incoming:
    document = read(bundle, image.config, MAX_SIZE)
    _require_digest(image.config, _in_name(image.config), digest(document))
    parts = tuple(
        _Part(path, _in_name(path) if "blobs/" in path else None) for path in image.layers
    )
    names = tuple(_name("manifest.json", name) for name in image.repo_tags or ())
    return _incoming(image.config, document, parts, names, "docker")


def _oci_images(bundle: Bundle, platform: Platform | None) -> Iterator[_Incoming]:
    index = documents.parse_index("index.json", read(bundle, "index.json", MAX_SIZE))
    for image in select(index, platform):
        names = _names(image)
        for _ in range(_NESTED):
            if image.media_type not in INDEXES:
                break
            path = _path(image)
            inner = documents.parse_index(path, _document(bundle, image))
            image = pick(inner.manifests, platform)
        manifest = documents.parse_manifest(_path(image), _document(bundle, image))
        config = _document(bundle, manifest.config)
        parts = tuple(_layer_part(bundle, layer) for layer in manifest.layers)
        form = "docker" if manifest.media_type == documents.DOCKER_MANIFEST else "oci"
        yield _incoming(_path(manifest.config), config, parts, names, form)


def _layer_part(bundle: Bundle, layer: Descriptor) -> _Part:
    path = _path(layer)
    size = bundle.size(path)
    if size is not None and size != layer.size:
        raise ArchiveError(f"{path} has {size} bytes; its manifest says {layer.size}")
    return _Part(path, layer.digest)


def _legacy_images(bundle: Bundle) -> Iterator[_Incoming]:
    """Before Docker 1.10 a layer had an image's document, and no digest."""
    data = read(bundle, "repositories", MAX_SIZE)
    names: dict[str, list[Reference]] = {}
    for repository, tags in dockerarchive.parse_repositories(data).items():
        for tag, id in tags.items():
            names.setdefault(id, []).append(_name("repositories", f"{repository}:{tag}"))
    for top, own in names.items():
        known: dict[str, dockerarchive.LegacyImage] = {}
        following: str | None = top
        while following is not None and following not in known:
            path = f"{following}/json"
            known[following] = dockerarchive.parse_legacy(path, read(bundle, path, MAX_SIZE))
            following = known[following].parent
        chain = dockerarchive.ancestry(known, top)
        parts = tuple(_Part(f"{image.id}/layer.tar", None) for image in reversed(chain))
        diff_ids = [_diff_id(bundle, part) for part in parts]
        path = f"{top}/json"
        document = dockerarchive.migrated(path, read(bundle, path, MAX_SIZE), chain, diff_ids)
        yield _incoming(path, document, parts, tuple(own), "docker")


def _diff_id(bundle: Bundle, part: _Part) -> str:
    sha256 = hashlib.sha256()
    with bundle.open(part.path) as file:
        for piece in iter(partial(compression.decompressed(file).read, _PIECE), b""):
            sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"


def _incoming(
    path: str, document: bytes, parts: tuple[_Part, ...], names: tuple[Reference, ...], form: str
) -> _Incoming:
    config = documents.parse_config(path, document)
    documents.check_layers(path, config, len(parts))
    if not parts:
        raise ArchiveError(f"{path}: the image has no layers, and cowshed keeps none without")
    return _Incoming(document, config, parts, names, form)


def _document(bundle: Bundle, what: Descriptor) -> bytes:
    path = _path(what)
    data = read(bundle, path, MAX_SIZE)
    if len(data) != what.size:
        raise ArchiveError(f"{path} has {len(data)} bytes; its descriptor says {what.size}")
    _require_digest(path, what.digest, digest(data))
    return data


def _path(what: Descriptor) -> str:
    return f"blobs/sha256/{what.digest.hex}"


def _in_name(path: str) -> str | None:
    """The digest that a file is called by."""
    match = _BLOB.match(path)
    return f"sha256:{match[1]}" if match else None


def _require_digest(path: str, said: str | None, is_really: str) -> None:
    if said not in (None, is_really):
        raise ArchiveError(f"{path} is damaged: it is to have the digest {said}, not {is_really}")


def _name(document: str, text: str) -> Reference:
    try:
        return parse_tag_target(text)
    except InvalidReference as error:
        raise ArchiveError(f"{document}: {error}") from error


def _names(image: Descriptor) -> tuple[Reference, ...]:
    """What a layout calls an image. A tag alone, as umoci writes, says no repository."""
    if name := image.annotations.get(IMAGE_NAME):
        return (_name("index.json", name),)
    name = image.annotations.get(REF_NAME, "")
    return (_name("index.json", name),) if ":" in name or "/" in name else ()


# Into the store


def _bring(store: Store, bundle: Bundle, incoming: _Incoming, tell: Progress) -> Loaded:
    for left in reversed(range(ATTEMPTS)):
        known = store.graph.image_with_digest(incoming.digest)
        if known is not None:
            for name in incoming.names:
                store.tag(known, name)
            return Loaded(known, incoming.names)
        arrival = Arrival(store)
        try:
            return Loaded(_arrive(arrival, store, bundle, incoming, tell), incoming.names)
        except BaseException as error:
            arrival.give_up()
            if not isinstance(error, Conflict) or not left:
                raise
    raise AssertionError


def _arrive(
    arrival: Arrival, store: Store, bundle: Bundle, incoming: _Incoming, tell: Progress
) -> Image:
    diff_ids = incoming.config.rootfs.diff_ids
    for part, diff_id, chain_id in zip(incoming.layers, diff_ids, chain_ids(diff_ids), strict=True):
        fill = partial(_fill, store, bundle, part, diff_id, tell)
        if not arrival.layer(diff_id, chain_id, fill):
            tell(bundle.size(part.path) or 0)
    try:
        created = parse_rfc3339(incoming.config.created)
    except StoreError:
        created = 0
    return arrival.publish(
        incoming.document, incoming.digest, created, incoming.names, incoming.form
    )


def _fill(
    store: Store, bundle: Bundle, part: _Part, diff_id: str, tell: Progress, tree: str, layer: str
) -> tuple[int, list[Blob]]:
    """Apply a layer to the tree, and keep what it takes to have its tar again."""
    with (
        bundle.open(part.path) as file,
        splits.written(store.root, layer, splits.SPLIT) as record,
    ):
        kind = compression.sniff(file.peek(compression.MAGIC_SIZE))
        source = _Hashed(file)
        packed = cast(BinaryIO, source if kind != compression.PLAIN else file)
        try:
            applied = apply_layer(packed, tree, split=record.fileno(), progress=tell)
        except ArchiveError as error:
            raise ArchiveError(f"{part.path}: {error}") from error
        while packed.read(_PIECE):
            pass
        is_really = source.digest if kind != compression.PLAIN else applied.diff_id
        _require_digest(part.path, part.digest, is_really)
        if applied.diff_id != diff_id:
            raise ArchiveError(
                f"{part.path} is damaged: its diff ID is to be {diff_id}, not {applied.diff_id}"
            )
    if not applied.faithful:
        _keep(store, bundle, part, layer)
    blobs = [Blob(diff_id, applied.length, PLAIN, "")]
    if kind != compression.PLAIN:
        blobs.append(Blob(source.digest, source.length, kind, ""))
    return applied.size, blobs


def _keep(store: Store, bundle: Bundle, part: _Part, layer: str) -> None:
    """Keep the tar itself: something in it replaces what it brought before."""
    with (
        bundle.open(part.path) as file,
        splits.written(store.root, layer, splits.TAR) as kept,
    ):
        packing = compression.Packing(compression.ZSTD, kept.write)
        for piece in iter(partial(compression.decompressed(file).read, _PIECE), b""):
            packing.write(piece)
        packing.end()


class _Hashed(io.RawIOBase):
    """A file, with the digest of what was read of it so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.length = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._sha256.update(data)
        self.length += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha256.hexdigest()}"


def _say_nothing(count: int) -> None:
    """The progress that nobody asked for."""
