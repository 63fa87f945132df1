"""The options that a container will run with: checked, and put into Docker's words.

`options` makes {"Config": ..., "HostConfig": ...} with the field names of Docker's API
(POST /containers/create), holding only what was given. A value that will not do is wrong usage:
BadParameter, naming the option.
"""

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from cli.session import option

Given = Mapping[str, Any]
"""The parameters of the command `create`, by the names that its function has for them."""

MEMORY_MINIMUM = 6 << 20
"""Bytes; Docker refuses less, for nothing starts in it."""

_HOSTNAME = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOSTNAME_MAX = 64
_USER = r"[^\s:,]+(?::[^\s:,]+)?"
_NANO = 1_000_000_000

# capabilities(7), in the kernel's order.
CAPABILITIES = frozenset(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
    SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME
    SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG
    WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()
)


def bad(name: str, reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint=name)


def options(given: Given) -> dict[str, Any]:
    """Both objects; see the module."""
    config = {
        "Hostname": _hostname(given["hostname"]),
        "User": _matching("--user", _USER, given["user"], "NAME|UID[:GROUP|GID]"),
        "ExposedPorts": _exposed(given["expose"]),
        "Tty": given["tty"],
        "OpenStdin": given["interactive"],
        "Env": environment(given["env"], given["env_file"]),
        "Cmd": list(given["command"] or ()),
        "WorkingDir": _workdir(given["workdir"]),
        "Labels": labels(given["label"], given["label_file"]),
        "StopSignal": _signal(given["stop_signal"]),
    }
    config = {name: value for name, value in config.items() if value}
    if given["entrypoint"] is not None:
        config["Entrypoint"] = _entrypoint(given["entrypoint"])
    if given["stop_timeout"] is not None:
        config["StopTimeout"] = _at_least_minus_one("--stop-timeout", given["stop_timeout"])
    host = {
        "NetworkMode": _network(given["network"]),
        "AutoRemove": given["remove"],
        "Memory": memory(given["memory"]),
        "NanoCpus": nano_cpus(given["cpus"]),
        "PidsLimit": _at_least_minus_one("--pids-limit", given["pids_limit"]),
        "CapAdd": capabilities("--cap-add", given["cap_add"]),
        "CapDrop": capabilities("--cap-drop", given["cap_drop"]),
        "Privileged": given["privileged"],
        "ReadonlyRootfs": given["read_only"],
        "SecurityOpt": _security(given["security_opt"]),
        "Init": given["init"],
    }
    host = {name: value for name, value in host.items() if value}
    if any(given[name] for name in _OF_THE_HOST):
        _add_host_options(given, config, host)
    if given["volume"] or given["mount"] or given["tmpfs"]:
        from cli import mounts

        volumes, mounted = mounts.mounts(given["volume"], given["mount"], given["tmpfs"])
        config |= volumes
        host |= mounted
    made = {name: part for name, part in (("Config", config), ("HostConfig", host)) if part}
    _require_utf8(made)
    return made


_OF_THE_HOST = (
    "publish restart device add_host dns shm_size ulimit group_add pid ipc runtime attach".split()
)


def _add_host_options(given: Given, config: dict[str, Any], host: dict[str, Any]) -> None:
    from cli import host as hosts

    ports = hosts.ports(given["publish"])
    if ports:
        exposed: dict[str, Any] = {port: {} for port in ports}
        config["ExposedPorts"] = {**config.get("ExposedPorts", {}), **exposed}
    config |= hosts.attached(given["attach"])
    found = {
        "PortBindings": ports,
        "RestartPolicy": hosts.restart(given["restart"], given["remove"]),
        "Devices": hosts.devices(given["device"]),
        "ExtraHosts": hosts.extra_hosts(given["add_host"]),
        "Dns": hosts.dns(given["dns"]),
        "ShmSize": hosts.shm_size(given["shm_size"]),
        "Ulimits": hosts.ulimits(given["ulimit"]),
        "GroupAdd": hosts.groups(given["group_add"]),
        "PidMode": hosts.one_of("--pid", given["pid"], "host"),
        "Runtime": hosts.one_of("--runtime", given["runtime"], "crun", "runc"),
        "IpcMode": hosts.one_of("--ipc", given["ipc"], "host", "none", "private", "shareable"),
    }
    host |= {name: value for name, value in found.items() if value}


def _at_least_minus_one(name: str, number: int) -> int:
    if number < -1:
        raise bad(name, f"{number} is less than -1, which stands for no bound")
    return number


def _require_utf8(made: dict[str, Any]) -> None:
    """Images and their configs are JSON, which cannot hold any other bytes."""
    import json

    try:
        json.dumps(made, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise bad("COMMAND or an option", "it is not UTF-8") from None


def environment(given: Iterable[str] | None, files: Iterable[str] | None) -> list[str]:
    """NAME=VALUE for each; a NAME alone takes the value from here, or unsets the image's."""
    lines = [line for file in files or () for line in _lines("--env-file", file)]
    found = [_variable("--env-file", line) for line in lines]
    found += [_variable("--env", text) for text in given or ()]
    return list({text.partition("=")[0]: text for text in found}.values())


def _variable(name: str, text: str) -> str:
    variable, equals, _ = text.partition("=")
    if not variable or re.search(r"\s", variable) or "\0" in text:
        raise bad(name, f"{text!r} is not NAME=VALUE")
    if not equals and variable in os.environ:
        return f"{variable}={os.environ[variable]}"
    return text


def _lines(name: str, path: str) -> list[str]:
    """The lines of a file, without blank ones and comments."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.lstrip().rstrip("\r\n") for line in file]
    except OSError as error:
        raise bad(name, f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise bad(name, f"{path} is not UTF-8") from None
    return [line for line in lines if line and not line.startswith("#")]


def labels(given: Iterable[str] | None, files: Iterable[str] | None) -> dict[str, str]:
    """The labels of NAME=VALUE or NAME alone; those of files first."""
    found = {}
    texts = [
        ("--label-file", line) for file in files or () for line in _lines("--label-file", file)
    ]
    for name, text in texts + [("--label", text) for text in given or ()]:
        label, _, value = text.partition("=")
        if not label.strip():
            raise bad(name, f"{text!r} is not NAME=VALUE")
        found[label] = value
    return found


def _matching(name: str, pattern: str, text: str | None, grammar: str) -> str | None:
    if text is not None and not re.fullmatch(pattern, text):
        raise bad(name, f"{text!r} is not {grammar}")
    return text


def _hostname(text: str | None) -> str | None:
    pattern = rf"{_HOSTNAME}(?:\.{_HOSTNAME})*"
    if text is not None and (len(text) > _HOSTNAME_MAX or not re.fullmatch(pattern, text)):
        raise bad("--hostname", f"{text!r} is not a host's name of at most {_HOSTNAME_MAX} letters")
    return text


def _workdir(text: str | None) -> str | None:
    return None if text is None else posixpath.normpath(container_path("--workdir", text))


def container_path(name: str, text: str) -> str:
    """An absolute path inside a container."""
    if not text.startswith("/") or "\0" in text:
        raise bad(name, f"{text!r} is not an absolute path inside the container")
    return text


def _exposed(ports: Iterable[str] | None) -> dict[str, Any]:
    if not ports:
        return {}
    from imagegraph.instructions import apply_all

    with option("--expose"):
        config = apply_all({}, (f"EXPOSE {port}" for port in ports))
    return dict(config.get("ExposedPorts", {}))


def _entrypoint(text: str) -> list[str]:
    """A program, nothing, or a JSON array of the program and its arguments."""
    if not text.startswith("["):
        return [text] if text else []
    import json

    try:
        words = json.loads(text)
    except ValueError:
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise bad("--entrypoint", f"{text!r} is not a JSON array of strings")
    return words


def _signal(text: str | None) -> str | None:
    if text is None:
        return None
    from imagegraph.instructions import is_signal

    if not is_signal(text):
        raise bad("--stop-signal", f"{text!r} is not a signal: write SIGTERM, TERM or 15")
    return text


def _network(text: str | None) -> str | None:
    if text not in (None, "host", "none"):
        raise bad("--network", f"{text!r} is not there: take host or none")
    return text


def memory(text: str | None) -> int | None:
    """Bytes; 0 for no bound."""
    if text is None:
        return None
    from imagegraph.sizes import parse_size

    with option("--memory"):
        size = parse_size(text)
    if 0 < size < MEMORY_MINIMUM:
        raise bad("--memory", f"{text!r} is less than 6m, in which nothing can run")
    return size


def nano_cpus(text: str | None) -> int | None:
    """Billionths of a CPU, exactly; 0 for no bound."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,6})?(?:\.([0-9]{1,9}))?", text)
    count = int(f"{match[1] or 0}{match[2] or '':0<9}") if match and text else 0
    if match is None or text == "." or not text or 0 < count < _NANO // 100:
        raise bad("--cpus", f"{text!r} is not a number of CPUs, such as 1.5, of 0.01 or more")
    return count


def capabilities(name: str, given: Iterable[str] | None) -> list[str]:
    """ALL, or names as the kernel's, with CAP_ before them."""
    found = []
    for text in given or ():
        bare = text.upper().removeprefix("CAP_")
        if bare != "ALL" and bare not in CAPABILITIES:
            raise bad(name, f"{text!r} is not a capability, such as NET_ADMIN, or ALL")
        found.append(bare if bare == "ALL" else f"CAP_{bare}")
    return list(dict.fromkeys(found))


def _security(given: Iterable[str] | None) -> list[str]:
    return [_security_option(text) for text in given or ()]


def _security_option(text: str) -> str:
    name, _, value = text.partition("=") if "=" in text else text.partition(":")
    if name == "no-new-privileges" and value in ("", "true", "false"):
        return text
    if name == "seccomp" and value:
        return f"seccomp={_seccomp(value)}"
    if name in ("apparmor", "label", "mask", "unmask") and value:
        return text
    if text == "systempaths=unconfined":
        return text
    raise bad(
        "--security-opt",
        f"{text!r} is not understood: there are no-new-privileges, seccomp=FILE|unconfined,"
        " apparmor=PROFILE, label=..., mask=PATH, unmask=PATH and systempaths=unconfined",
    )


def _seccomp(value: str) -> str:
    """ "unconfined", or the profile in the file, on one line."""
    if value == "unconfined":
        return value
    import json

    try:
        with open(value, encoding="utf-8") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except OSError as error:
        raise bad("--security-opt", f"cannot read {value}: {error.strerror}") from None
    except ValueError as error:
        raise bad("--security-opt", f"{value} is not a seccomp profile: {error}") from None
