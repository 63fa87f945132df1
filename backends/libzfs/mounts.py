"""Where datasets are mounted, in this process's mount namespace; read from the kernel, no command.

Source: proc(5), /proc/pid/mountinfo.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


class Mount(NamedTuple):
    """A dataset or snapshot, where it is mounted, and the device number of files there."""

    source: str
    point: str
    device: int


def _decoded(field: bytes) -> str:
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def mounted() -> list[Mount]:
    """Every ZFS mount, in the order they were mounted."""
    found = []
    for line in _MOUNTS.read_bytes().split(b"\n")[:-1]:
        before, _, after = line.partition(b" - ")
        kind, source = after.split(b" ")[:2]
        if kind == b"zfs":
            device, _, point = before.split(b" ")[2:5]
            major, _, minor = device.partition(b":")
            number = os.makedev(int(major), int(minor))
            found.append(Mount(_decoded(source), _decoded(point), number))
    return found


def points() -> dict[str, str]:
    """Dataset or snapshot -> where it is mounted first."""
    return {mount.source: mount.point for mount in reversed(mounted())}


def mountpoint(name: str) -> str | None:
    """Where the dataset or snapshot is mounted first; None if it is not."""
    return points().get(name)


def below(name: str) -> list[Mount]:
    """The mounts of the dataset and of all below it, those mounted last first."""
    return [
        mount
        for mount in reversed(mounted())
        if mount.source == name or mount.source.startswith((f"{name}/", f"{name}@"))
    ]
