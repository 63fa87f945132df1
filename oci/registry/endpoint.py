"""One place where the API is: requests with authorization, tried again where that may help."""

import threading
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from urllib3 import BaseHTTPResponse

from oci.credentials import Credentials
from oci.registry.auth import Authorizer
from oci.registry.errors import (
    BadAnswer,
    Interrupted,
    RegistryError,
    Unreachable,
    Untrusted,
    from_answer,
)
from oci.registry.hosts import Host, is_loopback, origin
from oci.registry.retry import Clock, tried
from oci.registry.transport import Body, Transport, discard, joined, read_all

_ERROR_MAX = 1 << 16


class Request(NamedTuple):
    """What to ask for.

    `doing` reads after "cannot" in messages. `target` is a path from /v2/ on, or a URL that the
    registry gave. Other statuses than `expected` are errors.
    """

    doing: str
    method: str
    target: str
    scopes: Sequence[str]
    headers: Mapping[str, str] = {}
    body: Body | None = None
    expected: Collection[int] = (200,)
    answer_within: float | None = None
    """Seconds until the answer; None for those of Timeouts.read."""


class Endpoint:
    """Requests to one Host. Any number of threads may use it."""

    def __init__(
        self,
        host: Host,
        transport: Transport,
        credentials: Callable[[str], Credentials | None],
        clock: Clock,
    ) -> None:
        self.host = host
        self.transport = transport
        self.clock = clock
        self.abandoned = False
        self.authorizer = Authorizer(host.name, transport, credentials, clock)
        self._base: str | None = None
        self._has_answered = False
        self._lock = threading.Lock()

    def ask(self, request: Request) -> BaseHTTPResponse:
        """The answer, its body not yet read, tried again while the error is Passing.

        Raises RegistryError.
        """
        return tried(partial(self.ask_once, request), self.clock)

    def ask_for_all(self, request: Request, limit: int) -> tuple[BaseHTTPResponse, bytes]:
        """The same with the whole body, of `limit` bytes at most."""

        def attempt() -> tuple[BaseHTTPResponse, bytes]:
            response = self.ask_once(request)
            return response, self.body(request.doing, response, limit)

        return tried(attempt, self.clock)

    def ask_once(self, request: Request) -> BaseHTTPResponse:
        """`ask` without a second attempt, but for new credentials."""
        base = self.base(request.doing)
        url = joined(request.doing, base, request.target)
        ours = _same_origin(base, url)
        used = self.authorizer.header(request.doing, request.scopes) if ours else None
        response = self._send(request, url, used)
        if response.status == 401 and ours:
            headers = response.headers
            discard(response, self.transport.timeouts)
            used = self.authorizer.challenged(request.doing, headers, request.scopes, used)
            response = self._send(request, url, used)
            if response.status == 401 and used.startswith("Basic "):
                self.done(response)
                raise self.authorizer.refused(request.doing)
        if response.status in request.expected:
            return response
        body = b""
        with suppress(BadAnswer, Interrupted):
            body = self.body(request.doing, response, _ERROR_MAX)
        raise from_answer(request.doing, self.host.name, response.status, response.headers, body)

    def body(self, doing: str, response: BaseHTTPResponse, limit: int) -> bytes:
        """The whole body of an answer."""
        return read_all(doing, response, limit, self.transport.timeouts)

    def done(self, response: BaseHTTPResponse) -> None:
        """Be done with an answer whose body does not matter."""
        discard(response, self.transport.timeouts)

    def _send(self, request: Request, url: str, authorization: str | None) -> BaseHTTPResponse:
        secret = {"Authorization": authorization} if authorization else {}
        try:
            response = self.transport.send(
                request.doing,
                request.method,
                url,
                {**request.headers, **secret},
                request.body,
                request.answer_within,
            )
        except Untrusted:
            raise
        except Unreachable as error:
            # Somebody was there before, and may come back.
            raise Interrupted(str(error)) if self._has_answered else error from None
        self._has_answered = True
        return response

    def abandon(self, error: RegistryError) -> None:
        """Ask this mirror no more, and say why."""
        if not self.abandoned:
            self.abandoned = True
            warnings.warn(f"{error}; going on without the mirror {self.host.name}", stacklevel=1)

    def base(self, doing: str) -> str:
        """The URL that paths are relative to: https, unless plain HTTP is spoken and allowed."""
        with self._lock:
            if self._base is None:
                self._base = self._found_base(doing)
            return self._base

    def _found_base(self, doing: str) -> str:
        plain, secure = f"http://{self.host.authority}", f"https://{self.host.authority}"
        if is_loopback(origin(secure).host):
            # Plain first: not every small server answers when it is spoken to in TLS. Nobody
            # listens between, and a server of TLS says 400 or nothing.
            first, second = plain, secure
        elif self.host.insecure:
            first, second = secure, plain
        else:
            return secure
        try:
            return first if self._speaks(doing, first) else second
        except Interrupted:
            with suppress(Interrupted):
                if self._speaks(doing, second):
                    return second
            raise

    def _speaks(self, doing: str, base: str) -> bool:
        """Whether a server answers there."""
        try:
            response = self.transport.send(doing, "GET", f"{base}/v2/", {})
        except Untrusted:
            raise
        except Unreachable:
            return False
        self.done(response)
        return response.status != 400


def _same_origin(one: str, other: str) -> bool:
    try:
        return origin(one) == origin(other)
    except ValueError:
        return False
