"""Lists that a registry gives in pages: tags and repositories; and its search.

Distribution-spec 1.1, "Listing Tags"; the catalog is of Docker's API v2. The next page is in the
header Link (RFC 8288), which leads to the same registry or nowhere.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from oci.errors import ArchiveError
from oci.json import MAX_SIZE, parse, quoted
from oci.registry.endpoint import Endpoint, Request
from oci.registry.errors import BadAnswer, Denied, Missing, NotOffered, one_line
from oci.registry.hosts import origin
from oci.registry.transport import joined

PAGE = 1000
PAGES = 10_000
"""The most pages of one list."""

_NEXT = re.compile(r'<([^<>]{1,8000})>[^<>]*;\s*rel="?next"?', re.IGNORECASE)
_NAME = re.compile(r"[\x21-\x7e]{1,256}")


class Found(NamedTuple):
    """What a search found: a repository, and what is told of it."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


class _Tags(msgspec.Struct, frozen=True):
    tags: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        return self.tags


class _Catalog(msgspec.Struct, frozen=True):
    repositories: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        return self.repositories


class _Result(msgspec.Struct, frozen=True):
    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False


class _Results(msgspec.Struct, frozen=True):
    results: tuple[_Result, ...]


def tags(endpoint: Endpoint, doing: str, path: str, scopes: list[str]) -> Iterator[str]:
    """The tags of a repository, each page when it is needed."""
    return _pages(endpoint, Request(doing, "GET", f"{path}?n={PAGE}", scopes), _Tags)


def catalog(endpoint: Endpoint) -> Iterator[str]:
    """The repositories of a registry, each page when it is needed; NotOffered, Denied."""
    name = endpoint.host.name
    request = Request(
        f"list the repositories of {name}",
        "GET",
        f"/v2/_catalog?n={PAGE}",
        ["registry:catalog:*"],
    )
    try:
        yield from _pages(endpoint, request, _Catalog)
    except Missing:
        raise NotOffered(f"{name} offers no list of its repositories") from None


def search(endpoint: Endpoint, index: str | None, term: str, limit: int) -> Iterator[Found]:
    """At most `limit` repositories that have `term` in their name, or as the registry sees fit.

    `index` is the URL of Docker Hub's search (/v1/search), which other registries may have too;
    where there is none the catalog is looked through. NotOffered if there is no catalog either.
    """
    name = endpoint.host.name
    query = urlencode({"q": term, "n": min(limit, 100)})
    target = f"{index or endpoint.base(f'search {name}')}/v1/search?{query}"
    request = Request(f"search {name}", "GET", target, [])
    try:
        _, body = endpoint.ask_for_all(request, MAX_SIZE)
        results = parse("the answer", body, _Results).results
    except (Missing, NotOffered, ArchiveError, Denied):
        yield from _search_catalog(endpoint, term, limit)
        return
    for each in results[:limit]:
        yield Found(
            _checked(request.doing, each.name),
            one_line(each.description),
            each.star_count,
            each.is_official,
        )


def _search_catalog(endpoint: Endpoint, term: str, limit: int) -> Iterator[Found]:
    try:
        for name in catalog(endpoint):
            if term.lower() in name.lower():
                yield Found(name)
                limit -= 1
            if limit <= 0:
                return
    except (NotOffered, Denied) as error:
        raise NotOffered(
            f"{endpoint.host.name} offers no search, and no list of its repositories ({error})"
        ) from None


def _pages(
    endpoint: Endpoint, request: Request, kind: type[_Tags] | type[_Catalog]
) -> Iterator[str]:
    seen: set[str] = set()
    while len(seen) < PAGES:
        response, body = endpoint.ask_for_all(request, MAX_SIZE)
        try:
            page = parse("the answer", body, kind)
        except ArchiveError as error:
            raise BadAnswer(f"cannot {request.doing}: {error}; is it a registry?") from None
        for name in page.names():
            yield _checked(request.doing, name)
        link = _NEXT.search(response.headers.get("Link", ""))
        if link is None:
            return
        here = response.url or endpoint.base(request.doing)
        target = joined(request.doing, here, link[1])
        if _elsewhere(here, target) or target in seen:
            raise BadAnswer(
                f"cannot {request.doing}: the next page, {quoted(target)}, makes no sense"
            )
        seen.add(target)
        request = request._replace(target=target)
    raise BadAnswer(f"cannot {request.doing}: there are more than {PAGES} pages")


def _elsewhere(here: str, target: str) -> bool:
    try:
        return origin(here) != origin(target)
    except ValueError:
        return True


def _checked(doing: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadAnswer(f"cannot {doing}: {quoted(name)} is no name")
    return name
