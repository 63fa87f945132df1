"""Which devices a container has, and which it may use.

The standard ones (config-linux.md, "Default Devices") every runtime makes by itself. --device gives
one of the host, or all in a directory; a privileged container has all.
"""

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from imagegraph.config import Json
from runtime.errors import RunError

# null, zero, full, random, urandom, tty, console, ptmx and the terminals of devpts.
_STANDARD = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2), (136, None))
# Of /dev, what a container has of its own.
_OWN = ("console", "fd", "mqueue", "ptmx", "pts", "shm")


def devices(host: Mapping[str, Any]) -> tuple[list[Json], list[Json]]:
    """linux.devices, and linux.resources.devices, the rules of the cgroup. Raises RunError."""
    if host.get("Privileged"):
        own = [os.path.join("/dev", name) for name in _OWN]
        found = [_node(path, status) for path, status in _nodes("/dev", own)]
        found += [node for asked in host.get("Devices") or () for node in _asked(asked)]
        return _by_path(found), [{"allow": True, "access": "rwm"}]
    found, rules = [], [{"allow": False, "access": "rwm"}]
    rules += [_rule("c", major, minor, "rwm") for major, minor in _STANDARD]
    for asked in host.get("Devices") or ():
        nodes = _asked(asked)
        access = asked.get("CgroupPermissions") or "rwm"
        rules += [_rule(node["type"], node["major"], node["minor"], access) for node in nodes]
        found += nodes
    return _by_path(found), rules


def _asked(asked: Mapping[str, str]) -> list[Json]:
    """The devices at one of Docker's PathOnHost, which are to be at its PathInContainer."""
    source = os.path.realpath(asked["PathOnHost"])
    target = asked.get("PathInContainer") or asked["PathOnHost"]
    try:
        status = os.stat(source)
    except OSError as error:
        raise RunError(f"--device {asked['PathOnHost']}: {error.strerror}") from None
    if not stat.S_ISDIR(status.st_mode):
        found = [_node(target, status)] if _is_device(status) else []
    else:
        nodes = _nodes(source, ())
        found = [_node(target + path.removeprefix(source), at) for path, at in nodes]
    if not found:
        raise RunError(f"--device {asked['PathOnHost']}: it is no device, nor a directory of them")
    return found


def _nodes(directory: str, but: Collection[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The device nodes below a directory of the host, which may change meanwhile."""
    for parent, directories, files in os.walk(directory):
        directories[:] = sorted(name for name in directories if f"{parent}/{name}" not in but)
        for name in sorted(files):
            path = f"{parent}/{name}"
            if path in but:
                continue
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if _is_device(status):
                yield path, status


def _is_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)


def _node(target: str, status: os.stat_result) -> Json:
    return {
        "path": target,
        "type": "b" if stat.S_ISBLK(status.st_mode) else "c",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _rule(kind: str, major: int, minor: int | None, access: str) -> Json:
    rule = {"allow": True, "type": kind, "major": major, "access": access}
    return rule if minor is None else rule | {"minor": minor}


def _by_path(nodes: list[Json]) -> list[Json]:
    """Each path once: what was asked for takes the place of what is there anyway."""
    return list({node["path"]: node for node in nodes}.values())
