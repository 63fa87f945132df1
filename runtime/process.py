"""What runs in a container: the "process" of the runtime-spec (config.md), for run and for exec."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imagegraph.config import Json
from runtime import capabilities
from runtime.errors import RunError
from runtime.resources import rlimits
from runtime.security import apparmor_profile, security
from runtime.users import Identity

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def command_of(config: Mapping[str, Any]) -> list[str]:
    """Entrypoint and Cmd. Raises RunError if there is neither."""
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not command:
        raise RunError("the image has no command: give one")
    return command


def process(
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    identity: Identity,
    *,
    hostname: str,
    cgroup: str | None,
    terminal: bool,
    size: tuple[int, int] | None = None,
    command: Sequence[str] | None = None,
    env: Iterable[str] = (),
    workdir: str | None = None,
) -> Json:
    """The process of a container with the image's inner `config`, its own laid over it, and `host`.

    `command`, `env` (NAME=VALUE, or a NAME to be unset) and `workdir` are what an exec has of its
    own. `cgroup` is the container's, None where it has none; `size` the columns and lines of the
    terminal. Raises RunError.
    """
    privileged = bool(host.get("Privileged"))
    asked = security(host.get("SecurityOpt") or ())
    made: Json = {
        "terminal": terminal,
        "user": {
            "uid": identity.uid,
            "gid": identity.gid,
            "additionalGids": list(identity.groups),
        },
        "args": list(command) if command is not None else command_of(config),
        "env": _environment([*(config.get("Env") or ()), *env], identity, hostname, terminal),
        "cwd": _directory(workdir or config.get("WorkingDir") or "/"),
        "capabilities": _capabilities(host, identity, privileged, cgroup),
        "noNewPrivileges": asked.no_new_privileges,
    }
    if terminal and size is not None:
        made["consoleSize"] = {"width": size[0], "height": size[1]}
    if limits := rlimits(host):
        made["rlimits"] = limits
    profile = apparmor_profile("unconfined" if privileged else asked.apparmor)
    if profile is not None:
        made["apparmorProfile"] = profile
    return made


def _environment(
    asked: Iterable[str], identity: Identity, hostname: str, terminal: bool
) -> list[str]:
    found = {"PATH": f"PATH={_PATH}", "HOSTNAME": f"HOSTNAME={hostname}"}
    if terminal:
        found["TERM"] = "TERM=xterm"
    found["HOME"] = f"HOME={identity.home or '/'}"
    for text in asked:
        name, equals, _ = text.partition("=")
        if equals:
            found[name] = text
        else:
            found.pop(name, None)
    return list(found.values())


def _directory(path: str) -> str:
    if not path.startswith("/"):
        raise RunError(f"the working directory {path[:64]!r} is not absolute: give --workdir")
    return "/" + posixpath.normpath(path).lstrip("/")


def _capabilities(
    host: Mapping[str, Any], identity: Identity, privileged: bool, cgroup: str | None
) -> dict[str, list[str]]:
    """The sets of capabilities(7). Who is not root has what execve(2) gives it: none."""
    given = capabilities.available()
    # Without a cgroup nothing bounds which devices can be opened once they are made.
    default = capabilities.DEFAULT if cgroup else capabilities.DEFAULT - {"CAP_MKNOD"}
    add = ["ALL"] if privileged else host.get("CapAdd") or ()
    drop = () if privileged else host.get("CapDrop") or ()
    bounding = capabilities.chosen(add, drop, given=given, default=default)
    own = bounding if identity.uid == 0 else []
    return {"bounding": bounding, "effective": own, "permitted": own}
