"""Images into a store from an archive: docker-archive, old and new, OCI archive and OCI layout.

All documents are read and judged before anything is made; then the images come in one after the
other (see oci.incoming).
"""

import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import NamedTuple

from imagegraph.errors import InvalidReference
from imagegraph.model import Image
from imagegraph.reference import Reference, parse_tag_target
from imagegraph.store import Store
from oci import compression, dockerarchive, documents
from oci.bundle import Bundle, DirectoryBundle, opened, read
from oci.digest import digest
from oci.documents import IMAGE_NAME, INDEXES, REF_NAME, Descriptor, Platform
from oci.errors import ArchiveError
from oci.incoming import Incoming, Part, Progress, bring, judged, naming, require_digest
from oci.json import MAX_SIZE
from oci.platforms import pick, select
from oci.rootfs import STDIN

_BLOB = re.compile(r"(?:.*/)?([0-9a-f]{64})(?:\.json)?\Z")
_PIECE = 1 << 20


class Loaded(NamedTuple):
    """An image that is in the store now, and the names that the archive gave it."""

    image: Image
    names: tuple[Reference, ...]


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
    try:
        with _bundle(store, source) as bundle:
            incoming = list(_images(bundle, platform, store.root))
            if not incoming:
                raise ArchiveError(f"{source} has no images")
            files = _Files(bundle)
            return [Loaded(bring(store, files, each, progress), each.names) for each in incoming]
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


class _Files:
    """The layers of an archive; a Source."""

    verified = False

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def open(self, part: Part) -> io.BufferedReader:
        return self._bundle.open(part.path)


def _images(bundle: Bundle, platform: Platform | None, root: str) -> Iterator[Incoming]:
    # Docker, from 25 on, writes both; which tags an image has stands in its own.
    if bundle.size("manifest.json") is not None:
        data = read(bundle, "manifest.json", MAX_SIZE)
        return (_docker_image(bundle, each) for each in dockerarchive.parse_docker_manifest(data))
    if bundle.size("index.json") is not None:
        documents.parse_layout("oci-layout", read(bundle, "oci-layout", MAX_SIZE))
        return _oci_images(bundle, platform)
    if bundle.size("repositories") is not None:
        return _legacy_images(bundle, root)
    raise ArchiveError(
        "it is no archive of images: manifest.json, index.json and repositories are missing;"
        " import takes a root filesystem"
    )


def _docker_image(bundle: Bundle, image: dockerarchive.DockerImage) -> Incoming:
    document = read(bundle, image.config, MAX_SIZE)
    require_digest(image.config, _in_name(image.config), digest(document))
    parts = tuple(
        _part(bundle, path, _in_name(path) if "blobs/" in path else None) for path in image.layers
    )
    names = tuple(_name("manifest.json", name) for name in image.repo_tags or ())
    return _incoming(image.config, document, parts, names, "docker")


def _oci_images(bundle: Bundle, platform: Platform | None) -> Iterator[Incoming]:
    index = documents.parse_index("index.json", read(bundle, "index.json", MAX_SIZE))
    for image in select(index, platform):
        names = _names(image)
        for _ in range(documents.NESTED):
            if image.media_type not in INDEXES:
                break
            path = _path(image)
            inner = documents.parse_index(path, _document(bundle, image))
            image = pick(inner.manifests, platform)
        if image.media_type in INDEXES:
            raise ArchiveError(
                f"{_path(image)}: more than {documents.NESTED} indexes are in each other"
            )
        manifest = documents.parse_manifest(_path(image), _document(bundle, image))
        config = _document(bundle, manifest.config)
        parts = tuple(_layer_part(bundle, layer) for layer in manifest.layers)
        form = "docker" if manifest.media_type == documents.DOCKER_MANIFEST else "oci"
        yield _incoming(_path(manifest.config), config, parts, names, form)


def _layer_part(bundle: Bundle, layer: Descriptor) -> Part:
    path = _path(layer)
    size = bundle.size(path)
    if size is not None and size != layer.size:
        raise ArchiveError(f"{path} has {size} bytes; its manifest says {layer.size}")
    return Part(path, layer.digest, layer.size)


def _part(bundle: Bundle, path: str, said: str | None) -> Part:
    return Part(path, said, bundle.size(path) or 0)


def _legacy_images(bundle: Bundle, root: str) -> Iterator[Incoming]:
    """Before Docker 1.10 a layer had an image's document, and no digest."""
    diff_id = cache(partial(_diff_id, bundle, root))
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
        parts = tuple(_part(bundle, f"{image.id}/layer.tar", None) for image in reversed(chain))
        diff_ids = [diff_id(part) for part in parts]
        path = f"{top}/json"
        document = dockerarchive.migrated(path, read(bundle, path, MAX_SIZE), chain, diff_ids)
        yield _incoming(path, document, parts, tuple(own), "docker")


def _diff_id(bundle: Bundle, root: str, part: Part) -> str:
    sha256 = hashlib.sha256()
    with bundle.open(part.path) as file, naming(part.path):
        kind = compression.sniff(file.peek(compression.MAGIC_SIZE))
        pieces = iter(partial(compression.decompressed(file).read, _PIECE), b"")
        if kind != compression.PLAIN:
            pieces = compression.within_room(pieces, root)
        for piece in pieces:
            sha256.update(piece)
    return f"sha256:{sha256.hexdigest()}"


def _incoming(
    path: str, document: bytes, parts: tuple[Part, ...], names: tuple[Reference, ...], form: str
) -> Incoming:
    return Incoming(document, judged(path, document, parts), parts, names, form)


def _document(bundle: Bundle, what: Descriptor) -> bytes:
    path = _path(what)
    data = read(bundle, path, MAX_SIZE)
    if len(data) != what.size:
        raise ArchiveError(f"{path} has {len(data)} bytes; its descriptor says {what.size}")
    require_digest(path, what.digest, digest(data))
    return data


def _path(what: Descriptor) -> str:
    return f"blobs/sha256/{what.digest.hex}"


def _in_name(path: str) -> str | None:
    """The digest that a file is called by."""
    match = _BLOB.match(path)
    return f"sha256:{match[1]}" if match else None


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
