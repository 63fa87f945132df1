"""References: the distribution grammar, Docker's short names, and errors that say what is right."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagegraph.errors import InvalidReference
from imagegraph.reference import Reference, parse, parse_tag_target

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
LONG = "/".join(["abcdefg"] * 32)


@pytest.mark.parametrize(
    ("text", "domain", "path", "tag", "digest", "familiar"),
    [
        ("debian", "docker.io", "library/debian", None, None, "debian"),
        ("debian:12", "docker.io", "library/debian", "12", None, "debian"),
        ("docker.io/debian", "docker.io", "library/debian", None, None, "debian"),
        ("index.docker.io/debian", "docker.io", "library/debian", None, None, "debian"),
        ("library/debian", "docker.io", "library/debian", None, None, "debian"),
        ("library/a/b", "docker.io", "library/a/b", None, None, "library/a/b"),
        ("team/app", "docker.io", "team/app", None, None, "team/app"),
        ("team/a/b/c:x", "docker.io", "team/a/b/c", "x", None, "team/a/b/c"),
        (f"app@{DIGEST}", "docker.io", "library/app", None, DIGEST, "app"),
        (f"r.io/app:1@{DIGEST}", "r.io", "app", "1", DIGEST, "r.io/app"),
        ("localhost/app", "localhost", "app", None, None, "localhost/app"),
        ("localhost:5000/app", "localhost:5000", "app", None, None, "localhost:5000/app"),
        ("host:5000/app:5050", "host:5000", "app", "5050", None, "host:5000/app"),
        ("192.168.0.1:8/app", "192.168.0.1:8", "app", None, None, "192.168.0.1:8/app"),
        ("192.168.0.1:80", "docker.io", "library/192.168.0.1", "80", None, "192.168.0.1"),
        ("[2001:db8::1]/app", "[2001:db8::1]", "app", None, None, "[2001:db8::1]/app"),
        ("[::1]:5000/app:t", "[::1]:5000", "app", "t", None, "[::1]:5000/app"),
        ("HOST/app", "HOST", "app", None, None, "HOST/app"),
        ("xn--n3h.com/a:xn--n3h.com", "xn--n3h.com", "a", "xn--n3h.com", None, "xn--n3h.com/a"),
        ("d__r/a---b", "docker.io", "d__r/a---b", None, None, "d__r/a---b"),
        ("a:UPPER_case.1-", "docker.io", "library/a", "UPPER_case.1-", None, "a"),
        ("docker.io/localhost/a", "docker.io", "localhost/a", None, None, "docker.io/localhost/a"),
        ("docker.io/x.y/a", "docker.io", "x.y/a", None, None, "docker.io/x.y/a"),
        (f"docker.io/{HEX}", "docker.io", f"library/{HEX}", None, None, f"library/{HEX}"),
    ],
)
def test_a_valid_reference_is_normalised(text, domain, path, tag, digest, familiar):
    reference = parse(text)
    assert reference == Reference(domain, path, tag, digest)
    assert reference.repository == f"{domain}/{path}"
    assert reference.familiar == familiar
    assert parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        (HEX, "are an id"),
        ("Debian", "must be lowercase, e.g. 'debian'"),
        ("team/App:1", "must be lowercase, e.g. 'team/app'"),
        ("docker.io/team/App", "lowercase"),
        ("https://docker.io/debian", "URL"),
        (":tag", "repository name"),
        (f"@{DIGEST}", "repository name"),
        ("debian:", "tag ''"),
        ("debian:-x", "tag '-x'"),
        ("debian:.x", "tag '.x'"),
        ("debian:a b", "tag 'a b'"),
        ("debian:a:b", "tag 'a:b'"),
        ("debian:" + "t" * 129, "tag"),
        ("debian:12\n", "tag"),
        ("debian\n", "repository name"),
        ("debian@", "digest ''"),
        ("debian@12", "digest '12'"),
        ("debian@sha256:abc", "needs 64"),
        (f"debian@sha256:{HEX.upper()}", "lower-case"),
        (f"debian@{DIGEST}0", "needs 64"),
        (f"debian@{DIGEST}@{DIGEST}", "needs 64"),
        (f"debian@md5:{HEX}", "not known"),
        ("a//b", "repository name"),
        ("a/", "repository name"),
        ("/a", "repository name"),
        ("-a", "repository name"),
        ("a-/b", "repository name"),
        ("a..b", "repository name"),
        ("a._b", "repository name"),
        ("a___b", "repository name"),
        ("_a/b", "repository name"),
        ("../a", "'..' is no registry"),
        ("-host.io/a", "no registry"),
        ("fc00::1:5000/a", "no registry"),
        ("[fe80::1%eth0]:5000/a", "no registry"),
        ("host:port/a", "no registry"),
        ("[fc00::1]", "repository name"),
        ("docker.io/" + LONG + "h", "256 characters"),
        ("dëbian", "repository name"),
        ("debian:١", "tag"),
        ("de\udcffbian", "repository name"),
        ("a\0b", "repository name"),
    ],
)
def test_an_invalid_reference_gets_one_line_that_says_why(text, why):
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert why in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250


def test_a_repository_name_may_have_255_characters():
    assert len(LONG) == 255
    assert parse(f"docker.io/{LONG}").path == LONG


def test_an_error_about_a_long_name_stays_short():
    with pytest.raises(InvalidReference) as caught:
        parse("$" * 100_000)
    assert len(str(caught.value)) < 250


def test_the_default_tag_is_latest_and_only_where_there_is_none():
    assert str(parse("debian").with_default_tag()) == "debian:latest"
    assert str(parse("debian:12").with_default_tag()) == "debian:12"
    assert parse(f"debian@{DIGEST}").with_default_tag().tag is None


def test_a_tag_target_has_a_tag_and_no_digest():
    assert parse_tag_target("team/app") == Reference("docker.io", "team/app", "latest")
    assert parse_tag_target("team/app:2").tag == "2"
    with pytest.raises(InvalidReference, match=r"cannot tag with a digest .* team/app:2"):
        parse_tag_target(f"team/app:2@{DIGEST}")


def test_a_tag_target_that_reads_like_a_digest_is_refused():
    assert parse(f"sha256:{HEX}").tag == HEX
    with pytest.raises(InvalidReference, match="reads like a digest"):
        parse_tag_target(f"sha256:{HEX}")


WORD = st.from_regex(r"[a-z0-9]{1,8}([._]|__|-{1,3})?[a-z0-9]{1,4}", fullmatch=True)
PATHS = st.lists(st.one_of(WORD, st.sampled_from(["library", "localhost", "docker.io", HEX])))
DOMAINS = st.sampled_from(
    ["", "docker.io/", "index.docker.io/", "localhost/", "a.b/", "h:1/", "UP/", "[::1]:5/"]
)
TAGS = st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
DIGESTS = st.sampled_from(["", f"@{DIGEST}", f"@sha512:{HEX}{HEX}"])


@given(DOMAINS, PATHS, TAGS, DIGESTS)
def test_what_parses_prints_as_something_that_parses_to_the_same(domain, path, tag, digest):
    try:
        reference = parse(domain + "/".join(path) + tag + digest)
    except InvalidReference:
        return
    assert parse(str(reference)) == reference
    assert parse(f"{reference.repository}{tag}{digest}") == reference


@given(st.one_of(st.text(), st.text(alphabet="aA0._-/:@[]\n")))
@example("docker.io/library/" + HEX)
def test_any_text_is_either_parsed_or_refused_in_one_line(text):
    try:
        reference = parse(text)
    except InvalidReference as error:
        assert str(error).isprintable()
    else:
        assert parse(str(reference)) == reference
