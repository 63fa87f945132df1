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
from oci import compression
from oci.digest import Digest
from oci.documents import Descriptor
from oci.incoming import Part
from oci.registry.blob import BlobStream
from oci.registry.client import Registry

AHEAD = 2
"""Layers that are fetched at the same time, beside the one that is applied."""

_PIECE = 1 << 20

Told = Callable[[int], None]
"""Told how many bytes of a layer came since it was last called; by any thread."""

Progress = Callable[[Descriptor], Told]
"""Given each layer that is going to be fetched, the lowest first."""


class Fetching:
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

    def __enter__(self) -> "Fetching":
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
        error: CowshedError | None = BackendError("the thread that fetches the layer died")
        try:
            with self._stream, tempfile.TemporaryFile(dir=self._directory, buffering=0) as file:
                self._file = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
                self._copy(file.fileno())
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
