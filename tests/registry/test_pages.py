"""Lists in pages, and searches, as registries offer them or do not."""

import json

import pytest

from oci.registry.errors import BadAnswer, NotOffered
from oci.registry.pages import Found
from tests.registry.servers import Answer


def paged(pages, **links):
    """The behaviour of giving these pages one after the other; `links` replace the next ones."""

    def behave(asked):
        number = int(asked.path.partition("last=")[2] or 0)
        body = json.dumps({"tags": pages[number], "repositories": pages[number]}).encode()
        link = links.get(f"after_{number}", f'</v2/r/tags/list?last={number + 1}>; rel="next"')
        return Answer(200, {"Link": link} if number + 1 < len(pages) else {}, body)

    return behave


def test_every_page_is_read_and_only_when_it_is_needed(proxy, connect):
    proxy.behave = paged([["a", "b"], [], None, ["c"]])
    tags = connect(proxy.name).tags("r")
    assert next(tags) == "a"
    assert proxy.count("GET", "/tags/list") == 1
    assert list(tags) == ["b", "c"]


@pytest.mark.parametrize(
    "link",
    [
        '</v2/r/tags/list?last=1>; rel="next"',
        "<?last=1>;rel=next",
        '<http://HOST/v2/r/tags/list?last=1>; a="b"; rel="next"',
        '</first>; rel="first", </v2/r/tags/list?last=1>; rel="next"',
    ],
)
def test_the_next_page_is_where_link_says(proxy, connect, link):
    proxy.behave = paged([["a"], ["b"]], after_0=link.replace("HOST", proxy.name))
    assert list(connect(proxy.name).tags("r")) == ["a", "b"]


@pytest.mark.parametrize(
    "link",
    [
        '<https://elsewhere.example/v2/>; rel="next"',
        '<ftp://a/b>; rel="next"',
        '<http://[>; rel="next"',
        '<?n=1000&last=0>; rel="next"',
    ],
)
def test_a_next_page_elsewhere_or_seen_before_is_refused(proxy, connect, link):
    proxy.behave = paged([["a"], ["b"]], after_0=link)
    with pytest.raises(BadAnswer, match="cannot list the tags"):
        list(connect(proxy.name).tags("r"))


def test_pages_without_end_end(proxy, connect, monkeypatch):
    monkeypatch.setattr("oci.registry.pages.PAGES", 10)
    proxy.behave = paged([["a"]] * 1000)
    with pytest.raises(BadAnswer, match="more than 10 pages"):
        list(connect(proxy.name).tags("r"))


@pytest.mark.parametrize("page", [[""], ["a\x1b[1m"], ["a b"], ["x" * 300], [1], "abc", {"a": 1}])
def test_a_name_that_is_none_is_refused(proxy, connect, page):
    proxy.behave = paged([page])
    with pytest.raises(BadAnswer, match="cannot list the tags") as caught:
        list(connect(proxy.name).tags("r"))
    assert str(caught.value).isprintable()


def test_a_search_is_answered_by_the_registry_where_it_can(proxy, connect):
    found = {"name": "a/b", "description": "what\n\x1bis", "star_count": 3, "is_official": True}

    def behave(asked):
        assert asked.path == "/v2/" or asked.path.startswith("/v1/search?q=a+%26&n=25")
        return Answer(200, {}, json.dumps({"results": [found, {"name": "a/c"}]}).encode())

    proxy.behave = behave
    assert list(connect(proxy.name).search("a &")) == [
        Found("a/b", "what is", 3, True),
        Found("a/c"),
    ]


@pytest.mark.parametrize("status", [403, 404, 405, 200])
def test_a_search_looks_through_the_catalog_where_there_is_no_other(proxy, connect, status):
    catalog = paged([["Xa", "xb"], ["y", "zx"]], after_0='</v2/_catalog?last=1>; rel="next"')
    proxy.behave = lambda asked: (
        Answer(status, {}, b"<html>") if "/v1/" in asked.path else catalog(asked)
    )
    assert [each.name for each in connect(proxy.name).search("X")] == ["Xa", "xb", "zx"]
    assert [each.name for each in connect(proxy.name).search("X", 2)] == ["Xa", "xb"]


@pytest.mark.parametrize("status", [403, 404, 405])
def test_a_registry_without_any_search_says_so(proxy, connect, status):
    proxy.behave = lambda asked: Answer(200 if asked.path == "/v2/" else status, {})
    with pytest.raises(NotOffered, match="offers no search"):
        list(connect(proxy.name).search("x"))
