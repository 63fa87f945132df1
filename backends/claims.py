"""Which of a pool's unfinished work a living process is at.

Whoever works holds a shared flock on one file or directory of the pool; it ends with the process,
however that ends. What is unfinished while nobody holds one was left by the dead.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator


class Claims:
    """The claims of this process on unfinished work, by name; `place` exists already."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._held: dict[str, int] = {}

    def hold(self, name: str) -> None:
        """Say that this process works on `name`, until `release` or its end. Raises OSError."""
        if name not in self._held:
            self._held[name] = self._locked(fcntl.LOCK_SH)

    def release(self, name: str) -> None:
        """Say that `name` is finished with; success if it never was held."""
        descriptor = self._held.pop(name, None)
        if descriptor is not None:
            os.close(descriptor)

    @contextlib.contextmanager
    def claimed(self, name: str) -> Iterator[None]:
        """Hold `name` while the context lasts."""
        self.hold(name)
        try:
            yield
        finally:
            self.release(name)

    @contextlib.contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody works on anything; if so, nobody begins to while this lasts."""
        try:
            descriptor = self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def alone_at(self, id: str) -> Iterator[None]:
        """Wait until no other process is in here for the volume of that id (hex digits)."""
        descriptor = os.open(self._place, os.O_RDWR | os.O_CLOEXEC)
        try:
            # A byte for each volume, all but certainly; an flock would stop work on the others.
            start = int(id[:15], 16)
            lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLKW, lock)
            yield
        finally:
            os.close(descriptor)

    def _locked(self, how: int) -> int:
        descriptor = os.open(self._place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, how)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor
