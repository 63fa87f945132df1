"""What a container gets for its /etc/hosts, /etc/hostname and /etc/resolv.conf, as with Docker.

They are made anew each time that it is started, and are mounted over its own.
"""

import socket
from collections.abc import Mapping
from typing import Any

from runtime.errors import RunError

HOSTS, HOSTNAME, RESOLVER = "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"

_LOCAL = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
ff00::0\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hostname(id: str, config: Mapping[str, Any], host: Mapping[str, Any]) -> str:
    """The name that was asked for, the host's own on its network, or the start of the id."""
    if config.get("Hostname"):
        return str(config["Hostname"])
    return socket.gethostname() if host.get("NetworkMode") == "host" else id[:12]


def contents(name: str, host: Mapping[str, Any]) -> dict[str, str]:
    """Path in the container -> what is in the file. Raises RunError."""
    return {
        HOSTS: _hosts(host),
        HOSTNAME: f"{name}\n",
        RESOLVER: _resolver(host),
    }


def _hosts(host: Mapping[str, Any]) -> str:
    text = _read(HOSTS) if host.get("NetworkMode") == "host" else _LOCAL
    for line in host.get("ExtraHosts", ()):
        name, _, address = line.partition(":")
        if address == "host-gateway":
            raise RunError(f"--add-host {line}: there is no gateway, as there is no bridge")
        text += f"{address}\t{name}\n"
    return text


def _resolver(host: Mapping[str, Any]) -> str:
    own = _read(RESOLVER)
    servers = host.get("Dns")
    if not servers:
        return own
    rest = [line for line in own.splitlines() if not line.startswith("nameserver")]
    return "".join(f"{line}\n" for line in [*(f"nameserver {each}" for each in servers), *rest])


def _read(path: str) -> str:
    try:
        with open(path, errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""
