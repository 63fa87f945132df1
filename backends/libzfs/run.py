"""The one seam: every command that this package starts goes through here.

`run` waits for a command, `stream` gives its lines as they come. Both speak to the commands in
the locale C.UTF-8, so that messages and dates are those that the parsers know, and turn a failure
into a typed error (errors.py). What is started is logged at level DEBUG, an argument list a record.

Text is UTF-8 with surrogate escapes: any byte that a command prints or takes survives.
"""

import errno
import functools
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from backends.libzfs.enums import Error
from backends.libzfs.errors import (
    ZFSException,
    ZFSUnavailableException,
    from_stderr,
    not_available,
    only_absent,
)

log = logging.getLogger(__name__)

# Where the commands may be; the PATH of cron(8) and of many a user lacks these.
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
_MODULE_VERSION = Path("/sys/module/zfs/version")
_VERSION = re.compile(r"(?:zfs-)?v?(\d+)\.(\d+)")


class Done(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _environment() -> dict[str, str]:
    path = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_PATH}"
    return {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "LANGUAGE": "C"}


def _start(
    argv: Sequence[str], stdin: int | None, stdout: int | None, stderr: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    if any("\0" in argument for argument in argv):
        raise ZFSException(Error.INVALARG, f"{argv[0]}: an argument holds a zero byte")
    log.debug("%s", list(argv))
    try:
        return subprocess.Popen(
            [os.fsencode(argument) for argument in argv],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            env=_environment(),
        )
    except FileNotFoundError as missing:
        raise ZFSUnavailableException(
            Error.OPENFAILED, f"{argv[0]} is not installed; install the package zfsutils-linux"
        ) from missing
    except OSError as error:
        if error.errno == errno.E2BIG:
            raise ZFSException(
                Error.TOOMANY, f"{argv[0]} {argv[1]}: argument list too long"
            ) from error
        raise


def attempt(
    argv: Sequence[str],
    *,
    feed: bytes | None = None,
    stdin: int | None = None,
    stdout: int = subprocess.PIPE,
) -> Done:
    """Run `argv` to its end, whatever its status.

    `feed` is given on its stdin, or `stdin` is its stdin; `stdout` takes its output instead of
    the result. Raises ZFSException only if it cannot be started.
    """
    process = _start(argv, subprocess.PIPE if feed is not None else stdin, stdout)
    with process:
        out, err = process.communicate(feed)
    return Done(process.returncode, _text(out or b""), _text(err))


def run(
    argv: Sequence[str],
    *,
    feed: bytes | None = None,
    stdin: int | None = None,
    stdout: int = subprocess.PIPE,
    absent_ok: bool = False,
) -> str:
    """Run `argv` to its end and return what it printed; raises the typed error if it fails.

    `absent_ok`: it goes on after what does not exist, so that alone is no failure.
    """
    done = attempt(argv, feed=feed, stdin=stdin, stdout=stdout)
    if done.status and not (absent_ok and only_absent(argv, done.stderr)):
        raise from_stderr(argv, done.stderr, done.status)
    return done.stdout


def parts(words: Iterable[str], limit: int) -> Iterator[list[str]]:
    """The words in lists of at most `limit` bytes, for commands that take only so many."""
    part: list[str] = []
    length = 0
    for word in words:
        size = len(os.fsencode(word)) + 1
        if part and length + size > limit:
            yield part
            part, length = [], 0
        part.append(word)
        length += size
    if part:
        yield part


def stream(argv: Sequence[str]) -> Iterator[str]:
    """The lines that `argv` prints, as they come, without their newlines.

    The command starts with the first line asked for, and is ended when the iterator is closed.
    Raises the typed error after the last line if the command failed.
    """
    import tempfile

    # A file, not a pipe: nobody reads a second pipe meanwhile, and a full one would stop both.
    with (
        tempfile.TemporaryFile() as errors,
        _start(argv, None, subprocess.PIPE, errors.fileno()) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                yield _text(line.removesuffix(b"\n"))
        except GeneratorExit:
            process.kill()
            raise
        status = process.wait()
        errors.seek(0)
        stderr = _text(errors.read())
    if status:
        raise from_stderr(argv, stderr, status)


def say(text: str) -> None:
    """Pass on what a command wrote on stderr for the user (progress, sizes)."""
    sys.stderr.write(text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def options(properties: Mapping[str, object] | None, flag: str = "-o") -> list[str]:
    """The properties as options of a command: -o name=value -o ..."""
    return [
        part for name, value in (properties or {}).items() for part in (flag, f"{name}={value}")
    ]


@functools.cache
def version() -> tuple[int, int]:
    """The release of OpenZFS that is here, such as (2, 3).

    It is the older one of the commands' and the kernel module's: distributions mix them.
    Raises ZFSUnavailableException if the kernel module is not loaded.
    """
    if not _MODULE_VERSION.exists():
        # Any command loads the module if it can, and says why if it cannot.
        run(["zpool", "list", "-Ho", "name"])
    try:
        module = _MODULE_VERSION.read_text(encoding="ascii")
    except FileNotFoundError as missing:
        raise ZFSUnavailableException(
            Error.OPENFAILED, "the zfs kernel module is not loaded; run 'modprobe zfs' as root"
        ) from missing
    return min(_release(run(["zfs", "version"])), _release(module))


def _release(text: str) -> tuple[int, int]:
    match = _VERSION.match(text)
    if match is None:
        raise ZFSException(Error.BADVERSION, f"this is no version of OpenZFS: {text!r}")
    return int(match[1]), int(match[2])


def needs(release: tuple[int, int], what: str) -> None:
    """Raise NotImplementedError, naming `what`, if this OpenZFS is older than `release`."""
    if version() < release:
        raise not_available(what, f"it needs OpenZFS {release[0]}.{release[1]}")
