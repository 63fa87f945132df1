"""Words and variables of a Dockerfile line, by BuildKit's rules."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegraph.errors import StoreError
from imagegraph.expansion import expand, words

ENVIRONMENT = {"NAME": "value", "EMPTY": "", "PATH": "/bin:/usr/bin", "QUOTED": "a 'b' $NAME"}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", ""),
        ("plain", "plain"),
        ("$NAME", "value"),
        ("${NAME}s", "values"),
        ("$NAMEs", ""),
        ("/opt:$PATH", "/opt:/bin:/usr/bin"),
        ("$UNSET", ""),
        ("a$", "a$"),
        ("a$/b", "a$/b"),
        ("$1x", "x"),
        ("'$NAME'", "$NAME"),
        ('"$NAME"', "value"),
        (r"\$NAME", "$NAME"),
        (r'"\$NAME"', "$NAME"),
        (r'"a\b"', r"a\b"),
        (r'"a\\b"', r"a\b"),
        (r"a\b", "ab"),
        (r"a\\b", r"a\b"),
        ("a\\", "a"),
        ('"it\'s"', "it's"),
        (r'"say \"hi\""', 'say "hi"'),
        ("a'b'\"c\"", "abc"),
        ("$QUOTED", "a 'b' $NAME"),
        ("${UNSET:-x}", "x"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}", ""),
        ("${UNSET-x}", "x"),
        ("${NAME:-x}", "value"),
        ("${NAME:+x}", "x"),
        ("${EMPTY:+x}", ""),
        ("${EMPTY+x}", "x"),
        ("${UNSET+x}", ""),
        ("${NAME:?no}", "value"),
        ("${UNSET:-${NAME}/y}z", "value/yz"),
        ("${UNSET:-'}'}", "}"),
        (r"${UNSET:-\}}", "}"),
        ("${UNSET:-}", ""),
    ],
)
def test_variables_quotes_and_escapes_are_replaced(text, result):
    assert expand(text, ENVIRONMENT) == result


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("'open", "single quote"),
        ('"open', "double quote"),
        ("${NAME", "bad substitution"),
        ("${", "bad substitution"),
        ("${}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${NAME:-x", "no '}'"),
        ("${NAME:}", "unsupported modifier ':}'"),
        ("${NAME%x}", "unsupported modifier '%'"),
        ("${NAME/a/b}", "unsupported modifier '/'"),
        ("${UNSET:?give one}", "UNSET: give one"),
        ("${UNSET?}", "UNSET: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${A:-" * 2000 + "}" * 2000, "nested"),
    ],
)
def test_what_cannot_be_expanded_is_refused(text, why):
    with pytest.raises(StoreError, match=why):
        expand(text, ENVIRONMENT)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("", []),
        ("a  b\tc ", ["a", "b", "c"]),
        ('a="b c" d', ['a="b c"', "d"]),
        (r"a=b\ c d", [r"a=b\ c", "d"]),
        ("a='b \\' c", ["a='b \\'", "c"]),
        (r'a="b\" c" d', [r'a="b\" c"', "d"]),
        ('""', ['""']),
        ("a\\", ["a"]),
    ],
)
def test_words_are_split_outside_quotes_and_escapes(text, result):
    assert words(text) == result


@given(st.text(alphabet="aA1_ '\"\\$${}:-+?/"))
def test_any_text_is_either_expanded_or_refused(text):
    words(text)
    with suppress(StoreError):
        assert isinstance(expand(text, ENVIRONMENT), str)


@given(st.text(alphabet=st.characters(exclude_characters="'")))
def test_single_quotes_protect_everything(text):
    assert expand(f"'{text}'", ENVIRONMENT) == text
