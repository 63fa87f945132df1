"""Credentials for registries, where Docker and Podman keep them.

Read are, the first that has an entry winning: the file of REGISTRY_AUTH_FILE and nothing else if
that is set; else Docker's config.json (in DOCKER_CONFIG, or ~/.docker), then Podman's auth.json (in
$XDG_RUNTIME_DIR/containers or /run/containers/UID, then $XDG_CONFIG_HOME/containers or
~/.config/containers). The formats are containers-auth.json(5) and Docker's config file:

    {"auths": {"HOST[:PORT][/PATH]": {"auth": base64("USER:PASSWORD"), "identitytoken": "..."}},
     "credHelpers": {"HOST": "NAME"}, "credsStore": "NAME"}

docker.io is `https://index.docker.io/v1/` there. With a helper named the secret is with the program
docker-credential-NAME, which is spoken to by its stdin and stdout (github.com/docker/
docker-credential-helpers); no secret is ever in an argument, a message or a repr.
"""

import base64
import binascii
import fcntl
import json
import os
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import msgspec

from backends.errors import CowshedError
from imagegraph.reference import DEFAULT_DOMAIN
from oci.errors import ArchiveError
from oci.json import MAX_SIZE, parse, quoted, values

_HUB = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
_HELPER_TIME = 120
_NOT_FOUND = "credentials not found in native keychain"


class CredentialError(CowshedError):
    """Credentials cannot be read or stored; nothing secret is told."""


class Credentials(NamedTuple):
    """Who asks: a name and a password, or an identity token instead of the password."""

    username: str
    password: str
    identity_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(username={self.username!r})"


class _Answer(msgspec.Struct, frozen=True, rename="pascal"):
    """What a helper prints for `get`."""

    username: str = ""
    secret: str = ""


def find(registry: str, repository: str = "") -> Credentials | None:
    """The credentials for a registry, as in references, or for one repository there.

    None if there are none. Raises CredentialError if a file or a helper is broken.
    """
    for path in files():
        if (found := _find_in(path, registry, repository)) is not None:
            return found
    return None


def store(registry: str, credentials: Credentials) -> str:
    """Keep credentials for a registry; returns where: a file, or the name of a helper."""
    path = files()[0]
    with _changing(path) as config:
        auths = config["auths"] = _table(path, config, "auths")
        helper = _helper(path, config, registry)
        if helper is None:
            auth = base64.b64encode(f"{credentials.username}:{credentials.password}".encode())
            entry = {"auth": auth.decode()}
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token
            auths[_key(registry)] = entry
            return path
        _run_helper(
            helper,
            "store",
            json.dumps(
                {
                    "ServerURL": _key(registry),
                    "Username": _TOKEN_USER if credentials.identity_token else credentials.username,
                    "Secret": credentials.identity_token or credentials.password,
                }
            ),
        )
        # Docker keeps an empty entry, so that others see that there is a login.
        auths[_key(registry)] = {}
        return f"docker-credential-{helper}"


def erase(registry: str) -> bool:
    """Forget what `find(registry)` finds in the file that `store` writes; False if nothing is."""
    path = files()[0]
    with _changing(path) as config:
        auths = _table(path, config, "auths")
        keys = [key for key in auths if key == registry or _names(key, registry)]
        for key in keys:
            del auths[key]
        helper = _helper(path, config, registry)
        if helper is None:
            return bool(keys)
        there = _ask_helper(helper, registry) is not None
        if there:
            _run_helper(helper, "erase", _key(registry))
        return there or bool(keys)


def files() -> list[str]:
    """The files that are read, in this order, there or not; `store` writes the first."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [named]
    home = os.path.expanduser("~")
    docker = os.environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    podman = os.path.join(runtime, "containers") if runtime else f"/run/containers/{os.getuid()}"
    return [
        os.path.join(docker, "config.json"),
        os.path.join(podman, "auth.json"),
        os.path.join(settings, "containers", "auth.json"),
    ]


def _find_in(path: str, registry: str, repository: str) -> Credentials | None:
    config = _read(path)
    helper = _helper(path, config, registry)
    if helper is not None and (found := _ask_helper(helper, registry)) is not None:
        return found
    auths = _table(path, config, "auths")
    # The most specific first: quay.io/team/app, quay.io/team, quay.io.
    parts = [registry, *repository.split("/")] if repository else [registry]
    for length in range(len(parts), 0, -1):
        key = "/".join(parts[:length])
        for each, entry in auths.items():
            named = each == key or (length == 1 and _names(each, registry))
            if named and (found := _entry(path, each, entry)) is not None:
                return found
    return None


def _entry(path: str, key: str, entry: Any) -> Credentials | None:
    """The credentials of one entry of `auths`; None for the empty one that marks a helper's."""
    if not isinstance(entry, dict):
        raise CredentialError(f"{path}: the entry for {quoted(key)} is not an object; log in again")
    auth, token = entry.get("auth") or "", entry.get("identitytoken") or ""
    username, password = entry.get("username") or "", entry.get("password") or ""
    try:
        if auth:
            username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        found = msgspec.convert((username, password.rstrip("\0"), token), Credentials)
    except (AttributeError, TypeError, ValueError, binascii.Error):
        # Not what it says: it may quote the secret.
        raise CredentialError(
            f"{path}: the entry for {quoted(key)} is damaged; log in again"
        ) from None
    return found if found.password or found.identity_token else None


def _key(registry: str) -> str:
    return _HUB if registry == DEFAULT_DOMAIN else registry


def _names(key: str, registry: str) -> bool:
    """Whether a key of a file, which Docker once wrote as a URL, is for all of the registry."""
    bare = re.sub(r"^https?://", "", key)
    host, _, path = bare.partition("/")
    if bare != key or host in ("index.docker.io", "registry-1.docker.io"):
        path = ""
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DEFAULT_DOMAIN
    return host == registry and path == ""


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CredentialError(f"cannot read {path}: {error.strerror}") from None
    if not data.strip():
        return {}
    try:
        config = values(path, data)
    except ArchiveError as error:
        raise CredentialError(f"{error}; correct it or remove it") from None
    if not isinstance(config, dict):
        raise CredentialError(f"{path} is not an object; correct it or remove it")
    return config


def _table(path: str, config: dict[str, Any], name: str) -> dict[str, Any]:
    table = config.get(name)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise CredentialError(f"{path}: {name} is not an object; correct it or remove it")
    return table


@contextmanager
def _changing(path: str) -> Iterator[dict[str, Any]]:
    """The content of a file, to be changed; it is replaced whole, and one writer waits for another.

    The target of a symbolic link is replaced, not the link. Nobody else may read what is new.
    """
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    temporary = os.path.join(directory, f".cowshed-{secrets.token_hex(8)}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = _read(path)
            config = json.loads(json.dumps(before))
            yield config
            if config == before:
                return
            _write(temporary, config, path)
            os.rename(temporary, path)
            os.fsync(lock)
        finally:
            os.close(lock)
    except OSError as error:
        raise CredentialError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _write(temporary: str, config: Mapping[str, Any], path: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(temporary, flags, 0o600), "w") as file:
        with suppress(FileNotFoundError):
            owner = os.stat(path)
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        # As Docker writes it.
        json.dump(config, file, indent="\t", ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def _helper(path: str, config: dict[str, Any], registry: str) -> str | None:
    """The name of the helper that has the secret of a registry."""
    helpers = _table(path, config, "credHelpers")
    named = [helpers[key] for key in helpers if key == registry or _names(key, registry)]
    helper = named[0] if named else config.get("credsStore")
    if not helper:
        return None
    if not isinstance(helper, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", helper):
        raise CredentialError(f"{path}: {quoted(str(helper))} is no name of a credential helper")
    return helper


def _ask_helper(helper: str, registry: str) -> Credentials | None:
    answer = _run_helper(helper, "get", _key(registry))
    if answer is None:
        return None
    try:
        told = parse("the answer", answer.encode(), _Answer)
    except ArchiveError:
        raise CredentialError(
            f"docker-credential-{helper} answered what is not of its protocol; run it by hand"
        ) from None
    if told.username == _TOKEN_USER:
        return Credentials("", "", told.secret)
    return Credentials(told.username, told.secret) if told.secret else None


def _run_helper(helper: str, action: str, said: str) -> str | None:
    """What docker-credential-HELPER prints; None if it has not got what was asked for."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, action],
            input=said.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_HELPER_TIME,
        )
    except FileNotFoundError:
        raise CredentialError(
            f"{program} is not installed, which the configuration of Docker or Podman names"
        ) from None
    except OSError as error:
        raise CredentialError(f"cannot run {program}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CredentialError(
            f"{program} {action} did not end in {_HELPER_TIME} seconds; run it by hand"
        ) from None
    answer = done.stdout.decode(errors="replace")
    if done.returncode == 0:
        return answer
    if answer.strip() == _NOT_FOUND:
        return None
    # What it printed may be, or hold, a secret.
    raise CredentialError(
        f"{program} {action} failed with exit status {done.returncode}; run it by hand to see why"
    )
