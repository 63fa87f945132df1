"""A command on a terminal of its own, driven as a person does."""

import contextlib
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from fcntl import ioctl

PATIENCE = 20.0


class Terminal:
    """What the terminal shows so far is in `seen`."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._own, theirs = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            preexec_fn=_takes_terminal,
        )
        self.seen = ""

    def resize(self, columns: int, lines: int) -> None:
        ioctl(self._own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._own, text.encode())

    def expect(self, text: str) -> str:
        """Wait until the text is seen; returns what came up to its end."""
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            is_going_on = self._read(0.1) or self.process.poll() is None
            assert is_going_on, f"it ended with {self.process.poll()}: no {text!r} in {self.seen!r}"
        seen, _, self.seen = self.seen.partition(text)
        return seen + text

    def _read(self, timeout: float) -> bool:
        if not select.select([self._own], [], [], timeout)[0]:
            return False
        with contextlib.suppress(OSError):
            self.seen += os.read(self._own, 65536).decode(errors="replace").replace("\r\n", "\n")
        return True

    def ended(self) -> int:
        """Wait until the command has ended; its exit status."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen
            self._read(0.05)
        while self._read(0):
            pass
        assert self.process.returncode is not None
        return self.process.returncode

    @property
    def is_restored(self) -> bool:
        """Whether the terminal is as it was before the command."""
        return termios.tcgetattr(self._theirs) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._own)
        os.close(self._theirs)


def _takes_terminal() -> None:
    os.setsid()
    ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def terminal(command: Sequence[str], env: Mapping[str, str]) -> Iterator[Terminal]:
    made = Terminal(command, env)
    try:
        yield made
    finally:
        made.close()
