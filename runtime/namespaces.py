"""A mount namespace of one's own for a while: what is started in it keeps what is mounted there.

So the mounts of a container end with its last process, whatever becomes of cowshed, and no other
process of the host sees them. Calls: unshare(2), setns(2).
"""

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator

from backends import mounts
from backends.detached import checked

_CLONE_NEWNS = 0x20000
_SYSTEM = ("/dev", "/proc", "/sys")
"""Where the kernel's own filesystems are, which nobody unmounts."""


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


def let_go(whole: Iterable[str], alone: Iterable[str]) -> None:
    """Detach what is mounted here, unless it holds or is in a `whole` path, or holds one `alone`.

    So the host can unmount it while what is started here runs: where its mounts are private, as
    without systemd, its own unmounting changes nothing here. Raises OSError.
    """
    trees = [*_SYSTEM, *map(os.path.realpath, whole)]
    paths = [*trees, *map(os.path.realpath, alone)]
    for mount in reversed(mounts.mounts("thread-self")):
        is_needed = any(_is_in(path, mount.point) for path in paths) or any(
            _is_in(mount.point, tree) for tree in trees
        )
        if not is_needed:
            # What lies below another mount, or under it, cannot be reached and does not matter.
            with contextlib.suppress(OSError):
                mounts.unmount(mount.point, mounts.MNT_DETACH)


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
