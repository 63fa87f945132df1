"""Which image of an index fits a platform, and which index is no choice of platforms at all."""

import pytest

from imagegraph.reference import parse as reference
from oci import documents, platforms
from oci.digest import Digest
from oci.documents import OCI_MANIFEST, Descriptor, Platform
from oci.errors import ArchiveError
from tests.oci.real_documents import UMOCI_INDEX

A = "sha256:" + "a" * 64
INDEX = documents.dump_index([])


def _image(os="linux", architecture="amd64", variant="", **more):
    platform = Platform(os=os, architecture=architecture, variant=variant)
    return Descriptor(media_type=OCI_MANIFEST, digest=Digest(A), size=1, platform=platform, **more)


UNKNOWN = _image("unknown", "unknown")
SEVERAL = [
    UNKNOWN,
    _image(annotations={"vnd.docker.reference.type": "attestation-manifest"}),
    *(_image(architecture="arm", variant=variant) for variant in ("v5", "v7", "v6")),
    _image(architecture="arm64", variant="v8"),
    _image(),
    _image(variant="v3"),
    _image(os="windows"),
]


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("linux/amd64", 6),
        ("linux/x86_64", 6),
        ("linux/amd64/v2", 6),
        ("linux/amd64/v4", 7),
        ("linux/amd64/v3", 7),
        ("linux/arm64", 5),
        ("linux/arm64/v8", 5),
        ("linux/aarch64", 5),
        ("linux/arm", 3),
        ("linux/arm/v6", 4),
        ("linux/arm/6", 4),
        ("linux/arm/v8", 3),
        ("windows/amd64", 8),
    ],
)
def test_the_best_image_for_a_platform_is_picked_and_never_an_attestation(wanted, place):
    assert platforms.pick(SEVERAL, platforms.parse_platform(wanted)) is SEVERAL[place]


@pytest.mark.parametrize("wanted", ["linux/s390x", "linux/arm/v4", "unknown/unknown", "linux/386"])
def test_where_no_image_fits_the_platforms_there_are_named(wanted):
    with pytest.raises(
        ArchiveError, match=r"no image for .*linux/arm/v5, .*windows/amd64"
    ) as caught:
        platforms.pick(SEVERAL, platforms.parse_platform(wanted))
    assert "unknown" not in str(caught.value).partition(";")[2]


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/a/b/c", "a b/c", "linux/arm\n"])
def test_a_platform_is_written_os_architecture_variant(text):
    with pytest.raises(ArchiveError, match="write OS/ARCHITECTURE"):
        platforms.parse_platform(text)


def test_the_platform_of_this_machine_is_the_default():
    machine = platforms.host()
    own = _image(machine.os, machine.architecture, machine.variant)
    assert platforms.pick([UNKNOWN, own]) is own


def test_a_layout_of_several_tags_is_not_taken_for_several_platforms():
    arm = platforms.parse_platform("linux/arm64")
    several = documents.Index(schema_version=2, manifests=tuple(SEVERAL))
    assert platforms.select(several, arm) == (SEVERAL[5],)
    tags = documents.parse_index("index.json", UMOCI_INDEX)
    assert platforms.select(tags, arm) == tags.manifests
    named = tuple(documents.tagged(_image(), reference(name)) for name in ("a:1", "a:2"))
    layout = documents.Index(schema_version=2, manifests=(*named, UNKNOWN))
    assert platforms.select(layout, arm) == named
    assert platforms.select(documents.parse_index("i", INDEX)) == ()
