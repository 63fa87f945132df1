"""A mount namespace of one's own for a while: what is started in it keeps what is mounted there.

So the mounts of a container end with its last process, whatever becomes of cowshed, and no other
process of the host sees them. Calls: unshare(2), setns(2).
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from backends import mounts
from backends.detached import checked

_CLONE_NEWNS = 0x20000


@contextlib.contextmanager
def private_mounts() -> Iterator[None]:
    """Be in a copy of this mount namespace, which still follows what the host unmounts.

    For one thread: others stay where they are. Raises OSError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        checked(libc.unshare(_CLONE_NEWNS), "a mount namespace")
        try:
            mounts.make_slaves("/")
            yield
        finally:
            # It goes to the root directory, too.
            checked(libc.setns(before, _CLONE_NEWNS), "the mount namespace")
            os.fchdir(here)
    finally:
        os.close(here)
        os.close(before)
