"""Which image of an index is the one for a platform.

Platforms are written OS/ARCHITECTURE[/VARIANT] in Go's words (image-index.md); names of
uname(2) and variants that say nothing are put as containerd's platforms package puts them. An
image for a lower variant of the same architecture will do, the highest first. Another
architecture never does, though an arm64 may be able to run arm.
"""

import re
from collections.abc import Iterable

from imagegraph.config import ARCHITECTURES, host_platform
from oci.documents import IMAGE_NAME, REF_NAME, Descriptor, Index, Platform
from oci.errors import ArchiveError
from oci.json import quoted

_GRAMMAR = re.compile(r"([a-z0-9]+)/([A-Za-z0-9_.-]+)(?:/([A-Za-z0-9_.-]+))?")
_ALIASES = {
    **ARCHITECTURES,
    "x86-64": ("amd64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
# The variant that an architecture alone means; it and the empty one are the same.
_USUAL = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
_ATTESTATION = "vnd.docker.reference.type"


def host() -> Platform:
    """The platform of this machine."""
    architecture, variant = host_platform()
    return Platform(os="linux", architecture=architecture, variant=variant)


def parse_platform(text: str) -> Platform:
    """The platform that a user means, e.g. linux/arm64 or linux/arm/v7; ArchiveError."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        raise ArchiveError(
            f"invalid platform {quoted(text)}: write OS/ARCHITECTURE[/VARIANT], e.g. linux/arm64"
        )
    return Platform(os=match[1], architecture=match[2], variant=match[3] or "")


def select(index: Index, platform: Platform | None = None) -> tuple[Descriptor, ...]:
    """The images that an index stands for: one of several platforms, or all of a layout.

    An index is one image for several platforms when its descriptors have platforms and no names;
    else it is a layout of several images, each of which may be an index again.
    Attestations are left out. `platform` is this machine's if None. ArchiveError if none fits.
    """
    images = tuple(image for image in index.manifests if not is_attestation(image))
    if any(map(_is_named, images)) or not any(image.platform for image in images):
        return images
    return (pick(images, platform),)


def pick(images: Iterable[Descriptor], platform: Platform | None = None) -> Descriptor:
    """The image for `platform` (this machine's if None), the first of equals; ArchiveError."""
    wanted = platform or host()
    known = [image for image in images if image.platform and not is_attestation(image)]
    fitting = [(rank, image) for image in known if (rank := _rank(image, wanted)) is not None]
    if not fitting:
        there = ", ".join(sorted({shown(image.platform) for image in known if image.platform}))
        raise ArchiveError(
            f"there is no image for {shown(wanted)}; "
            + (f"choose a platform of {there[:1000]}" if there else "the index has no platforms")
        )
    return max(fitting, key=lambda entry: entry[0])[1]


def is_attestation(image: Descriptor) -> bool:
    """Whether this is what BuildKit stores beside an image: its provenance or its contents."""
    platform = image.platform
    return _ATTESTATION in image.annotations or (
        platform is not None and (platform.os, platform.architecture) == ("unknown", "unknown")
    )


def shown(platform: Platform) -> str:
    """A platform as users write it; a hostile one stays on its line."""
    text = "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))
    return text if _GRAMMAR.fullmatch(text) else quoted(text)


def _is_named(image: Descriptor) -> bool:
    return REF_NAME in image.annotations or IMAGE_NAME in image.annotations


def _rank(image: Descriptor, wanted: Platform) -> int | None:
    """How good an image is for a platform: the higher the better, None if not at all."""
    assert image.platform is not None
    os, architecture, variant = _normalised(image.platform)
    if (os, architecture) != _normalised(wanted)[:2]:
        return None
    most = _normalised(wanted)[2]
    if variant == most:
        return 1 << 32
    own, limit = _level(variant), _level(most)
    return own if own is not None and limit is not None and own <= limit else None


def _normalised(platform: Platform) -> tuple[str, str, str]:
    architecture, variant = platform.architecture.lower(), platform.variant.lower()
    architecture, implied = _ALIASES.get(architecture, (architecture, ""))
    if variant.isdecimal():
        variant = f"v{variant}"
    return platform.os.lower(), architecture, variant or implied or _USUAL.get(architecture, "")


def _level(variant: str) -> int | None:
    match = re.fullmatch(r"v([0-9]{1,4})", variant)
    return int(match[1]) if match else None
