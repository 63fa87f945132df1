"""The layers of one image on their way from a registry, those above while those below are applied.

The layer whose turn it is comes straight from the connection. Those after it are fetched ahead of
their turn, a few at once, each into a file without a name; when its turn comes while it is on its
way, it is read as it grows.
"""

import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO

from backends.errors import BackendError, CowshedError, from_os_error
from imagegraph import model
from imagegraph.model import Image
from imagegraph.reference import Reference
from imagegraph.store import Store
from oci import compression, documents
from oci.digest import Digest, chain_ids
from oci.documents import Config, Descriptor
from oci.errors import ArchiveError
from oci.incoming import Incoming, Part, bring, judged
from oci.json import MAX_SIZE
from oci.registry.blob import BlobStream
from oci.registry.client import Manifest, Registry

AHEAD = 2
"""Layers that are fetched at the same time, beside the one that is applied."""

_PIECE = 1 << 20

Told = Callable[[int], None]
"""Told how many bytes of a layer came since it was last called; by any thread."""

Progress = Callable[[Descriptor], Told]
"""Given each layer that is going to be fetched, the lowest first."""


def fetch(
    store: Store,
    registry: Registry,
    reference: Reference,
    answer: Manifest,
    names: Sequence[Reference],
    calls: Sequence[model.Manifest],
    progress: Progress | None,
) -> tuple[Image, bool]:
    """Bring in the image of a manifest, with these names; and whether it was not here before.

    `calls` are what its repository calls it. Raises as oci.pulling.pull does.
    """
    manifest = documents.parse_manifest(f"the manifest of {reference}", answer.data)
    document = _config(registry, reference.path, manifest.config)
    parts = tuple(Part(str(each.digest), each.digest, each.size) for each in manifest.layers)
    config = judged(f"the config of {reference}", document, parts)
    form = "docker" if answer.media_type == documents.DOCKER_MANIFEST else "oci"
    incoming = Incoming(document, config, parts, tuple(names), form, tuple(calls))
    before = store.graph.image_with_digest(incoming.digest)
    missing = [] if before else _missing(store, config, manifest.layers)
    with _Fetching(store.root, registry, reference.path, missing, progress) as source:
        image = bring(store, source, incoming)
    with store.graph.writing():
        # There are no layers any more where somebody has removed the image meanwhile.
        for layer, part in zip(reversed(store.graph.chain(image.layer)), parts, strict=False):
            store.graph.add_place(layer.id, part.digest or "", reference.repository)
    return image, before is None


def _config(registry: Registry, path: str, what: Descriptor) -> bytes:
    if what.size > MAX_SIZE:
        raise ArchiveError(f"the config {what.digest} has {what.size} bytes: too many")
    with registry.blob(path, what.digest, what.size) as stream:
        return b"".join(iter(lambda: stream.read(_PIECE) or b"", b""))


def _missing(store: Store, config: Config, layers: Sequence[Descriptor]) -> list[Descriptor]:
    """The layers that are not here, the lowest first."""
    return [
        layer
        for layer, chain_id in zip(layers, chain_ids(config.rootfs.diff_ids), strict=True)
        if store.graph.layer_with_chain(chain_id) is None
    ]


class _Fetching:
    """A Source of the layers of `repository` that are `missing`, the lowest first.

    `root` is where files may be made. Errors of what is fetched ahead are raised when its turn
    comes.
    """

    verified = True

    def __init__(
        self,
        root: str,
        registry: Registry,
        repository: str,
        missing: Sequence[Descriptor],
        progress: Progress | None,
    ) -> None:
        self._registry, self._repository = registry, repository
        self._tell = {each.digest: progress(each) if progress else _say_nothing for each in missing}
        later = {each.digest: each for each in missing[1:]}
        if missing:
            later.pop(missing[0].digest, None)
        if sum(each.size for each in later.values()) > compression.room(root):
            later = {}
        self._ahead: dict[str, _Download] = {
            digest: _Download(self._stream(each.digest, each.size), root)
            for digest, each in later.items()
        }
        for _ in range(min(AHEAD, len(self._ahead))):
            # A thread that waits for a registry must not hold up the end of the program.
            downloads = list(self._ahead.values())
            threading.Thread(target=_fetch, args=(downloads,), daemon=True).start()

    def __enter__(self) -> "_Fetching":
        return self

    def __exit__(self, *_: object) -> None:
        for download in self._ahead.values():
            download.stop()

    def open(self, part: Part) -> io.BufferedReader:
        """The layer from its beginning; its end is told only where its digest is right."""
        assert part.digest is not None
        download = self._ahead.pop(part.digest, None)
        if download is None or download.claim():
            return io.BufferedReader(self._stream(part.digest, part.size), _PIECE)
        return io.BufferedReader(download, _PIECE)

    def _stream(self, digest: str, size: int) -> "_Counted":
        wanted = Digest(digest)
        stream = self._registry.blob(self._repository, wanted, size)
        return _Counted(stream, self._tell.get(wanted, _say_nothing))


class _Counted(io.RawIOBase):
    """A blob that tells how much of it has come."""

    def __init__(self, stream: BlobStream, tell: Told) -> None:
        self._stream, self._tell = stream, tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._stream.readinto(buffer)
        self._tell(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


class _Download(io.RawIOBase):
    """A blob on its way into a file: one thread runs it, and another reads it as it grows."""

    def __init__(self, stream: _Counted, directory: str) -> None:
        self._stream, self._directory = stream, directory
        self._changed = threading.Condition()
        self._is_claimed = self._is_stopped = self._is_done = False
        self._error: CowshedError | None = None
        self._file: BinaryIO | None = None
        self._size = self._read = 0

    def claim(self) -> bool:
        """Whether the caller is the first, and is to run it or to have it in some other way."""
        with self._changed:
            first = not self._is_claimed
            self._is_claimed = True
        return first

    def stop(self) -> None:
        """Fetch no more."""
        self._is_claimed = self._is_stopped = True

    def run(self) -> None:
        """Fetch all of it; what goes wrong is told to the one who reads."""
        error: CowshedError | None = BackendError("the layer was not fetched to its end")
        try:
            with self._stream, tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                self._file = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
                self._copy(file.fileno())
            if not self._is_stopped:
                error = None
        except CowshedError as known:
            error = known
        except OSError as failed:
            error = from_os_error(failed, "keep a layer that is fetched ahead")
        finally:
            with self._changed:
                self._is_done, self._error = True, error
                self._changed.notify_all()

    def _copy(self, fd: int) -> None:
        buffer = memoryview(bytearray(_PIECE))
        while not self._is_stopped and (count := self._stream.readinto(buffer)):
            rest = buffer[:count]
            while rest:
                rest = rest[os.write(fd, rest) :]
            with self._changed:
                self._size += count
                self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with self._changed:
            self._changed.wait_for(lambda: self._is_done or self._size > self._read)
            if self._error is not None:
                raise self._error
            left = self._size - self._read
        if not left:
            return 0
        assert self._file is not None
        count = os.preadv(self._file.fileno(), [buffer[:left]], self._read)
        self._read += count
        return count

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
        super().close()


def _fetch(downloads: Iterable[_Download]) -> None:
    for download in downloads:
        if download.claim():
            download.run()


def _say_nothing(count: int) -> None:
    """The progress that nobody asked for."""
