"""Who uses a volume: the kernel removes a subvolume under its users, so we look ourselves.

Every process of every mount namespace is asked through /proc. Ids are 256 random bits, so
a volume's `kind/id` in a path is the volume and nothing else, wherever it is mounted; the device
number, where a volume has its own, finds what a lazy unmount has hidden.
"""

import contextlib
import os
from collections.abc import Iterator

PLACES = (("cwd", "has its working directory in it"), ("root", "has its root in it"))


def users(fragment: str, device: int | None = None) -> list[str]:
    """One text for each mount and process that uses the volume whose path contains `fragment`.

    `device` is the st_dev of the volume where no other volume shares it. Only root sees all
    processes.
    """
    needle = os.fsencode(fragment)
    found: list[str] = []
    namespaces: set[int] = set()
    for pid in _processes():
        with contextlib.suppress(OSError):
            namespace = os.stat(f"/proc/{pid}/ns/mnt").st_ino
            if namespace not in namespaces:
                namespaces.add(namespace)
                found += _mounts(pid, needle)
        with contextlib.suppress(OSError):
            found += _uses(pid, needle, device)
    return found + list(_loop_devices(needle))


def _loop_devices(needle: bytes) -> Iterator[str]:
    for name in os.listdir("/sys/block"):
        with contextlib.suppress(OSError):
            backing = f"/sys/block/{name}/loop/backing_file"
            if name.startswith("loop") and needle in _content(backing):
                yield f"the loop device /dev/{name} stands on a file of it"


def _processes() -> Iterator[str]:
    yield "self"
    own = str(os.getpid())
    yield from (name for name in os.listdir("/proc") if name.isdigit() and name != own)


def _mounts(pid: str, needle: bytes) -> Iterator[str]:
    content = _content(f"/proc/{pid}/mountinfo")
    if needle not in content:
        return
    for line in content.splitlines():
        # Also an overlay whose directories, in the options, are of the volume.
        if needle in line:
            fields = line.split()
            seen = "" if pid == "self" else f" (in the mount namespace of process {_name(pid)})"
            yield f"mounted at {os.fsdecode(fields[4])}{seen}"


def _uses(pid: str, needle: bytes, device: int | None) -> Iterator[str]:
    for place, text in PLACES:
        if _is_in(f"/proc/{pid}/{place}", needle, device):
            yield f"process {_name(pid)} {text}"
            return
    for number in os.listdir(f"/proc/{pid}/fd"):
        if _is_in(f"/proc/{pid}/fd/{number}", needle, device):
            yield f"process {_name(pid)} has a file open in it"
            return
    if needle in _content(f"/proc/{pid}/maps"):
        yield f"process {_name(pid)} has a file of it in memory"


def _content(path: str) -> bytes:
    """The whole file, by as few system calls as can be: there are hundreds of them to read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 16):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def _is_in(link: str, needle: bytes, device: int | None) -> bool:
    try:
        target = os.readlink(os.fsencode(link))
        if needle in target:
            return True
        return (
            device is not None
            and target.startswith(b"/")
            and not target.startswith((b"/dev/", b"/proc/"))
            and os.stat(link).st_dev == device
        )
    except OSError:
        return False


def _name(pid: str) -> str:
    number = str(os.getpid()) if pid == "self" else pid
    with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", errors="replace") as file:
        return f"{number} ({file.read().strip()})"
    return number
