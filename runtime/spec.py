"""The configuration of a container, config.json of the OCI runtime-spec 1.1, as Docker makes it.

The input is in the words of Docker's API: the image's inner config with the container's own laid
over it, and HostConfig. What cannot be honoured is an error, but for what Docker too only warns of
(`warnings`) and for HEALTHCHECK, which is for a daemon. cgroup v1 and v2 have the same fields: the
runtimes convert them.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from imagegraph.config import Json
from runtime import paths
from runtime.devices import devices
from runtime.errors import RunError
from runtime.mounts import Bind as Bind
from runtime.mounts import mounts, propagation
from runtime.process import command_of as command_of
from runtime.resources import resources, swap_is_counted
from runtime.seccomp import seccomp
from runtime.security import security

NETWORK = "none"
"""The network of a container that was not given one."""

INIT = "/sbin/docker-init"
"""Where the program of --init is mounted."""

# Statically linked, for the container may lack any library.
_INITS = (
    "/usr/bin/tini-static",
    "/usr/bin/catatonit",
    "/usr/libexec/podman/catatonit",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/docker-init",
)
_OPTIONS = {"memory": "--memory", "cpu": "--cpus", "pids": "--pids-limit"}


def spec(
    *,
    hostname: str,
    tree: str,
    host: Mapping[str, Any],
    binds: Sequence[Bind],
    process: Json,
    cgroup: str | None,
) -> Json:
    """config.json of a container whose root is the directory `tree`.

    `process` is of runtime.process; `binds` have those of `init_binds` in them; `cgroup` is the
    path of its own below the root of all, or None where the host has none. Raises RunError.
    """
    _require_possible(host)
    if with_init(host):
        process = process | {"args": [INIT, "--", *process["args"]]}
    return {
        "ociVersion": "1.1.0",
        "process": process,
        "root": {"path": tree, "readonly": bool(host.get("ReadonlyRootfs"))},
        "hostname": hostname,
        "mounts": mounts(host, binds, cgroup=cgroup is not None),
        "linux": _linux(host, binds, process["capabilities"]["bounding"], cgroup),
    }


def network(host: Mapping[str, Any]) -> str:
    """ "none" or "host"."""
    # Docker's API has "default" for the network that nobody named.
    mode = host.get("NetworkMode") or NETWORK
    return NETWORK if mode == "default" else str(mode)


def with_init(host: Mapping[str, Any]) -> bool:
    """Whether the program of --init runs, as in Docker only where it would be process 1."""
    return bool(host.get("Init")) and host.get("PidMode") != "host"


def init_binds(host: Mapping[str, Any]) -> list[Bind]:
    """What is to be among the binds of a container for --init, if it has one. Raises RunError."""
    if not with_init(host):
        return []
    for path in _INITS:
        if os.access(path, os.X_OK):
            return [Bind(os.path.realpath(path), INIT, True, ("bind", "rprivate"))]
    raise RunError("--init needs a small init program on the host: install the package tini")


def warnings(host: Mapping[str, Any]) -> list[str]:
    """What is not done though it was asked for, each a line for a person."""
    found = []
    if host.get("PortBindings"):
        found.append(f"published ports are discarded when using {network(host)} network mode")
    if host.get("Init") and not with_init(host):
        found.append("--init is discarded when using the host's PID namespace")
    if host.get("Memory") and not swap_is_counted():
        found.append("this kernel does not limit swap, so --memory limits memory without it")
    return found


def _require_possible(host: Mapping[str, Any]) -> None:
    policy = (host.get("RestartPolicy") or {}).get("Name") or "no"
    if policy != "no":
        raise RunError(f"--restart {policy}: cowshed has no daemon to restart it; leave it out")
    known = {"network": ("host", "none"), "ipc": ("host", "none", "private", "shareable")}
    asked = {"network": network(host), "ipc": host.get("IpcMode") or "private"}
    for option, mode in asked.items():
        if mode not in known[option]:
            raise RunError(f"--{option} {mode} is not there: take {' or '.join(known[option])}")
    if (host.get("PidMode") or "host") != "host":
        raise RunError(f"--pid {host['PidMode']} is not there: take host, or leave it out")


def _linux(
    host: Mapping[str, Any], binds: Sequence[Bind], capabilities: list[str], cgroup: str | None
) -> Json:
    privileged = bool(host.get("Privileged"))
    asked = security(host.get("SecurityOpt") or ())
    nodes, rules = devices(host)
    limits = resources(host, swap=swap_is_counted())
    made: Json = {
        "namespaces": [{"type": kind} for kind in _namespaces(host)],
        "devices": nodes,
        "maskedPaths": list(asked.mask) if privileged else paths.masked(asked),
        "readonlyPaths": [] if privileged else paths.read_only(asked),
    }
    if cgroup is not None:
        made |= {"cgroupsPath": cgroup, "resources": {"devices": rules} | limits}
    elif limits:
        options = ", ".join(_OPTIONS[name] for name in limits)
        raise RunError(f"{options}: this host has no cgroups mounted; leave it out, or mount them")
    if not privileged or asked.seccomp is not None:
        made["seccomp"] = seccomp(asked.seccomp, capabilities)
    if shared := propagation(binds):
        made["rootfsPropagation"] = shared
    return {name: value for name, value in made.items() if value is not None}


def _namespaces(host: Mapping[str, Any]) -> list[str]:
    found = ["mount", "uts", "cgroup"]
    if network(host) != "host":
        found.append("network")
    if host.get("PidMode") != "host":
        found.append("pid")
    if host.get("IpcMode") != "host":
        found.append("ipc")
    return found
