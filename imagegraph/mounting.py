"""Containers mounted for people to work in: bound at `<root>/mnt/<id>`.

Whether a container is mounted is read from the kernel and never stored.
"""

import errno
import os
import re
from typing import TYPE_CHECKING

from backends import mounts
from backends.base import CONTAINERS
from backends.errors import from_os_error
from imagegraph.errors import Conflict
from imagegraph.model import Container

if TYPE_CHECKING:
    from imagegraph.store import Store


def mounted(id: str) -> list[str]:
    """Where the container is mounted, as this process sees it."""
    return all_mounted().get(id, [])


def all_mounted() -> dict[str, list[str]]:
    """Container id -> the mount points that its tree has."""
    found: dict[str, list[str]] = {}
    volume = re.compile(f"/{CONTAINERS}/([0-9a-f]{{64}})(?:/|$)")
    for mount in mounts.mounts():
        # A subvolume is a directory of its filesystem; a dataset is a filesystem.
        if inside := volume.search(mount.root) or volume.search(mount.source):
            found.setdefault(inside[1], []).append(mount.point)
    return found


def mount(store: "Store", container: Container) -> str:
    """Bind the container's tree at `<root>/mnt/<id>` and return that path; idempotent.

    Raises BackendError.
    """
    point = f"{store.root}/mnt/{container.id}"
    try:
        if point not in mounted(container.id):
            os.makedirs(point, mode=0o700, exist_ok=True)
            store.backend.mount(store.volume(container), point)
    except OSError as error:
        raise from_os_error(error, f"mount container {container.name}") from error
    return point


def unmount(store: "Store", container: Container, *, missing_ok: bool = False) -> None:
    """Undo `mount`. Raises Conflict if it is not mounted (unless `missing_ok`) or in use."""
    point = f"{store.root}/mnt/{container.id}"
    places = mounted(container.id)
    if point not in places and not missing_ok:
        raise Conflict(f"container {container.name} is not mounted")
    try:
        for _ in range(places.count(point)):
            mounts.unmount(point)
        forget(store, container)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise Conflict(
                f"the mount of container {container.name} is in use: leave {point} and"
                " close its files first"
            ) from error
        raise from_os_error(error, f"unmount container {container.name}") from error


def forget(store: "Store", container: Container) -> None:
    """Remove the mount point of a container that is not mounted; success if there is none.

    One that is a mount point in another namespace, or a directory of somebody's, stays.
    """
    try:
        os.rmdir(f"{store.root}/mnt/{container.id}")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBUSY, errno.ENOTEMPTY):
            raise
