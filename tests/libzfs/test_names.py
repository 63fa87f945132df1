"""Which names are legal, and numbers with units."""

import pytest

from backends import libzfs
from backends.libzfs import names


@pytest.mark.parametrize("name", ["tank", "tank/a b", "tank/ a ", "t/-_.:9", "tank/..a", "a" * 255])
def test_these_are_names_of_datasets(name):
    assert libzfs.validate_dataset_name(name)


@pytest.mark.parametrize(
    "name",
    ["", "/tank", "tank/", "tank//a", "tank@a", "tank#a", "tank/é", "tank/a\nb", "tank/a\tb",
     "tank/.", "tank/..", "tank/a*", "a" * 256],
)  # fmt: skip
def test_these_are_not(name):
    assert not libzfs.validate_dataset_name(name)


def test_a_snapshot_has_one_at_sign_and_something_on_both_sides():
    assert libzfs.validate_snapshot_name("tank/a@monday 1")
    for name in ("tank", "tank@", "@a", "tank@a@b", "tank@a/b", "tank@a#b", "tank#a"):
        assert not libzfs.validate_snapshot_name(name), name


def test_a_pool_begins_with_a_letter_and_is_not_called_like_a_vdev():
    assert libzfs.validate_pool_name("tank 1")
    for name in ("1tank", "-tank", "mirror-0", "raidz", "draid2", "spares", "log", "a/b", "a%", ""):
        assert not libzfs.validate_pool_name(name), name


@pytest.mark.parametrize("name", ["-r", "--", "-o x=y", "tank/a\0", "$(x)", "tank/a,b"])
def test_what_could_be_an_option_or_a_list_never_reaches_a_command(name):
    with pytest.raises(libzfs.ZFSException) as caught:
        names.check(name, "destroy")
    assert caught.value.code is libzfs.Error.INVALIDNAME


def test_a_name_deeper_than_fifty_levels_is_refused_as_zfs_refuses_it():
    names.check("/".join(["a"] * 50), "create")
    with pytest.raises(libzfs.ZFSException, match="nesting"):
        names.check("/".join(["a"] * 51), "create")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("512", 512), ("1K", 1024), ("1k", 1024), ("1KB", 1024), ("1KiB", 1024),
     ("1.5G", 3 << 29), (".5M", 1 << 19), ("16E", None), ("1B", 1), ("1BB", None), ("K", None),
     ("-1", None), ("1X", None), ("1 K", None), ("", None), ("15E", 15 << 60)],
)  # fmt: skip
def test_sizes_are_read_as_zfs_reads_them(text, number):
    if number is None:
        with pytest.raises(ValueError, match="Cannot convert"):
            libzfs.nicestrtonum(None, text)
    else:
        assert libzfs.nicestrtonum(None, text) == number
