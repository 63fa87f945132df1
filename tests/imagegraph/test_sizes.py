"""Sizes are read exactly and printed as Docker prints them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegraph.errors import StoreError
from imagegraph.sizes import human_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("32b", 32),
        ("32B", 32),
        ("10G", 10 * 2**30),
        ("10gb", 10 * 2**30),
        ("10GiB", 10 * 2**30),
        ("10 g", 10 * 2**30),
        ("1.5k", 1536),
        (".5m", 2**19),
        ("5.m", 5 * 2**20),
        ("32T", 32 * 2**40),
        ("8191p", 8191 * 2**50),
        ("0.3", 0),
        # A float of this is 4503599627370497.5 rounded to even.
        ("4.0000000000000009p", 4503599627370497),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_read_exactly_in_binary_units(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "b",
        "G",
        ".",
        "-1",
        "+1",
        "-10G",
        "1e3",
        "10x",
        "10gg",
        "10gbb",
        "10ib",
        "10kbi",
        "10  g",
        " 10g",
        "10g ",
        "10g\n",
        "1_000",
        "1,5g",
        "1.2.3g",
        "0x10",
        "١٠",
        "nan",
        "inf",
        "8192p",
        "9" * 30,
        "9" * 5000,
    ],
)
def test_nonsense_is_refused_in_one_line(text):
    with pytest.raises(StoreError, match="invalid size") as caught:
        parse_size(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1, "1B"),
        (999, "999B"),
        (1000, "1kB"),
        (1024, "1.02kB"),
        (123_456_789, "123MB"),
        (1_240_000_000, "1.24GB"),
        (100_000_000, "100MB"),
        (72_500_000, "72.5MB"),
        (999_499, "999kB"),
        (999_999, "1MB"),
        (2**63 - 1, "9.22EB"),
    ],
)
def test_a_size_is_printed_with_three_digits_in_decimal_units(size, text):
    assert human_size(size) == text


@given(st.integers(0, 10**26))
def test_no_size_is_printed_with_an_exponent_or_out_of_proportion(size):
    text = human_size(size)
    number = text.rstrip("BkMGTPEZY")
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"].index(text[len(number) :])
    assert "e" not in number
    assert abs(float(number) * scale - size) <= size * 0.006
