"""Images out of a registry, straight into snapshots.

The layers are applied in their order while those above are on their way: each of them goes to a
file without a name until its turn comes, and the one whose turn it is goes from the connection
through verification and decompression into its volume. A layer whose chain ID is here is not
asked for. What is pulled is seen when all of it is there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from imagegraph.model import Image, Manifest
from imagegraph.reference import Reference
from imagegraph.store import Store
from oci import documents
from oci.digest import Digest, chain_ids
from oci.documents import DOCKER_MANIFEST, INDEXES, MANIFESTS, Descriptor, Platform
from oci.errors import ArchiveError
from oci.fetching import Fetching, Progress
from oci.incoming import Incoming, Part, bring, judged
from oci.json import MAX_SIZE
from oci.platforms import pick
from oci.registry.client import Manifest as Answer
from oci.registry.client import Registry

_PIECE = 1 << 20


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
    progress: Progress | None = None,
) -> Pulled:
    """Bring in the image that the registry has for `reference`, a tag (default latest) or digest.

    It gets the tag, if it was asked for by one. Of an index the image for `platform` is taken, this
    machine's if None. Raises RegistryError, ArchiveError, BackendError and StoreError; nothing is
    left behind then.
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
    names = (reference._replace(digest=None),) if reference.tag else ()
    if known is not None:
        with store.graph.writing():
            for call in calls:
                store.graph.add_manifest(known.id, call)
        for name in names:
            store.tag(known, name)
        return Pulled(known, top.digest, new=False)
    manifest = documents.parse_manifest(f"the manifest of {reference}", own.data)
    config = _document(registry, path, manifest.config)
    parts = tuple(Part(str(each.digest), each.digest, each.size) for each in manifest.layers)
    form = "docker" if own.media_type == DOCKER_MANIFEST else "oci"
    known_config = judged(f"the config of {reference}", config, parts)
    incoming = Incoming(config, known_config, parts, names, form, calls)
    before = store.graph.image_with_digest(incoming.digest)
    missing = [] if before else _missing(store, incoming, manifest.layers)
    with Fetching(store.root, registry, path, missing, progress) as source:
        image = bring(store, source, incoming)
    with store.graph.writing():
        for layer, part in zip(reversed(store.graph.chain(image.layer)), parts, strict=True):
            store.graph.add_place(layer.id, part.digest or "", repository)
    return Pulled(image, top.digest, new=before is None)


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
    return answers[-1], answers


def _document(registry: Registry, path: str, what: Descriptor) -> bytes:
    if what.size > MAX_SIZE:
        raise ArchiveError(f"the config {what.digest} has {what.size} bytes: too many")
    with registry.blob(path, what.digest, what.size) as stream:
        return b"".join(iter(lambda: stream.read(_PIECE) or b"", b""))


def _missing(store: Store, incoming: Incoming, layers: Sequence[Descriptor]) -> list[Descriptor]:
    """The layers that are not here, the lowest first."""
    ids = chain_ids(incoming.config.rootfs.diff_ids)
    return [
        layer
        for layer, chain_id in zip(layers, ids, strict=True)
        if store.graph.layer_with_chain(chain_id) is None
    ]
