"""The embedded default: a btrfs pool in a sparse file, where the disk is neither btrfs nor ZFS.

`<root>/pool.btrfs` is made on first use and mounted at `<root>/pool` whenever it is not, so it is
there again after a reboot. One process at a time does that (flock on `<root>/pool.lock`), in
the mount namespace of pid 1, so that the mount outlives whoever needed it first.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from backends import mounts
from backends.btrfs import BtrfsBackend
from backends.errors import Unavailable, from_os_error
from backends.run import run

FILE = "pool.btrfs"
MINIMUM = 256 << 20
"""Bytes: the smallest pool in which btrfs is of use."""

SHARE = 3, 4
"""The share of the host's free space that a pool may grow to where no size is given."""

OPTIONS = "loop,noatime,discard=async"


def default_size(root: str) -> int:
    """Bytes of a pool made without a size: three quarters of what is free, in whole MiB."""
    counts = os.statvfs(root)
    free = counts.f_bavail * counts.f_frsize
    return max(MINIMUM, free * SHARE[0] // SHARE[1] >> 20 << 20)


def prepare(root: str, size: int | None) -> None:
    """Make the pool's file if there is none, or grow it to `size` bytes if it is smaller.

    Raises Unavailable for a size that is too small or a file that cannot be made.
    """
    path = f"{root}/{FILE}"
    if size is not None and size < MINIMUM:
        raise Unavailable(f"a pool of {size} bytes is too small for btrfs: give 256M or more")
    with _locked(root):
        try:
            there = os.stat(path).st_size
        except FileNotFoundError:
            _make(path, size or default_size(root))
            return
    if size is not None and size < there:
        raise Unavailable(f"{path} has {there} bytes already, and a pool cannot shrink")
    if size is not None:
        _grow(root, size)


def _make(path: str, size: int) -> None:
    fresh = f"{path}.new"
    try:
        with open(fresh, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            os.ftruncate(file.fileno(), size)
        run(["mkfs.btrfs", "-q", "-f", "-L", "cowshed", fresh], f"make the pool {path}")
        with open(fresh, "rb") as file:
            os.fsync(file.fileno())
        os.rename(fresh, path)
    except OSError as error:
        raise from_os_error(error, f"make the pool {path}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def _grow(root: str, size: int) -> None:
    point, doing = ensure_mounted(root), f"grow {root}/{FILE}"
    with _locked(root):
        try:
            # Another process may have made it larger meanwhile.
            if os.stat(f"{root}/{FILE}").st_size < size:
                os.truncate(f"{root}/{FILE}", size)
        except OSError as error:
            raise from_os_error(error, doing) from error
        mount = mounts.mount_at(point)
        if mount is None:
            raise Unavailable(f"the pool at {point} is not mounted any more")
        # Also where the file has that size: an earlier attempt may have come so far only.
        run(["losetup", "--set-capacity", mount.source], doing)
        run(["btrfs", "filesystem", "resize", "max", point], doing)


def ensure_mounted(root: str) -> str:
    """Mount the pool if it is not; returns the directory that it is mounted at.

    Raises Unavailable if the file is gone or the mount is refused.
    """
    point = f"{root}/pool"
    if mounts.mount_at(point):
        return point
    if not os.path.exists(f"{root}/{FILE}"):
        raise Unavailable(
            f"the pool's file {root}/{FILE} is gone: put it back, or take another --root"
        )
    with _locked(root):
        if mounts.mount_at(point) is None:
            os.makedirs(point, mode=0o700, exist_ok=True)
            _mount(root, point)
    return point


def _mount(root: str, point: str) -> None:
    doing = f"mount the pool {root}/{FILE}"
    command = ["mount", "-t", "btrfs", "-o", OPTIONS, f"{root}/{FILE}", point]
    if _namespace("1") not in (None, _namespace("self")):
        run(["nsenter", "--target", "1", "--mount", *command], doing)
    if mounts.mount_at(point) is None:
        run(command, doing)


def _namespace(process: str) -> str | None:
    try:
        return os.readlink(f"/proc/{process}/ns/mnt")
    except OSError:
        return None


@contextlib.contextmanager
def _locked(root: str) -> Iterator[None]:
    try:
        descriptor = os.open(f"{root}/pool.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error, f"lock the pool in {root}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class LoopbackBackend(BtrfsBackend):
    """The btrfs backend on the pool of `root`, mounted by `ensure_mounted`."""

    def __init__(self, root: str) -> None:
        super().__init__(ensure_mounted(root), ours=True)
        self._file = f"{root}/{FILE}"

    def info(self) -> dict[str, str]:
        status = self._status()
        size = "not known: the file is gone"
        if status:
            size = (
                f"{status.st_size / (1 << 30):.1f} GiB at most,"
                f" {status.st_blocks * 512 / (1 << 30):.1f} GiB taken"
                " (by default 3/4 of the free space; init --size)"
            )
        return {"Pool file": self._file, "Pool size": size, **super().info()}

    def _status(self) -> os.stat_result | None:
        """Of the pool's file; None if it was moved away, which the mount survives."""
        try:
            return os.stat(self._file)
        except FileNotFoundError:
            return None

    def warnings(self) -> list[str]:
        status = self._status()
        if status is None:
            return [
                f"the pool's file {self._file} is gone, though what it held is still mounted:"
                " put it back before the next reboot"
            ]
        counts = os.statvfs(os.path.dirname(self._file))
        free = counts.f_bavail * counts.f_frsize
        wanted = status.st_size - status.st_blocks * 512
        if wanted <= free:
            return []
        return [
            f"the pool {self._file} may still grow by {wanted >> 20} MiB, but its host filesystem"
            f" has only {free >> 20} MiB free: free space there before the pool is cut off"
        ]
