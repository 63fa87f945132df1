"""Connections of urllib3 on which the head of an answer comes whole, in time, or not at all.

http.client alone would read heads for ever from a server that says a byte now and then, or
100 Continue again and again, and takes a head that broke off for a whole one.
"""

import contextlib
import http.client
import io
import socket
import threading
from typing import Any, cast

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

SENDING = 60.0
"""Seconds in which a piece of a body must be taken."""


class _Answer(http.client.HTTPResponse):
    """An answer with a whole head."""

    def begin(self) -> None:
        lines = _Lines(self.fp)
        self.fp = cast(io.BufferedReader, lines)
        try:
            super().begin()
        finally:
            self.fp = lines.file
        if lines.ended:
            raise http.client.RemoteDisconnected("the head of the answer is not complete")


class _Lines:
    """The lines of a file; `ended` once there was none."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.file = file
        self.ended = False

    def readline(self, limit: int) -> bytes:
        line = self.file.readline(limit)
        self.ended = self.ended or not line
        return line


class _Plain(HTTPConnection):
    """A connection whose `timeout` is for the whole head, and not for each part of it only."""

    response_class = _Answer

    def send(self, data: Any) -> None:
        # Else it is that of the last answer.
        if self.sock is not None:
            self.sock.settimeout(SENDING)
        super().send(data)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        late = threading.Event()
        connected = self.sock

        def end() -> None:
            late.set()
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(cast(float, self.timeout), end)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        except (OSError, http.client.HTTPException) as error:
            if late.is_set():
                raise TimeoutError("the head of the answer is not complete") from error
            raise
        finally:
            timer.cancel()


class _Secure(_Plain, HTTPSConnection):
    """The same with TLS."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


POOLS = {"http": _PlainPool, "https": _SecurePool}
"""For `pool_classes_by_scheme` of a PoolManager."""
