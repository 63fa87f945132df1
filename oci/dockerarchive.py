"""The documents of a docker-archive: manifest.json, repositories, and those before Docker 1.10.

Docker image specification v1.2 ("Combined Image JSON + Filesystem Changeset Format") and v1, as
the daemon reads and writes them (moby, image/tarexport and image/v1). How hostile and odd JSON
is met is told in oci.json. What a path in manifest.json leads to, a link perhaps, is for
the reader of the archive to see.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence

import msgspec

from oci.digest import Digest
from oci.documents import Descriptor, History, Record, check_depth, dump, parse_config
from oci.errors import ArchiveError
from oci.json import parse, quoted

VERSION = b"1.0"
"""The file <id>/VERSION."""

_PATH_MAX = 4096
_ID = re.compile(r"[a-f0-9]{64}")
_NOT_MIGRATED = ("id", "parent", "Size", "parent_id", "layer_id", "throwaway")


class ArchivePath(str):
    """The path of a file inside an archive, without `.` and `//`; ValueError if it is none."""

    __slots__ = ()

    def __new__(cls, text: str) -> "ArchivePath":
        path = posixpath.normpath(text)
        if text.startswith("/") or ".." in text.split("/"):
            raise ValueError(f"is {quoted(text)}, which leaves the archive")
        if path == "." or len(text) > _PATH_MAX or text.endswith("/") or not text.isprintable():
            raise ValueError(f"is {quoted(text)}, which is no path of a file")
        return super().__new__(cls, path)


class LegacyId(str):
    """The id of an image before Docker 1.10: 64 hexadecimal digits; ValueError else."""

    __slots__ = ()

    def __new__(cls, text: str) -> "LegacyId":
        if not _ID.fullmatch(text):
            raise ValueError(f"is {quoted(text)} and not 64 hexadecimal digits")
        return super().__new__(cls, text)


def _none() -> None:
    """A default that `omit_defaults` does not know: Docker writes null where there is no tag."""


class DockerImage(Record, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """An entry of manifest.json; `layers` from the lowest up.

    `layer_sources` tells, by diff ID, what a layer is when it is not a plain tar made here.
    """

    config: ArchivePath
    repo_tags: tuple[str, ...] | None = msgspec.field(default_factory=_none)
    layers: tuple[ArchivePath, ...]
    parent: str = ""
    layer_sources: dict[str, Descriptor] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        check_depth(len(self.layers))
        for key in self.layer_sources:
            try:
                Digest(key)
            except ValueError as error:
                raise ValueError(f"has a key in LayerSources that {error}") from None


class LegacyImage(Record, frozen=True, kw_only=True):
    """What must be known of <id>/json, a layer and an image in one; Docker image spec v1."""

    id: LegacyId
    parent: LegacyId | None = None
    created: str = ""
    author: str = ""
    comment: str = ""
    os: str = ""
    container_config: "_Command" = msgspec.field(default_factory=lambda: _Command())


class _Command(Record, frozen=True, kw_only=True):
    cmd: tuple[str, ...] | str = msgspec.field(name="Cmd", default=())


def parse_docker_manifest(data: bytes) -> list[DockerImage]:
    """The images of manifest.json; ArchiveError."""
    return parse("manifest.json", data, list[DockerImage])


def parse_repositories(data: bytes) -> dict[str, dict[str, LegacyId]]:
    """The file repositories: repository -> tag -> id of the top layer; ArchiveError.

    The names are as they stand there, for imagegraph.reference to judge.
    """
    return parse("repositories", data, dict[str, dict[str, LegacyId]])


def parse_legacy(document: str, data: bytes) -> LegacyImage:
    """What is known of an <id>/json; `document` is its name in messages. ArchiveError."""
    return parse(document, data, LegacyImage)


def ancestry(images: Mapping[str, LegacyImage], top: str) -> list[LegacyImage]:
    """The image `top` and those below it, the top first, from all images by id; ArchiveError."""
    found: list[LegacyImage] = []
    seen: set[str] = set()
    following: str | None = top
    while following is not None:
        if following in seen:
            raise ArchiveError(f"the image {following} is its own ancestor")
        if following not in images:
            raise ArchiveError(f"the image {following} is not in the archive")
        seen.add(following)
        found.append(images[following])
        following = found[-1].parent
    try:
        check_depth(len(found))
    except ValueError as error:
        raise ArchiveError(f"the image {top} {error}") from None
    return found


def migrated(document: str, top: bytes, chain: Sequence[LegacyImage], diff_ids: list[str]) -> bytes:
    """The config of an image that came in the form before Docker 1.10.

    `top` is the <id>/json of the image, `chain` is what `ancestry` returned, `diff_ids` are those
    of its layers, the lowest first. The bytes, and so the image's id, are those that Docker makes
    of it (MakeConfigFromV1Config) if Docker 1.8.3 or later wrote it. From older ones Docker drops
    what its release does not know, so that the id depends on the release that loads it;
    here every field is kept. ArchiveError.
    """
    parse_legacy(document, top)
    fields = msgspec.json.decode(top, type=dict[str, msgspec.Raw])
    kept = {key: raw for key, raw in fields.items() if key not in _NOT_MIGRATED}
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    kept["rootfs"] = msgspec.Raw(msgspec.json.encode(rootfs))
    kept["history"] = msgspec.Raw(dump([_step(image) for image in reversed(chain)]))
    config = _as_go(msgspec.json.format(msgspec.json.encode(kept, order="sorted"), indent=-1))
    parse_config(document, config)
    return config


def dump_docker_manifest(images: Sequence[DockerImage]) -> bytes:
    """manifest.json, byte for byte as Docker writes it."""
    return dump(images) + b"\n"


def dump_repositories(repositories: Mapping[str, Mapping[str, str]]) -> bytes:
    """The file repositories: repository -> tag -> what Docker (25 and later) writes for an id.

    That is the hexadecimal diff ID of the image's top layer; nobody reads it where there is a
    manifest.json, and nobody else's older form has it.
    """
    return dump(repositories) + b"\n"


def _step(image: LegacyImage) -> History:
    command = image.container_config.cmd
    return History(
        created=image.created,
        author=image.author,
        created_by=command if isinstance(command, str) else " ".join(command),
        comment=image.comment,
    )


def _as_go(json: bytes) -> bytes:
    """What Go's encoder puts for <, >, & and two line separators, wherever they stand."""
    for character in "<>&\u2028\u2029":
        json = json.replace(character.encode(), f"\\u{ord(character):04x}".encode())
    return json
