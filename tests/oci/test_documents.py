"""Documents of images, read and written: those of the real tools, and byte for byte like them."""

import hashlib
import json

import pytest

from imagegraph.reference import parse as reference
from oci import dockerarchive, documents
from oci.digest import Digest, chain_ids
from oci.dockerarchive import ArchivePath, DockerImage
from oci.documents import DOCKER_CONFIG, OCI_CONFIG, OCI_MANIFEST, Descriptor
from oci.errors import ArchiveError
from tests.oci.real_documents import (
    DOCKER_MANIFEST,
    DOCKER_REPOSITORIES,
    LEGACY_BASE,
    LEGACY_TOP,
    PODMAN_MANIFEST,
    SKOPEO_LEGACY,
    UMOCI_CONFIG,
    UMOCI_INDEX,
    UMOCI_MANIFEST,
)

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_chain_ids_are_those_of_the_image_spec():
    # The second and third by hand: printf '%s %s' CHAIN DIFF | sha256sum.
    first, second, third = chain_ids([A, B, A])
    assert first == A
    assert second == "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    assert third == "sha256:" + hashlib.sha256(f"{second} {A}".encode()).hexdigest()
    assert chain_ids([]) == []


def test_documents_of_umoci_and_podman_are_read():
    manifest = documents.parse_manifest("m", UMOCI_MANIFEST)
    assert (manifest.config.size, [layer.size for layer in manifest.layers]) == (299, [116])
    config = documents.parse_config("c", UMOCI_CONFIG)
    assert (config.architecture, config.os, config.created[:4]) == ("amd64", "linux", "2026")
    assert config.history[0].created_by == "umoci raw add-layer"
    documents.check_layers("c", config, len(manifest.layers))
    names = [i.annotations for i in documents.parse_index("index.json", UMOCI_INDEX).manifests]
    assert names == [{documents.REF_NAME: "base"}, {documents.REF_NAME: "v2"}]
    for written in (b'{"imageLayoutVersion":"1.0.0"}', documents.LAYOUT):
        documents.parse_layout("oci-layout", written)


def test_a_manifest_is_written_byte_for_byte_as_podman_writes_it():
    manifest = documents.parse_manifest("m", PODMAN_MANIFEST)
    assert documents.dump_manifest(manifest.config, manifest.layers) == PODMAN_MANIFEST


def test_manifest_json_and_repositories_are_written_byte_for_byte_as_docker_writes_them():
    images = dockerarchive.parse_docker_manifest(DOCKER_MANIFEST)
    assert images[1].repo_tags == ("a.test/x:2", "y:latest")
    assert dockerarchive.dump_docker_manifest(images) == DOCKER_MANIFEST
    repositories = dockerarchive.parse_repositories(DOCKER_REPOSITORIES)
    assert repositories["y"]["latest"][:4] == "4c2a"
    assert dockerarchive.dump_repositories(repositories) == DOCKER_REPOSITORIES


def test_manifest_json_has_null_without_tags_and_sources_of_layers_by_diff_id():
    layer = Descriptor(media_type=documents.layer_type("none"), digest=Digest(A), size=4)
    image = DockerImage(
        config=ArchivePath("blobs/sha256/c"),
        layers=(ArchivePath("blobs/sha256/l"),),
        layer_sources={Digest(A): layer},
    )
    written = dockerarchive.dump_docker_manifest([image])
    assert written == (
        b'[{"Config":"blobs/sha256/c","RepoTags":null,"Layers":["blobs/sha256/l"],'
        b'"LayerSources":{"%b":{"mediaType":"application/vnd.oci.image.layer.v1.tar",'
        b'"digest":"%b","size":4}}}]\n' % (A.encode(), A.encode())
    )
    assert dockerarchive.parse_docker_manifest(written) == [image]


def test_an_index_names_images_as_docker_and_containerd_do():
    image = documents.descriptor(PODMAN_MANIFEST, OCI_MANIFEST)
    index = documents.dump_index([documents.tagged(image, reference("y")._replace(tag="1"))])
    assert index == (
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        b'{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%b","size":%d,'
        b'"annotations":{"io.containerd.image.name":"docker.io/library/y:1",'
        b'"org.opencontainers.image.ref.name":"1"}}]}'
        % (image.digest.encode(), len(PODMAN_MANIFEST))
    )


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_is_written_is_read_again(docker, compression):
    kind = DOCKER_CONFIG if docker else OCI_CONFIG
    config = documents.descriptor(UMOCI_CONFIG, kind)
    layer = Descriptor(
        media_type=documents.layer_type(compression, docker=docker), digest=Digest(A), size=9
    )
    written = documents.dump_manifest(config, [layer, layer], docker=docker)
    manifest = documents.parse_manifest("m", written)
    assert (manifest.config, manifest.layers) == (config, (layer, layer))
    image = documents.descriptor(written, manifest.media_type)
    index = documents.parse_index("i", documents.dump_index([image], docker=docker))
    assert index.manifests == (image,)


def test_an_empty_list_is_written_where_the_spec_asks_for_one():
    config = documents.descriptor(UMOCI_CONFIG, OCI_CONFIG)
    assert json.loads(documents.dump_manifest(config, []))["layers"] == []
    assert json.loads(documents.dump_index([]))["manifests"] == []


def test_null_is_a_field_left_out():
    assert dockerarchive.parse_legacy("j", SKOPEO_LEGACY).parent is None
    bare = {"rootfs": {"type": "layers", "diff_ids": None}, "history": None, "variant": None}
    config = documents.parse_config("c", json.dumps(bare).encode())
    assert (config.rootfs.diff_ids, config.history, config.variant) == ((), (), "")


def test_unknown_fields_are_ignored_and_of_a_field_given_twice_the_last_counts():
    twice = b'{"schemaVersion":2,"new":{"x":[1.5]},"manifests":[1],"manifests":[]}'
    assert documents.parse_index("i", twice).manifests == ()


def test_a_config_needs_one_diff_id_for_each_layer_but_not_one_step_of_history():
    three = {"rootfs": {"type": "layers", "diff_ids": [A]}, "history": [{}, {}, {}]}
    config = documents.parse_config("c", json.dumps(three).encode())
    documents.check_layers("c", config, 1)
    with pytest.raises(ArchiveError, match=r"c: rootfs.diff_ids has 1 entries, but .* 2 layers"):
        documents.check_layers("c", config, 2)


def test_a_path_is_normalised():
    assert ArchivePath("./a//b/./c") == "a/b/c"


def _migrated(*chain):
    """The config of the image whose legacy documents these are, the top first."""
    images = [dockerarchive.parse_legacy("ID/json", data) for data in chain]
    found = dockerarchive.ancestry({image.id: image for image in images}, images[0].id)
    diff_ids = [
        "sha256:b79e93097d3a86d63c07c3e00c9caa433c2c994f69a0f4bc2b852a3bfcc70f67",
        "sha256:07bd6669394624bc25a36cb720e4a246876c6f42217b60f0d5465f3cd40c8c4f",
    ]
    return dockerarchive.migrated("ID/json", chain[0], found, diff_ids[: len(found)])


def test_an_image_from_before_docker_1_10_gets_the_id_that_docker_gives_it():
    # Ids from `docker load` of Docker 20.10.24.
    for chain, image in (
        ([LEGACY_BASE], "7915b3fd5b2597ca83724c46578bf4e9931c65ce7f108e6cb3dbb7da525ee8b4"),
        (
            [LEGACY_TOP, LEGACY_BASE],
            "e9f36ff2c4e0741f1b74ad9820c13e2e085422d163285db45fa4aaeb2478bffc",
        ),
    ):
        assert hashlib.sha256(_migrated(*chain)).hexdigest() == image
