"""Who asks: challenges, tokens, and that credentials go nowhere else."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oci.credentials import Credentials
from oci.digest import digest
from oci.registry.auth import challenges
from oci.registry.errors import BadAnswer, Blocked, Unauthorized, Unreachable
from oci.registry.hosts import Registries
from tests.registry.conftest import put
from tests.registry.servers import ANN, Answer, FaultProxy, Tokens

ANN_BASIC = "Basic YW5uOmE6cGFzcyB3b3Jk"


def as_ann(registry, repository):
    return ANN


def read(registry, blob):
    data, name = blob
    with registry.blob("base", name, len(data)) as stream:
        return stream.read()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://a/b",service="c d"', [("bearer", "https://a/b", "c d")]),
        ('bearer Realm=x , SERVICE="y"', [("bearer", "x", "y")]),
        ('Basic realm="a, Bearer realm=\\"b\\""', [("basic", 'a, Bearer realm="b"', None)]),
        ('Negotiate abc==, Basic realm="r"', [("negotiate", None, None), ("basic", "r", None)]),
        ('Negotiate, Bearer realm="r"', [("negotiate", None, None), ("bearer", "r", None)]),
        ('Bearer realm="r",error="x", Basic', [("bearer", "r", None), ("basic", None, None)]),
        ('Bearer realm="unfinished', [("bearer", None, None)]),
        ("", []),
        ("=", []),
    ],
)
def test_challenges_are_read_as_rfc_9110_writes_them(header, found):
    assert [
        (each.scheme, each.parameters.get("realm"), each.parameters.get("service"))
        for each in challenges(header)
    ] == found


@given(st.text(alphabet='Bearer Basic ="\\,\t\x00é', max_size=300))
def test_no_challenge_is_too_strange(header):
    assert all(each.scheme for each in challenges(header))


@pytest.mark.parametrize("piece", ["a", "a ", "a=", 'a="', "\\", " ", ",", '"', "a b"])
def test_a_long_challenge_is_read_in_no_time(piece):
    challenges("Bearer " + piece * 10_000)


def test_an_anonymous_token_is_fetched_once_for_each_scope(proxy, connect, blob):
    proxy.behave = tokens = Tokens(proxy)
    registry = connect(proxy.name)
    for _ in range(3):
        assert read(registry, blob) == blob[0]
    assert registry.has_blob("base", blob[1])
    assert tokens.given == [
        {"service": ['a, "b"'], "scope": ["repository:base:pull"]},
        {"service": ['a, "b"'], "scope": ["repository:base:pull,push"]},
    ]


def test_threads_wait_for_one_token(proxy, connect, blob):
    proxy.behave = tokens = Tokens(proxy)
    registry = connect(proxy.name)
    threads = [threading.Thread(target=read, args=(registry, blob)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens.given) == 1


def test_a_token_that_expires_under_way_is_replaced(proxy, connect, blob):
    proxy.behave = tokens = Tokens(proxy, uses=1)
    tokens.then = lambda asked: (
        asked.forward()._replace(cut=4000) if asked.is_blob() else asked.forward()
    )
    assert read(connect(proxy.name), blob) == blob[0]
    assert len(tokens.given) == 5


def test_an_upload_outlives_its_tokens(proxy, connect):
    proxy.behave = tokens = Tokens(proxy, uses=1)
    data = bytes(300_000)
    put(connect(proxy.name), "expiring", data, chunk=100_000)
    assert len(tokens.given) == 5
    assert connect(proxy.name).has_blob("expiring", digest(data))


def test_a_token_is_renewed_before_it_expires(proxy, connect, blob, pauses):
    from oci.registry.retry import Clock

    proxy.behave = tokens = Tokens(proxy)
    now = [1000.0]
    registry = connect(proxy.name, clock=Clock(lambda: now[0], pauses.append))
    for later in (0, 280, 20):
        now[0] += later
        assert read(registry, blob) == blob[0]
    assert len(tokens.given) == 2


def test_credentials_go_where_tokens_are_given_and_tokens_to_the_registry(proxy, connect, blob):
    proxy.behave = tokens = Tokens(proxy, user=ANN_BASIC)
    registry = connect(proxy.name, credentials=as_ann)
    registry.ping()
    assert read(registry, blob) == blob[0]
    assert tokens.given[0] == {"service": ['a, "b"'], "account": ["ann"]}
    sent = {each.headers.get("Authorization") for each in proxy.asked if "token" not in each.path}
    assert sent == {None, "Bearer secret-1", "Bearer secret-2"}


def test_credentials_that_the_token_server_refuses_are_an_error_without_them(proxy, connect):
    proxy.behave = Tokens(proxy, user=ANN_BASIC)
    wrong = Credentials("ann", "my-password")
    with pytest.raises(Unauthorized, match="refuses the credentials; log in again") as caught:
        connect(proxy.name, credentials=lambda *_: wrong).ping()
    assert "my-password" not in str(caught.value) + repr(wrong)


def test_an_identity_token_is_exchanged_and_not_sent_as_a_password(proxy, connect):
    proxy.behave = tokens = Tokens(proxy)
    mine = Credentials("", "", "identity")
    connect(proxy.name, credentials=lambda *_: mine).ping()
    assert tokens.given == [
        {
            "service": ['a, "b"'],
            "grant_type": ["refresh_token"],
            "refresh_token": ["identity"],
            "client_id": ["cowshed"],
        }
    ]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"token":"a\\r\\nX: y"}', b'{"token":7}', b"x" * 2_000_000]
)
def test_an_answer_that_is_no_token_is_refused(proxy, connect, body):
    def behave(asked):
        if asked.path.startswith("/token"):
            return Answer(200, {}, body)
        return Answer(401, {"WWW-Authenticate": f'Bearer realm="http://{proxy.name}/token"'})

    proxy.behave = behave
    with pytest.raises(BadAnswer, match=r"token|longer"):
        connect(proxy.name).ping()


@pytest.mark.parametrize(
    ("header", "kind"),
    [
        ("", BadAnswer),
        ("Negotiate", BadAnswer),
        ("Bearer", BadAnswer),
        ('Bearer realm="/token"', BadAnswer),
        ('Bearer realm="file:///etc/passwd"', BadAnswer),
        ('Bearer realm="ftp://a/b"', BadAnswer),
        ('Bearer realm="http://[::1"', BadAnswer),
        ('Bearer realm="http://auth.example/token"', Blocked),
        ('Bearer realm="https://no-such-host.invalid/token"', Unreachable),
        ('Basic realm="x"', Unauthorized),
    ],
)
def test_a_challenge_that_cannot_be_met_is_one_line(proxy, connect, header, kind):
    proxy.behave = lambda asked: Answer(401, {"WWW-Authenticate": header})
    with pytest.raises(kind) as caught:
        connect(proxy.name, credentials=lambda *_: None).ping()
    assert str(caught.value).isprintable()


def redirecting(target):
    """The behaviour of sending whoever wants a blob to `target`, with a password wanted here."""

    def behave(asked):
        if asked.headers["Host"] != target and asked.headers.get("Authorization") != ANN_BASIC:
            return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
        if asked.is_blob() and asked.headers["Host"] != target:
            return Answer(307, {"Location": f"http://{target}{asked.path}"}, b"elsewhere")
        return asked.forward()

    return behave


def test_credentials_do_not_follow_to_a_foreign_host(proxy, connect, blob):
    proxy.behave = redirecting(proxy.foreign)
    registry = connect(proxy.name, credentials=as_ann)
    assert read(registry, blob) == blob[0]
    there = [each for each in proxy.asked if each.headers["Host"] == proxy.foreign]
    assert len(there) == 1
    assert "Authorization" not in there[0].headers
    here = [each for each in proxy.asked if each.is_blob() and each not in there]
    assert here[-1].headers["Authorization"] == ANN_BASIC


def test_a_transfer_cut_at_a_foreign_host_goes_on_there(proxy, connect, blob):
    follow = redirecting(proxy.foreign)

    def behave(asked):
        answer = follow(asked)
        whole = "Range" not in asked.headers and answer.status == 200 and asked.is_blob()
        return answer._replace(cut=5000) if whole else answer

    proxy.behave = behave
    assert read(connect(proxy.name, credentials=as_ann), blob) == blob[0]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("http://plain.example/x", Blocked),
        ("ftp://a/b", BadAnswer),
        ("http://[", BadAnswer),
        ("http://a:99999/", BadAnswer),
        ("", BadAnswer),
        ("https://no-such-host.invalid/", Unreachable),
    ],
)
def test_a_redirect_to_nowhere_good_is_refused(proxy, connect, blob, target, kind):
    proxy.behave = lambda asked: (
        Answer(302, {"Location": target}) if asked.is_blob() else asked.forward()
    )
    with pytest.raises(kind, match="cannot read the blob"):
        read(connect(proxy.name), blob)


def test_redirects_in_a_circle_end(proxy, connect, blob):
    proxy.behave = lambda asked: (
        Answer(302, {"Location": asked.path}) if asked.is_blob() else asked.forward()
    )
    with pytest.raises(BadAnswer, match="redirected more than"):
        read(connect(proxy.name), blob)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_no_redirect_leads_from_tls_to_plain_http(tmp_path, plain, connect, blob):
    import ssl

    from tests.registry.servers import new_certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*new_certificate(tmp_path, tmp_path / "ca.crt"))
    with FaultProxy(plain.name, context) as proxy:
        proxy.behave = lambda asked: (
            Answer(302, {"Location": f"http://{plain.name}/x"})
            if asked.is_blob()
            else asked.forward()
        )
        registry = connect(proxy.name, registries=Registries().allowing(proxy.name))
        with pytest.raises(Blocked, match="from TLS to plain HTTP"):
            read(registry, blob)


def test_an_upload_that_is_sent_to_a_foreign_host_goes_without_credentials(proxy, connect):
    def behave(asked):
        if asked.headers["Host"] == proxy.name:
            if asked.headers.get("Authorization") != ANN_BASIC:
                return Answer(401, {"WWW-Authenticate": 'Basic realm="x"'})
            answer = asked.forward()
            location = answer.headers.get("Location", "").replace(proxy.name, proxy.foreign)
            return answer.holding(Location=location)
        return asked.forward()

    proxy.behave = behave
    put(connect(proxy.name, credentials=as_ann), "foreign", b"data")
    there = [each for each in proxy.asked if each.headers["Host"] == proxy.foreign]
    assert [each.method for each in there] == ["PUT"]
    assert "Authorization" not in there[0].headers
