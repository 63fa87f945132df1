"""Archives of images whose manifests and indexes do not fit together, loaded into a real store."""

import json

import pytest

from oci.errors import ArchiveError
from tests.oci.bundles import (
    BETTER,
    FORMS,
    GOOD,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Layout,
    blob,
    config,
    docker,
    index,
    legacy,
    manifest_of,
    oci,
    sha256,
    with_config,
)


def _layer_type(media_type, **fields):
    layout = Layout()
    own = layout.add(GOOD, media_type, **fields)
    return layout.index(layout.image([own], config([sha256(GOOD)])))


# Layers that are missing, repeated, too many, or none


def test_layers_that_are_missing_are_refused(hostile):
    for form in FORMS:
        for path, data in FORMS[form](GOOD, BETTER).items():
            files = FORMS[form](GOOD, BETTER)
            if data in (GOOD, BETTER):
                del files[path]
                assert "no file" in hostile.refuse(files, ArchiveError)


@pytest.mark.parametrize(
    ("diff_ids", "layers"), [(0, 1), (1, 0), (1, 2), (2, 1), (3, 2), (1000, 1), (1, 1000)]
)
def test_config_and_manifest_must_have_as_many_layers(hostile, diff_ids, layers):
    for files in with_config(config([sha256(GOOD)] * diff_ids), *[GOOD] * layers):
        assert "rootfs.diff_ids" in hostile.refuse(files, ArchiveError)


def test_a_layer_may_be_there_twice(hostile):
    for form in FORMS:
        assert hostile.take(FORMS[form](GOOD, BETTER, GOOD)) == {
            "etc/motd": b"moo\n",
            "etc/hostname": b"barn\n",
        }


@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_layers_are_too_many(hostile, form):
    said = hostile.refuse(FORMS[form](*[GOOD] * 10_000), ArchiveError)
    assert "1000" in said


def test_an_image_without_layers_is_refused(hostile):
    for files in with_config(config([])):
        assert "no layers" in hostile.refuse(files, ArchiveError)


def test_an_archive_without_images_is_refused(hostile):
    for files in (
        {**docker(GOOD), "manifest.json": b"[]"},
        {**oci(GOOD), "index.json": index([])},
        {**legacy(GOOD), "repositories": b"{}"},
    ):
        assert "no images" in hostile.refuse(files, ArchiveError)
    assert "no archive of images" in hostile.refuse({"etc/passwd": b"root"}, ArchiveError)


# Kinds of layers, and indexes


@pytest.mark.parametrize(
    "media_type",
    [
        OCI_LAYER + "+gzip+encrypted",
        OCI_LAYER + "+encrypted",
        "application/vnd.in-toto+json",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        OCI_LAYER + "+brotli",
        "",
        "\u001b[2J",
        OCI_LAYER.upper(),
    ],
)
def test_what_is_no_layer_is_refused(hostile, media_type):
    assert "mediaType" in hostile.refuse(_layer_type(media_type), ArchiveError)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ],
)
def test_a_foreign_layer_is_taken_from_the_archive_and_never_fetched(hostile, media_type):
    urls = ["http://127.0.0.1:1/layer", "file:///etc/passwd"]
    files = _layer_type(media_type, urls=urls)
    assert hostile.take(files) == {"etc/motd": b"moo\n"}
    del files[blob(sha256(GOOD))]
    assert "no file" in hostile.refuse(files, ArchiveError)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mediaType": "application/vnd.docker.distribution.manifest.v1+json"}, "mediaType"),
        ({"mediaType": OCI_INDEX}, "mediaType"),
        ({"schemaVersion": 1}, "schemaVersion 1"),
        ({"manifests": []}, "manifests"),
        ({"fsLayers": []}, "fsLayers"),
        ({"config": None}, "config is missing"),
        ({"config": {"mediaType": "x", "digest": sha256(b""), "size": 0}}, "no image"),
        ({"layers": [{}]}, "layers[0]"),
    ],
)
def test_what_is_no_manifest_is_refused(hostile, fields, says):
    assert says in hostile.refuse(manifest_of(**fields), ArchiveError)


def test_a_cycle_of_indexes_ends(hostile):
    """The digest of what holds itself cannot be right."""
    layout = Layout()
    lie = sha256(b"an index")
    platform = {"os": "linux", "architecture": "amd64"}
    entry = {"mediaType": OCI_INDEX, "digest": lie, "size": 0, "platform": platform}
    entry["size"] = len(index([{**entry, "size": 100}]))
    data = index([entry])
    layout.files[blob(lie)] = data
    assert "is damaged" in hostile.refuse(layout.index({**entry, "size": len(data)}), ArchiveError)
    entry["mediaType"] = OCI_MANIFEST
    assert "is damaged" in hostile.refuse(layout.index({**entry, "size": len(data)}), ArchiveError)


def test_indexes_in_each_other_are_followed_only_so_far(hostile):
    platform = {"os": "linux", "architecture": "amd64"}
    layout = Layout()
    inner = layout.image([layout.add(GOOD, OCI_LAYER)], config([sha256(GOOD)]))
    for depth in range(10):
        inner = layout.add(index([{**inner, "platform": platform}]), OCI_INDEX)
        files = layout.index(inner)
        if depth < 4:
            assert hostile.take(files) == {"etc/motd": b"moo\n"}
        else:
            assert "indexes" in hostile.refuse(files, ArchiveError)


def test_an_ancestry_that_goes_in_a_circle_is_refused(hostile):
    files = legacy(GOOD, BETTER)
    first, second = f"{0:064x}", f"{1:064x}"
    for parent, said in ((second, "its own ancestor"), (first, "its own ancestor"), ("f" * 64, "")):
        changed = {**files, f"{first}/json": json.dumps({"id": first, "parent": parent}).encode()}
        assert said in hostile.refuse(changed, ArchiveError)
