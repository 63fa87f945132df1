"""An image from elsewhere on its way into a store, whatever it comes out of.

Its config is known and judged; its layers are still to be had. A layer whose chain ID is here
already is not looked at; another goes into a clone of the layer below, is held against its digests,
and is then sealed. The image is seen when all of it is there, and when something is wrong with it
nothing of it stays. When the program is interrupted, the layers that are whole wait, unseen, for
the next attempt.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, NamedTuple, Protocol, cast

from backends.errors import NoSpace
from imagegraph import splits
from imagegraph.arrival import Arrival, call
from imagegraph.errors import Conflict
from imagegraph.model import Blob, Image, Manifest
from imagegraph.reference import Reference
from imagegraph.store import Store
from imagegraph.times import stated
from oci import compression, documents
from oci.digest import chain_ids, digest
from oci.documents import Config
from oci.errors import ArchiveError
from oci.identity import PLAIN
from oci.layer import apply_layer

ATTEMPTS = 3
"""How often an image is brought in anew when somebody removes a layer of it meanwhile."""

_PIECE = 1 << 20

Progress = Callable[[int], None]


class Part(NamedTuple):
    """A layer as it lies where it comes from: what it is called there, and its size in bytes.

    `digest` is that of its bytes there, compressed or not; None where nothing says it.
    """

    path: str
    digest: str | None
    size: int


class Incoming(NamedTuple):
    """An image: its config as it is, its layers from the lowest up, and what it is to be called.

    `form` is docker or oci; `manifests` are what repositories call it.
    """

    document: bytes
    config: Config
    layers: tuple[Part, ...]
    names: tuple[Reference, ...]
    form: str
    manifests: tuple[Manifest, ...] = ()

    @property
    def digest(self) -> str:
        """The digest of the config, which becomes the image's id."""
        return digest(self.document)


class Source(Protocol):
    """Where layers are to be had.

    `verified`: whether a stream ends well only if the part has its digest.
    """

    @property
    def verified(self) -> bool: ...

    def open(self, part: Part) -> io.BufferedReader:
        """The part from its beginning."""


def judged(path: str, document: bytes, layers: tuple[Part, ...]) -> Config:
    """The config of an image of these layers; `path` is its name in the ArchiveError if it is none.

    Raises it for an image without layers, too.
    """
    config = documents.parse_config(path, document)
    documents.check_layers(path, config, len(layers))
    if not layers:
        raise ArchiveError(f"{path}: the image has no layers, and cowshed keeps none without")
    return config


def bring(
    store: Store, source: Source, incoming: Incoming, progress: Progress | None = None
) -> Image:
    """Have the image in the store, with its names. `progress` hears of the bytes of its parts.

    Raises ArchiveError, BackendError, StoreError, and what the source raises.
    """
    for left in reversed(range(ATTEMPTS)):
        known = store.graph.image_with_digest(incoming.digest)
        if known is not None:
            call(store, known, incoming.manifests, incoming.names)
            return known
        arrival = Arrival(store)
        try:
            return _arrive(arrival, store, source, incoming, progress or _say_nothing)
        # Not what interrupts the program: the layers that are applied then are there for who
        # brings the image next, until `reap` ends them.
        except Exception as error:
            arrival.give_up()
            if not isinstance(error, Conflict) or not left:
                raise
    raise AssertionError


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Say in an error which part it is about."""
    try:
        yield
    except (ArchiveError, NoSpace) as error:
        raise type(error)(f"{path}: {error}") from error


def require_digest(path: str, said: str | None, is_really: str) -> None:
    """Raises ArchiveError where a digest is said and is another."""
    if said not in (None, is_really):
        raise ArchiveError(f"{path} is damaged: it is to have the digest {said}, not {is_really}")


def _arrive(
    arrival: Arrival, store: Store, source: Source, incoming: Incoming, tell: Progress
) -> Image:
    diff_ids = incoming.config.rootfs.diff_ids
    for part, diff_id, chain_id in zip(incoming.layers, diff_ids, chain_ids(diff_ids), strict=True):
        fill = partial(_fill, store, source, part, diff_id, tell)
        if not arrival.layer(diff_id, chain_id, fill):
            tell(part.size)
    return arrival.publish(
        incoming.document,
        incoming.digest,
        stated(incoming.config.created) or 0,
        incoming.names,
        incoming.form,
        incoming.manifests,
    )


def _fill(
    store: Store, source: Source, part: Part, diff_id: str, tell: Progress, tree: str, layer: str
) -> tuple[int, list[Blob]]:
    """Apply a layer to the tree, and keep what it takes to have its tar again."""
    with (
        source.open(part) as file,
        splits.written(store.root, layer, splits.SPLIT) as record,
    ):
        kind = compression.sniff(file.peek(compression.MAGIC_SIZE))
        hashed = _Hashed(file)
        # What is plain is hashed as it is applied.
        is_hashed = kind != compression.PLAIN and not source.verified
        with naming(part.path):
            packed = cast(BinaryIO, hashed if is_hashed else file)
            applied = apply_layer(packed, tree, split=record.fileno(), progress=tell)
        if is_hashed:
            own, size = hashed.digest, hashed.length
        elif kind == compression.PLAIN:
            own, size = applied.diff_id, applied.length
        else:
            own, size = part.digest or "", part.size
        require_digest(part.path, part.digest, own)
        if applied.diff_id != diff_id:
            raise ArchiveError(
                f"{part.path} is damaged: its diff ID is to be {diff_id}, not {applied.diff_id}"
            )
    if not applied.faithful:
        _keep(store, source, part, layer)
    blobs = [Blob(diff_id, applied.length, PLAIN, "")]
    if kind != compression.PLAIN:
        blobs.append(Blob(own, size, kind, ""))
    return applied.size, blobs


def _keep(store: Store, source: Source, part: Part, layer: str) -> None:
    """Keep the tar itself: something in it replaces what it brought before."""
    with (
        source.open(part) as file,
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
