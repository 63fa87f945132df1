"""The streams of a process that conmon holds, joined to those of this one.

conmon's socket takes what is for stdin, and gives packets whose first byte says where the rest is
for (conmon, src/conn_sock.c and src/config.h). Neither side may wait for the other with both its
directions full, so what cannot be sent is kept until it can be.
"""

import contextlib
import os
import re
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Callable, Collection, Iterator, Sequence
from types import FrameType
from typing import Self

from runtime.errors import RunError

STDOUT, STDERR = 2, 3

_PACKET = 8192
"""Bytes of one packet to conmon, which cuts off what does not fit its buffer of 32 KiB."""
_BUFFER = 1 << 16
_SETTLED = 0.1
"""Seconds after which a size is said again: of several at once conmon reads only the first."""

DETACH_KEYS = "ctrl-p,ctrl-q"

FORWARDED = tuple(
    getattr(signal, f"SIG{name}") for name in "HUP INT QUIT TERM USR1 USR2 ALRM WINCH".split()
)


def keys_of(text: str) -> list[bytes]:
    """The bytes of keys like `ctrl-p,ctrl-q` or `ctrl-],x`; none of an empty text.

    Raises RunError.
    """
    found = []
    for word in text.split(",") if text else ():
        name = word.lower().removeprefix("ctrl-")
        if name != word.lower() and re.fullmatch(r"[a-z@\[\\\]^_]", name):
            found.append(bytes([ord(name.upper()) & 0x1F]))
        elif len(word) == 1 and word.isascii():
            found.append(word.encode())
        else:
            raise RunError(f"{word!r} is not a key, such as ctrl-p or x")
    return found


class Attachment:
    """A connection to the streams of a process; make it before the process is started."""

    def __init__(self, bundle: str) -> None:
        """Raises RunError if nobody holds the streams."""
        self._bundle = bundle
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # conmon looks at who wants to be attached before it looks at what came out.
            self._socket.connect(f"{bundle}/attach")
        except OSError as error:
            self._socket.close()
            raise RunError(f"cannot attach to the container: {error.strerror}") from error
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def resize(self, source: int) -> None:
        """Give the process's terminal the size of the terminal `source`."""
        with contextlib.suppress(OSError):
            columns, lines = os.get_terminal_size(source)
            fifo = os.open(f"{self._bundle}/ctl", os.O_WRONLY | os.O_NONBLOCK)
            with open(fifo, "w") as control:
                control.write(f"1 {lines} {columns}\n")

    def relay(
        self,
        stdin: int | None,
        *,
        terminal: int | None = None,
        keys: Sequence[bytes] = (),
        send: Callable[[int], None],
        shown: Collection[int] = (STDOUT, STDERR),
    ) -> bool:
        """Relay until the process's streams end; False if the detach keys were typed before.

        `stdin`: a descriptor to read from; `shown`: which streams are written here. `terminal`: the
        one whose size the process's terminal is to have, and that is put in raw mode where it is
        read from. `send` is given each signal that is for the process. Raises OSError where stdout
        or stderr cannot be written to.
        """
        with _signals() as wakened, _raw(stdin if terminal is not None else None):
            if terminal is not None:
                self.resize(terminal)
            return _Relay(self, self._socket, stdin, terminal, keys, wakened, send, shown).run()


class _Relay:
    def __init__(
        self,
        attachment: Attachment,
        connection: socket.socket,
        stdin: int | None,
        terminal: int | None,
        keys: Sequence[bytes],
        wakened: int,
        send: Callable[[int], None],
        shown: Collection[int],
    ) -> None:
        self._attachment, self._connection = attachment, connection
        self._stdin, self._terminal, self._keys = stdin, terminal, list(keys)
        self._wakened, self._send, self._shown = wakened, send, shown
        self._typed = 0
        self._resized: float | None = None
        self._pending: list[bytes] = []
        self._ended = stdin is None
        self._closed = False

    def run(self) -> bool:
        while True:
            poll = select.poll()
            out = select.POLLOUT if self._pending else 0
            poll.register(self._connection, select.POLLIN | out)
            poll.register(self._wakened, select.POLLIN)
            if not (self._ended or self._pending):
                assert self._stdin is not None
                poll.register(self._stdin, select.POLLIN)
            for fd, event in self._polled(poll):
                if fd == self._wakened:
                    self._signalled()
                elif fd == self._stdin:
                    if not self._read():
                        return False
                else:
                    if event & select.POLLOUT:
                        self._flush()
                    if event & (select.POLLIN | select.POLLHUP) and not self._write():
                        return True

    def _polled(self, poll: select.poll) -> list[tuple[int, int]]:
        if self._resized is None:
            return poll.poll()
        found = poll.poll(max(0.0, self._resized + _SETTLED - time.monotonic()) * 1000)
        if not found:
            self._resized = None
            self._resize()
        return found

    def _resize(self) -> None:
        if self._terminal is not None:
            self._attachment.resize(self._terminal)

    def _signalled(self) -> None:
        for number in os.read(self._wakened, 4096):
            if number == signal.SIGWINCH:
                self._resize()
                self._resized = time.monotonic()
            else:
                self._send(number)

    def _read(self) -> bool:
        """Take what is typed; False if that was to detach."""
        assert self._stdin is not None
        try:
            data = os.read(self._stdin, _PACKET)
        except OSError:
            # A terminal that hangs up ends like a file.
            data = b""
        if not data:
            self._ended = True
        detach = False
        if self._keys:
            data, detach = self._without_keys(data)
        if data:
            self._pending.append(data)
        if detach:
            # What was typed before is for the process, however long it takes it to read.
            self._connection.setblocking(True)
        self._flush()
        return not detach

    def _without_keys(self, data: bytes) -> tuple[bytes, bool]:
        """What is for the process of what was typed, and whether the detach keys are complete."""
        kept = bytearray()
        for number in data:
            if number == self._keys[self._typed][0]:
                self._typed += 1
                if self._typed == len(self._keys):
                    return bytes(kept), True
                continue
            # What looked like the keys so far was none.
            kept += b"".join(self._keys[: self._typed])
            self._typed = 0
            if number == self._keys[0][0]:
                self._typed = 1
            else:
                kept.append(number)
        return bytes(kept), False

    def _flush(self) -> None:
        try:
            while self._pending:
                self._connection.send(self._pending[0])
                self._pending.pop(0)
            if self._ended and not self._closed:
                self._closed = True
                self._connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:
            # Nobody reads any more; what is still to come out comes out.
            self._pending.clear()
            self._ended = self._closed = True

    def _write(self) -> bool:
        """Pass on one packet; False at the end."""
        try:
            packet = self._connection.recv(_BUFFER)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        if not packet:
            return False
        target = sys.stderr if packet[0] == STDERR else sys.stdout
        data = memoryview(packet)[1:] if packet[0] in self._shown else memoryview(b"")
        while data:
            data = data[os.write(target.fileno(), data) :]
        return True


@contextlib.contextmanager
def _raw(terminal: int | None) -> Iterator[None]:
    """The terminal in raw mode while this lasts."""
    if terminal is None:
        yield
        return
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that gives the number of each signal that comes, a byte each."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = {
        # What is ignored on our behalf, as by nohup(1), stays so.
        number: signal.signal(number, _noted)
        for number in FORWARDED
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    was = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(was)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _noted(number: int, frame: FrameType | None) -> None:
    """Nothing: its number is in the pipe."""
