"""Images out of a registry, straight into snapshots.

Here it is found out which image is meant and whether it is here already; if not, oci.fetching has
its layers come in. What is pulled is seen when all of it is there.
"""

from typing import TYPE_CHECKING, NamedTuple

from imagegraph.arrival import call
from imagegraph.model import Image, Manifest
from imagegraph.reference import Reference
from imagegraph.store import Store
from oci import documents
from oci.digest import Digest
from oci.documents import INDEXES, MANIFESTS, Platform
from oci.errors import ArchiveError
from oci.json import quoted
from oci.platforms import pick
from oci.registry.client import Manifest as Answer
from oci.registry.client import Registry

if TYPE_CHECKING:
    from oci.fetching import Progress


class Pulled(NamedTuple):
    """The image, the digest that its registry has for the name, and whether it is new here."""

    image: Image
    digest: Digest
    new: bool


def pull(
    store: Store,
    registry: Registry,
    reference: Reference,
    *,
    platform: Platform | None = None,
    progress: "Progress | None" = None,
) -> Pulled:
    """Bring in the image that the registry has for `reference`, a tag (default latest) or digest.

    It gets the tag, unless it was asked for by its digest. Of an index the image for `platform` is
    taken, this machine's if None. Raises RegistryError, ArchiveError, BackendError and StoreError;
    nothing is left behind then.
    """
    reference = reference.with_default_tag()
    path, repository = reference.path, reference.repository
    wanted = reference.digest or reference.tag or ""
    top = registry.manifest(path, wanted, MANIFESTS | INDEXES)
    own, answers = _resolved(registry, path, top, platform)
    calls = tuple(
        Manifest(repository, each.digest, each.media_type, each.data if each is own else None)
        for each in answers
    )
    known = store.graph.image_with_manifest(repository, own.digest)
    names = () if reference.digest else (reference,)
    if known is not None:
        call(store, known, calls, names)
        return Pulled(known, top.digest, new=False)
    # Not needed where all is here already, as it mostly is.
    from oci.fetching import fetch

    image, new = fetch(store, registry, reference, own, names, calls, progress)
    return Pulled(image, top.digest, new)


def _resolved(
    registry: Registry, path: str, top: Answer, platform: Platform | None
) -> tuple[Answer, list[Answer]]:
    """The manifest that is meant, and all documents that lead to it, itself the last."""
    answers = [top]
    while answers[-1].media_type in INDEXES:
        if len(answers) > documents.NESTED:
            raise ArchiveError(f"more than {documents.NESTED} indexes are in each other")
        index = documents.parse_index(f"the index {answers[-1].digest}", answers[-1].data)
        one = pick(index.manifests, platform)
        answers.append(registry.manifest(path, one.digest, MANIFESTS | INDEXES))
    own = answers[-1]
    if own.media_type not in MANIFESTS:
        raise ArchiveError(
            f"{own.digest} is no image: its registry gives its type as {quoted(own.media_type)}"
        )
    return own, answers
