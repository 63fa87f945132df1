"""Uploads that are disturbed: the blob arrives whole after all, or one clear error says why not."""

import io
import os
import socket
import threading
import time

import pytest

from oci.digest import digest
from oci.documents import OCI_MANIFEST
from oci.registry.errors import (
    BadAnswer,
    Corrupt,
    Missing,
    RegistryError,
    ServerFailed,
)
from oci.registry.retry import Clock
from oci.registry.transport import Timeouts
from oci.registry.upload import SourceError
from tests.registry.conftest import put
from tests.registry.servers import Answer

DATA = os.urandom(100_000)


def once(method, answer):
    """The behaviour of answering the first request with this method otherwise."""
    seen = iter([0])

    def behave(asked):
        if asked.method == method and next(seen, None) is not None:
            return answer(asked)
        return asked.forward()

    return behave


def lost(asked):
    """The registry has done it, but its answer is lost."""
    asked.forward()


def refused(asked):
    return Answer(503, {}, b"<html>")


def cut(asked):
    """The connection breaks off before the registry has seen anything."""


@pytest.mark.parametrize("chunk", [None, 30_000])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("fault", [lost, refused, cut])
def test_an_upload_survives_one_fault_anywhere(plain, proxy, connect, chunk, method, fault):
    proxy.behave = once(method, fault)
    data = os.urandom(100_000)
    put(connect(proxy.name), "disturbed", data, chunk=chunk)
    with connect(plain.name).blob("disturbed", digest(data), len(data)) as stream:
        assert stream.read() == data


def test_an_upload_of_which_only_the_answer_is_lost_is_not_sent_again(proxy, connect):
    proxy.behave = once("PUT", lost)
    put(connect(proxy.name), "answer/lost", DATA)
    assert proxy.count("PUT", "digest=") == 1


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize("fault", [lost, refused, cut])
def test_a_stream_survives_one_fault_anywhere(plain, proxy, connect, method, fault):
    proxy.behave = once(method, fault)
    data = os.urandom(100_000)
    sent = connect(proxy.name).upload_stream("disturbed", lambda: io.BytesIO(data))
    assert sent == (digest(data), len(data))
    with connect(plain.name).blob("disturbed", digest(data), len(data)) as stream:
        assert stream.read() == data


def test_an_upload_goes_on_where_the_session_stands(proxy, connect):
    """As specified: the session has got a part of what was sent."""
    held = bytearray()

    def behave(asked):
        if asked.method == "POST":
            return Answer(202, {"Location": "/v2/r/blobs/uploads/1?state=x"})
        if asked.method == "GET":
            assert asked.path == "/v2/" or asked.path.endswith("?state=x")
            return Answer(204, {"Range": f"0-{len(held) - 1}", "Location": asked.path})
        if asked.method == "PUT" and not held:
            held.extend(asked.body[:60_000])
            return Answer(502, {}, b"")
        if asked.method == "PATCH":
            assert asked.headers["Content-Range"] == "60000-99999"
            held.extend(asked.body)
            return Answer(202, {"Location": "/v2/r/blobs/uploads/1?state=x"})
        if asked.method == "HEAD":
            return Answer(404, {})
        assert asked.path.endswith(f"?state=x&digest=sha256%3A{digest(DATA)[7:]}")
        return Answer(201, {})

    proxy.behave = behave
    put(connect(proxy.name), "r", DATA)
    assert bytes(held) == DATA


def test_chunks_are_not_smaller_than_the_registry_wants(proxy, connect):
    def behave(asked):
        answer = asked.forward()
        return answer.holding(OCI_Chunk_Min_Length="40000") if asked.method == "POST" else answer

    proxy.behave = behave
    put(connect(proxy.name), "chunked", DATA, chunk=1000)
    sizes = [len(each.body) for each in proxy.asked if each.method == "PATCH"]
    assert sizes == [40_000, 40_000, 20_000]


def test_an_absurd_wish_for_chunks_is_refused(proxy, connect):
    proxy.behave = lambda asked: asked.forward().holding(OCI_Chunk_Min_Length="999999999")
    with pytest.raises(BadAnswer, match="wants chunks of 999999999 bytes"):
        put(connect(proxy.name), "chunked", DATA)


def test_an_upload_that_always_fails_is_given_up(proxy, connect, pauses):
    proxy.behave = lambda asked: refused(asked) if asked.method == "PUT" else asked.forward()
    with pytest.raises(ServerFailed, match=r"cannot push the blob .* answered 503"):
        put(connect(proxy.name), "hopeless", DATA)
    assert len(pauses) == 5


def test_a_session_that_is_lost_again_and_again_is_given_up(proxy, connect, pauses):
    def behave(asked):
        later = asked.method == "PATCH" and not asked.headers["Content-Range"].startswith("0-")
        return Answer(404, {}) if later else asked.forward()

    proxy.behave = behave
    with pytest.raises(Missing, match="answered 404"):
        put(connect(proxy.name), "lost", DATA, chunk=40_000)
    assert len(pauses) == 5


def test_a_stream_that_always_fails_is_given_up(proxy, connect, pauses):
    proxy.behave = lambda asked: refused(asked) if asked.method == "PUT" else asked.forward()
    with pytest.raises(ServerFailed, match=r"cannot push a blob to .* answered 503"):
        connect(proxy.name).upload_stream("hopeless", lambda: io.BytesIO(DATA))
    assert len(pauses) == 5


def test_a_registry_that_refuses_before_it_has_all_is_heard(connect, pauses):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            for answer in (b"200 x", b"202 x\r\nLocation: /u", b"413 x"):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(
                        b"HTTP/1.1 "
                        + answer
                        + b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                    )

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(RegistryError, match=r"answered 413 .*; raise the limit"):
            put(connect(f"127.0.0.1:{server.getsockname()[1]}"), "large", bytes(30 << 20))
        serving.join()
    assert pauses == []


def test_a_registry_that_takes_nothing_more_is_left_in_time(connect, monkeypatch):
    monkeypatch.setattr("oci.registry.connection.SENDING", 0.3)
    ended = threading.Event()

    def enough(seconds):
        raise TimeoutError

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connection, _ = server.accept()
            with connection:
                for answer in (b"200 x", b"202 x\r\nLocation: /u"):
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\n\r\n")
                ended.wait(10)

        serving = threading.Thread(target=serve)
        serving.start()
        patient = {"timeouts": Timeouts(connect=8, read=8), "clock": Clock(sleep=enough)}
        registry = connect(f"127.0.0.1:{server.getsockname()[1]}", **patient)
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            put(registry, "stuck", bytes(30 << 20))
        took = time.monotonic() - begun
        ended.set()
        serving.join()
    assert took < 5


@pytest.mark.parametrize("status", [403, 404])
def test_a_blob_that_may_not_be_mounted_is_not_mounted(proxy, connect, status):
    proxy.behave = lambda asked: Answer(status, {}) if "mount=" in asked.path else asked.forward()
    assert not connect(proxy.name).mount_blob("r", digest(DATA), "secret")


def test_an_upload_nobody_says_where_to_send_is_refused(proxy, connect):
    proxy.behave = lambda asked: Answer(202 if asked.method == "POST" else 200, {})
    with pytest.raises(BadAnswer, match="does not say where"):
        put(connect(proxy.name), "nowhere", DATA)


def test_content_that_has_another_digest_is_not_stored(plain, connect):
    registry = connect(plain.name)
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        registry.upload("wrong", digest(b"other"), len(DATA), lambda offset: io.BytesIO(DATA))
    assert not registry.has_blob("wrong", digest(b"other"))


def test_content_that_ends_too_early_is_told_and_not_tried_again(plain, connect, pauses):
    registry = connect(plain.name)
    with pytest.raises(SourceError, match="ends 7 bytes too early"):
        registry.upload("short", digest(DATA), len(DATA) + 7, lambda offset: io.BytesIO(DATA))
    assert pauses == []


def test_content_that_cannot_be_read_is_not_taken_for_a_broken_connection(plain, connect, pauses):
    def missing(offset):
        return open("/nonexistent/layer", "rb")

    with pytest.raises(SourceError, match="cannot read what is to be pushed"):
        connect(plain.name).upload("missing", digest(DATA), len(DATA), missing)
    assert pauses == []


def test_a_manifest_that_the_registry_stored_otherwise_is_an_error(proxy, connect):
    proxy.behave = lambda asked: Answer(201, {"Docker-Content-Digest": digest(b"other")})
    with pytest.raises(Corrupt, match="instead of"):
        connect(proxy.name).put_manifest("r", "1", b"{}", OCI_MANIFEST)


def test_a_manifest_is_sent_again_after_a_fault(proxy, connect):
    answers = iter([None, Answer(503, {}), Answer(201, {})])
    proxy.behave = lambda asked: next(answers) if asked.method == "PUT" else asked.forward()
    assert connect(proxy.name).put_manifest("r", "1", b"{}", OCI_MANIFEST) == digest(b"{}")
    assert proxy.count("PUT", "/manifests/1") == 3


def test_a_registry_that_does_not_take_an_upload_is_left_in_time(proxy, connect):
    def stuck(asked):
        if asked.method == "PUT":
            time.sleep(2.5)
            return None
        return asked.forward()

    proxy.behave = once("PUT", lambda asked: stuck(asked))
    put(connect(proxy.name), "stuck", DATA)
    assert proxy.count("PUT", "digest") == 2
