"""The host's control groups: which there are, and what a runtime is shown of them.

crun refuses a host that has controllers in both versions at once, and a host that has none mounted,
though it can do without; it is shown a mount namespace in which there is nothing to refuse. See
cgroups(7).
"""

import contextlib
import os
from collections.abc import Iterator

from backends import mounts
from runtime.namespaces import private_mounts

DIRECTORY = "/sys/fs/cgroup"
_UNIFIED = f"{DIRECTORY}/unified"


def version() -> int:
    """2, 1 (perhaps with 2 beside it), or 0 where none are mounted."""
    if os.path.exists(f"{DIRECTORY}/cgroup.controllers"):
        return 2
    return 1 if os.path.isdir(f"{DIRECTORY}/memory") else 0


def group(id: str) -> str | None:
    """The container's control group, or None where there are none."""
    return f"/cowshed/{id}" if version() else None


@contextlib.contextmanager
def presentable() -> Iterator[None]:
    """Be where a runtime finds control groups that it can work with. Raises OSError."""
    if version() and not _is_mixed():
        yield
        return
    with private_mounts():
        if version():
            mounts.unmount(_UNIFIED, mounts.MNT_DETACH)
        else:
            mounts.tmpfs(DIRECTORY)
        yield


def _is_mixed() -> bool:
    try:
        with open(f"{_UNIFIED}/cgroup.controllers") as file:
            return bool(file.read().strip())
    except OSError:
        return False
