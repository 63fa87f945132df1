"""Whether the process that began an operation still lives.

Each process draws a random number and locks that byte of one file with an open file
description lock (fcntl(2), F_OFD_SETLK), which the kernel drops when the process ends, however it
ends. Rows that are half-done carry the number: if its byte is free, nobody will finish them. The
locks work across pid namespaces and leave nothing to clean up.
"""

import fcntl
import os
import struct

_FLOCK = struct.Struct("hhqqi4x")  # struct flock: l_type, l_whence, l_start, l_len, l_pid


class Owner:
    """This process as an owner of rows: `token` is its number, from 1 to 2**62."""

    def __init__(self, path: str) -> None:
        self.token = 1 + (int.from_bytes(os.urandom(8), "big") >> 2)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        lock = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, self.token, 1, 0)
        fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, lock)

    def lives(self, token: int | None) -> bool:
        """Whether the process with `token` is at work."""
        if token is None or token == self.token:
            return token is not None
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, token, 1, 0)
        answer = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, asked)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        os.close(self._descriptor)
