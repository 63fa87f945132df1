"""Proving to a registry who asks: Basic (RFC 7617) and tokens (Docker's token specification).

A registry challenges with WWW-Authenticate (RFC 9110, 11.6.1); of what it offers, tokens are taken
before Basic. A token is for some scopes; it is kept until shortly before it expires, shared by all
threads, and replaced when the registry refuses it. Without credentials an anonymous token is asked
for. An identity token is exchanged as OAuth2 says (Docker's oauth specification). Where the
credentials go is the registry's choice (`realm`), as everywhere; but never by plain HTTP, unless
that is allowed there.

Nothing secret is in a message or a repr.
"""

import base64
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec

from oci.credentials import Credentials
from oci.errors import ArchiveError
from oci.json import parse
from oci.registry.errors import BadAnswer, Unauthorized, from_answer
from oci.registry.hosts import origin
from oci.registry.retry import Clock, tried
from oci.registry.transport import Transport, read_all

CLIENT = "cowshed"
_ANSWER_MAX = 1 << 20
_HEADER_MAX = 1 << 14
_LIFETIME = 60
"""Seconds a token lives that does not say; the token specification."""
_MARGIN = 10.0

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'[\s,]*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
# Possessive: no part of the name of a parameter is a scheme.
_SCHEME = re.compile(rf"[\s,]*({_TOKEN}+)(?!\s*=)(?:[ \t]+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?")


class Challenge(NamedTuple):
    """What a server wants: a scheme and its parameters, the names of both in lower case."""

    scheme: str
    parameters: Mapping[str, str]


class _Token(NamedTuple):
    text: str
    expires: float

    def __repr__(self) -> str:
        return f"_Token(expires={self.expires})"


class _TokenAnswer(msgspec.Struct, frozen=True):
    token: str = ""
    access_token: str = ""
    expires_in: int = _LIFETIME


def challenges(header: str) -> list[Challenge]:
    """What WWW-Authenticate asks for, in its order; it ends where it makes no sense."""
    header = header[:_HEADER_MAX]
    found: list[Challenge] = []
    parameters: dict[str, str] = {}
    position = 0
    while True:
        if found and (match := _PARAMETER.match(header, position)):
            name, quoted, plain = match.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        elif match := _SCHEME.match(header, position):
            parameters = {}
            found.append(Challenge(match[1].lower(), parameters))
        else:
            return found
        position = match.end()


class Authorizer:
    """The Authorization of one registry; `credentials` finds them by repository, "" for none.

    `registry` is its name in messages. Scopes are those of the token specification, as
    `repository:library/debian:pull`. Any number of threads may use it.
    """

    def __init__(
        self,
        registry: str,
        transport: Transport,
        credentials: Callable[[str], Credentials | None],
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._transport = transport
        self._find = credentials
        self._clock = clock
        self._lock = threading.RLock()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._found: dict[str, Credentials | None] = {}

    @property
    def was_asked(self) -> bool:
        """Whether the registry wanted to know who asks."""
        return self._challenge is not None

    def header(self, doing: str, scopes: Sequence[str]) -> str | None:
        """What to send for these scopes; None if nothing was asked for so far."""
        with self._lock:
            if self._challenge is None:
                return None
            return self._answer(doing, self._challenge, tuple(scopes))

    def challenged(
        self, doing: str, headers: Mapping[str, str], scopes: Sequence[str], used: str | None
    ) -> str:
        """What to send instead after a 401 to `used`; Unauthorized if there is nothing better."""
        offered = {each.scheme: each for each in challenges(headers.get("WWW-Authenticate", ""))}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None:
            raise BadAnswer(
                f"cannot {doing}: {self._registry} wants a login and offers neither a token nor "
                "Basic; is it a registry?"
            )
        with self._lock:
            self._challenge = challenge
            token = self._tokens.get(tuple(scopes))
            # Another thread may have got a newer one meanwhile.
            if token is not None and f"Bearer {token.text}" == used:
                del self._tokens[tuple(scopes)]
            answer = self._answer(doing, challenge, tuple(scopes))
        if answer is None:
            raise Unauthorized(
                f"cannot {doing}: {self._registry} wants a login: cowshed login {self._registry}"
            )
        if answer == used:
            raise self.refused(doing)
        return answer

    def refused(self, doing: str) -> Unauthorized:
        """What to raise when the credentials that there are were sent in vain."""
        return Unauthorized(
            f"cannot {doing}: {self._registry} refuses the credentials; log in again: "
            f"cowshed login {self._registry}"
        )

    def _answer(self, doing: str, challenge: Challenge, scopes: tuple[str, ...]) -> str | None:
        credentials = self._credentials(scopes)
        if challenge.scheme == "basic":
            return None if credentials is None else _basic(credentials)
        token = self._tokens.get(scopes)
        if token is None or token.expires <= self._clock.now():
            token = self._fetch(doing, challenge, credentials, scopes)
            self._tokens[scopes] = token
        return f"Bearer {token.text}"

    def _credentials(self, scopes: tuple[str, ...]) -> Credentials | None:
        kind, _, rest = scopes[0].partition(":") if scopes else ("", "", "")
        repository = rest.rpartition(":")[0] if kind == "repository" else ""
        if repository not in self._found:
            self._found[repository] = self._find(repository)
        return self._found[repository]

    def _fetch(
        self,
        doing: str,
        challenge: Challenge,
        credentials: Credentials | None,
        scopes: tuple[str, ...],
    ) -> _Token:
        realm = challenge.parameters.get("realm", "")
        try:
            origin(realm)
        except ValueError:
            raise BadAnswer(
                f"cannot {doing}: {self._registry} does not say where it has tokens"
            ) from None
        asked = self._clock.now()
        status, headers, body = tried(
            lambda: self._ask(doing, realm, challenge, credentials, scopes), self._clock
        )
        if status == 401 and credentials is not None:
            raise self.refused(doing)
        if status != 200:
            raise from_answer(f"{doing} (token)", self._registry, status, headers, body)
        try:
            answer = parse("the token", body, _TokenAnswer)
        except ArchiveError:
            # Not its text, which may quote what is secret.
            raise BadAnswer(f"cannot {doing}: the answer with the token is damaged") from None
        text = answer.token or answer.access_token
        if not re.fullmatch(r"[\x21-\x7e]+", text):
            raise BadAnswer(f"cannot {doing}: {self._registry} answers with no token")
        lifetime = answer.expires_in if answer.expires_in > 0 else _LIFETIME
        return _Token(text, asked + lifetime - min(_MARGIN, lifetime / 10))

    def _ask(
        self,
        doing: str,
        realm: str,
        challenge: Challenge,
        credentials: Credentials | None,
        scopes: tuple[str, ...],
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request for a token; raises what is Passing, returns every other answer."""
        service = challenge.parameters.get("service")
        query = [] if service is None else [("service", service)]
        if credentials is not None and credentials.identity_token:
            form = [
                *query,
                ("grant_type", "refresh_token"),
                ("refresh_token", credentials.identity_token),
                ("client_id", CLIENT),
                ("scope", " ".join(scopes)),
            ]
            sent = urlencode(form).encode()
            response = self._transport.send(
                doing,
                "POST",
                realm,
                {
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Content-Length": str(len(sent)),
                },
                lambda: [sent],
            )
        else:
            query += [("scope", scope) for scope in scopes]
            secret = {} if credentials is None else {"Authorization": _basic(credentials)}
            join = "&" if urlsplit(realm).query else "?"
            if credentials is not None:
                query.append(("account", credentials.username))
            response = self._transport.send(
                doing, "GET", f"{realm}{join}{urlencode(query)}", secret
            )
        headers = response.headers
        body = read_all(doing, response, _ANSWER_MAX, self._transport.timeouts)
        if response.status in (408, 429) or response.status >= 500:
            raise from_answer(f"{doing} (token)", self._registry, response.status, headers, body)
        return response.status, headers, body


def _basic(credentials: Credentials) -> str:
    secret = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(secret).decode()}"
