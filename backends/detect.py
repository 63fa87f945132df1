"""Which backend serves a root, and how it is set up and opened.

the root lies on btrfs        btrfs      subvolumes of that filesystem
the root lies on ZFS          zfs        datasets of that pool, or wherever --dataset says
elsewhere, and we are root    loopback   subvolumes of a btrfs pool in a sparse file
otherwise                     vfs        plain directories
"""

import os

from backends.base import Backend
from backends.errors import NotSupported, Unavailable
from backends.mounts import holding

NAMES = ("btrfs", "zfs", "loopback", "vfs")


def choose(root: str) -> str:
    """The name of the backend for a root that has none yet; `root` need not exist."""
    if os.geteuid():
        return "vfs"
    kind = filesystem(root)
    return kind if kind in ("btrfs", "zfs") else "loopback"


def filesystem(path: str) -> str:
    """The type of the filesystem that holds `path`, or would if it were made."""
    found = holding(os.path.realpath(path))
    return found.kind if found else ""


def prepare(
    root: str,
    name: str,
    *,
    size: int | None = None,
    quota: bool = False,
    dataset: str | None = None,
) -> None:
    """Set up the backend `name` under the existing directory `root`; idempotent.

    `size` is that of a loopback pool in bytes, `quota` turns simple quotas on, `dataset` says where
    a zfs store keeps its volumes. Raises Unavailable or NotSupported.
    """
    if dataset is not None and name != "zfs":
        raise NotSupported(f"a {name} store has no dataset: --dataset is for a zfs store")
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
    if name == "zfs":
        # Its quotas are always on.
        from backends import zfs_dataset

        zfs_dataset.prepare(root, dataset)
        return
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
    if name == "zfs":
        from backends.zfs import ZfsBackend

        return ZfsBackend(root)
    pool = f"{root}/pool"
    if not os.path.isdir(pool):
        raise Unavailable(f"the store's pool {pool} is gone: mount it, or take another --root")
    if name == "vfs":
        from backends.vfs import VfsBackend

        return VfsBackend(pool)
    from backends.btrfs import BtrfsBackend

    return BtrfsBackend(pool)
