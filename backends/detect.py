"""Which backend serves a root, and how it is set up and opened.

the root lies on btrfs        btrfs      subvolumes of that filesystem
elsewhere, and we are root    loopback   subvolumes of a btrfs pool in a sparse file
otherwise                     vfs        plain directories
"""

import os

from backends.base import Backend
from backends.errors import NotSupported, Unavailable
from backends.mounts import mounts

NAMES = ("btrfs", "loopback", "vfs")


def choose(root: str) -> str:
    """The name of the backend for a root that has none yet; `root` need not exist."""
    if os.geteuid():
        return "vfs"
    return "btrfs" if filesystem(root) == "btrfs" else "loopback"


def filesystem(path: str) -> str:
    """The type of the filesystem that holds `path`, or would if it were made."""
    path = os.path.realpath(path)
    found = ("", "")
    for mount in mounts():
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and len(mount.point) >= len(found[0]):
            found = (mount.point, mount.kind)
    return found[1]


def prepare(root: str, name: str, *, size: int | None = None, quota: bool = False) -> None:
    """Set up the backend `name` under the existing directory `root`; idempotent.

    `size` is that of a loopback pool in bytes, `quota` turns simple quotas on. Raises
    Unavailable or NotSupported.
    """
    if size is not None and name != "loopback":
        raise NotSupported(f"a {name} store has no size of its own: --size is for a loopback pool")
    if name == "vfs":
        if quota:
            raise NotSupported("plain directories have no quotas: take a root on btrfs")
        from backends import vfs

        vfs.prepare(f"{root}/pool")
        return
    if os.geteuid():
        raise Unavailable(f"a {name} store needs root; --backend vfs does not")
    if name == "loopback":
        from backends import loopback

        loopback.prepare(root, size)
        loopback.ensure_mounted(root)
    elif filesystem(root) != "btrfs":
        raise Unavailable(f"{root} is not on btrfs: take --backend loopback, or a root that is")
    from backends import btrfs

    btrfs.prepare(f"{root}/pool")
    if quota:
        btrfs.BtrfsBackend(f"{root}/pool").enable_quota()


def open_backend(root: str, name: str) -> Backend:
    """The backend of a root that was prepared; a loopback pool is mounted if it is not.

    Raises Unavailable, saying what is missing.
    """
    if name == "loopback":
        from backends.loopback import LoopbackBackend

        return LoopbackBackend(root)
    pool = f"{root}/pool"
    if not os.path.isdir(pool):
        raise Unavailable(f"the store's pool {pool} is gone: mount it, or take another --root")
    if name == "vfs":
        from backends.vfs import VfsBackend

        return VfsBackend(pool)
    from backends.btrfs import BtrfsBackend

    return BtrfsBackend(pool)
