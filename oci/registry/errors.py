"""What talking to a registry may raise, one line each: what, why, and what to do about it.

What may pass and what will not are different types: who tries again looks for Passing and for
nothing else. Text of a registry appears in a message on one line and shortened.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import msgspec

from backends.errors import CowshedError
from oci.errors import ArchiveError
from oci.json import parse

_LONGEST = 200


class RegistryError(CowshedError):
    """A registry refused, could not be asked, or answered what is not to be relied on."""


class Unreachable(RegistryError):
    """There is nothing at the address that could be talked to."""


class Untrusted(Unreachable):
    """Whoever is at the address cannot prove to be the registry, or wants proof from us."""


class Unauthorized(RegistryError):
    """The registry wants credentials, or others (401)."""


class Denied(RegistryError):
    """The registry knows who asks, and does not allow it (403)."""


class Missing(RegistryError):
    """The registry has no such repository, tag, manifest or blob (404)."""


class NotOffered(RegistryError):
    """The registry does not have this ability."""


class Blocked(RegistryError):
    """The configuration forbids it: the registry is blocked, or plain HTTP not allowed."""


class Misconfigured(RegistryError):
    """What the configuration says of registries makes no sense."""


class BadAnswer(RegistryError):
    """An answer that the protocol does not allow."""


class Corrupt(RegistryError):
    """What came is not what its digest or its size says."""


class Passing(RegistryError):
    """What may succeed another time; `wait` is what the registry asks for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class Interrupted(Passing):
    """The connection broke off or stalled, or could not be made for now."""


class RateLimited(Passing):
    """Too many requests (429)."""


class ServerFailed(Passing):
    """The registry itself, or what is before it, is broken or overloaded (5xx)."""


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: tuple[_Problem, ...] = ()


def one_line(text: str) -> str:
    """Text of a stranger as it may stand in a message: printable, short, on one line."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 2 * _LONGEST])
    plain = " ".join(printable.split())
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]}..."


def from_answer(
    doing: str, registry: str, status: int, headers: Mapping[str, str], body: bytes
) -> RegistryError:
    """The error for the answer of `registry` while `doing` something; `doing` is after "cannot".

    The code and message are those of distribution-spec 1.1, "Error Codes".
    """
    what = f"cannot {doing}: {registry} answered {status}{_reason(status, body)}"
    match status:
        case 401:
            return Unauthorized(f"{what}; check the name, or log in: cowshed login {registry}")
        case 403:
            return Denied(f"{what}; log in as somebody who may: cowshed login {registry}")
        case 404:
            return Missing(f"{what}; check the name, and whether it needs a login")
        case 429:
            return RateLimited(f"{what}; try again later, or log in", _wait(headers))
        case 408:
            return Interrupted(f"{what}; try again", _wait(headers))
        case 416:
            return Interrupted(f"{what}; try again")
        case 405 | 501:
            return NotOffered(f"{what}; this registry does not offer it")
        case 413:
            return RegistryError(f"{what}; raise the limit of the registry or of its proxy")
        case _ if 500 <= status <= 599:
            return ServerFailed(f"{what}; try again later", _wait(headers))
        case _ if 400 <= status <= 499:
            return RegistryError(f"{what}; the registry's log may tell more")
        case _:
            return BadAnswer(f"{what}, which is not expected; is it a registry?")


def _reason(status: int, body: bytes) -> str:
    """What the registry says for itself, else what the number means; no page of HTML."""
    try:
        problems = parse("error", body, _Problems).errors
    except ArchiveError:
        problems = ()
    if problems:
        told = f"{problems[0].code}: {problems[0].message}" if problems[0].message else ""
        if text := one_line(told or problems[0].code):
            return f" {text}"
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds until the time in Retry-After (RFC 9110, 10.2.3); None where there is none."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except (OverflowError, ValueError):
        return None
    # "-0000" is a time in UTC, which comes without a zone.
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
