"""Where the name of a registry leads: mirrors, what is allowed, proxies, certificates."""

import ssl
import subprocess
import tomllib

import pytest

from oci.digest import digest
from oci.documents import OCI_MANIFEST
from oci.registry.errors import Blocked, Misconfigured, Missing, Untrusted
from oci.registry.hosts import (
    Host,
    Registries,
    RegistryConfig,
    hosts,
    is_loopback,
    origin,
    parse_registries,
    plain_allowed,
)
from oci.registry.transport import proxy_for
from tests.registry.servers import ANN, Answer, FaultProxy, free_port, new_certificate


def test_the_table_of_the_configuration_is_read():
    text = """
    [registries."docker.io"]
    mirrors = ["mirror.example.org", "cache.example.org:5000/hub/x"]
    [registries."cache.example.org:5000"]
    insecure = true
    """
    registries = parse_registries(tomllib.loads(text)["registries"])
    assert hosts(registries, "docker.io") == (
        Host("mirror.example.org", "mirror.example.org"),
        Host("cache.example.org:5000", "cache.example.org:5000", "hub/x/", insecure=True),
        Host("docker.io", "registry-1.docker.io"),
    )
    assert hosts(registries, "quay.io") == (Host("quay.io", "quay.io"),)


def test_a_blocked_mirror_is_left_out():
    table = {"a.b": RegistryConfig(mirrors=("m.n",)), "m.n": RegistryConfig(blocked=True)}
    assert [host.name for host in hosts(Registries(table), "a.b")] == ["a.b"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ([], "registries is not a table"),
        ({"a.b": 1}, "registries.'a.b' is not a table"),
        ({"https://a.b": {}}, "registries.'https://a.b' names no registry"),
        ({"a.b": {"insecur": True}}, "insecur is not known"),
        ({"a.b": {"insecure": "yes"}}, "insecure is neither true nor false"),
        ({"a.b": {"mirrors": "m"}}, "mirrors is not a list"),
        ({"a.b": {"mirrors": ["http://m"]}}, "not 'http://m'"),
        ({"a.b": {"mirrors": ["m/../x"]}}, "not 'm/../x'"),
        ({"a.b": {"mirrors": [1]}}, "not 1"),
    ],
)
def test_a_key_that_is_wrong_is_named(table, says):
    with pytest.raises(Misconfigured, match=says):
        parse_registries(table)


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),
    ],
)
def test_loopback_is_what_cannot_leave_this_machine(host, answer):
    assert is_loopback(host) is answer


def test_plain_http_is_for_loopback_and_for_what_is_marked():
    registries = Registries().allowing("lan:5000")
    assert plain_allowed(registries, origin("http://lan:5000/v2/"))
    assert plain_allowed(registries, origin("http://[::1]:5000/v2/"))
    assert not plain_allowed(registries, origin("http://lan:5001/"))
    assert not plain_allowed(registries, origin("http://lan/"))


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://quay.io", "http://p:1"),
        ({"https_proxy": "http://p:1"}, "https://quay.io", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://quay.io", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://quay.io", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, "http://quay.io", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://localhost:5000", None),
        ({"HTTPS_PROXY": "http://p:1"}, "https://127.0.0.1:5000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a,quay.io"}, "https://cdn.quay.io", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": ".quay.io"}, "https://cdn.quay.io", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "uay.io"}, "https://quay.io", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://quay.io", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "lan:5000"}, "https://lan:5000", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", "http://p:1"),
    ],
)
def test_proxies_are_those_of_the_environment(monkeypatch, environment, url, proxy):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(origin(url)) == proxy


def test_plain_http_goes_through_the_proxy_with_its_password(monkeypatch, plain, proxy, connect):
    monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{proxy.name}")
    seen = []

    def behave(asked):
        seen.append((asked.path, asked.headers.get("proxy-authorization")))
        return Answer(200, {})

    proxy.behave = behave
    registries = Registries().allowing("lan.invalid:5000")
    with pytest.raises(Exception, match="not reachable"):
        connect("lan.invalid:5000").ping()
    connect("lan.invalid:5000", registries=registries).ping()
    assert seen[-1] == ("http://lan.invalid:5000/v2/", "Basic bWU6cEBzcw==")


def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch, connect):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{free_port()}")
    with pytest.raises(Exception, match="proxy") as caught:
        connect("quay.io").ping()
    assert "secret" not in str(caught.value)


def mirrored(plain, *mirrors):
    return Registries({plain.name: RegistryConfig(mirrors=mirrors)})


def read(registry, blob):
    data, name = blob
    with registry.blob("base", name, len(data)) as stream:
        return stream.read()


def test_a_mirror_is_asked_first_and_its_own_credentials_are_taken(plain, proxy, connect, blob):
    asked_for = []

    def credentials(registry, repository):
        asked_for.append((registry, repository))
        return ANN

    def behave(asked):
        if "Authorization" not in asked.headers:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        assert asked.path.startswith("/v2/hub/base/")
        return Answer(404, {})

    proxy.behave = behave
    registries = mirrored(plain, f"{proxy.name}/hub")
    registry = connect(plain.name, registries=registries, credentials=credentials)
    assert read(registry, blob) == blob[0]
    assert asked_for == [(proxy.name, "hub/base")]
    assert proxy.count("GET", "/v2/hub/base/blobs/") == 2


def test_a_mirror_that_breaks_down_in_a_blob_is_left_with_a_warning(plain, proxy, connect, blob):
    cuts = iter([5000])

    def behave(asked):
        if not asked.is_blob():
            return asked.forward()
        kept = next(cuts, None)
        return Answer(403, {}) if kept is None else asked.forward()._replace(cut=kept)

    proxy.behave = behave
    registry = connect(plain.name, registries=mirrored(plain, proxy.name))
    with pytest.warns(UserWarning, match=f"going on without the mirror {proxy.name}"):
        assert read(registry, blob) == blob[0]
    before = len(proxy.asked)
    assert read(registry, blob) == blob[0]
    assert len(proxy.asked) == before


def test_a_manifest_that_a_mirror_has_not_got_comes_from_the_registry(plain, proxy, connect):
    proxy.behave = lambda asked: Answer(404, {})
    registry = connect(plain.name, registries=mirrored(plain, proxy.name))
    with pytest.raises(Missing, match=r"answered 404 MANIFEST_UNKNOWN|NAME_UNKNOWN"):
        registry.manifest("nothing/here", "1", {OCI_MANIFEST})
    assert proxy.count("GET", "/manifests/1") == 1


def test_nothing_is_written_to_a_mirror(plain, proxy, connect):
    registry = connect(plain.name, registries=mirrored(plain, proxy.name))
    from tests.registry.conftest import put

    put(registry, "written", b"data")
    assert registry.has_blob("written", digest(b"data"))
    assert proxy.asked == []


def test_a_registry_that_wants_a_certificate_gets_the_one_beside_it(tmp_path, plain, connect):
    authority = tmp_path / "ca.crt"
    certificate, key = new_certificate(tmp_path, authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_REQUIRED
    # With 1.3 the refusal comes after the handshake, and may be lost with the connection.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with FaultProxy(plain.name, context) as proxy:
        directory = tmp_path / "certs.d" / proxy.name
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(authority.read_bytes())
        options = {"certificates": [str(tmp_path / "certs.d")]}
        with pytest.raises(Untrusted, match=r"refuses TLS with us|certs.d"):
            connect(proxy.name, **options).ping()
        (directory / "client.cert").write_bytes(certificate.read_bytes())
        with pytest.raises(Untrusted, match=r"cannot use the certificate .*client.cert"):
            connect(proxy.name, **options).ping()
        (directory / "client.key").write_bytes(key.read_bytes())
        connect(proxy.name, **options).ping()
        locked = ["openssl", "ec", "-aes256", "-passout", "pass:x", "-in", key]
        subprocess.run([*locked, "-out", directory / "client.key"], check=True, capture_output=True)
        with pytest.raises(Untrusted, match="without a password"):
            connect(proxy.name, **options).ping()


def test_plain_http_beyond_this_machine_needs_to_be_allowed(proxy, connect, blob):
    elsewhere = "http://192.0.2.1/x"
    proxy.behave = lambda asked: (
        Answer(302, {"Location": elsewhere}) if asked.is_blob() else asked.forward()
    )
    with pytest.raises(Blocked, match=r"192\.0\.2\.1 is to be reached by plain HTTP"):
        read(connect(proxy.name), blob)
