"""The records of the image graph: frozen, as the database holds them.

Ids are 64 lower-case hex digits. Times are integers, nanoseconds since the epoch. Sizes are
bytes, None while nobody has counted them.
"""

import os
from typing import Any, NamedTuple

from imagegraph.reference import Reference
from imagegraph.running import State


def new_id() -> str:
    """256 random bits in hex; what people read of it is never all decimal digits."""
    while True:
        id = os.urandom(32).hex()
        if not id[:12].isdigit():
            return id


class Layer(NamedTuple):
    """A sealed volume and its parent layer, or none."""

    id: str
    parent: str | None
    created: int
    size: int | None
    diff_id: str | None
    chain_id: str | None


class Blob(NamedTuple):
    """A form in which a layer's tar was written or read: `compression` is none, gzip, zstd, ...

    `compressor` names what made it here, with its version and level; empty where that is unknown.
    """

    digest: str
    size: int
    compression: str
    compressor: str


class Manifest(NamedTuple):
    """By what digest a repository knows an image: that of a manifest, or of an index with it.

    `repository` is in full, with its registry; `document` is None for an index.
    """

    repository: str
    digest: str
    media_type: str
    document: bytes | None


class Image(NamedTuple):
    """A config and its top layer; `parent` is the image that it was committed from."""

    id: str
    layer: str
    parent: str | None
    created: int
    config: bytes
    digest: str | None


class Container(NamedTuple):
    """A writable clone of an image, with every option that it was created with."""

    id: str
    name: str
    image: str
    created: int
    size: int | None
    options: dict[str, Any]


class DataVolume(NamedTuple):
    """A volume that containers mount and that outlives them; an anonymous one's name is its id."""

    id: str
    name: str
    anonymous: bool
    created: int
    labels: dict[str, str]


class ImageSummary(NamedTuple):
    """A row of `images`: the image, its tags in order, and the bytes of all its layers."""

    image: Image
    tags: tuple[Reference, ...]
    size: int | None
    containers: int
    dangling: bool


class ContainerSummary(NamedTuple):
    """A row of `ps`: the container, its image as a name, where it is mounted, and its process."""

    container: Container
    image: str
    mounts: tuple[str, ...]
    state: State

    @property
    def is_used(self) -> bool:
        """Whether it runs or is mounted."""
        return self.state.lives or bool(self.mounts)

    @property
    def status(self) -> str:
        """As its state says, but that one which is mounted and does not run is `mounted`."""
        return "mounted" if self.mounts and not self.state.lives else self.state.status


class HistoryEntry(NamedTuple):
    """A row of `history`: one step; `image` is None where no image has that layer on top."""

    image: str | None
    created: int | None
    created_by: str
    author: str
    size: int
    comment: str
    tags: tuple[Reference, ...]


class Removed(NamedTuple):
    """One thing that `rmi` or `prune` did.

    Its kind is "untagged", "image", "layer", "container", "volume", "filling" for one that ended
    half-way, or "snapshot" for one of others.
    """

    kind: str
    name: str


class Problem(NamedTuple):
    """One thing that `check` found: where, what, and what a repair does or did about it."""

    where: str
    what: str
    remedy: str
    repaired: bool
