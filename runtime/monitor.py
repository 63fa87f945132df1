"""conmon(8), which starts a container's process and stays with it.

It holds the process's terminal or pipes, writes what comes out of them to the log and to whoever
is attached, and keeps the exit status. It is asked over pipes: it says the process's number, or
what the runtime had to say, as a line of JSON (conmon, src/parent_pipe_fd.c).
"""

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from imagegraph.running import LOG, PID
from runtime import engine as engines
from runtime.engine import Engine, reason
from runtime.errors import RunError, not_started

MONITOR = "monitor"
"""The file in the bundle with conmon's process number."""

_SYNC, _START, _ATTACH = "_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"
_PIPES = ((_SYNC, True), (_START, False), (_ATTACH, True))
"""The variables that name conmon's pipes, and whether we read from them; only an exec has all."""


class Session(NamedTuple):
    """What conmon is to hold: the bundle's directory, whose container it is, and how.

    `keep_open`: the process's stdin stays open when who is attached leaves. `kept`: where the exit
    status and the log go. `afterwards`: a command to run when the process has ended.
    """

    bundle: str
    id: str
    engine: Engine
    terminal: bool
    stdin: bool
    keep_open: bool
    kept: str | None = None
    process: str | None = None
    afterwards: Sequence[str] = ()

    def arguments(self) -> list[str]:
        found = [
            *("--api-version", "1", "--cid", self.id, "--cuuid", self.id, "--full-attach"),
            *("--bundle", self.bundle, "--runtime", self.engine.path, "--no-sync-log"),
            *("--container-pidfile", f"{self.bundle}/{PID}"),
            *("--conmon-pidfile", f"{self.bundle}/{MONITOR}"),
            *("--log-path", f"k8s-file:{self.kept}/{LOG}" if self.kept else "none"),
        ]
        if self.kept:
            found += ["--persist-dir", self.kept]
        for option in self.engine.options:
            found += ["--runtime-arg", option]
        for wanted, option in (
            (self.terminal, "--terminal"),
            (self.stdin, "--stdin"),
            (self.keep_open, "--leave-stdin-open"),
        ):
            found += [option] if wanted else []
        if self.process is not None:
            found += ["--exec", "--exec-attach", "--exec-process-spec", self.process]
        for number, word in enumerate(self.afterwards):
            found += ["--exit-command-arg" if number else "--exit-command", word]
        return found


class Monitor:
    """A conmon at work; closing it ends nothing but what is held here."""

    def __init__(self, session: Session) -> None:
        """Start conmon, which makes the container or, for an exec, waits for `go`.

        Raises RunError.
        """
        self._mine: dict[str, int] = {}
        theirs: dict[str, int] = {}
        for name, is_ours_to_read in _PIPES if session.process else _PIPES[:1]:
            read, write = os.pipe()
            mine, its = (read, write) if is_ours_to_read else (write, read)
            self._mine[name], theirs[name] = mine, its
        try:
            self._conmon = subprocess.Popen(
                [engines.monitor(), *session.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=tuple(theirs.values()),
                # Where it leaves a note when the kernel kills for want of memory.
                cwd=session.bundle,
                env={**os.environ, **{name: str(fd) for name, fd in theirs.items()}},
                # Signals of the terminal reach the process inside by way of us.
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            for fd in theirs.values():
                os.close(fd)
        self._answers = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for fd in self._mine.values():
            os.close(fd)
        self._mine = {}

    def ready(self) -> None:
        """For an exec: wait until its socket is there to attach to. Raises RunError."""
        os.write(self._mine[_START], b"\n")
        if not os.read(self._mine[_ATTACH], 4096):
            raise self._failure()

    def go(self) -> None:
        """For an exec: have the process started."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._mine[_START], b"\n")

    def pid(self) -> int:
        """The process that was made. Raises RunError with Docker's exit status for its reason."""
        answer = self._answer()
        if answer is None:
            raise self._failure()
        if answer["data"] <= 0:
            raise not_started(reason(answer.get("message") or ""))
        # The number of the conmon that stays is in its file when the one that we started has ended.
        self._conmon.communicate()
        return int(answer["data"])

    def status(self) -> int | None:
        """For an exec: the exit status, when the process has ended; None if conmon died first."""
        answer = self._answer()
        return None if answer is None else int(answer["data"])

    def _answer(self) -> dict[str, Any] | None:
        while b"\n" not in self._answers:
            piece = os.read(self._mine[_SYNC], 1 << 16)
            if not piece:
                return None
            self._answers += piece
        line, _, self._answers = self._answers.partition(b"\n")
        answer = json.loads(line.decode(errors="replace"))
        assert isinstance(answer, dict)
        return answer

    def _failure(self) -> RunError:
        said = self._conmon.communicate()[1].decode(errors="replace")
        return RunError(f"conmon: {reason(said)}")


def watched(bundle: str, id: str) -> int | None:
    """A pidfd of the conmon that stays with the container, or None if it is gone.

    It can be read from when conmon ends.
    """
    with contextlib.suppress(OSError, ValueError):
        with open(f"{bundle}/{MONITOR}") as file:
            pid = int(file.read())
        fd = os.pidfd_open(pid)
        with open(f"/proc/{pid}/cmdline", "rb") as arguments:
            if id.encode() in arguments.read():
                return fd
        os.close(fd)
    return None


def wait(bundle: str, id: str, timeout: float | None = None) -> bool:
    """Wait until the container's conmon has ended; False if it has not after `timeout` seconds."""
    fd = watched(bundle, id)
    if fd is None:
        return True
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(0, timeout) * 1000))
    finally:
        os.close(fd)
