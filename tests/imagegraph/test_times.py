"""Times keep every nanosecond, and read and print as Docker's do."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegraph.errors import StoreError
from imagegraph.times import (
    HOUR,
    MINUTE,
    SECOND,
    human_age,
    parse_duration,
    parse_rfc3339,
    parse_time,
    rfc3339,
)

DAY = 24 * HOUR
NOW = 1_714_557_600 * SECOND  # 2024-05-01T10:00:00Z


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (NOW, "2024-05-01T10:00:00Z"),
        (NOW + 120_000_000, "2024-05-01T10:00:00.12Z"),
        (NOW + 1, "2024-05-01T10:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800 * SECOND, "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_printed_in_utc_with_the_nanoseconds_it_has(moment, text):
    assert rfc3339(moment) == text
    assert parse_rfc3339(text) == moment


@given(st.integers(-62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1))
def test_a_printed_time_is_read_back_to_the_nanosecond(moment):
    assert parse_rfc3339(rfc3339(moment)) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:00:00+02:00", NOW),
        ("2024-05-01T04:30:00.5-05:30", NOW + SECOND // 2),
        ("2024-05-01T10:00:00.1234567899Z", NOW + 123_456_789),
    ],
)
def test_a_timestamp_may_have_an_offset_and_any_fraction(text, moment):
    assert parse_rfc3339(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-05-01",
        "2024-05-01T10:00:00",
        "2024-13-01T10:00:00Z",
        "2024-02-30T10:00:00Z",
        "2024-05-01T24:00:01Z",
        "2024-05-01 10:00:00Z",
        "2024-05-01T10:00:00Z\n",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:00",
        "2024-05-01T10:00:00+99:99",
    ],
)
def test_what_is_no_timestamp_is_refused_in_one_line(text):
    with pytest.raises(StoreError, match="invalid time") as caught:
        parse_rfc3339(text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("0s", 0),
        ("10m", 10 * MINUTE),
        ("1h30m", 90 * MINUTE),
        ("1.5h", 90 * MINUTE),
        (".5s", SECOND // 2),
        ("1.s", SECOND),
        ("100ms", 100_000_000),
        ("7us", 7_000),
        ("7µs", 7_000),
        ("3ns", 3),
        ("1h1m1s1ms1us1ns", HOUR + MINUTE + SECOND + 1_001_001),
        ("0.000000001s", 1),
    ],
)
def test_a_duration_is_read_exactly(text, span):
    assert parse_duration(text) == span


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s",
        ".s",
        "10",
        "-10m",
        "10 m",
        "1d",
        "10m!",
        "1h 2m",
        "m10",
        "1e3s",
        "9999999h",
        "9" * 99 + "s",
    ],
)
def test_what_is_no_duration_is_refused_in_one_line(text):
    with pytest.raises(StoreError, match="invalid duration") as caught:
        parse_duration(text)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 10 * MINUTE),
        ("1h30m", NOW - 90 * MINUTE),
        ("2024-05-01T10:00:00Z", NOW),
        ("2024-05-01T10:00Z", NOW),
        ("2024-05-01T10:00:00.000000001Z", NOW + 1),
        ("1714557600", NOW),
        ("1714557600.000000001", NOW + 1),
        ("1714557600.5", NOW + SECOND // 2),
        ("0", 0),
    ],
)
def test_until_takes_a_duration_a_timestamp_or_seconds(text, moment):
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:00:00", NOW),
        ("2024-05-01T12:00", NOW),
        ("2024-05-01T12", NOW),
        ("2024-05-01", NOW - 12 * HOUR),
        ("2024-01-01T01:00", NOW - 121 * DAY - 10 * HOUR),
    ],
)
def test_until_takes_a_time_without_a_zone_as_local(berlin, text, moment):
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "yesterday", "-10m", "2024-5-1", "2024-02-30", "10 m", "1.2.3"]
)
def test_until_refuses_anything_else_in_one_line(text):
    with pytest.raises(StoreError, match="invalid time"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (-HOUR, "Less than a second ago"),
        (SECOND - 1, "Less than a second ago"),
        (SECOND, "1 second ago"),
        (59 * SECOND, "59 seconds ago"),
        (MINUTE, "About a minute ago"),
        (2 * MINUTE, "2 minutes ago"),
        (HOUR - 1, "59 minutes ago"),
        (HOUR, "About an hour ago"),
        (89 * MINUTE, "About an hour ago"),
        (90 * MINUTE, "2 hours ago"),
        (47 * HOUR, "47 hours ago"),
        (2 * DAY, "2 days ago"),
        (13 * DAY, "13 days ago"),
        (14 * DAY, "2 weeks ago"),
        (59 * DAY, "8 weeks ago"),
        (60 * DAY, "2 months ago"),
        (729 * DAY, "24 months ago"),
        (730 * DAY, "2 years ago"),
    ],
)
def test_an_age_is_told_as_docker_tells_it(span, text):
    assert human_age(NOW - span, NOW) == text
