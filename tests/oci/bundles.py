"""Archives of images for tests, built file by file, so that any of it can be a lie.

An archive is a dictionary of its files by path. A value that is no bytes is the member itself, as
blocks: a link, a device, whatever is to be there.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oci import documents
from tests.oci.archives import END, header, member, pax

NAME = "evil:1"
OCI_CONFIG = documents.OCI_CONFIG
OCI_INDEX = documents.OCI_INDEX
OCI_MANIFEST = documents.OCI_MANIFEST
OCI_LAYER = documents.OCI_LAYER


class Block(NamedTuple):
    """A member as it stands in the archive: header blocks, and a body perhaps."""

    blocks: bytes


Files = dict[str, bytes | Block]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def layer(*entries: bytes) -> bytes:
    return b"".join(entries) + END


GOOD = layer(header(b"etc", b"5", mode=0o755), member(b"etc/motd", b"moo\n"))
BETTER = layer(member(b"etc/hostname", b"barn\n"))


def config(diff_ids: Sequence[str], **fields: Any) -> bytes:
    rootfs = {"type": "layers", "diff_ids": list(diff_ids)}
    document = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs, **fields}
    return json.dumps(document).encode()


def docker(*layers: bytes, name: str = NAME, document: bytes | None = None) -> Files:
    """A docker-archive of one image, as Docker 1.10 to 24 wrote it."""
    document = config([sha256(each) for each in layers]) if document is None else document
    paths = [f"{number}/layer.tar" for number in range(len(layers))]
    own = f"{sha256(document).removeprefix('sha256:')}.json"
    return {
        **dict(zip(paths, layers, strict=True)),
        own: document,
        "manifest.json": manifest_json(own, paths, name),
    }


def manifest_json(config: str, layers: Sequence[str], *names: str) -> bytes:
    return json.dumps(
        [{"Config": config, "RepoTags": list(names), "Layers": list(layers)}]
    ).encode()


def descriptor(data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **fields}


class Layout:
    """An OCI layout on its way: blobs are added, and what is added last stands on them."""

    def __init__(self) -> None:
        self.files: Files = {"oci-layout": documents.LAYOUT}

    def add(self, data: bytes, media_type: str, **fields: Any) -> dict[str, Any]:
        """The descriptor of a blob that is there now; `fields` are what it is to say instead."""
        self.files[blob(sha256(data))] = data
        return descriptor(data, media_type, **fields)

    def image(
        self, layers: Sequence[Mapping[str, Any]], document: bytes, **fields: Any
    ) -> dict[str, Any]:
        """The descriptor of an image of these layers and this config."""
        own = self.add(document, OCI_CONFIG)
        manifest = {"schemaVersion": 2, "config": own, "layers": list(layers), **fields}
        return self.add(json.dumps(manifest).encode(), OCI_MANIFEST)

    def index(self, *manifests: Mapping[str, Any], name: str | None = NAME) -> Files:
        """The files, with an index.json of these manifests, the first of them called `name`."""
        entries = [dict(each) for each in manifests]
        if entries and name is not None:
            entries[0]["annotations"] = {documents.REF_NAME: name}
        self.files["index.json"] = index(entries)
        return self.files


def index(manifests: Sequence[Mapping[str, Any]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()


def oci(*layers: bytes, name: str = NAME) -> Files:
    """An OCI layout of one image."""
    layout = Layout()
    own = [layout.add(each, OCI_LAYER) for each in layers]
    return layout.index(layout.image(own, config([sha256(each) for each in layers])), name=name)


def with_config(document: bytes, *layers: bytes) -> list[Files]:
    """A docker-archive and a layout of an image with this config."""
    layout = Layout()
    own = [layout.add(each, OCI_LAYER) for each in layers]
    return [docker(*layers, document=document), layout.index(layout.image(own, document))]


def manifest_of(**fields: Any) -> Files:
    """A layout of an image whose manifest has these fields; one that is None it has not."""
    layout = Layout()
    manifest = {
        "schemaVersion": 2,
        "config": layout.add(config([sha256(GOOD)]), OCI_CONFIG),
        "layers": [layout.add(GOOD, OCI_LAYER)],
        **fields,
    }
    data = json.dumps({key: value for key, value in manifest.items() if value is not None})
    return layout.index(layout.add(data.encode(), OCI_MANIFEST))


def legacy(*layers: bytes, name: str = NAME) -> Files:
    """A docker-archive from before Docker 1.10."""
    files: Files = {}
    parent: str | None = None
    for number, data in enumerate(layers):
        id = f"{number:064x}"
        document = {"id": id, "parent": parent, "os": "linux", "architecture": "amd64"}
        files |= {
            f"{id}/VERSION": b"1.0",
            f"{id}/json": json.dumps({k: v for k, v in document.items() if v}).encode(),
            f"{id}/layer.tar": data,
        }
        parent = id
    repository, _, tag = name.partition(":")
    return {**files, "repositories": json.dumps({repository: {tag: parent}}).encode()}


FORMS = {"docker": docker, "oci": oci, "legacy": legacy}


def tar(files: Mapping[str, bytes | Block]) -> bytes:
    """The files as one archive."""
    return b"".join(_members(files)) + END


def _members(files: Mapping[str, bytes | Block]) -> Iterator[bytes]:
    for path, data in files.items():
        if isinstance(data, Block):
            yield data.blocks
        elif len(path) > 100:
            yield pax((b"path", path.encode())) + member(b"long", data)
        else:
            yield member(path.encode(), data)


def link(path: str, target: str, kind: bytes = b"2") -> Block:
    """A symbolic link, or with `kind` "1" a hard link."""
    records = [(b"path", path.encode()), (b"linkpath", target.encode())]
    return Block(pax(*records) + header(b"link", kind, link=b"x"))


def special(path: str, kind: bytes) -> Block:
    """A device, a fifo or a directory."""
    return Block(header(path.encode(), kind, major=1, minor=3))


def directory(files: Mapping[str, bytes | Block], where: Path) -> Path:
    """The files as a layout directory."""
    for path, data in files.items():
        assert isinstance(data, bytes)
        (where / path).parent.mkdir(parents=True, exist_ok=True)
        (where / path).write_bytes(data)
    return where


def written(files: Mapping[str, bytes | Block] | bytes, where: Path) -> Path:
    """The files as one archive, in a file."""
    where.write_bytes(files if isinstance(files, bytes) else tar(files))
    return where
