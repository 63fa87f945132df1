"""Files that a command writes: they are there when they are whole."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO

from backends.errors import CowshedError
from cli import output


@contextlib.contextmanager
def written(target: str | None) -> Iterator[BinaryIO]:
    """A stream to stdout or to the file, which appears under its name when all is written."""
    if target is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            raise output.failed(error) from error
        return
    try:
        with _replaced(target) if _is_replaced(target) else _opened(target) as out:
            yield out
    except OSError as error:
        raise CowshedError(f"cannot write {target}: {error.strerror}") from error


def _is_replaced(target: str) -> bool:
    """Whether the file is made anew; a device or a fifo is written to."""
    return not os.path.exists(target) or os.path.isfile(target)


def _opened(target: str) -> BinaryIO:
    return open(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb")


@contextlib.contextmanager
def _replaced(target: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target`, or of what it links to, once it is whole.

    Its temporary name cannot be guessed, and what has that name is never opened. Until the end
    only the user can read it; then it has the mode of the file that it replaces, or that of any
    new file.
    """
    final = os.path.realpath(target)
    fresh = os.path.join(os.path.dirname(final), f"cowshed-{os.urandom(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(fresh, flags, 0o600)
    try:
        with open(fd, "wb") as out:
            yield out
            out.flush()
            os.fsync(fd)
        os.rename(fresh, final)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
