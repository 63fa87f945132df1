"""What is mounted into a container: which sources, where, and what is not there to mount on."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from imagegraph.volumes import Attachment
from runtime.errors import RunError
from runtime.spec import Bind

FILESYSTEMS = ("/proc", "/sys", "/dev")
_PROPAGATIONS = frozenset("shared slave private rshared rslave rprivate".split())


class Wanted(NamedTuple):
    """A directory or file of the host to be bound at `target`."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"
    recursive: bool = True


def of_the_host(host: Mapping[str, Any]) -> list[Wanted]:
    """The directories and files of the host that -v and --mount name. Raises RunError."""
    found = []
    for text in host.get("Binds", ()):
        source, target, *words = text.split(":")
        if source.startswith("/"):
            options = words[0].split(",") if words else []
            propagation = next((each for each in options if each in _PROPAGATIONS), "rprivate")
            _require_possible(propagation)
            found.append(Wanted(source, target, "ro" in options, propagation))
    for mount in host.get("Mounts", ()):
        if mount["Type"] == "bind":
            details = mount.get("BindOptions", {})
            propagation = details.get("Propagation", "rprivate")
            _require_possible(propagation)
            recursive = not details.get("NonRecursive", False)
            read_only = mount.get("ReadOnly", False)
            found.append(
                Wanted(mount["Source"], mount["Target"], read_only, propagation, recursive)
            )
    for wanted in found:
        if not os.path.exists(wanted.source):
            raise RunError(f"the mount source {wanted.source} is not there: make it first")
    return found


def _require_possible(propagation: str) -> None:
    if propagation in ("shared", "rshared"):
        raise RunError(
            f"the propagation {propagation} is not there, as containers have mounts of their own:"
            f" take {propagation.replace('shared', 'slave')}"
        )


def binds(
    bundle: str,
    wanted: Sequence[Wanted],
    attachments: Sequence[Attachment],
    files: Iterable[str],
    *,
    read_only: bool,
) -> list[tuple[Bind, str]]:
    """All of them, each with the kind of its mount point.

    Volumes are to be mounted at their `volume_point`; `files` are in the bundle, and writable
    unless `read_only`.
    """
    found = []
    for each in wanted:
        options = ("rbind" if each.recursive else "bind", each.propagation)
        kind = "directory" if os.path.isdir(each.source) else "file"
        found.append((Bind(each.source, each.target, each.read_only, options), kind))
    for number, attached in enumerate(attachments):
        source = volume_point(bundle, number)
        bind = Bind(source, attached.target, attached.read_only, ("rbind", "rprivate"))
        found.append((bind, "directory"))
    taken = {bind.target for bind, _ in found}
    for path in files:
        if path not in taken:
            bind = Bind(host_file(bundle, path), path, read_only, ("rbind", "rprivate"))
            found.append((bind, "file"))
    return found


def volume_point(bundle: str, number: int) -> str:
    """Where a container's monitor has its data volume of that number mounted."""
    return f"{bundle}/volume-{number}"


def host_file(bundle: str, path: str) -> str:
    """Where the bundle has the file that is mounted over `path`."""
    return f"{bundle}/{os.path.basename(path)}"


def temporary(host: Mapping[str, Any]) -> dict[str, int | None]:
    """Where a tmpfs is wanted, and its mode if one is asked for."""
    found: dict[str, int | None] = {}
    for target, words in host.get("Tmpfs", {}).items():
        modes = [word[5:] for word in words.split(",") if word.startswith("mode=")]
        found[target] = int(modes[-1], 8) if modes else None
    for mount in host.get("Mounts", ()):
        if mount["Type"] == "tmpfs":
            found[mount["Target"]] = mount.get("TmpfsOptions", {}).get("Mode")
    return found


def points(found: Iterable[tuple[Bind, str]], host: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The paths that have to be in the container's tree, each with its kind.

    What lies below something that is mounted is not looked for in the tree.
    """
    kinds = dict.fromkeys(FILESYSTEMS, "directory")
    kinds |= dict.fromkeys(temporary(host), "temporary")
    kinds |= {bind.target: kind for bind, kind in found}
    return [
        (path, kind)
        for path, kind in kinds.items()
        if not any(path.startswith(f"{other}/") for other in kinds)
    ]
