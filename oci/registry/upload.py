"""Blobs to a registry; distribution-spec 1.1, "Pushing blobs".

A session is opened by POST. After a failure it is asked how much it holds (GET, with its Range)
and the upload goes on from there, or anew where the session is gone. Each answer may move the
session to another Location; credentials go there only if it is the registry itself.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from urllib3 import BaseHTTPResponse

from oci.digest import Digest
from oci.registry.endpoint import Endpoint, Request
from oci.registry.errors import BadAnswer, Missing, Passing, RegistryError
from oci.registry.retry import Patience
from oci.registry.transport import PIECE, Body, joined

_CHUNK_MAX = 64 << 20
_CONTENT = {"Content-Type": "application/octet-stream"}
_NOT_HELD = frozenset({200, 400, 404, 410, 416})
"""Docker's registry 2 forgets a session that broke off, and says so with 200 (or 404)."""

OpenStream = Callable[[int], BinaryIO]
"""Opens the content of a blob, to be read from an offset on."""

OpenSource = Callable[[], BinaryIO]
"""Opens the content of a blob, to be read from its beginning."""


class SourceError(RegistryError):
    """What is to be uploaded cannot be read here."""


class Upload:
    """A blob on its way to one repository, for one thread.

    `uploads` is the path that opens a session, `exists` tells whether the repository has a blob,
    `what` names the blob and the repository in messages.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        uploads: str,
        scopes: list[str],
        what: str,
        exists: Callable[[Digest], bool],
    ) -> None:
        self._endpoint = endpoint
        self._uploads = uploads
        self._scopes = scopes
        self._doing = f"push {what}"
        self._exists = exists
        self._patience = Patience(endpoint.clock)
        self._location = ""
        self._smallest = 0
        self._furthest = 0

    def whole(self, digest: Digest, size: int, source: OpenStream, chunk: int | None) -> None:
        """Upload `size` bytes in one request, or in chunks of `chunk` bytes. RegistryError."""
        self._begin()
        offset = 0
        while True:
            try:
                self._rest(digest, offset, size, source, chunk)
                return
            except (Passing, Missing) as error:
                self._patience.bear(error)
            if self._exists(digest):
                # It was complete, and only the answer got lost.
                return
            held = self._held()
            if held is None or held > size:
                self._begin()
                held = 0
            self._got_to(held)
            offset = held

    def stream(self, source: OpenSource) -> tuple[Digest, int]:
        """Upload what `source` has, until its end; returns its digest and its size in bytes.

        As Docker does, in one request of unknown length; after a failure all is sent again.
        RegistryError.
        """
        outgoing = _Outgoing(source)
        while True:
            self._begin()
            try:
                request = self._request("PATCH", self._location, None, outgoing, expected=202)
                self._moved(self._endpoint.ask_once(request))
                self._commit(outgoing.digest)
                return outgoing.digest, outgoing.size
            except (Passing, Missing) as error:
                self._patience.bear(error)

    def _rest(
        self, digest: Digest, offset: int, size: int, source: OpenStream, chunk: int | None
    ) -> None:
        if chunk is None and offset == 0:
            self._commit(digest, size, partial(_part, source, 0, size))
            return
        step = max(chunk or size, self._smallest)
        while offset < size:
            count = min(step, size - offset)
            self._patch(offset, count, partial(_part, source, offset, count))
            offset += count
            self._got_to(offset)
        self._commit(digest)

    def _got_to(self, offset: int) -> None:
        """Count failures anew if it never got as far; one that begins anew again and again ends."""
        if offset > self._furthest:
            self._furthest = offset
            self._patience.renew()

    def _begin(self) -> None:
        response = self._endpoint.ask(self._request("POST", self._uploads, 0, expected=202))
        smallest = response.headers.get("OCI-Chunk-Min-Length", "")
        self._smallest = int(smallest) if re.fullmatch("[0-9]{1,9}", smallest) else 0
        if self._smallest > _CHUNK_MAX:
            self._endpoint.done(response)
            raise BadAnswer(
                f"cannot {self._doing}: {self._endpoint.host.name} wants chunks of "
                f"{self._smallest} bytes at least; {_CHUNK_MAX} are the most we send"
            )
        self._moved(response)

    def _patch(self, offset: int, count: int, body: Body) -> None:
        request = self._request("PATCH", self._location, count, body, expected=202)
        headers = {**request.headers, "Content-Range": f"{offset}-{offset + count - 1}"}
        self._moved(self._endpoint.ask_once(request._replace(headers=headers)))

    def _commit(self, digest: Digest, size: int = 0, body: Body | None = None) -> None:
        """The end of the session, with the whole content if it has got nothing so far."""
        join = "&" if urlsplit(self._location).query else "?"
        target = f"{self._location}{join}digest={quote(digest, safe='')}"
        request = self._request("PUT", target, size, body, expected=201)
        self._endpoint.done(self._endpoint.ask_once(request))

    def _held(self) -> int | None:
        """How many bytes the session has; None if it is to be begun anew."""
        request = self._request("GET", self._location, None, expected=204)
        response = self._endpoint.ask(request._replace(expected=_NOT_HELD | {204}))
        # Docker's registry says 0-0 of an empty session too, so that means nothing.
        match = re.fullmatch(r"(?:bytes=)?0-([1-9][0-9]{0,18})", response.headers.get("Range", ""))
        if response.status != 204 or match is None:
            self._endpoint.done(response)
            return None
        self._moved(response)
        return int(match[1]) + 1

    def _moved(self, response: BaseHTTPResponse) -> None:
        """Take the Location for the next request of the session."""
        location = response.headers.get("Location")
        self._endpoint.done(response)
        if location:
            base = response.url or self._endpoint.base(self._doing)
            self._location = joined(self._doing, base, location)
        elif response.status == 202:
            raise BadAnswer(f"cannot {self._doing}: the registry does not say where to send it")

    def _request(
        self,
        method: str,
        target: str,
        length: int | None,
        body: Body | None = None,
        *,
        expected: int,
    ) -> Request:
        """A request of the session; one with a body of unknown `length` is sent in pieces."""
        content = {} if length is None else {"Content-Length": str(length)}
        if body is not None:
            content |= _CONTENT
        return Request(
            self._doing,
            method,
            target,
            self._scopes,
            content,
            body,
            expected=(expected,),
            answer_within=self._endpoint.transport.timeouts.commit,
        )


class _Outgoing:
    """A body that is read anew for each request; its digest and size, once it was sent."""

    def __init__(self, source: OpenSource) -> None:
        self._source = source

    def __call__(self) -> Iterator[bytes]:
        self._hash, self.size = hashlib.sha256(), 0
        for piece in _pieces(self._source):
            self._hash.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def digest(self) -> Digest:
        return Digest(f"sha256:{self._hash.hexdigest()}")


def _part(source: OpenStream, offset: int, count: int) -> Iterator[bytes]:
    """`count` bytes of a blob from `offset` on."""
    for piece in _pieces(partial(source, offset)):
        yield piece[:count]
        count -= min(count, len(piece))
        if not count:
            return
    if count:
        raise SourceError(f"what is to be pushed ends {count} bytes too early")


def _pieces(source: OpenSource) -> Iterator[bytes]:
    try:
        with closing(source()) as stream:
            while piece := stream.read(PIECE):
                yield piece
    except OSError as error:
        # Not to be taken for an error of the connection.
        raise SourceError(f"cannot read what is to be pushed: {error.strerror or error}") from error
