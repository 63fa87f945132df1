"""Image references: [registry[:port]/]repository[:tag][@digest], parsed and printed.

The grammar is that of github.com/distribution/reference (reference.go, regexp.go), and short
names mean what they mean to Docker (normalize.go there): `debian` is `docker.io/library/debian`.
`parse(str(reference)) == reference` for everything that `parse` returns.

A string that is nothing but 64 hexadecimal digits is an id and never a name. `sha256:<hex>` on
its own is grammatical (a repository called sha256), so whoever takes ids looks for those first.
"""

import re
from typing import NamedTuple

from imagegraph.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_PATH_MAX = 255

# Patterns stay strings: `re` compiles and keeps each when it is first used, not at import.
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_ALGORITHM = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*"
_IDENTIFIER = r"[a-f0-9]{64}"

_HEX_DIGITS = {"sha256": 64, "sha384": 96, "sha512": 128}


class Reference(NamedTuple):
    """A normalised reference: domain and path are never short, as docker.io, library/debian."""

    domain: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @property
    def repository(self) -> str:
        """The full name of the repository, e.g. docker.io/library/debian."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """The repository as Docker shows it, e.g. debian; in full where that would be misread."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        short = self.path.removeprefix(_OFFICIAL)
        for name in (short, self.path):
            if _split_domain(name) == (self.domain, self.path) and not _is_identifier(name):
                return name
        return self.repository

    def with_default_tag(self) -> "Reference":
        """The same with tag `latest` if it has neither tag nor digest."""
        if self.tag is None and self.digest is None:
            return self._replace(tag=DEFAULT_TAG)
        return self

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.familiar}{tag}{digest}"


def in_repository(repository: str) -> Reference:
    """The reference to a repository by its full name, as Reference.repository gives it."""
    domain, _, path = repository.partition("/")
    return Reference(domain, path)


def parse(text: str) -> Reference:
    """The reference that a user means by `text`; InvalidReference says what is wrong with it."""
    if not text:
        raise _invalid("the name is empty; write NAME[:TAG] or NAME@DIGEST, e.g. debian:12")
    if _is_identifier(text):
        raise InvalidReference(
            f"invalid repository name ({text}): 64 hexadecimal digits are an id, not a name; "
            "choose another name"
        )
    name, at, digest = text.partition("@")
    domain, remainder = _split_domain(name)
    path, colon, tag = remainder.partition(":")
    _check_name(text, domain, path)
    if colon:
        _check_tag(tag)
    if at:
        _check_digest(digest)
    return Reference(domain, path, tag if colon else None, digest if at else None)


def parse_tag_target(text: str) -> Reference:
    """The reference to tag an image with: `latest` by default, never a digest; InvalidReference."""
    reference = parse(text)
    if reference.digest is not None:
        raise InvalidReference(
            f"cannot tag with a digest ({_shown(text)}); give NAME[:TAG], e.g. "
            f"{reference.familiar}:{reference.tag or DEFAULT_TAG}"
        )
    if reference.familiar in _HEX_DIGITS:
        raise InvalidReference(
            f"cannot tag as {_shown(text)}: it reads like a digest; choose another repository name"
        )
    return reference.with_default_tag()


def _split_domain(name: str) -> tuple[str, str]:
    """The registry and the rest (path and tag) of a name that may be short; normalize.go."""
    first, slash, rest = name.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + name
    if first == "localhost" or "." in first or ":" in first or first != first.lower():
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, name
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _check_name(text: str, domain: str, path: str) -> None:
    if "://" in text:
        raise _invalid(f"{_shown(text)} is a URL; write it without the part up to ://")
    if path != path.lower():
        name = path.removeprefix(_OFFICIAL)
        raise _invalid(
            f"repository name {_shown(name)} must be lowercase, e.g. {_shown(name.lower())}"
        )
    if not re.fullmatch(_DOMAIN, domain):
        raise _invalid(f"{_shown(domain)} is no registry; write HOST[:PORT], e.g. localhost:5000")
    if not re.fullmatch(_PATH, path):
        raise _invalid(
            f"{_shown(text)}: a repository name is letters a-z and digits, separated by '/', or "
            "inside by '.', '_', '__' or '-', e.g. team/my-app"
        )
    if len(path) > _PATH_MAX:
        raise _invalid(f"repository name has {len(path)} characters, {_PATH_MAX} are allowed")


def _check_tag(tag: str) -> None:
    if not re.fullmatch(_TAG, tag):
        raise _invalid(
            f"tag {_shown(tag)} must be 1 to 128 letters, digits, '_', '.' or '-', not beginning "
            "with '.' or '-', e.g. 1.0"
        )


def _check_digest(digest: str) -> None:
    algorithm, _, encoded = digest.partition(":")
    if not re.fullmatch(_ALGORITHM, algorithm) or not encoded:
        raise _invalid(f"digest {_shown(digest)} must be sha256: and 64 hexadecimal digits")
    digits = _HEX_DIGITS.get(algorithm)
    if digits is None:
        raise _invalid(f"digest algorithm {_shown(algorithm)} is not known; use sha256")
    if not re.fullmatch(rf"[a-f0-9]{{{digits}}}", encoded):
        raise _invalid(
            f"digest {_shown(digest)}: {algorithm} needs {digits} lower-case hexadecimal digits"
        )


def _is_identifier(text: str) -> bool:
    return re.fullmatch(_IDENTIFIER, text) is not None


def _invalid(why: str) -> InvalidReference:
    return InvalidReference(f"invalid reference format: {why}")


def _shown(text: str) -> str:
    """`text` quoted, on one line and not longer than a line, whatever is in it."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
