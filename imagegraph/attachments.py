"""Which data volumes a container wants, as its config and its options say. Nothing is looked up.

Config is the container's merged config, HostConfig what it was created with; both are in Docker's
words (`-v PATH` and VOLUME become Config.Volumes, `-v NAME:PATH` HostConfig.Binds, `--mount`
HostConfig.Mounts). An image's config is hostile.
"""

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from imagegraph.errors import StoreError


class Wanted(NamedTuple):
    """A data volume at `target`, an absolute path; without a `name` an anonymous one.

    `copy`: what the image has at the target is copied into it while it is empty.
    """

    target: str
    name: str | None = None
    read_only: bool = False
    copy: bool = True
    labels: Mapping[str, str] = {}


def wanted(config: Mapping[str, Any], options: Mapping[str, Any]) -> list[Wanted]:
    """What the container wants, in the order in which it is said.

    Raises StoreError for what an image says that no volume can be.
    """
    host = options.get("HostConfig", {})
    found = {each.target: each for each in (*_binds(host), *_mounts(host))}
    covered = {*found, *_others(host)}
    declared = config.get("Volumes") or {}
    if not isinstance(declared, dict):
        raise StoreError("the image's config is damaged: its Volumes is not an object")
    for path in declared:
        target = _target(path)
        if target not in covered:
            found.setdefault(target, Wanted(target))
    return list(found.values())


def named(options: Mapping[str, Any]) -> set[str]:
    """The names of the volumes that the options name."""
    host = options.get("HostConfig", {})
    return {each.name for each in (*_binds(host), *_mounts(host)) if each.name}


def _binds(host: Mapping[str, Any]) -> Iterable[Wanted]:
    for bind in host.get("Binds", ()):
        source, target, *rest = bind.split(":")
        if not source.startswith("/"):
            words = rest[0].split(",") if rest else []
            yield Wanted(target, source, "ro" in words, "nocopy" not in words)


def _mounts(host: Mapping[str, Any]) -> Iterable[Wanted]:
    for mount in host.get("Mounts", ()):
        if mount["Type"] == "volume":
            details = mount.get("VolumeOptions", {})
            yield Wanted(
                mount["Target"],
                mount.get("Source"),
                mount.get("ReadOnly", False),
                not details.get("NoCopy", False),
                details.get("Labels", {}),
            )


def _others(host: Mapping[str, Any]) -> Iterable[str]:
    """The targets of everything else that is mounted."""
    yield from (bind.split(":")[1] for bind in host.get("Binds", ()))
    yield from (mount["Target"] for mount in host.get("Mounts", ()))
    yield from host.get("Tmpfs", ())


def _target(path: str) -> str:
    target = "/" + posixpath.normpath(path).lstrip("/")
    if not path.startswith("/") or target == "/" or "\0" in path:
        raise StoreError(
            f"the image's config has {path!r} for a volume, which is no absolute path inside the"
            " container other than /: make the image anew without it"
        )
    return target
