"""Numbers, times and switches: text to Python and back, and as people read them."""

import datetime

import pytest

from backends import libzfs
from backends.libzfs.values import nicenum, shown


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0B"), (1023, "1023B"), (1024, "1K"), (1536, "1.50K"), (10239, "10.0K"),
     (99 * 1024 + 512, "99.5K"), (1 << 30, "1G"), ((1 << 30) + 1, "1.00G"), (123456789, "118M"),
     ((1 << 64) - 1, "16.0E"), (1023 << 20, "1023M"), ((1 << 20) - 1, "1024K")],
)  # fmt: skip
def test_bytes_are_shortened_to_five_characters_as_zfs_does(number, text):
    assert nicenum(number, "B") == text


def test_what_is_shown_follows_from_what_is_stored():
    assert shown("quota", "0") == "none"
    assert shown("quota", str(1 << 30)) == "1G"
    assert shown("recordsize", "131072") == "128K"
    assert shown("guid", "18446744073709551615") == "18446744073709551615"
    assert shown("compressratio", "1.05") == "1.05x"
    assert shown("copies", "1") == "1"
    assert shown("org.x:size", "1048576") == "1048576"
    assert shown("a_number_of_next_year", "1048576") is None


def test_values_are_parsed_as_py_libzfs_parses_them():
    parse = libzfs.parse_zfs_prop
    assert parse("used", "98304") == 98304
    assert parse("atime", "off") is False
    assert parse("mounted", "yes") is True
    assert parse("quota", "0") is None
    assert parse("canmount", "noauto") is None
    assert parse("filesystem_limit", "none") is None
    assert parse("creation", "1700000000") == datetime.datetime(2023, 11, 14, 22, 13, 20)
    assert parse("org.x:y", "text") == "text"
    assert libzfs.parse_zpool_prop("comment", "-") is None
    assert libzfs.parse_zpool_prop("autoexpand", "on") is True


def test_python_values_are_written_as_zfs_takes_them():
    write = libzfs.serialize_zfs_prop
    assert write("quota", None) == "none"
    assert write("quota", 1024) == "1024"
    assert write("atime", True) == "on"
    assert write("sharenfs", None) == "off"
    with pytest.raises(ValueError, match="read-only"):
        write("used", 1)
    with pytest.raises(ValueError, match="not nullable"):
        write("atime", None)
