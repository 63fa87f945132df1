"""What is mounted where, and the mount calls, without any policy.

Formats: /proc/PID/mountinfo, proc_pid_mountinfo(5). Flags: linux/mount.h.
"""

import ctypes
import os
import re
from typing import NamedTuple

MS_RDONLY = 1
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19
MNT_DETACH = 2


class Mount(NamedTuple):
    """One line of mountinfo: `root` is the mounted directory within its filesystem."""

    device: str
    root: str
    point: str
    kind: str
    source: str


def mounts(process: str = "self") -> list[Mount]:
    """The mounts that a process sees. Raises OSError if the process is gone."""
    with open(f"/proc/{process}/mountinfo", errors="surrogateescape") as lines:
        return [_parse(line) for line in lines]


def _parse(line: str) -> Mount:
    before, _, after = line.partition(" - ")
    fields = before.split()
    kind, source = after.split()[:2]
    return Mount(fields[2], _unescape(fields[3]), _unescape(fields[4]), kind, _unescape(source))


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text)


def mount_at(point: str) -> Mount | None:
    """The topmost mount on the directory `point` as this process sees it, or None."""
    real = os.path.realpath(point)
    found = None
    for mount in mounts():
        if mount.point == real:
            found = mount
    return found


def holding(path: str) -> Mount | None:
    """The mount that holds the real path `path`, or would if it were made."""
    found = None
    for mount in mounts():
        inside = path == mount.point or path.startswith(mount.point.rstrip("/") + "/")
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    return found


def bind(source: str, target: str) -> None:
    """Bind the directory `source` at `target`. Raises OSError."""
    _mount(source, target, None, MS_BIND)


def tmpfs(target: str) -> None:
    """Mount an empty filesystem on the directory `target`. Raises OSError."""
    _mount("tmpfs", target, "tmpfs", 0)


def remount_read_only(target: str) -> None:
    """Make the bind mount at `target` read-only. Raises OSError."""
    _mount(None, target, None, MS_BIND | MS_REMOUNT | MS_RDONLY)


def make_slaves(target: str) -> None:
    """Have the mounts at and below `target` follow their peers, and lead them no more.

    Raises OSError.
    """
    _mount(None, target, None, MS_REC | MS_SLAVE)


def unmount(target: str, flags: int = 0) -> None:
    """Unmount what is mounted on top of `target`. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(target), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    if libc.mount(*arguments, ctypes.c_ulong(flags), None):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
