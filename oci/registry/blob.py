"""A blob as a stream: what is read is what its digest names, however often the connection breaks.

Distribution-spec 1.1, "Pulling blobs". A transfer that ends early goes on where it ended, by Range
(RFC 9110, 14) or, where the registry ignores that, by passing over what is here already; with the
next source if the first gives up. The end of the stream is told only when size and digest are
right: whoever has read to the end has the blob, and nothing read before that is to be relied on.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from urllib3 import BaseHTTPResponse

from oci.digest import Digest
from oci.registry.endpoint import Endpoint, Request
from oci.registry.errors import BadAnswer, Corrupt, Interrupted, Missing, Passing, RegistryError
from oci.registry.retry import Patience
from oci.registry.transport import PIECE, read, watched

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SLOWEST = 1024
"""Bytes per second; a connection that brings less for as long as Timeouts.read has stalled."""

_GOT_ON = 1024
"""Bytes after which failures are counted anew."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/(?:([0-9]{1,19})|\*)")

Source = tuple[Endpoint, Callable[[int], Request]]
"""Where a blob is to be had, and the request for all of it from an offset on."""


class BlobStream(io.RawIOBase):
    """The bytes of a blob; for one thread. The connection is made by the first read.

    Reading raises Corrupt where size or digest are wrong, and other RegistryErrors where the blob
    cannot be had; after an error nothing more is to be had from the stream.
    """

    def __init__(self, doing: str, digest: Digest, size: int, sources: Sequence[Source]) -> None:
        super().__init__()
        self.digest = digest
        self.size = size
        self._doing = doing
        self._sources = list(sources)
        self._hash = hashlib.sha256()
        self._received = 0
        self._response: BaseHTTPResponse | None = None
        self._clock = sources[0][0].clock
        self._timeouts = sources[0][0].transport.timeouts
        self._patience = Patience(self._clock)
        self._failed: RegistryError | None = None
        self._mark = 0
        self._waited, self._since = 0.0, 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Bytes put into `buffer`, at least one; 0 when the whole blob was read and is right."""
        view = memoryview(buffer).cast("B")
        if self._failed is not None:
            raise self._failed
        try:
            piece = self._next(min(len(view), PIECE)) if len(view) else b""
        except RegistryError as error:
            self._failed = error
            self._disconnect()
            raise
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        """Break off; the connection is given up unless the blob was read to its end."""
        self._disconnect()
        super().close()

    def _next(self, size: int) -> bytes:
        while self._received < self.size:
            try:
                return self._piece(size)
            except Passing as error:
                self._disconnect()
                if self._received - self._mark >= _GOT_ON:
                    self._patience.renew()
                self._mark = self._received
                try:
                    self._patience.bear(error)
                except Passing as last:
                    self._next_source(last)
            except RegistryError as error:
                self._disconnect()
                self._next_source(error)
        self._finish()
        return b""

    def _piece(self, size: int) -> bytes:
        if self._response is None:
            self._response = self._connect()
            self._waited, self._since = 0.0, self._received
        self._check_pace()
        begun = self._clock.now()
        piece = read(self._doing, self._response, min(size, self.size - self._received))
        self._waited += self._clock.now() - begun
        if not piece:
            raise Interrupted(f"cannot {self._doing}: the answer is too short; try again later")
        self._hash.update(piece)
        self._received += len(piece)
        return piece

    def _connect(self) -> BaseHTTPResponse:
        """An answer whose next byte is the one wanted."""
        endpoint, request = self._sources[0]
        response = endpoint.ask_once(request(self._received))
        begin, total = _extent(self._doing, response)
        if total is not None and total != self.size:
            response.close()
            raise Corrupt(
                f"cannot {self._doing}: {endpoint.host.name} has {total} bytes where "
                f"{self.size} are announced; push the image again"
            )
        if begin > self._received:
            response.close()
            raise BadAnswer(f"cannot {self._doing}: the answer is not the range that was asked for")
        self._pass_over(response, self._received - begin)
        return response

    def _pass_over(self, response: BaseHTTPResponse, count: int) -> None:
        patience = self._timeouts.read + count / SLOWEST
        try:
            with watched(self._doing, response, patience):
                while count:
                    piece = read(self._doing, response, min(count, PIECE))
                    if not piece:
                        raise Interrupted(f"cannot {self._doing}: the answer is too short")
                    count -= len(piece)
        except RegistryError:
            response.close()
            raise

    def _check_pace(self) -> None:
        """Interrupted if the other side is too slow; that our reader is busy does not count."""
        if self._waited < self._timeouts.read:
            return
        if self._received - self._since < SLOWEST * self._waited:
            raise Interrupted(f"cannot {self._doing}: the transfer has stalled; try again later")
        self._waited, self._since = 0.0, self._received

    def _finish(self) -> None:
        """The end: nothing may follow, and the digest decides."""
        if self._response is not None:
            response, self._response = self._response, None
            more = b""
            with (
                closing(response),
                suppress(Interrupted),
                watched(self._doing, response, self._timeouts.read),
            ):
                more = read(self._doing, response, 1)
            if more:
                raise Corrupt(
                    f"cannot {self._doing}: it is longer than the {self.size} bytes announced"
                )
        if self._hash.hexdigest() != self.digest.hex:
            raise Corrupt(
                f"cannot {self._doing}: what came has another digest, "
                f"sha256:{self._hash.hexdigest()}; it is damaged in the registry or on the way"
            )

    def _next_source(self, error: RegistryError) -> None:
        """Go on elsewhere, or raise the error."""
        if len(self._sources) == 1:
            raise error
        endpoint, _ = self._sources.pop(0)
        if not isinstance(error, Missing):
            endpoint.abandon(error)
        self._patience = Patience(self._clock)

    def _disconnect(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None


def _extent(doing: str, response: BaseHTTPResponse) -> tuple[int, int | None]:
    """Where the body of an answer begins in the blob, and the blob's size if that is told."""
    if response.status != 206:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if re.fullmatch("[0-9]{1,19}", length) else None
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        response.close()
        raise BadAnswer(f"cannot {doing}: the answer does not say which range of the blob it is")
    return int(match[1]), None if match[2] is None else int(match[2])
