"""HTTP to registries, and to where they send us: one request, one answer, or a typed error.

urllib3 brings pooled connections, TLS with the certificates of the system, and tunnels. It was
chosen over requests and httpx, which bring their own list of authorities; requests moreover sends
passwords of ~/.netrc, and httpx takes twice the time for a stream. What is ours:

- every wait has an end: to connect, for the whole head of an answer, for each piece of a body;
- a redirect is followed for GET and HEAD only. Credentials never go to another origin, and nothing
  goes from TLS to plain HTTP, which is for loopback and for hosts marked insecure;
- proxies are those of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, never for loopback, as in Docker.

Any number of threads may use one Transport.
"""

import contextlib
import ipaddress
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3 import BaseHTTPResponse, exceptions

from oci.json import quoted
from oci.registry import connection, tls
from oci.registry.errors import (
    BadAnswer,
    Blocked,
    Interrupted,
    RegistryError,
    Unreachable,
    Untrusted,
    one_line,
)
from oci.registry.hosts import Origin, Registries, is_insecure, is_loopback, origin, plain_allowed

REDIRECTS = 8
PIECE = 1 << 17
"""The most bytes that are read or sent at once."""

_REDIRECTED = frozenset({301, 302, 303, 307, 308})
_SAME_SIZE = {"Accept-Encoding": "identity", "User-Agent": "cowshed"}
_CONNECTIONS = 16
_NOT_TLS = frozenset(
    "HTTP_REQUEST PACKET_LENGTH_TOO_LONG RECORD_LAYER_FAILURE UNKNOWN_PROTOCOL "
    "WRONG_VERSION_NUMBER".split()
)
_SHORT = 1 << 16

Body = Callable[[], Iterable[bytes | memoryview]]
"""Makes the body of a request, from its beginning, each time it is called."""


class Timeouts(NamedTuple):
    """In seconds."""

    connect: float = 15.0
    """Until there is a connection, TLS included."""
    read: float = 60.0
    """Until an answer has begun and its head is whole, and for each next piece of a body."""
    document: float = 120.0
    """For the whole of a small body."""
    commit: float = 900.0
    """Until a part of an upload is acknowledged: the registry may first put it in its place."""


class Transport:
    """Sends requests; `certificates` are the directories that oci.registry.tls reads."""

    def __init__(
        self,
        registries: Registries,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - a record, never changed
        certificates: Sequence[str] = tls.DIRECTORIES,
    ) -> None:
        self.timeouts = timeouts
        self._registries = registries
        self._certificates = certificates
        self._pools: dict[Origin, urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    def send(
        self,
        doing: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        answer_within: float | None = None,
    ) -> BaseHTTPResponse:
        """The answer to one request, whatever its status, with its body not yet read.

        Raises Unreachable, Untrusted, Interrupted, BadAnswer and Blocked; `doing` is as in
        `errors.from_answer`.
        """
        headers = {**_SAME_SIZE, **headers}
        for _ in range(REDIRECTS + 1):
            here = self._checked(doing, url)
            response = self._send_once(doing, method, url, headers, body, answer_within)
            response.url = url
            location = response.headers.get("Location")
            if method not in ("GET", "HEAD") or response.status not in _REDIRECTED or not location:
                return response
            discard(response, self.timeouts)
            url = joined(doing, url, location)
            there = self._checked(doing, url)
            if there != here:
                headers.pop("Authorization", None)
            if here.scheme == "https" and there.scheme == "http":
                raise Blocked(
                    f"cannot {doing}: {here.host} redirects from TLS to plain HTTP on "
                    f"{one_line(there.host)}, which is not followed"
                )
        raise BadAnswer(f"cannot {doing}: it is redirected more than {REDIRECTS} times")

    def close(self) -> None:
        """Give up the connections that wait for another request."""
        with self._lock:
            for pool in self._pools.values():
                pool.clear()

    def _checked(self, doing: str, url: str) -> Origin:
        try:
            there = origin(url)
        except ValueError:
            raise BadAnswer(f"cannot {doing}: {quoted(url)} is no address") from None
        if there.scheme == "http" and not plain_allowed(self._registries, there):
            raise Blocked(
                f"cannot {doing}: {one_line(there.host)} is to be reached by plain HTTP, which is "
                "allowed on loopback only; mark the registry insecure if you trust the network"
            )
        return there

    def _send_once(
        self,
        doing: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        answer_within: float | None,
    ) -> BaseHTTPResponse:
        with _told(doing, url):
            return self._pool(doing, url).urlopen(
                method,
                url,
                body=body() if body else None,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(
                    connect=self.timeouts.connect, read=answer_within or self.timeouts.read
                ),
            )

    def _pool(self, doing: str, url: str) -> urllib3.PoolManager:
        there = origin(url)
        with self._lock:
            if there not in self._pools:
                self._pools[there] = self._new_pool(doing, there)
            return self._pools[there]

    def _new_pool(self, doing: str, there: Origin) -> urllib3.PoolManager:
        host = f"[{there.host}]" if ":" in there.host else there.host
        authority = host if there.port in (80, 443) else f"{host}:{there.port}"
        secure: ssl.SSLContext | None = None
        if there.scheme == "https":
            secure = tls.context(
                authority,
                insecure=is_insecure(self._registries, there),
                directories=self._certificates,
            )
        proxy = proxy_for(there)
        pool: urllib3.PoolManager
        if proxy is None:
            pool = urllib3.PoolManager(maxsize=_CONNECTIONS, ssl_context=secure)
        else:
            pool = _proxied(doing, proxy, secure)
        pool.pool_classes_by_scheme = connection.POOLS
        return pool


def proxy_for(there: Origin) -> str | None:
    """The URL of the proxy that the environment has for an origin, None for none."""
    proxies = urllib.request.getproxies_environment()
    asked = f"{there.host}:{there.port}"
    if is_loopback(there.host) or urllib.request.proxy_bypass(asked, proxies):
        return None
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(there.host)
        for entry in proxies.get("no", "").split(","):
            with contextlib.suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip(), strict=False):
                    return None
    return proxies.get(there.scheme) or None


def joined(doing: str, base: str, location: str) -> str:
    """The URL that a header of the answer to a request of `base` leads to; BadAnswer."""
    try:
        return urljoin(base, location)
    except ValueError:
        raise BadAnswer(f"cannot {doing}: {quoted(location)} is no address") from None


def read_all(doing: str, response: BaseHTTPResponse, limit: int, timeouts: Timeouts) -> bytes:
    """The whole body of an answer, which is closed; BadAnswer if it has more than `limit` bytes."""
    pieces = bytearray()
    with watched(doing, response, timeouts.document), contextlib.closing(response):
        while piece := read(doing, response, min(PIECE, limit + 1 - len(pieces))):
            pieces += piece
            if len(pieces) > limit:
                raise BadAnswer(
                    f"cannot {doing}: the answer is longer than {limit} bytes; is it a registry?"
                )
    return bytes(pieces)


def read(doing: str, response: BaseHTTPResponse, size: int) -> bytes:
    """The next piece of a body, of `size` bytes at most; empty at its end. Interrupted."""
    with _told(doing, response.url or ""):
        return response.read1(size, decode_content=False)


def discard(response: BaseHTTPResponse, timeouts: Timeouts) -> None:
    """Be done with an answer; if its body is short, the connection serves again."""
    with contextlib.suppress(RegistryError):
        read_all("end an answer", response, _SHORT, timeouts)


@contextlib.contextmanager
def watched(doing: str, response: BaseHTTPResponse, seconds: float) -> Iterator[None]:
    """Whatever reads `response` inside ends after `seconds`, with Interrupted."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError, RuntimeError, ValueError):
            response.shutdown()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Interrupted:
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise Interrupted(
            f"cannot {doing}: the answer was not complete after {seconds:.0f} seconds; try again"
        )


def _proxied(doing: str, proxy: str, secure: ssl.SSLContext | None) -> urllib3.ProxyManager:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    headers = {}
    if parts.username is not None:
        secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers = dict(urllib3.make_headers(proxy_basic_auth=secret))
    try:
        return urllib3.ProxyManager(
            bare, proxy_headers=headers, maxsize=_CONNECTIONS, ssl_context=secure
        )
    except exceptions.HTTPError:
        raise Unreachable(
            f"cannot {doing}: the proxy {quoted(bare)} in the environment is not usable; "
            "write http://HOST:PORT in HTTPS_PROXY and HTTP_PROXY"
        ) from None


@contextlib.contextmanager
def _told(doing: str, url: str) -> Iterator[None]:
    """The errors of urllib3 as ours."""
    where = one_line(urlsplit(url).netloc.rpartition("@")[2])
    try:
        yield
    except exceptions.SSLError as error:
        raise _told_tls(doing, where, error.args[0] if error.args else error) from None
    except exceptions.ProxyError as error:
        raise Unreachable(
            f"cannot {doing}: the proxy does not lead to {where}: "
            f"{one_line(str(error.original_error))}; see HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
        ) from None
    except (exceptions.NewConnectionError, exceptions.ConnectTimeoutError) as error:
        cause = error.__cause__
        reason = (cause.strerror if isinstance(cause, OSError) else None) or "no answer"
        raise Unreachable(
            f"cannot {doing}: {where} is not reachable: {one_line(reason)}; "
            "check the name and the network"
        ) from None
    except exceptions.TimeoutError:
        raise Interrupted(
            f"cannot {doing}: {where} does not answer in time; try again later"
        ) from None
    except exceptions.ProtocolError:
        raise Interrupted(
            f"cannot {doing}: the connection to {where} broke off; try again later"
        ) from None
    except exceptions.HTTPError as error:
        raise BadAnswer(f"cannot {doing}: {where}: {one_line(str(error))}") from None


def _told_tls(doing: str, where: str, error: object) -> RegistryError:
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(
            f"cannot {doing}: the certificate of {where} is not valid: "
            f"{one_line(error.verify_message)}; put the certificate of its authority in "
            f"/etc/docker/certs.d/{where}/ca.crt"
        )
    if reason in _NOT_TLS:
        return Unreachable(
            f"cannot {doing}: {where} does not speak TLS; mark the registry insecure "
            "if plain HTTP is meant"
        )
    if "_ALERT_" in reason:
        told = reason.partition("_ALERT_")[2].lower().replace("_", " ")
        return Untrusted(
            f"cannot {doing}: {where} refuses TLS with us ({told}); if it wants a certificate, "
            f"put it in /etc/docker/certs.d/{where}"
        )
    return Interrupted(f"cannot {doing}: TLS with {where} broke off; try again later")


# Who marked a registry insecure has been told.
urllib3.disable_warnings(exceptions.InsecureRequestWarning)
