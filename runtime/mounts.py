"""What is mounted in a container, in the order in which it has to be.

First the filesystems of every container, those of Docker's engine (moby, oci/defaults.go), but
where the user mounts something there; then the user's, a parent before what lies in it.
"""

import os
import platform
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from imagegraph.config import Json
from runtime.errors import RunError

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm unless --shm-size says otherwise."""

_SHARED, _SLAVE = ("shared", "rshared"), ("slave", "rslave")
_PROPAGATIONS = (*_SHARED, *_SLAVE, "private", "rprivate")
# What lxcfs and the like put there, the exceptions of runc; all else tells the runtimes and the
# kernel's security modules lies (CVE-2019-19921).
_ALLOWED_IN_PROC = frozenset(
    f"/proc/{name}"
    for name in "cpuinfo diskstats loadavg meminfo net/dev slabinfo stat swaps uptime".split()
)


class Bind(NamedTuple):
    """A file or directory of the host that is mounted in a container.

    `options` are those of mount(8): "bind" for the mount alone, without what is mounted below it,
    propagation (rprivate if none is given), nosuid and so on.
    """

    source: str
    target: str
    read_only: bool
    options: tuple[str, ...]


def mounts(host: Mapping[str, Any], binds: Sequence[Bind], *, cgroup: bool) -> list[Json]:
    """The runtime-spec's mounts. `cgroup`: whether the container has one. Raises RunError."""
    asked = [*(_bound(bind) for bind in binds), *_temporary(host)]
    asked.sort(key=lambda mount: mount["destination"].count("/"))
    targets = [mount["destination"] for mount in asked]
    for number, target in enumerate(targets):
        if target in targets[:number]:
            raise RunError(f"{target} is to be mounted on twice: leave one out")
        if target == "/proc" or (target.startswith("/proc/") and target not in _ALLOWED_IN_PROC):
            raise RunError(f"nothing can be mounted on {target}: /proc is the kernel's")
    standard = [
        mount
        for mount in _standard(host, cgroup)
        if mount["destination"] not in targets
        and not ("/dev" in targets and mount["destination"].startswith("/dev/"))
    ]
    return standard + asked


def propagation(binds: Iterable[Bind]) -> str | None:
    """What the container's root has to be for its binds: linux.rootfsPropagation.

    Raises RunError where the host's mount is not such that anything would pass.
    """
    found = None
    for bind in binds:
        if set(_SHARED) & set(bind.options):
            _require(bind, "shared:")
            found = "shared"
        elif set(_SLAVE) & set(bind.options):
            _require(bind, "shared:", "master:")
            found = found or "rslave"
    return found


def _require(bind: Bind, *fields: str) -> None:
    """Raises RunError unless the mount that holds the source has one of the optional fields."""
    descriptor = os.open(bind.source, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            [number] = [line.split()[1] for line in file if line.startswith("mnt_id:")]
    finally:
        os.close(descriptor)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        [mount] = [line.split() for line in file if line.split(maxsplit=1)[0] == number]
    if not any(field.startswith(fields) for field in mount[6 : mount.index("-")]):
        [asked] = {*bind.options} & {*_SHARED, *_SLAVE}
        raise RunError(
            f"cannot mount {bind.source} as {asked}: what is mounted at {mount[4]} passes nothing"
            f" on; mount --make-rshared {mount[4]} changes that"
        )


def _bound(bind: Bind) -> Json:
    options = list(bind.options)
    if not {"bind", "rbind"} & set(options):
        options.insert(0, "rbind")
    if not set(_PROPAGATIONS) & set(options):
        options.append("rprivate")
    if "bind" in options:
        # For one mount they are the same, but crun binds recursively if any option does so.
        options = [word.removeprefix("r") if word in _PROPAGATIONS else word for word in options]
    if bind.read_only:
        # With what is mounted below it, where the kernel can do that at once.
        # Below a file there is nothing, and crun takes what it is to change for a directory.
        whole = "rbind" in options and os.path.isdir(bind.source) and _recursive()
        options += ["ro", "rro"] if whole else ["ro"]
    target = _plain(bind.target)
    return {"destination": target, "type": "bind", "source": bind.source, "options": options}


def _recursive() -> bool:
    """Whether there is mount_setattr(2), of Linux 5.12."""
    return tuple(map(int, re.findall("[0-9]+", platform.release())[:2])) >= (5, 12)


def _temporary(host: Mapping[str, Any]) -> list[Json]:
    """The tmpfs of --tmpfs and of --mount type=tmpfs."""
    found = [
        _tmpfs(target, words.split(",") if words else [])
        for target, words in (host.get("Tmpfs") or {}).items()
    ]
    for mount in host.get("Mounts") or ():
        if mount["Type"] == "tmpfs":
            asked, words = mount.get("TmpfsOptions") or {}, []
            if mount.get("ReadOnly"):
                words.append("ro")
            if "Mode" in asked:
                words.append(f"mode={asked['Mode']:o}")
            if "SizeBytes" in asked:
                words.append(f"size={asked['SizeBytes']}")
            found.append(_tmpfs(mount["Target"], words))
    return found


def _tmpfs(target: str, words: Iterable[str]) -> Json:
    """A tmpfs; of its options, and what holds unless they say otherwise, the last counts."""
    opposites = {"ro": "rw", "async": "sync"}
    options: dict[str, str] = {}
    for word in ("noexec", "nosuid", "nodev", "rprivate", *words):
        name = word.partition("=")[0]
        options[opposites.get(name, name).removeprefix("no")] = word
    return {
        "destination": _plain(target),
        "type": "tmpfs",
        "source": "tmpfs",
        "options": list(options.values()),
    }


def _plain(target: str) -> str:
    return "/" + posixpath.normpath(target).lstrip("/")


def _standard(host: Mapping[str, Any], cgroup: bool) -> list[Json]:
    strict = ("nosuid", "noexec", "nodev")
    sys = "rw" if host.get("Privileged") else "ro"
    terminals = ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")
    found = [
        _mount("/proc", "proc", *strict),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "nosuid", "noexec", *terminals),
        _mount("/sys", "sysfs", *strict, sys),
        _mount("/dev/mqueue", "mqueue", *strict),
    ]
    if cgroup:
        found.append(_mount("/sys/fs/cgroup", "cgroup", *strict, sys))
    if host.get("IpcMode") == "host":
        found.append(_bound(Bind("/dev/shm", "/dev/shm", False, ())))
    elif host.get("IpcMode") != "none":
        size = f"size={host.get('ShmSize') or SHM_SIZE}"
        found.append(_mount("/dev/shm", "tmpfs", *strict, "mode=1777", size) | {"source": "shm"})
    return found


def _mount(target: str, kind: str, *options: str) -> Json:
    return {"destination": target, "type": kind, "source": kind, "options": list(options)}
