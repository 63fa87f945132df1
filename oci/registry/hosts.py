"""Which addresses the name of a registry leads to, and what is allowed there.

The table `registries` of the configuration file says what differs from the rule. Its keys are
registries as they stand in references; what is not named there is asked itself, by TLS.

    [registries."docker.io"]
    mirrors = ["mirror.example.org", "cache.example.org:5000/hub"]

    [registries."cache.example.org:5000"]
    insecure = true     # TLS is not verified, and plain HTTP will do

    [registries."bad.example.org"]
    blocked = true      # never talked to

A mirror is asked first, when reading only; one with a path has the repositories below that path.
Plain HTTP is for loopback, as in Docker, and for what is marked insecure.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from imagegraph.reference import DEFAULT_DOMAIN
from oci.json import quoted
from oci.registry.errors import Blocked, Misconfigured

_HUB = "registry-1.docker.io"
_AUTHORITY = r"(?:[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_PREFIX = r"[a-z0-9]+(?:[._/-][a-z0-9]+)*"
_PORTS = {"http": 80, "https": 443}


class RegistryConfig(NamedTuple):
    """What the configuration says of one registry."""

    mirrors: tuple[str, ...] = ()
    insecure: bool = False
    blocked: bool = False


class Registries(NamedTuple):
    """The table `registries`: by the name of a registry, what is said of it."""

    table: Mapping[str, RegistryConfig] = {}

    def of(self, name: str) -> RegistryConfig:
        """What holds for the registry `name`, e.g. localhost:5000."""
        return self.table.get(name, RegistryConfig())

    def allowing(self, name: str) -> "Registries":
        """The same with `name` marked insecure, as --tls-verify=false asks for."""
        return Registries({**self.table, name: self.of(name)._replace(insecure=True)})


class Host(NamedTuple):
    """A place where the API is: `name` for people and credentials, `authority` to connect to.

    `prefix` goes before the name of each repository: empty, or a path that ends in a slash.
    """

    name: str
    authority: str
    prefix: str = ""
    insecure: bool = False


class Origin(NamedTuple):
    """What RFC 6454 calls so: credentials for one are nothing to another."""

    scheme: str
    host: str
    port: int


def parse_registries(table: object) -> Registries:
    """The table `registries`, as tomllib reads it; Misconfigured names the key that is wrong."""
    if not isinstance(table, dict):
        raise Misconfigured("registries is not a table; write [registries.NAME]")
    return Registries({name: _parse_one(name, entry) for name, entry in table.items()})


def hosts(registries: Registries, name: str) -> tuple[Host, ...]:
    """Where to read from, in this order: the mirrors, then the registry itself, the last.

    Raises Blocked if the registry is; a mirror that is blocked is left out.
    """
    if registries.of(name).blocked:
        raise Blocked(f"the registry {name} is blocked; see registries in the configuration file")
    mirrors = [mirror.partition("/") for mirror in registries.of(name).mirrors]
    return (
        *(
            _host(registries, authority, f"{path}/" if path else "")
            for authority, _, path in mirrors
            if not registries.of(authority).blocked
        ),
        _host(registries, name),
    )


def origin(url: str) -> Origin:
    """The origin of a URL; ValueError if it is none of http or https with a host."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(f"{quoted(url)} is no URL of http or https")
    return Origin(parts.scheme, parts.hostname.lower(), parts.port or _PORTS[parts.scheme])


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address without a port, is this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_insecure(registries: Registries, where: Origin) -> bool:
    """Whether what is there is marked insecure, with its port or, if that goes without, not."""
    host = f"[{where.host}]" if ":" in where.host else where.host
    names = {f"{host}:{where.port}"} | ({host} if where.port in _PORTS.values() else set())
    return any(registries.of(name).insecure for name in names)


def plain_allowed(registries: Registries, where: Origin) -> bool:
    """Whether plain HTTP may be spoken there."""
    return is_loopback(where.host) or is_insecure(registries, where)


def _host(registries: Registries, name: str, prefix: str = "") -> Host:
    authority = _HUB if name == DEFAULT_DOMAIN else name
    return Host(name, authority, prefix, registries.of(name).insecure)


def _parse_one(name: str, entry: object) -> RegistryConfig:
    where = f"registries.{quoted(name)}"
    if not re.fullmatch(_AUTHORITY, name):
        raise Misconfigured(f"{where} names no registry; write HOST or HOST:PORT")
    if not isinstance(entry, dict):
        raise Misconfigured(f"{where} is not a table")
    for key, value in entry.items():
        if key not in RegistryConfig._fields:
            raise Misconfigured(f"{where}.{key} is not known; mirrors, insecure and blocked are")
        if key != "mirrors" and not isinstance(value, bool):
            raise Misconfigured(f"{where}.{key} is neither true nor false")
    mirrors = entry.get("mirrors", [])
    if not isinstance(mirrors, list):
        raise Misconfigured(f"{where}.mirrors is not a list")
    for mirror in mirrors:
        if not isinstance(mirror, str) or not re.fullmatch(f"{_AUTHORITY}(?:/{_PREFIX})?", mirror):
            raise Misconfigured(f"{where}.mirrors: write HOST[:PORT][/PATH], not {mirror!r}")
    return RegistryConfig(tuple(mirrors), entry.get("insecure", False), entry.get("blocked", False))
