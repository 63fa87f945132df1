"""Image configs: the JSON documents of the OCI image-spec (config.md) as Docker writes them.

A config is kept as bytes, and whatever field we do not know stays in it. A container's own
settings are the same object as an image's inner `config`; committing lays them over the image's.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from typing import Any

from imagegraph.times import rfc3339

Json = dict[str, Any]

# GOARCH and its variant for the machine names of uname(2).
ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def host_platform() -> tuple[str, str]:
    """Architecture and variant of this machine in the words of the image-spec."""
    machine = platform.machine()
    return ARCHITECTURES.get(machine, (machine, ""))


def new(
    *, created: int, comment: str, architecture: str, os: str, variant: str, config: Json
) -> Json:
    """The document of an image that was imported as one root filesystem."""
    document: Json = {
        "created": rfc3339(created),
        "architecture": architecture,
        "os": os,
        "config": config,
        "history": [{"created": rfc3339(created), "comment": comment}],
    }
    if variant:
        document["variant"] = variant
    return document


def committed(
    base: bytes, *, created: int, created_by: str, author: str, comment: str, config: Json
) -> Json:
    """The document of an image committed on top of `base`, with one more step of history."""
    document = load(base)
    # The diff IDs below are the parent's; the new layer's is not known yet.
    document.pop("rootfs", None)
    step = {"created": rfc3339(created), "created_by": created_by}
    if author:
        document["author"] = step["author"] = author
    if comment:
        step["comment"] = comment
    document["created"] = rfc3339(created)
    document["config"] = config
    document["history"] = [*document.get("history", []), step]
    return document


def squashed(document: Json) -> Json:
    """The document with its history folded into one step, for an image of a single layer."""
    last = dict(document["history"][-1])
    last.setdefault("comment", "squashed")
    return {**document, "history": [last]}


def load(document: bytes) -> Json:
    """The document as a dictionary."""
    loaded = json.loads(document)
    assert isinstance(loaded, dict)
    return loaded


def dump(document: Json) -> bytes:
    """The document as the bytes that are kept."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def overlaid(image: Mapping[str, Any], own: Mapping[str, Any]) -> Json:
    """An image's inner config with a container's settings laid over it, as Docker merges them.

    Env and the maps (Labels, ExposedPorts, Volumes) are joined, the rest is replaced; an
    Entrypoint of one's own forgets the image's Cmd.
    """
    merged = dict(image)
    if "Entrypoint" in own and "Cmd" not in own:
        merged.pop("Cmd", None)
    for key, value in own.items():
        if key == "Env":
            merged[key] = _environment(merged.get(key) or [], value)
        elif isinstance(value, dict) and key != "Healthcheck":
            merged[key] = {**(merged.get(key) or {}), **value}
        else:
            merged[key] = value
    return merged


def _environment(base: Iterable[str], own: Iterable[str]) -> list[str]:
    names = {pair.partition("=")[0]: pair for pair in base}
    names.update((pair.partition("=")[0], pair) for pair in own)
    # A name alone among a container's own takes the image's away, as in Docker.
    return [pair for pair in names.values() if "=" in pair]
