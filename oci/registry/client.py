"""A registry: OCI distribution-spec 1.1, and Docker's API v2, which it came from.

    registry = Registry("docker.io", credentials=credentials.find)
    manifest = registry.manifest("library/debian", "12", MANIFESTS | INDEXES)
    with registry.blob("library/debian", layer.digest, layer.size) as stream: ...

What is returned has been held against its digest. What may pass is tried again; every failure is
one RegistryError (oci.registry.errors), or a CredentialError of oci.credentials. Reading asks the
mirrors of the configuration first, and warns of each that fails; writing asks the registry alone.
Repositories are the paths of imagegraph.reference. Any number of threads may use one Registry.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from imagegraph.reference import DEFAULT_DOMAIN
from oci.credentials import Credentials
from oci.digest import Digest
from oci.json import MAX_SIZE, quoted
from oci.registry import pages, tls
from oci.registry.blob import BlobStream, Source
from oci.registry.endpoint import Endpoint, Request
from oci.registry.errors import BadAnswer, Corrupt, Denied, Missing, NotOffered, RegistryError
from oci.registry.hosts import Host, Registries, hosts
from oci.registry.pages import Found
from oci.registry.retry import Clock
from oci.registry.transport import Timeouts, Transport
from oci.registry.upload import OpenSource, OpenStream, Upload

_HUB_SEARCH = "https://index.docker.io"
_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

_Result = TypeVar("_Result")


class Manifest(NamedTuple):
    """The bytes of a manifest or index, what Content-Type says of them, and their digest."""

    data: bytes
    media_type: str
    digest: Digest


class Head(NamedTuple):
    """What a registry says of a manifest without sending it; None where it does not say."""

    media_type: str
    digest: Digest | None
    size: int | None


def anonymous(registry: str, repository: str) -> Credentials | None:
    """No credentials for anybody."""
    return None


class Registry:
    """The registry `name`, as it stands in references: docker.io, localhost:5000.

    `credentials` finds who to be by registry and repository, as `oci.credentials.find` does.
    `certificates` are directories as oci.registry.tls reads them. Raises Blocked.
    """

    def __init__(
        self,
        name: str,
        *,
        registries: Registries = Registries(),  # noqa: B008 - a record, never changed
        credentials: Callable[[str, str], Credentials | None] = anonymous,
        timeouts: Timeouts = Timeouts(),  # noqa: B008
        clock: Clock = Clock(),  # noqa: B008
        certificates: Sequence[str] = tls.DIRECTORIES,
    ) -> None:
        self.name = name
        self._transport = Transport(registries, timeouts, certificates)
        self._credentials = credentials
        self._clock = clock
        self._endpoints = [self._endpoint(host) for host in hosts(registries, name)]
        self._own = self._endpoints[-1]

    def __enter__(self) -> "Registry":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give up the connections that are kept for the next request."""
        self._transport.close()

    def ping(self) -> bool:
        """Checks that the API is there and lets us in; spec, "Determining Support".

        True if it wanted to know who asks: then the credentials, if there are any, are right.
        """
        self._own.done(self._own.ask(Request(f"talk to {self.name}", "GET", "/v2/", [])))
        return self._own.authorizer.was_asked

    def manifest(self, repository: str, reference: str, accept: Collection[str]) -> Manifest:
        """The manifest or index with a tag or digest, of one of the media types in `accept`."""
        doing = f"read the manifest {reference} of {self.name}/{repository}"

        def attempt(endpoint: Endpoint) -> Manifest:
            request = _manifest_request(doing, "GET", endpoint, repository, reference, accept)
            response, data = endpoint.ask_for_all(request, MAX_SIZE)
            media_type = _media_type(response.headers.get("Content-Type", ""))
            if media_type in _SCHEMA_1:
                raise NotOffered(
                    f"cannot {doing}: it is of schema 1, which nobody writes since 2016; "
                    "push the image again with a newer client"
                )
            for told in (reference, response.headers.get("Docker-Content-Digest", "")):
                _verify(doing, data, told)
            return Manifest(data, media_type, _digest_of(data))

        return self._read(attempt)

    def head_manifest(
        self, repository: str, reference: str, accept: Collection[str]
    ) -> Head | None:
        """What the registry says of a manifest, unverified; None if it has none of that name."""
        doing = f"look for the manifest {reference} of {self.name}/{repository}"

        def attempt(endpoint: Endpoint) -> Head:
            request = _manifest_request(doing, "HEAD", endpoint, repository, reference, accept)
            response = endpoint.ask(request)
            endpoint.done(response)
            size = response.headers.get("Content-Length", "")
            try:
                digest = Digest(response.headers.get("Docker-Content-Digest", ""))
            except ValueError:
                digest = None
            media_type = _media_type(response.headers.get("Content-Type", ""))
            return Head(
                media_type, digest, int(size) if re.fullmatch("[0-9]{1,19}", size) else None
            )

        try:
            return self._read(attempt)
        except Missing:
            return None

    def blob(self, repository: str, digest: Digest, size: int) -> BlobStream:
        """The blob as a stream of `size` bytes, verified at its end; see BlobStream."""
        doing = f"read the blob {digest} of {self.name}/{repository}"

        def request(endpoint: Endpoint, offset: int) -> Request:
            return Request(
                doing,
                "GET",
                f"{_repository(endpoint, repository)}/blobs/{digest}",
                _pull(endpoint, repository),
                {"Range": f"bytes={offset}-"} if offset else {},
                expected=(200, 206),
            )

        sources: list[Source] = [(each, partial(request, each)) for each in self._sources()]
        return BlobStream(doing, digest, size, sources)

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the registry itself has the blob in this repository."""
        return self._has_blob(_push(self._own, repository), repository, digest)

    def mount_blob(self, repository: str, digest: Digest, from_repository: str) -> bool:
        """Put a blob of one repository into another without sending it; False if that failed."""
        query = urlencode({"mount": digest, "from": f"{self._own.host.prefix}{from_repository}"})
        request = Request(
            f"mount the blob {digest} in {self.name}/{repository}",
            "POST",
            f"{_repository(self._own, repository)}/blobs/uploads/?{query}",
            [*_push(self._own, repository), *_pull(self._own, from_repository)],
            {"Content-Length": "0"},
            expected=(201, 202),
        )
        try:
            response = self._own.ask(request)
        except (Denied, Missing):
            # Of the other repository: it need not be there for whoever may write to this one.
            return False
        self._own.done(response)
        # 202 has opened an upload instead, which the registry gives up when nobody uses it.
        return response.status == 201

    def upload(
        self,
        repository: str,
        digest: Digest,
        size: int,
        open_stream: OpenStream,
        chunk: int | None = None,
    ) -> None:
        """Send a blob of `size` bytes, in chunks of `chunk` bytes or all at once.

        `open_stream(offset)` gives a stream that begins there; it is called again after a failure.
        """
        self._upload(repository, f"the blob {digest}").whole(digest, size, open_stream, chunk)

    def upload_stream(self, repository: str, source: OpenSource) -> tuple[Digest, int]:
        """Send a blob whose size is not known yet; returns its digest, and its size in bytes.

        `source()` gives a stream; it is called again after a failure.
        """
        return self._upload(repository, "a blob").stream(source)

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Digest:
        """Store a manifest or index under a tag or its digest; returns the digest."""
        doing = f"push the manifest {reference} of {self.name}/{repository}"
        request = Request(
            doing,
            "PUT",
            f"{_repository(self._own, repository)}/manifests/{quote(reference, safe=':')}",
            _push(self._own, repository),
            {"Content-Type": media_type, "Content-Length": str(len(data))},
            lambda: [data],
            expected=(201,),
        )
        response = self._own.ask(request)
        self._own.done(response)
        _verify(doing, data, response.headers.get("Docker-Content-Digest", ""))
        return _digest_of(data)

    def tags(self, repository: str) -> Iterator[str]:
        """The tags of a repository, in the registry's order, page by page."""
        path = f"{_repository(self._own, repository)}/tags/list"
        doing = f"list the tags of {self.name}/{repository}"
        return pages.tags(self._own, doing, path, _pull(self._own, repository))

    def catalog(self) -> Iterator[str]:
        """The repositories of the registry, page by page; NotOffered, Denied."""
        return pages.catalog(self._own)

    def search(self, term: str, limit: int = 25) -> Iterator[Found]:
        """Repositories that match; NotOffered where there is neither search nor catalog."""
        index = _HUB_SEARCH if self.name == DEFAULT_DOMAIN else None
        return pages.search(self._own, index, term, limit)

    def _has_blob(self, scopes: list[str], repository: str, digest: Digest) -> bool:
        request = Request(
            f"look for the blob {digest} in {self.name}/{repository}",
            "HEAD",
            f"{_repository(self._own, repository)}/blobs/{digest}",
            scopes,
        )
        try:
            self._own.done(self._own.ask(request))
        except Missing:
            return False
        return True

    def _upload(self, repository: str, what: str) -> Upload:
        scopes = _push(self._own, repository)
        return Upload(
            self._own,
            f"{_repository(self._own, repository)}/blobs/uploads/",
            scopes,
            f"{what} to {self.name}/{repository}",
            partial(self._has_blob, scopes, repository),
        )

    def _endpoint(self, host: Host) -> Endpoint:
        return Endpoint(host, self._transport, partial(self._credentials, host.name), self._clock)

    def _read(self, attempt: Callable[[Endpoint], _Result]) -> _Result:
        """What `attempt` returns for the first place that can answer."""
        for endpoint in self._sources()[:-1]:
            try:
                return attempt(endpoint)
            except Missing:
                # A mirror need not have everything.
                continue
            except RegistryError as error:
                endpoint.abandon(error)
        return attempt(self._own)

    def _sources(self) -> list[Endpoint]:
        return [each for each in self._endpoints if not each.abandoned]


def _repository(endpoint: Endpoint, repository: str) -> str:
    return f"/v2/{quote(endpoint.host.prefix + repository)}"


def _pull(endpoint: Endpoint, repository: str) -> list[str]:
    return [f"repository:{endpoint.host.prefix}{repository}:pull"]


def _push(endpoint: Endpoint, repository: str) -> list[str]:
    return [f"repository:{endpoint.host.prefix}{repository}:pull,push"]


def _manifest_request(
    doing: str,
    method: str,
    endpoint: Endpoint,
    repository: str,
    reference: str,
    accept: Collection[str],
) -> Request:
    return Request(
        doing,
        method,
        f"{_repository(endpoint, repository)}/manifests/{quote(reference, safe=':')}",
        _pull(endpoint, repository),
        {"Accept": ", ".join(sorted(accept))},
    )


def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def _digest_of(data: bytes) -> Digest:
    return Digest(f"sha256:{hashlib.sha256(data).hexdigest()}")


def _verify(doing: str, data: bytes, told: str) -> None:
    """Hold a document against a digest; a tag, or nothing, says nothing."""
    algorithm, colon, expected = told.partition(":")
    if not colon:
        return
    if algorithm not in ("sha256", "sha512"):
        raise BadAnswer(f"cannot {doing}: the digest {quoted(told)} is of an unknown kind")
    if hashlib.new(algorithm, data).hexdigest() != expected:
        raise Corrupt(
            f"cannot {doing}: what came has the digest {_digest_of(data)} instead of "
            f"{quoted(told)}; it is damaged in the registry or on the way"
        )
