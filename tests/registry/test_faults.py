"""A registry that misbehaves: what is wanted comes after all, or one clear error does."""

import contextlib
import io
import json
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from oci.digest import digest
from oci.documents import OCI_MANIFEST
from oci.registry.errors import (
    BadAnswer,
    Corrupt,
    Denied,
    Interrupted,
    Missing,
    NotOffered,
    RateLimited,
    RegistryError,
    ServerFailed,
    Unreachable,
)
from oci.registry.hosts import Registries
from oci.registry.retry import ATTEMPTS, Clock
from tests.registry.servers import Answer, FaultProxy, free_port, new_certificate

KIB = 1024
UNCLEAN = b'{"errors":[{"message":"\\u001b[1m"}]}'
HTML = b"<html><body><h1>Gateway\x1b[31m</h1></body></html>"


def read(registry, blob):
    data, name = blob
    with registry.blob("base", name, len(data)) as stream:
        return stream.read()


def failing(registry, blob, kind, says):
    """Reading the blob ends in one line of this kind, and is no end of the stream."""
    with pytest.raises(kind, match=says) as caught:
        read(registry, blob)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600, message
    return message


def on_blobs(answer):
    """The behaviour that changes what is answered when a blob is asked for."""
    return lambda asked: answer(asked) if asked.is_blob() else asked.forward()


def times(count, first, then=None):
    """`first` for so many requests of a blob, the truth for all others."""
    seen = iter(range(count))

    def answer(asked):
        return asked.forward() if next(seen, None) is None else first(asked)

    return on_blobs(answer)


# Broken transfers


@pytest.mark.parametrize("kept", range(0, 16 * KIB + 1, KIB))
def test_a_transfer_cut_at_any_kilobyte_goes_on_from_there(proxy, connect, blob, kept):
    proxy.behave = times(1, lambda asked: asked.forward()._replace(cut=kept))
    assert read(connect(proxy.name), blob) == blob[0]
    ranges = [each.headers.get("Range") for each in proxy.asked if each.is_blob()]
    whole = kept == len(blob[0])
    assert ranges == ([None] if whole else [None, f"bytes={kept}-" if kept else None])


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("kept", [0, 1, 5000, 16383])
def test_a_transfer_by_tls_cut_anywhere_goes_on_from_there(tmp_path, plain, connect, blob, kept):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*new_certificate(tmp_path, tmp_path / "ca.crt"))
    with FaultProxy(plain.name, context) as proxy:
        proxy.behave = times(1, lambda asked: asked.forward()._replace(cut=kept))
        registry = connect(proxy.name, registries=Registries().allowing(proxy.name))
        assert read(registry, blob) == blob[0]
        assert sum(each.is_blob() for each in proxy.asked) == 2


def test_a_registry_that_is_started_anew_meanwhile_is_waited_for(plain, connect, blob):
    with contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        proxy = first.enter_context(FaultProxy(plain.name))
        proxy.behave = on_blobs(lambda asked: asked.forward()._replace(cut=5000))
        port = int(proxy.name.partition(":")[2])

        def sleep(seconds):
            first.close()
            if len(pauses) == 2:
                second.enter_context(FaultProxy(plain.name, port=port))
            pauses.append(seconds)

        pauses = []
        registry = connect(proxy.name, clock=Clock(sleep=sleep))
        assert read(registry, blob) == blob[0]
        assert len(pauses) == 3


def test_a_reader_that_takes_its_time_is_not_taken_for_a_stall(proxy, connect, blob):
    now = [0.0]
    registry = connect(proxy.name, clock=Clock(lambda: now[0]))
    with registry.blob("base", blob[1], len(blob[0])) as stream:
        while stream.read(1000):
            now[0] += 1000
    assert proxy.count("GET", "/blobs/") == 1


def test_a_transfer_cut_after_every_kilobyte_gets_there(proxy, connect, blob):
    proxy.behave = on_blobs(lambda asked: asked.forward()._replace(cut=KIB))
    assert read(connect(proxy.name), blob) == blob[0]
    assert proxy.count("GET", "/blobs/") == 16


def test_a_registry_that_ignores_range_is_read_again_up_to_there(proxy, connect, blob):
    cuts = iter([5000, 9000, 12345])

    def answer(asked):
        asked.headers.pop("Range", None)
        return asked.forward()._replace(cut=next(cuts, None))

    proxy.behave = on_blobs(answer)
    assert read(connect(proxy.name), blob) == blob[0]


def test_a_transfer_that_never_gets_on_is_given_up(proxy, connect, blob, pauses):
    proxy.behave = on_blobs(lambda asked: asked.forward()._replace(cut=0))
    failing(connect(proxy.name), blob, Interrupted, "broke off")
    assert len(pauses) == ATTEMPTS - 1
    assert pauses[-1] > pauses[0]


def test_a_connection_that_stalls_is_left_for_another(proxy, connect, blob):
    def stall(asked):
        answer = asked.forward()
        asked.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n")
        asked.connection.sendall(answer.body[:3000])
        time.sleep(1.5)

    proxy.behave = times(1, stall)
    assert read(connect(proxy.name), blob) == blob[0]


def dripping(text, head=b""):
    """The behaviour of saying `text` byte by byte, so that no single wait is long."""

    def drip(asked):
        try:
            asked.connection.sendall(head)
            for byte in text:
                asked.connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            pass

    return drip


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Long: " + b"x" * 1000),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    ],
    ids=["header", "continue"],
)
def test_a_head_that_drips_in_does_not_keep_us(proxy, connect, blob, head, text):
    proxy.behave = times(1, dripping(text, head))
    begun = time.monotonic()
    assert read(connect(proxy.name), blob) == blob[0]
    assert time.monotonic() - begun < 5
    assert proxy.count("GET", "/blobs/") == 2


def test_a_blob_that_drips_in_is_asked_for_again(proxy, connect, blob):
    def drip(asked):
        dripping(asked.forward().body, b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n")(asked)

    proxy.behave = times(1, drip)
    assert read(connect(proxy.name), blob) == blob[0]
    assert proxy.count("GET", "/blobs/") == 2


@pytest.mark.parametrize("kept", range(0, 200, 20))
def test_an_answer_whose_head_broke_off_is_no_answer(proxy, connect, kept):
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nX: " + b"y" * 200
    cuts = iter([kept])

    def cut(asked):
        keep = next(cuts, None) if "manifests" in asked.path else None
        if keep is None:
            return Answer(200, {"Content-Type": OCI_MANIFEST}, b"{}")
        asked.connection.sendall(whole[:keep])

    proxy.behave = cut
    found = connect(proxy.name).manifest("base", "1", {OCI_MANIFEST})
    assert found == (b"{}", OCI_MANIFEST, digest(b"{}"))


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2_000_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        b"\x00" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 1_000_000,
    ],
    ids=["headers", "header", "continue", "nonsense", "chunk", "chunk size"],
)
def test_what_is_no_http_ends_in_one_line(proxy, connect, blob, text):
    def say(asked):
        with contextlib.suppress(OSError):
            asked.connection.sendall(text)

    proxy.behave = on_blobs(say)
    failing(connect(proxy.name), blob, RegistryError, "cannot read the blob")


# Statuses


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(proxy, connect, blob, pauses, status):
    proxy.behave = times(3, lambda asked: Answer(status, {}, HTML))
    assert read(connect(proxy.name), blob) == blob[0]
    assert len(pauses) == 3


def test_a_registry_is_given_the_time_it_asks_for(proxy, connect, blob, pauses):
    in_half_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    waits = iter(["7", in_half_a_minute])
    proxy.behave = times(2, lambda asked: Answer(429, {"Retry-After": next(waits)}))
    assert read(connect(proxy.name), blob) == blob[0]
    assert pauses[0] == 7
    assert 25 < pauses[1] <= 30


def test_a_registry_that_asks_for_an_hour_is_not_waited_for(proxy, connect, blob, pauses):
    error = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}'
    proxy.behave = on_blobs(lambda asked: Answer(429, {"Retry-After": "3600"}, error))
    says = failing(connect(proxy.name), blob, RateLimited, "TOOMANYREQUESTS: pull rate limit")
    assert says.endswith("try again later, or log in")
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (403, Denied),
        (404, Missing),
        (405, NotOffered),
        (418, RegistryError),
        (503, ServerFailed),
        (299, BadAnswer),
        (304, BadAnswer),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        b'{"errors":',
        b'{"errors":[{"code":1}]}',
        b'{"errors":[{"message":"\\u001b[1m"}]}',
    ],
    ids=range(5),
)
def test_every_status_is_a_typed_error_of_one_line(proxy, connect, blob, status, kind, body):
    proxy.behave = on_blobs(lambda asked: Answer(status, {}, body))
    failing(connect(proxy.name), blob, kind, f"answered {status}")


def test_what_a_registry_says_is_told_without_its_control_characters(proxy, connect, blob):
    told = {"errors": [{"code": "DENIED", "message": "go\x1b[31m\r\naway " + "x" * 5000}]}
    proxy.behave = on_blobs(lambda asked: Answer(403, {}, json.dumps(told).encode()))
    failing(connect(proxy.name), blob, Denied, r"403 DENIED: go \[31m away x")


def test_nobody_there_is_told_at_once(connect, blob, pauses):
    failing(connect(f"127.0.0.1:{free_port()}"), blob, Unreachable, "not reachable: Connection ref")
    failing(connect("no-such-host.invalid"), blob, Unreachable, "no-such-host.invalid is not reach")
    assert pauses == []


# Lies


def test_a_blob_with_another_digest_is_no_blob(proxy, connect, blob):
    damaged = bytes([blob[0][0] ^ 1]) + blob[0][1:]
    proxy.behave = on_blobs(lambda asked: asked.forward()._replace(body=damaged))
    registry = connect(proxy.name)
    failing(registry, blob, Corrupt, "another digest")
    with registry.blob("base", blob[1], len(blob[0])) as stream:
        assert io.BufferedReader(stream).read(len(blob[0])) == damaged
        for _ in range(2):
            with pytest.raises(Corrupt):
                stream.read(1)


@pytest.mark.parametrize("length", [0, 1, 16383, 16385, 1 << 40])
def test_a_blob_of_another_length_is_no_blob(proxy, connect, blob, length):
    def answer(asked):
        return asked.forward().holding(Content_Length=str(length))._replace(cut=min(length, 16384))

    proxy.behave = on_blobs(answer)
    failing(connect(proxy.name), blob, Corrupt, f"has {length} bytes where 16384 are announced")


@pytest.mark.parametrize("extra", [b"", b"x", b"x" * (8 << 20)], ids=len)
def test_a_blob_without_a_length_ends_where_it_should(proxy, connect, blob, extra):
    def answer(asked):
        whole = asked.forward()
        told = whole.holding(Content_Length="absent")
        return told._replace(body=whole.body + extra, cut=len(whole.body + extra))

    proxy.behave = on_blobs(answer)
    if extra:
        failing(connect(proxy.name), blob, Corrupt, "longer than the 16384 bytes announced")
    else:
        assert read(connect(proxy.name), blob) == blob[0]


@pytest.mark.parametrize(
    "told", [None, "bytes 9-16383/16384", "bytes 0-1/17", "0-", "bytes 99999999999999999999-1/*"]
)
def test_a_range_that_was_not_asked_for_is_refused(proxy, connect, blob, told):
    first = iter([0])

    def answer(asked):
        if next(first, None) is not None:
            return asked.forward()._replace(cut=5)
        return asked.forward().holding(Content_Range=told)

    proxy.behave = on_blobs(answer)
    failing(connect(proxy.name), blob, (BadAnswer, Corrupt), "range|announced")


def manifest_answer(data, **headers):
    return lambda asked: Answer(200, {"Content-Type": OCI_MANIFEST}, data).holding(**headers)


@pytest.mark.parametrize(
    ("reference", "headers", "kind", "says"),
    [
        (digest(b"other"), {}, Corrupt, "instead of 'sha256:"),
        ("1", {"Docker_Content_Digest": digest(b"other")}, Corrupt, "instead of 'sha256:"),
        ("1", {"Docker_Content_Digest": "sha512:00"}, Corrupt, "instead of 'sha512:00'"),
        ("1", {"Docker_Content_Digest": "md5:00"}, BadAnswer, "of an unknown kind"),
        (
            "1",
            {"Content_Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"},
            NotOffered,
            "schema 1",
        ),
    ],
)
def test_a_manifest_that_is_not_what_was_asked_for(proxy, connect, reference, headers, kind, says):
    proxy.behave = manifest_answer(b"{}", **headers)
    with pytest.raises(kind, match=says):
        connect(proxy.name).manifest("base", reference, {OCI_MANIFEST})


def test_a_manifest_without_end_is_not_read_to_it(proxy, connect):
    def endless(asked):
        asked.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                asked.connection.sendall(bytes(1 << 16))
        except OSError:
            pass

    proxy.behave = endless
    with pytest.raises(BadAnswer, match="longer than 4194304 bytes"):
        connect(proxy.name).manifest("base", "1", {OCI_MANIFEST})


@pytest.mark.parametrize(
    ("head", "text"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n" * 50),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{", b" " * 200),
        (b"HTTP/1.1 200 OK\r\n\r\n{", b" " * 200),
    ],
    ids=["trailers", "body", "until it ends"],
)
def test_a_document_that_drips_in_is_given_up(proxy, connect, head, text):
    slow = iter([dripping(text, head)])

    def drip(asked):
        return next(slow, truth)(asked) if "manifests" in asked.path else asked.forward()

    def truth(asked):
        return Answer(200, {"Content-Type": OCI_MANIFEST}, b"{}")

    proxy.behave = drip
    found = connect(proxy.name).manifest("base", "1", {OCI_MANIFEST})
    assert found == (b"{}", OCI_MANIFEST, digest(b"{}"))
    assert proxy.count("GET", "/manifests/") == 2
