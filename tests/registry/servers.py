"""Docker's registry on loopback, and a proxy of our own before it that misbehaves as it is told."""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from oci.credentials import Credentials

ANN = Credentials("ann", "a:pass word")
# Of that password, by bcrypt.
_HTPASSWD = "ann:$2y$05$abcdefghijklmnopqrstuu2ACs0dftGKnXdebzwVWDaJWpElBBfEy\n"


class Served(NamedTuple):
    """A registry: its name in references, and where its files are."""

    name: str
    directory: Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def registry(directory: Path, *, password: bool = False, secure: bool = False) -> Iterator[Served]:
    """Debian's docker-registry; with `secure` by TLS, with a CA in directory/certs.d/NAME."""
    address = f"127.0.0.1:{free_port()}"
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": address},
    }
    if password:
        (directory / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
    if secure:
        trusted = directory / "certs.d" / address
        trusted.mkdir(parents=True)
        certificate, key = new_certificate(directory, trusted / "ca.crt")
        config["http"]["tls"] = {"certificate": str(certificate), "key": str(key)}
    path = directory / "config.json"
    path.write_text(json.dumps(config))
    with (directory / "log").open("wb") as log:
        # Not left behind by tests that are killed.
        mortal = ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", path]
        running = subprocess.Popen(mortal, stdout=log, stderr=log)
    try:
        _await(address)
        yield Served(address, directory)
    finally:
        running.terminate()
        running.wait()


def _await(address: str) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "docker-registry does not start"
            time.sleep(0.02)


def new_certificate(directory: Path, authority: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key; that of its new authority goes to `authority`."""
    ca_key, key, request = (directory / name for name in ("ca.key", "server.key", "server.csr"))
    certificate, extensions = directory / "server.crt", directory / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    signing = ["x509", "-req", "-CAcreateserial", "-in", request, "-CA", authority]
    for arguments in (
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", authority, "-subj", "/CN=Test CA"],
        ["req", *new_key, "-keyout", key, "-out", request, "-subj", "/CN=server"],
        [*signing, "-CAkey", ca_key, "-out", certificate, "-extfile", extensions],
    ):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)
    return certificate, key


class Answer(NamedTuple):
    """What a server says. A body that is `cut` ends, with its connection, after so many bytes."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    cut: int | None = None

    def holding(self, **headers: str | None) -> "Answer":
        """The same with headers set, or left out if None; _ stands for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kept = {name: v for name, v in self.headers.items() if name not in named}
        return self._replace(headers=kept | {n: v for n, v in named.items() if v is not None})


class Asked(NamedTuple):
    """A request that the proxy got, and how to have the registry answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    forward: Callable[[], Answer]
    connection: socket.socket

    def is_blob(self) -> bool:
        return self.method == "GET" and "/blobs/sha256" in self.path


Behaviour = Callable[[Asked], Answer | None]
"""None where it has answered by the connection itself."""


def honest(asked: Asked) -> Answer:
    return asked.forward()


class FaultProxy:
    """Stands before a registry; `behave` decides on every request. `asked` is what came."""

    def __init__(self, upstream: str, secure: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.behave: Behaviour = honest
        self.asked: list[Asked] = []
        self._upstream = upstream
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        if secure:
            self._server.socket = secure.wrap_socket(self._server.socket, server_side=True)
        self.name = f"127.0.0.1:{self._server.server_port}"
        # Where a person's credentials must not go, though it is the same server.
        self.foreign = f"localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, method: str, part: str) -> int:
        return sum(each.method == method and part in each.path for each in self.asked)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def _serve(self) -> None:
                body = self._body()
                if body is None:
                    self.close_connection = True
                    return
                headers = dict(self.headers)
                headers.pop("Transfer-Encoding", None)
                asked = Asked(
                    self.command,
                    self.path,
                    headers,
                    body,
                    lambda: proxy._forward(self.command, self.path, headers, body),
                    self.connection,
                )
                proxy.asked.append(asked)
                answer = proxy.behave(asked)
                self.close_connection = answer is None or answer.cut is not None
                if answer is not None:
                    self._say(answer)

            def _body(self) -> bytes | None:
                """The whole body; None if the connection ends before."""
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    length = int(self.headers.get("Content-Length", 0))
                    body = self.rfile.read(length)
                    return body if len(body) == length else None
                pieces = []
                while line := self.rfile.readline():
                    piece = self.rfile.read(int(line, 16) + 2)[:-2]
                    if not piece:
                        return b"".join(pieces)
                    pieces.append(piece)
                return None

            def _say(self, answer: Answer) -> None:
                told = {"Content-Length": str(len(answer.body)), **answer.headers}
                lines = [f"HTTP/1.1 {answer.status} x"]
                lines += [f"{name}: {value}" for name, value in told.items() if value != "absent"]
                body = b"" if self.command == "HEAD" else answer.body[: answer.cut]
                self.wfile.write("\r\n".join([*lines, "", ""]).encode() + body)

        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            setattr(Handler, f"do_{method}", Handler._serve)
        return Handler

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        host, _, port = self._upstream.partition(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port))) as connection:
            # With our Host, so that its Locations lead back here.
            sent = {name: v for name, v in headers.items() if name != "Authorization"}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            data = response.read()
            kept = {
                name: value
                for name, value in response.getheaders()
                if name in {"Content-Type", "Content-Range", "Docker-Content-Digest", "Location"}
                or name in {"Link", "Range"}
                or (name == "Content-Length" and method == "HEAD")
            }
            return Answer(response.status, kept, data)


class Tokens:
    """A behaviour: nothing without a token, which is good for some requests only."""

    def __init__(
        self, proxy: FaultProxy, *, uses: int = 1_000_000, user: str | None = None
    ) -> None:
        self.given: list[dict[str, list[str]]] = []
        self.then: Behaviour = honest
        self._proxy = proxy
        self._uses = uses
        self._user = user
        self._left: dict[str, int] = {}

    def __call__(self, asked: Asked) -> Answer | None:
        if asked.path.startswith("/token"):
            return self._give(asked)
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._left.get(token, 0) <= 0:
            challenge = f'Bearer realm="http://{self._proxy.foreign}/token",service="a, \\"b\\""'
            error = b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
            return Answer(401, {"WWW-Authenticate": challenge}, error)
        self._left[token] -= 1
        return self.then(asked)

    def _give(self, asked: Asked) -> Answer:
        query = urlsplit(asked.path).query if asked.method == "GET" else asked.body.decode()
        self.given.append(parse_qs(query))
        if self._user is not None and self._user != asked.headers.get("Authorization"):
            return Answer(401, {}, b'{"details": "incorrect username or password"}')
        token = f"secret-{len(self.given)}"
        self._left[token] = self._uses
        return Answer(200, {}, json.dumps({"token": token, "expires_in": 300}).encode())
