"""The configuration file: TOML, in /etc/cowshed/config.toml or where COWSHED_CONFIG says.

Its table `registries` says what differs from the rule for some of them; see oci.registry.hosts.
"""

import os
import tomllib
from typing import TYPE_CHECKING, Any

from backends.errors import CowshedError

if TYPE_CHECKING:
    from oci.registry.hosts import Registries

PATH = "/etc/cowshed/config.toml"


def registries() -> "Registries":
    """What the file says of registries. Raises CowshedError if it makes no sense."""
    from oci.registry.hosts import parse_registries

    return parse_registries(_read().get("registries", {}))


def _read() -> dict[str, Any]:
    """The whole file; empty where there is none, unless COWSHED_CONFIG names it."""
    named = os.environ.get("COWSHED_CONFIG")
    path = named or PATH
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError as error:
        if named:
            raise CowshedError(
                f"cannot read {path}, which COWSHED_CONFIG names: {error.strerror}"
            ) from error
        return {}
    except OSError as error:
        raise CowshedError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CowshedError(f"{path} is not TOML: {error}") from error
    unknown = sorted(document.keys() - {"registries"})
    if unknown:
        raise CowshedError(f"{path}: there is no setting {unknown[0]!r}; it may have registries")
    return document
