"""-v, --mount and --tmpfs: what is mounted into a container, checked and in Docker's words."""

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from cli.session import option

_VOLUME_NAME = r"[a-zA-Z0-9][a-zA-Z0-9_.-]+"
_PROPAGATIONS = frozenset("shared slave private rshared rslave rprivate".split())
_BIND_OPTIONS = _PROPAGATIONS | frozenset("ro rw z Z U nocopy cached delegated consistent".split())
_TMPFS_SWITCHES = frozenset(
    "ro rw exec noexec suid nosuid dev nodev sync async dirsync atime noatime diratime nodiratime "
    "relatime norelatime strictatime mand nomand".split()
)
_TMPFS_VALUES = {
    "size": r"[0-9]+[kKmMgG%]?",
    "mode": r"[0-7]{3,4}",
    "uid": r"[0-9]+",
    "gid": r"[0-9]+",
    "nr_inodes": r"[0-9]+[kKmMgG]?",
    "nr_blocks": r"[0-9]+[kKmMgG]?",
}
_KEYS = {
    "type": "type",
    "source": "source",
    "src": "source",
    "target": "target",
    "destination": "target",
    "dst": "target",
    "readonly": "readonly",
    "ro": "readonly",
    "bind-propagation": "bind-propagation",
    "bind-nonrecursive": "bind-nonrecursive",
    "volume-nocopy": "volume-nocopy",
    "volume-label": "volume-label",
    "tmpfs-size": "tmpfs-size",
    "tmpfs-mode": "tmpfs-mode",
}
_SWITCHES = ("readonly", "bind-nonrecursive", "volume-nocopy")


def _bad(name: str, reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint=name)


def _target(name: str, text: str) -> str:
    """The absolute path inside the container, made plain."""
    path = posixpath.normpath(text)
    if not text.startswith("/") or path.strip("/") == "" or "\0" in text:
        raise _bad(name, f"{text!r} is not an absolute path inside the container other than /")
    return "/" + path.lstrip("/")


def mounts(
    volumes: Iterable[str] | None, mounted: Iterable[str] | None, temporary: Iterable[str] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the values of -v, --mount and --tmpfs add to Config and to HostConfig.

    Raises BadParameter.
    """
    config: dict[str, Any] = {"Volumes": {path: {} for path in _anonymous(volumes)}}
    host: dict[str, Any] = {
        "Binds": _binds(volumes),
        "Mounts": [_mount(text) for text in mounted or ()],
        "Tmpfs": _tmpfs(temporary),
    }
    _refuse_twice(config["Volumes"], host)
    given = {name: value for name, value in host.items() if value}
    return (config if config["Volumes"] else {}), given


def _anonymous(given: Iterable[str] | None) -> list[str]:
    """The paths of `-v PATH`, each a volume that has no name."""
    return [_target("--volume", text) for text in given or () if ":" not in text]


def _binds(given: Iterable[str] | None) -> list[str]:
    """The others, SOURCE:PATH[:OPTIONS]; a source that is not a volume's name is made absolute."""
    return [_bind(text) for text in given or () if ":" in text]


def _bind(text: str) -> str:
    source, path, *rest = text.split(":")
    if len(rest) > 1 or not source:
        raise _bad("--volume", f"{text!r} is not [HOST-DIRECTORY|NAME:]PATH[:OPTIONS]")
    if source.startswith("."):
        source = os.path.abspath(source)
    if not source.startswith("/") and not re.fullmatch(_VOLUME_NAME, source):
        raise _bad("--volume", f"{source!r} is neither an absolute path nor a volume's name")
    words = rest[0].split(",") if rest else []
    for word in words:
        if word not in _BIND_OPTIONS:
            listed = ", ".join(sorted(_BIND_OPTIONS, key=str.lower))
            raise _bad("--volume", f"there is no option {word!r}: take {listed}")
    if {"ro", "rw"} <= set(words) or len(_PROPAGATIONS & set(words)) > 1:
        raise _bad("--volume", f"the options {rest[0]!r} contradict each other")
    return ":".join([source, _target("--volume", path), *rest])


def _tmpfs(given: Iterable[str] | None) -> dict[str, str]:
    """The options of each PATH[:OPTIONS]."""
    found = {}
    for text in given or ():
        path, _, words = text.partition(":")
        for word in words.split(",") if words else ():
            name, equals, value = word.partition("=")
            fits = _TMPFS_VALUES.get(name)
            if not (word in _TMPFS_SWITCHES or (equals and fits and re.fullmatch(fits, value))):
                raise _bad("--tmpfs", f"{word!r} is not an option of tmpfs, as size=64m or noexec")
        found[_target("--tmpfs", path)] = words
    return found


def _mount(text: str) -> dict[str, Any]:
    """Docker's Mount object of type=...,source=...,target=... and so on."""
    fields = _fields(text)
    kind = fields.get("type", ["volume"])[0]
    if kind not in ("bind", "volume", "tmpfs"):
        raise _bad("--mount", f"there is no type {kind!r}: take bind, volume or tmpfs")
    for key in fields:
        if key.partition("-")[0] in {"bind", "volume", "tmpfs"} - {kind}:
            raise _bad("--mount", f"{key} is not for type={kind}")
    if "target" not in fields:
        raise _bad("--mount", f"{text!r} has no target=PATH")
    mount: dict[str, Any] = {"Type": kind, "Target": _target("--mount", fields["target"][0])}
    source = _source(kind, fields.get("source", [""])[0])
    if source:
        mount["Source"] = source
    if fields.get("readonly", ["false"])[0] == "true":
        mount["ReadOnly"] = True
    details = {"bind": _bind_details, "volume": _volume_details, "tmpfs": _tmpfs_details}
    if found := details[kind](fields):
        mount[f"{kind.capitalize()}Options"] = found
    return mount


def _fields(text: str) -> dict[str, list[str]]:
    """The values of each key, under its one name."""
    import csv

    try:
        [words] = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise _bad("--mount", f"{text!r} is not a list of KEY=VALUE with commas between") from None
    fields: dict[str, list[str]] = {}
    for word in words:
        key, equals, value = word.strip().partition("=")
        name = _KEYS.get(key)
        if name is None:
            raise _bad("--mount", f"there is no key {key!r}: take {', '.join(sorted(_KEYS))}")
        if name in _SWITCHES:
            value = {"": "true", "1": "true", "0": "false"}.get(value, value).lower()
            if value not in ("true", "false"):
                raise _bad("--mount", f"{word!r} is neither true nor false")
        elif not equals or not value:
            raise _bad("--mount", f"{word!r} has no value")
        elif name in fields and name != "volume-label":
            raise _bad("--mount", f"{name} is given twice")
        fields.setdefault(name, []).append(value)
    return fields


def _source(kind: str, source: str) -> str:
    if kind == "bind":
        if not source.startswith("/"):
            raise _bad("--mount", f"a bind mount needs source=/ABSOLUTE/PATH, not {source!r}")
        if not os.path.lexists(source):
            raise _bad("--mount", f"the source {source} is not there")
    elif kind == "tmpfs" and source:
        raise _bad("--mount", "a tmpfs has no source")
    elif source and not re.fullmatch(_VOLUME_NAME, source):
        raise _bad("--mount", f"{source!r} is not a volume's name; a directory needs type=bind")
    return source


def _bind_details(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if propagation := fields.get("bind-propagation"):
        if propagation[0] not in _PROPAGATIONS:
            listed = ", ".join(sorted(_PROPAGATIONS))
            raise _bad("--mount", f"bind-propagation is one of {listed}, not {propagation[0]!r}")
        found["Propagation"] = propagation[0]
    if fields.get("bind-nonrecursive") == ["true"]:
        found["NonRecursive"] = True
    return found


def _volume_details(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if fields.get("volume-nocopy") == ["true"]:
        found["NoCopy"] = True
    pairs = [label.partition("=") for label in fields.get("volume-label", ())]
    if pairs:
        found["Labels"] = {name: value for name, _, value in pairs}
    return found


def _tmpfs_details(fields: Mapping[str, list[str]]) -> dict[str, Any]:
    from imagegraph.sizes import parse_size

    found: dict[str, Any] = {}
    if size := fields.get("tmpfs-size"):
        with option("--mount"):
            found["SizeBytes"] = parse_size(size[0])
    if mode := fields.get("tmpfs-mode"):
        if not re.fullmatch("[0-7]{3,4}", mode[0]):
            raise _bad("--mount", f"tmpfs-mode is octal, as 1777, not {mode[0]!r}")
        found["Mode"] = int(mode[0], 8)
    return found


def _refuse_twice(volumes: Iterable[str], host: Mapping[str, Any]) -> None:
    """Raises BadParameter where two mounts have one target."""
    targets = [
        *volumes,
        *(bind.split(":")[1] for bind in host.get("Binds", ())),
        *(mount["Target"] for mount in host.get("Mounts", ())),
        *host.get("Tmpfs", ()),
    ]
    for number, target in enumerate(targets):
        if target in targets[:number]:
            raise _bad("--volume", f"{target} is to be mounted on twice")
