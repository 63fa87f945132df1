"""The documents of OCI image-spec 1.1, and Docker's twins of them, parsed and written.

descriptor.md, manifest.md, image-index.md, image-layout.md and config.md; of Docker's
distribution project manifest schema 2 and the manifest list, which differ in media types only.
Records bear the names of the spec. How hostile and odd JSON is met is told in oci.json. An image
config is a view: its bytes stay with the caller, who never writes them anew, so that fields
unknown here, and the digest, survive. The number of non-empty steps of history is not
compared with that of the layers: many real images differ there, and Docker takes them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from imagegraph.reference import Reference
from oci.digest import Digest, digest
from oci.errors import ArchiveError
from oci.json import parse, quoted

MAX_LAYERS = 1000
"""Layers of an image. Docker allows 125 (layer.MaxDepth), for overlay's sake."""

NESTED = 4
"""Indexes within each other that are followed."""

_SIZE_MAX = 2**63 - 1

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})

_OCI_SUFFIXES = {"none": "", "gzip": "+gzip", "zstd": "+zstd"}
_DOCKER_SUFFIXES = {"none": "", "gzip": ".gzip", "zstd": ".zstd"}
_LAYERS = frozenset(
    layer + suffix
    for layers, suffixes in (
        ((OCI_LAYER, _OCI_FOREIGN_LAYER), _OCI_SUFFIXES),
        ((DOCKER_LAYER, _DOCKER_FOREIGN_LAYER), _DOCKER_SUFFIXES),
    )
    for layer in layers
    for suffix in suffixes.values()
)

REF_NAME = "org.opencontainers.image.ref.name"
IMAGE_NAME = "io.containerd.image.name"

LAYOUT = b'{"imageLayoutVersion": "1.0.0"}'
"""The file oci-layout, byte for byte as Docker, skopeo and Podman write it."""


def _none() -> tuple["Descriptor", ...]:
    """A default that `omit_defaults` does not know: an empty list is written."""
    return ()


class Record(msgspec.Struct, frozen=True):
    """A document or a part of one."""


class Platform(Record, frozen=True, kw_only=True):
    """What an image runs on, in Go's words; image-index.md."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = msgspec.field(name="os.version", default="")


class Descriptor(Record, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a blob is, and which; descriptor.md. `size` is in bytes."""

    media_type: str
    digest: Digest
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    platform: Platform | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.size <= _SIZE_MAX:
            raise ValueError("has an impossible size")


class Manifest(Record, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An image: its config, and its layers from the lowest up; manifest.md."""

    schema_version: int
    media_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...] = msgspec.field(default_factory=_none)
    annotations: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_depth(len(self.layers))


class Index(Record, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Images for several platforms, or those of a layout; image-index.md."""

    schema_version: int
    media_type: str = ""
    manifests: tuple[Descriptor, ...] = msgspec.field(default_factory=_none)
    annotations: dict[str, str] = {}


class RootFS(Record, frozen=True, kw_only=True):
    """The layers of an image by diff ID, the lowest first; config.md."""

    type: str
    diff_ids: tuple[Digest, ...] = ()

    def __post_init__(self) -> None:
        if self.type != "layers":
            raise ValueError(f"is of type {quoted(self.type)}; only layers is supported")
        check_depth(len(self.diff_ids))


class History(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One step in the making of an image; the fields are in Docker's order."""

    created: str = ""
    author: str = ""
    created_by: str = ""
    comment: str = ""
    empty_layer: bool = False


class _Inner(Record, frozen=True, kw_only=True, rename="pascal"):
    """What a container of the image runs by: config.md, "config", and Docker's fields of it."""

    user: str = ""
    exposed_ports: dict[str, Any] = {}
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    healthcheck: dict[str, Any] = {}
    volumes: dict[str, Any] = {}
    working_dir: str = ""
    labels: dict[str, str] = {}
    stop_signal: str = ""
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


class Config(Record, frozen=True, kw_only=True):
    """What must be known of an image config. Docker's early ones lack `architecture` and `os`."""

    architecture: str = ""
    os: str = ""
    variant: str = ""
    created: str = ""
    author: str = ""
    config: _Inner = _Inner()
    rootfs: RootFS
    history: tuple[History, ...] = ()


class _Layout(Record, frozen=True, kw_only=True, rename="camel"):
    image_layout_version: str


def check_depth(layers: int) -> None:
    """Raises ValueError when an image has too many layers."""
    if layers > MAX_LAYERS:
        raise ValueError(f"has {layers} layers; an image may have {MAX_LAYERS} at most")


def parse_manifest(document: str, data: bytes) -> Manifest:
    """An image manifest, OCI or Docker schema 2; `document` is its name in messages.

    Raises ArchiveError, also where it could be taken for an index as well (CVE-2021-41190),
    and for what is no image: a chart, a plugin, an encrypted layer.
    """
    manifest = parse(document, data, Manifest, never=("manifests", "fsLayers"))
    _check_kind(document, manifest, MANIFESTS)
    if manifest.config.media_type not in _CONFIGS:
        raise ArchiveError(
            f"{document} is no image: config.mediaType is {quoted(manifest.config.media_type)}"
        )
    for number, layer in enumerate(manifest.layers):
        if layer.media_type not in _LAYERS:
            raise ArchiveError(
                f"{document}: layers[{number}].mediaType {quoted(layer.media_type)} is not "
                "supported; layers are tar, plain or compressed with gzip or zstd"
            )
    return manifest


def parse_index(document: str, data: bytes) -> Index:
    """An image index (also index.json of a layout) or Docker's manifest list; ArchiveError."""
    index = parse(document, data, Index, never=("config", "layers", "fsLayers"))
    _check_kind(document, index, INDEXES)
    return index


def parse_config(document: str, data: bytes) -> Config:
    """What is known of an image config; ArchiveError."""
    return parse(document, data, Config)


def parse_layout(document: str, data: bytes) -> None:
    """Checks the file oci-layout; ArchiveError unless its version is 1."""
    version = parse(document, data, _Layout).image_layout_version
    if version.partition(".")[0] != "1":
        raise ArchiveError(
            f"{document}: imageLayoutVersion {quoted(version)} is not supported; 1.0.0 is"
        )


def check_layers(document: str, config: Config, layers: int) -> None:
    """Raises ArchiveError unless the config has one diff ID for each of a manifest's `layers`."""
    known = len(config.rootfs.diff_ids)
    if known != layers:
        raise ArchiveError(
            f"{document}: rootfs.diff_ids has {known} entries, but the manifest {layers} layers"
        )


def descriptor(data: bytes, media_type: str) -> Descriptor:
    """The descriptor of a document."""
    return Descriptor(media_type=media_type, digest=digest(data), size=len(data))


def tagged(image: Descriptor, reference: Reference) -> Descriptor:
    """`image` with the annotations by which Docker (25 and later) and containerd name it.

    `reference` has a tag. skopeo, umoci and Podman go by the tag alone.
    """
    assert reference.tag is not None
    names = {IMAGE_NAME: f"{reference.repository}:{reference.tag}", REF_NAME: reference.tag}
    return msgspec.structs.replace(image, annotations={**image.annotations, **names})


def layer_type(compression: str, *, docker: bool = False) -> str:
    """The media type of a layer; `compression` is none, gzip or zstd."""
    if docker:
        return DOCKER_LAYER + _DOCKER_SUFFIXES[compression]
    return OCI_LAYER + _OCI_SUFFIXES[compression]


def dump_manifest(
    config: Descriptor, layers: Sequence[Descriptor], *, docker: bool = False
) -> bytes:
    """The manifest of an image, OCI or Docker schema 2, in the spec's order of fields."""
    return dump(
        Manifest(
            schema_version=2,
            media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
            config=config,
            layers=tuple(layers),
        )
    )


def dump_index(manifests: Sequence[Descriptor], *, docker: bool = False) -> bytes:
    """An index: index.json of a layout, or the platforms of an image."""
    media_type = DOCKER_INDEX if docker else OCI_INDEX
    return dump(Index(schema_version=2, media_type=media_type, manifests=tuple(manifests)))


def dump(value: object) -> bytes:
    """The JSON of a record, the same for ever: no spaces, maps sorted by key."""
    return msgspec.json.encode(value, enc_hook=str, order="deterministic")


def _check_kind(document: str, value: Manifest | Index, kinds: frozenset[str]) -> None:
    if value.schema_version != 2:
        raise ArchiveError(
            f"{document}: schemaVersion {value.schema_version} is not supported; 2 is"
        )
    # umoci and skopeo leave the media type out of OCI documents; the spec allows it.
    if value.media_type and value.media_type not in kinds:
        raise ArchiveError(f"{document}: mediaType {quoted(value.media_type)} is not expected here")
