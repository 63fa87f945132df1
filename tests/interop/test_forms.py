"""Every form that skopeo, Docker and Podman bring an image into is read, and ours are by them."""

import itertools
import json
from pathlib import Path

import pytest

from oci.digest import digest
from tests.conftest import require
from tests.interop.conftest import Grown, Shed
from tests.interop.images import by_hand, docker_archive, read_tar, write_tar
from tests.interop.peers import Docker, Podman, run

FORMS = ("docker-archive", "oci-archive", "oci")
NAME = "example.org/grown:6"
PLATFORMS = (("linux", "amd64", ""), ("linux", "arm64", "v8"), ("linux", "arm", "v7"))


def skopeo(*arguments: str) -> str:
    require("skopeo")
    return run("skopeo", "--insecure-policy", *arguments)


def place(form: str, path: Path) -> str:
    """An image as skopeo calls it; a layout or an OCI archive with a whole name in it."""
    return f"{form}:{path}:{NAME}"


def digest_of(image: str, *options: str) -> str:
    """The digest of an image's config; it does not end in white space."""
    return digest(skopeo(*options, "inspect", "--config", "--raw", image).encode())


@pytest.fixture(scope="session")
def named(grown: Grown) -> Grown:
    """The grown image with a name that has a host, as skopeo demands of a docker-archive."""
    grown.shed.ok("tag", grown.name, NAME)
    return grown


@pytest.mark.parametrize(("ours", "theirs"), [*itertools.product(FORMS, FORMS)])
def test_skopeo_turns_ours_into_any_form_which_comes_back(
    named: Grown, there: Shed, tmp_path: Path, ours: str, theirs: str
):
    packed = {"docker-archive": "none", "oci-archive": "gzip", "oci": "zstd"}[ours]
    if theirs == "docker-archive" and packed == "zstd":
        packed = "gzip"  # skopeo knows no zstd in Docker's images
    named.shed.ok(
        "save", "--format", ours, "--compress", packed, "-o", str(tmp_path / "ours"), NAME
    )
    source = f"{ours}:{tmp_path}/ours"
    config, diff_ids = named.shed.identity(NAME)
    assert digest_of(source) == config
    skopeo("copy", source, place(theirs, tmp_path / "theirs"))
    copied = digest_of(place(theirs, tmp_path / "theirs"))
    # skopeo writes a config anew where it makes an OCI image of a docker-archive.
    assert copied == config or (ours == "docker-archive" and theirs != ours)
    assert there.ok("load", "-i", str(tmp_path / "theirs")) == f"Loaded image: {NAME}\n"
    assert there.identity(NAME) == (copied, diff_ids)
    assert there.tree(NAME) == named.tree


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_the_digest_of_a_manifest_stays_when_it_is_to(named: Grown, tmp_path: Path, packed: str):
    named.shed.ok(
        "save", "--format", "oci", "--compress", packed, "-o", str(tmp_path / "ours"), NAME
    )
    [written] = json.loads((tmp_path / "ours/index.json").read_text())["manifests"]
    source, copy = f"oci:{tmp_path}/ours", place("oci-archive", tmp_path / "copy")
    skopeo("copy", "--preserve-digests", source, copy)
    told = {skopeo("inspect", "--format", "{{.Digest}}", image) for image in (source, copy)}
    assert told == {written["digest"]}


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_layers_are_unpacked_from_what_skopeo_packed_them_with(
    named: Grown, there: Shed, tmp_path: Path, packed: str
):
    named.shed.ok("save", "--format", "oci", "-o", str(tmp_path / "ours"), NAME)
    target = place("oci", tmp_path / "theirs")
    skopeo("copy", "--dest-compress-format", packed, f"oci:{tmp_path}/ours", target)
    layers = json.loads(skopeo("inspect", "--raw", target))["layers"]
    assert {layer["mediaType"].rpartition("+")[2] for layer in layers} == {packed}
    there.ok("load", "-i", str(tmp_path / "theirs"))
    assert there.identity(NAME) == named.shed.identity(NAME)
    assert there.tree(NAME) == named.tree


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir"])
def test_what_podman_saves_as_an_oci_image_is_read(
    named: Grown, podman: Podman, there: Shed, tmp_path: Path, form: str
):
    named.shed.ok("save", "-o", str(tmp_path / "ours"), NAME)
    podman.load(tmp_path / "ours", NAME)
    podman("save", "--format", form, "-o", tmp_path / "theirs", NAME)
    podman.remove(NAME)
    assert there.ok("load", "-i", str(tmp_path / "theirs")) == f"Loaded image: {NAME}\n"
    config = digest_of(f"{form.replace('dir', '').rstrip('-')}:{tmp_path}/theirs")
    assert there.identity(NAME) == (config, named.shed.identity(NAME)[1])
    assert there.tree(NAME) == named.tree


def test_what_docker_wrote_before_1_10_is_the_image_that_docker_makes_of_it(
    docker: Docker, there: Shed, tmp_path: Path
):
    """Docker 20.10 writes both forms into one archive, and reads each."""
    (tmp_path / "rootfs.tar").write_bytes(by_hand()[0])
    docker.build("old:1", tmp_path / "rootfs.tar", [])
    docker.build("old:2", tmp_path / "rootfs.tar", [renewed])
    docker.save(tmp_path / "both", "old:1", "old:2")
    whole = read_tar(tmp_path / "both")
    old = {path: data for path, data in whole.items() if "/" in path or path == "repositories"}
    assert {path.rpartition("/")[2] for path in old} == {
        "VERSION", "json", "layer.tar", "repositories",
    }  # fmt: skip
    write_tar(tmp_path / "old", old)
    docker.remove("old:1", "old:2")
    docker("load", "-i", tmp_path / "old")
    there.ok("load", "-i", str(tmp_path / "old"))
    for name in ("old:1", "old:2"):
        assert there.identity(name) == docker.identity(name)
    assert len(docker.identity("old:2")[1]) == 2


def renewed(top: Path) -> None:
    """A second layer."""
    (top / "file").write_text("another")
    (top / "early/a").unlink()


def test_one_image_is_taken_of_an_index_of_several_platforms(
    podman: Podman, there: Shed, elsewhere: Shed, tmp_path: Path
):
    podman("manifest", "create", "several:1")
    for number, platform in enumerate(PLATFORMS):
        _, architecture, variant = platform
        name = f"localhost/one:{architecture}"
        docker_archive(
            tmp_path / "one", name, by_hand(links_below=False)[: number + 1],
            architecture=architecture, variant=variant,
        )  # fmt: skip
        podman.load(tmp_path / "one", name)
        podman("manifest", "add", "several:1", f"containers-storage:{name}")
    layout = f"oci:{tmp_path}/several:several/all:1"
    podman("manifest", "push", "--all", "several:1", layout)
    skopeo("copy", "--all", layout, f"oci-archive:{tmp_path}/tar:several/all:1")
    for source, (number, platform) in itertools.product(("several", "tar"), enumerate(PLATFORMS)):
        _, architecture, variant = platform
        wanted = "/".join(filter(None, platform))
        there.ok("load", "--platform", wanted, "-i", str(tmp_path / source))
        config, diff_ids = there.identity("several/all:1")
        own = f"--override-arch={architecture}", f"--override-variant={variant}"
        assert config == digest_of(layout, *own)
        assert diff_ids == [digest(layer) for layer in by_hand(links_below=False)[: number + 1]]
    assert "linux/arm64" in elsewhere.refused(
        "load", "--platform", "linux/s390x", "-i", str(tmp_path / "several")
    )
