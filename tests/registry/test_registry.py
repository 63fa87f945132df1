"""Against Docker's registry: what goes in comes out, and who may not gets one clear line."""

import io
import os
import subprocess
import threading

import pytest

from oci.digest import digest
from oci.documents import OCI_CONFIG, OCI_MANIFEST, Descriptor, dump_manifest, parse_manifest
from oci.registry.errors import Blocked, Missing, Unauthorized, Untrusted
from oci.registry.hosts import Registries, RegistryConfig
from tests.registry.conftest import put
from tests.registry.servers import ANN


def push_image(registry, repository, *tags):
    config = b'{"rootfs":{"type":"layers","diff_ids":[]}}'
    put(registry, repository, config)
    data = dump_manifest(
        Descriptor(media_type=OCI_CONFIG, digest=digest(config), size=len(config)), []
    )
    for tag in tags:
        assert registry.put_manifest(repository, tag, data, OCI_MANIFEST) == digest(data)
    return data


def read(registry, repository, data):
    with registry.blob(repository, digest(data), len(data)) as stream:
        return stream.read()


@pytest.mark.parametrize("size", [0, 1, 1 << 17, 3_000_001])
@pytest.mark.parametrize("chunk", [None, 1 << 20])
def test_a_blob_comes_back_as_it_was_sent(plain, connect, size, chunk):
    registry, data = connect(plain.name), os.urandom(size)
    repository = f"round/{'chunked' if chunk else 'whole'}"
    put(registry, repository, data, chunk=chunk)
    assert registry.has_blob(repository, digest(data))
    assert read(registry, repository, data) == data


@pytest.mark.parametrize("size", [0, 5, 40 << 20])
def test_a_blob_of_unknown_size_is_sent_as_it_comes(plain, connect, size):
    registry, data = connect(plain.name), os.urandom(size)
    assert registry.upload_stream("streamed", lambda: io.BytesIO(data)) == (digest(data), size)
    assert read(registry, "streamed", data) == data


def test_a_blob_that_is_not_there_is_told_apart_from_an_error(plain, connect):
    registry, absent = connect(plain.name), b"never sent"
    assert not registry.has_blob("base", digest(absent))
    with pytest.raises(Missing, match="BLOB_UNKNOWN"):
        read(registry, "base", absent)


def test_a_blob_is_mounted_from_another_repository_without_being_sent(plain, connect, blob):
    registry, (data, name) = connect(plain.name), blob
    assert registry.mount_blob("elsewhere", name, "base")
    assert read(registry, "elsewhere", data) == data
    assert not registry.mount_blob("elsewhere", digest(b"never sent"), "base")


def test_a_manifest_comes_back_with_its_digest_by_tag_and_by_digest(plain, connect):
    registry = connect(plain.name)
    data = push_image(registry, "image", "1")
    for reference in ("1", digest(data)):
        assert registry.manifest("image", reference, {OCI_MANIFEST}) == (
            data,
            OCI_MANIFEST,
            digest(data),
        )
        head = registry.head_manifest("image", reference, {OCI_MANIFEST})
        assert head == (OCI_MANIFEST, digest(data), len(data))
    assert registry.head_manifest("image", "2", {OCI_MANIFEST}) is None
    with pytest.raises(Missing, match=r"cannot read the manifest 2 of .*/image: .* answered 404"):
        registry.manifest("image", "2", {OCI_MANIFEST})


def test_images_go_to_skopeo_and_come_from_it_unchanged(plain, connect, needs):
    needs("skopeo")
    registry = connect(plain.name)
    data = push_image(registry, "ours", "1")
    copy = ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
    ours, theirs = (f"docker://{plain.name}/{name}:1" for name in ("ours", "theirs"))
    subprocess.run([*copy, "--dest-tls-verify=false", ours, theirs], check=True)
    assert registry.manifest("theirs", "1", {OCI_MANIFEST}).data == data
    config = parse_manifest("manifest", data).config
    with registry.blob("theirs", config.digest, config.size) as stream:
        assert digest(stream.read()) == config.digest


def test_the_tags_of_a_repository_and_all_repositories_are_listed(plain, connect, monkeypatch):
    monkeypatch.setattr("oci.registry.pages.PAGE", 2)
    registry = connect(plain.name)
    push_image(registry, "paged", "a", "b", "c", "d", "e")
    push_image(registry, "paged/other", "a")
    assert sorted(registry.tags("paged")) == ["a", "b", "c", "d", "e"]
    assert {"paged", "paged/other"} <= set(registry.catalog())
    assert [each.name for each in registry.search("AGED/oth")] == ["paged/other"]
    with pytest.raises(Missing, match="NAME_UNKNOWN"):
        list(registry.tags("nothing"))


def test_who_has_no_password_is_told_to_log_in_and_who_has_gets_in(locked, connect):
    with pytest.raises(Unauthorized, match=f"cowshed login {locked.name}"):
        connect(locked.name).ping()
    known = connect(locked.name, credentials=lambda registry, repository: ANN)
    assert known.ping()
    put(known, "mine", b"data")
    assert read(known, "mine", b"data") == b"data"
    wrong = ANN._replace(password="super-secret")
    with pytest.raises(Unauthorized, match="refuses the credentials") as caught:
        connect(locked.name, credentials=lambda registry, repository: wrong).ping()
    assert "super-secret" not in str(caught.value)


def test_a_registry_that_lets_everybody_in_has_checked_no_credentials(plain, connect):
    assert not connect(plain.name, credentials=lambda registry, repository: ANN).ping()


def test_requests_follow_each_other_on_one_connection(proxy, connect, blob):
    registry = connect(proxy.name)
    push_image(registry, "kept/open", "1")
    for _ in range(3):
        registry.manifest("kept/open", "1", {OCI_MANIFEST})
        assert registry.head_manifest("kept/open", "2", {OCI_MANIFEST}) is None
        assert read(registry, "base", blob[0]) == blob[0]
        put(registry, "kept/open", os.urandom(100))
    assert len({id(asked.connection) for asked in proxy.asked}) == 1


def test_a_certificate_must_be_trusted_and_its_authority_is_found_beside_docker(secure, connect):
    with pytest.raises(Untrusted, match=r"certs\.d.*/ca\.crt"):
        connect(secure.name).ping()
    trusting = connect(secure.name, certificates=[str(secure.directory / "certs.d")])
    put(trusting, "mine", b"data")
    assert read(trusting, "mine", b"data") == b"data"


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_nothing_is_verified_where_the_configuration_says_so(secure, connect):
    connect(secure.name, registries=Registries().allowing(secure.name)).ping()


def test_a_blocked_registry_is_not_even_asked(connect):
    with pytest.raises(Blocked, match="registry bad:5000 is blocked"):
        connect("bad:5000", registries=Registries({"bad:5000": RegistryConfig(blocked=True)}))


def test_many_threads_share_a_registry(plain, connect, blob):
    registry, (data, _) = connect(plain.name), blob
    failed = []

    def work():
        for _ in range(5):
            if read(registry, "base", data) != data:
                failed.append(True)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
