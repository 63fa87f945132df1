"""Ports, devices, addresses, limits: what the host gives a container, checked, in Docker's words.

The names are those of HostConfig in Docker's API (POST /containers/create). A value that will not
do is wrong usage: BadParameter, naming the option.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import typer

from cli.session import option

_PUBLISHED = (
    r"(?:(?:(?P<ip>\[[0-9A-Fa-f:.]+\]|[0-9.]+):)?(?P<host>[0-9]{1,5}(?:-[0-9]{1,5})?)?:)?"
    r"(?P<inside>[0-9]{1,5}(?:-[0-9]{1,5})?)(?:/(?P<protocol>tcp|udp|sctp))?"
)
_DEVICE = r"(?P<host>/[^:]+)(?::(?P<inside>/[^:]+))?(?::(?P<may>[rwm]{1,3}))?"
_ULIMIT = r"(?P<name>[a-z]+)=(?P<soft>-1|[0-9]{1,19})(?::(?P<hard>-1|[0-9]{1,19}))?"
# getrlimit(2).
_LIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending "
    "stack".split()
)


def _bad(name: str, reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint=name)


def ports(given: Iterable[str] | None) -> dict[str, list[dict[str, str]]]:
    """PortBindings of [[IP:]HOSTPORT:]PORT[/PROTOCOL]; either port may be a range."""
    found: dict[str, list[dict[str, str]]] = {}
    for text in given or ():
        match = re.fullmatch(_PUBLISHED, text)
        if match is None:
            raise _bad("--publish", f"{text!r} is not [[IP:]HOSTPORT:]PORT[/PROTOCOL]")
        ip = (match["ip"] or "").strip("[]")
        if ip:
            _address("--publish", ip)
        inside = _range(text, match["inside"])
        outside: Iterable[int | str] = _range(text, match["host"]) if match["host"] else []
        outside = list(outside) or [""] * len(inside)
        if len(inside) != len(outside):
            raise _bad("--publish", f"{text!r} has ranges of different lengths")
        for port, host in zip(inside, outside, strict=True):
            bound = found.setdefault(f"{port}/{match['protocol'] or 'tcp'}", [])
            bound.append({"HostIp": ip, "HostPort": str(host)})
    return found


def _range(text: str, ports: str) -> range:
    first, _, last = ports.partition("-")
    span = range(int(first), int(last or first) + 1)
    if not span or span[0] < 1 or span[-1] > 65535:
        raise _bad("--publish", f"{text!r} is not about ports from 1 to 65535")
    return span


def restart(text: str | None, removed: bool) -> dict[str, Any] | None:
    """RestartPolicy of no, always, unless-stopped or on-failure[:TIMES]."""
    if text is None:
        return None
    name, colon, times = text.partition(":")
    fits = name in ("no", "always", "unless-stopped") and not colon
    fits = fits or (name == "on-failure" and (not colon or bool(re.fullmatch("[0-9]{1,9}", times))))
    if not fits:
        raise _bad("--restart", f"{text!r} is not no, always, unless-stopped or on-failure[:TIMES]")
    if removed and name != "no":
        raise _bad("--restart", "what --rm removes at its end cannot be started again")
    return {"Name": name, "MaximumRetryCount": int(times or 0)}


def devices(given: Iterable[str] | None) -> list[dict[str, str]]:
    found = []
    for text in given or ():
        match = re.fullmatch(_DEVICE, text)
        if match is None or len(set(match["may"] or "")) != len(match["may"] or ""):
            raise _bad("--device", f"{text!r} is not /DEVICE[:/PATH][:rwm]")
        found.append(
            {
                "PathOnHost": match["host"],
                "PathInContainer": match["inside"] or match["host"],
                "CgroupPermissions": match["may"] or "rwm",
            }
        )
    return found


def _address(name: str, text: str) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise _bad(name, f"{text!r} is not an IP address") from None


def extra_hosts(given: Iterable[str] | None) -> list[str]:
    """NAME:IP of each NAME:IP or NAME=IP; host-gateway stands for the host's own address."""
    found = []
    for text in given or ():
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)[:=](.+)", text)
        if match is None:
            raise _bad("--add-host", f"{text!r} is not NAME:IP")
        ip = match[2].removeprefix("[").removesuffix("]")
        ip = ip if ip == "host-gateway" else _address("--add-host", ip)
        found.append(f"{match[1]}:{ip}")
    return found


def dns(given: Iterable[str] | None) -> list[str]:
    return [_address("--dns", text) for text in given or ()]


def shm_size(text: str | None) -> int | None:
    """Bytes."""
    from imagegraph.sizes import parse_size

    if text is None:
        return None
    with option("--shm-size"):
        size = parse_size(text)
    if size == 0:
        raise _bad("--shm-size", "0 bytes is no room at all")
    return size


def ulimits(given: Iterable[str] | None) -> list[dict[str, Any]]:
    found = []
    for text in given or ():
        match = re.fullmatch(_ULIMIT, text)
        if match is None or match["name"] not in _LIMITS:
            raise _bad("--ulimit", f"{text!r} is not NAME=SOFT[:HARD], such as nofile=1024:4096")
        soft, hard = int(match["soft"]), int(match["hard"] or match["soft"])
        if hard != -1 and not -1 < soft <= hard:
            raise _bad("--ulimit", f"{text!r} has a soft limit above the hard one")
        found.append({"Name": match["name"], "Soft": soft, "Hard": hard})
    return found


def groups(given: Iterable[str] | None) -> list[str]:
    for text in given or ():
        if not re.fullmatch(r"[^\s:,]+", text):
            raise _bad("--group-add", f"{text!r} is not a group's name or number")
    return list(given or ())


def one_of(name: str, text: str | None, *known: str) -> str | None:
    if text is not None and text not in known:
        raise _bad(name, f"{text!r} is not there: take {' or '.join(known)}")
    return text


def attached(given: Iterable[str] | None) -> dict[str, bool]:
    """AttachStdin, AttachStdout and AttachStderr of the Config."""
    found = {}
    for text in given or ():
        stream = one_of("--attach", text.lower(), "stdin", "stdout", "stderr")
        found[f"Attach{str(stream).capitalize()}"] = True
    return found


def require_platform(wanted: str, document: Mapping[str, Any]) -> None:
    """Raises BadParameter if the image's document is not of OS/ARCHITECTURE[/VARIANT]."""
    own = [str(document.get(name) or "") for name in ("os", "architecture", "variant")]
    parts = wanted.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise _bad("--platform", f"{wanted!r} is not OS/ARCHITECTURE[/VARIANT]")
    if parts != own[: len(parts)]:
        raise _bad("--platform", f"the image is for {'/'.join(filter(None, own))}, not {wanted}")
