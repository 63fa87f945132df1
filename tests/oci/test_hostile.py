"""Archives that are damaged or malicious: one clear line, and nothing outside the tree."""

import os
import random
import subprocess

import pytest

from backends.errors import BackendError, CowshedError, NoSpace, NotSupported
from oci.errors import ArchiveError
from tests.conftest import mounted, require
from tests.oci.archives import (
    END,
    apply,
    extended,
    header,
    member,
    pax,
    summed,
)

FILE = member(b"f", b"x" * 700)


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture
def refused(tmp_path):
    """Apply what must be refused; the message, which must be one line."""

    def refuse(archive, kind=ArchiveError):
        with pytest.raises(kind) as caught:
            apply(archive, tmp_path / "tree")
        message = str(caught.value)
        assert message.isprintable(), message
        return message

    return refuse


@pytest.mark.parametrize(
    "data", [b"", b"x", b"\0" * 100, b"hello" * 1000, b"\x7fELF" + bytes(4096)]
)
def test_what_is_no_tar_is_called_so(refused, data):
    message = refused(data)
    assert "not a tar archive" in message or "cut short" in message


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([member(b"../f")], "'..'"),
        ([member(b"a/../../f")], "'..'"),
        ([member(b"a/..")], "'..'"),
        ([member(b"f"), header(b"g", b"1", link=b"../f")], "'..'"),
        ([header(b"g", b"1", link=b"/etc/hostname")], "'g': a hard link to '/etc/hostname'"),
        ([header(b"g", b"1", link=b"absent/f")], "not in the tree"),
        ([header(b"g", b"1", link=b"g")], "not in the tree"),
        ([member(b"f"), header(b"g", b"1", link=b"f/h")], "not in the tree"),
        ([header(b"d", b"5"), header(b"g", b"1", link=b"d")], "which is a directory"),
        ([header(b"g", b"1", link=b"/")], "which is a directory"),
        ([header(b"g", b"1")], "without a target"),
        ([header(b"g", b"2")], "without a target"),
        ([member(b"")], "no name"),
        ([member(b".")], "only a directory can be the root"),
        ([header(b"/", b"2", link=b"x")], "only a directory can be the root"),
        ([member(b"f"), member(b"f/g")], "Not a directory"),
        ([header(b"l", b"2", link=b"l"), member(b"l/g")], "Too many levels"),
        ([header(b"l", b"2", link=b"gone"), member(b"l/g")], "a link to nowhere"),
        ([pax((b"path", b"n" * 256)), FILE], "too long"),
        ([pax((b"linkpath", b"n" * 4096)), header(b"l", b"2", link=b"x")], "too long"),
        ([pax((b"path", b"a/" * (1 << 20))), FILE], "at most"),
        ([pax((b"path", b"a\0b")), FILE], "a zero byte"),
        ([pax((b"linkpath", b"a\0b")), header(b"l", b"2", link=b"x")], "a zero byte"),
        ([pax((b"SCHILY.xattr.", b"1")), FILE], "not the name of an extended attribute"),
        ([pax((b"SCHILY.xattr.a\0b", b"1")), FILE], "not the name of an extended attribute"),
        ([pax((b"SCHILY.xattr.user.a", b"1" * 70000)), FILE], "'user.a'"),
        ([pax((b"SCHILY.xattr.security.capability", b"1")), FILE], "'security.capability'"),
        ([pax((b"LIBARCHIVE.xattr.user.a", b"A")), FILE], "base64"),
        ([pax((b"SCHILY.acl.ace", b"owner@:rw::allow")), FILE], "NFSv4"),
        ([pax((b"SCHILY.acl.access", b"nonsense")), FILE], "no ACL entry"),
        ([header(b"f", b"M")], "another volume"),
        ([header(b"f", b"N")], "given up"),
        ([header(b"f", b"Q")], "type 'Q' is unknown"),
        ([header(b"f", b"\xff")], "is unknown"),
        ([header(b"f", size=b"00000000x00\0")], "not a number"),
        ([header(b"f", size=b"-0000000010\0")], "not a number"),
        ([header(b"f", size=b"\xff" * 12)], "size -1 is out of range"),
        ([header(b"f", size=b"\x80" + b"\x7f" * 11)], "out of range"),
        ([header(b"f", uid=b"\xff" * 8)], "user id -1 is out of range"),
        ([pax((b"uid", b"4294967295")), FILE], "user id 4294967295 is out of range"),
        ([pax((b"gid", b"-1")), FILE], "group id -1 is out of range"),
        ([pax((b"gid", b"1_0")), FILE], "not a number"),
        ([pax((b"size", b"-1")), FILE], "size -1 is out of range"),
        ([pax((b"mtime", b"now")), FILE], "not a time"),
        ([pax((b"mtime", b"9" * 20)), FILE], "not a time"),
        ([header(b"n", b"3", major=4096)], "major device number"),
        ([pax((b"hdrcharset", b"KOI8")), FILE], "character set"),
        ([extended(b"no record"), FILE], "does not begin with its length"),
        ([extended(b"9 a=1\n"), FILE], "not as long as it says"),
        ([extended(b"5 a=1\n"), FILE], "not as long as it says"),
        ([extended(b"0 a=1\n"), FILE], "not as long as it says"),
        ([extended(b"5 =1\n"), FILE], "not as long as it says"),
        ([extended(b"6 a1b\n"), FILE], "not as long as it says"),
        ([extended(b"9999999999999999999 a=1\n"), FILE], "not as long as it says"),
        ([header(b"x", b"x", 1 << 25)], "at most"),
        ([header(b"x", b"L", 1 << 21)], "at most"),
        ([FILE, pax((b"path", b"lost"))], "before its entry"),
        ([FILE, header(b"L", b"L", 2), b"l\0" + bytes(510)], "before its entry"),
        ([FILE, bytes(512), FILE], "something follows a block of zeros"),
        ([FILE, b"noise" * 200], "no header where one must be"),
    ],
)
def test_what_is_wrong_is_refused_and_named(refused, entries, says):
    assert says in refused(entries)


def sparse_0(*numbers, size=b"10", count=None):
    keys = [b"GNU.sparse.offset", b"GNU.sparse.numbytes"]
    records = [(keys[index % 2], number) for index, number in enumerate(numbers)]
    pieces = b"%d" % (len(numbers) // 2) if count is None else count
    return pax((b"GNU.sparse.size", size), (b"GNU.sparse.numblocks", pieces), *records)


def sparse_1(data, size=b"100", major=b"1"):
    records = (b"GNU.sparse.major", major), (b"GNU.sparse.minor", b"0")
    return [pax(*records, (b"GNU.sparse.realsize", size)), member(b"f", data)]


@pytest.mark.parametrize(
    "entries",
    [
        [sparse_0(b"0", b"5", b"3", b"5"), member(b"f", b"x" * 10)],
        [sparse_0(b"5", b"10"), member(b"f", b"x" * 10)],
        [sparse_0(b"0", b"9"), member(b"f", b"x" * 10)],
        [sparse_0(b"0", b"10", count=b"7"), member(b"f", b"x" * 10)],
        [sparse_0(b"0", b"10", count=b"-1"), member(b"f", b"x" * 10)],
        [sparse_0(b"-1", b"10"), member(b"f", b"x" * 10)],
        [sparse_0(b"0", b"10", size=b"99999999999999999999"), member(b"f", b"x" * 10)],
        [sparse_0(b"0", b"10", size=b"x"), member(b"f", b"x" * 10)],
        [pax((b"GNU.sparse.map", b"0,5,6"), (b"GNU.sparse.size", b"9")), member(b"f", b"x" * 5)],
        [pax((b"GNU.sparse.numbytes", b"1")), FILE],
        sparse_1(b"1\n0\n"),
        sparse_1(b"1\n0\n5\n".ljust(512, b"\0") + b"four"),
        sparse_1(b"9999999\n"),
        sparse_1(b"x" * 2000),
        sparse_1(b"99999999\n" + b"0\n" * 300),
        sparse_1(b"-1\n".ljust(512, b"\0")),
        sparse_1(b"0\n".ljust(512, b"\0"), major=b"2"),
    ],
)
def test_a_false_sparse_map_is_refused(refused, entries):
    message = refused(entries)
    assert "'f'" in message or "at byte 0" in message


def test_an_endless_chain_of_sparse_blocks_ends(refused):
    more = (b"%011o\0" % 0 * 42).ljust(504, b"\0") + b"\1" + bytes(7)
    first = bytearray(header(b"f", b"S", magic=b"ustar  \0"))
    first[386:482] = b"%011o\0" % 0 * 8
    first[482] = 1
    assert "more than" in refused([summed(first), more * 60000])


def test_a_checksum_of_signed_bytes_is_taken_and_any_other_refused(refused, tmp_path):
    block = bytearray(header(b"\xff\xfe", magic=bytes(8)))
    signed = sum(block[:148]) + sum(block[156:]) + 256 - 2 * 256
    block[148:156] = b"%06o\0 " % signed
    apply([bytes(block)], tmp_path / "tree")
    assert os.listdir(os.fsencode(tmp_path / "tree")) == [b"\xff\xfe"]
    block[0] = ord("g")
    assert "not a tar archive" in refused([bytes(block)])


@pytest.mark.parametrize("missing", [1, 511, 513, 1024])
def test_a_missing_end_is_noticed(refused, missing):
    archive = FILE + END
    assert "cut short" in refused(archive[:-missing])


def test_a_full_disk_is_called_so(tmp_path):
    with (
        mounted("tmpfs", "none", tmp_path / "small", "size=64k") as small,
        pytest.raises(NoSpace, match="the disk is full"),
    ):
        apply([member(b"big", b"x" * 200_000)], small)


def test_an_attribute_that_the_filesystem_refuses_is_named(tmp_path):
    with mounted("ramfs", "none", tmp_path / "plain", "rw") as plain:
        for name in (b"user.a", b"security.selinux"):
            with pytest.raises(NotSupported, match=name.decode()):
                apply([pax((b"SCHILY.xattr." + name, b"1")), member(b"f")], plain)


def test_a_time_that_the_filesystem_cannot_store_is_refused(tmp_path):
    require("mkfs.ext4")
    image = tmp_path / "ext4.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with (
        mounted("ext4", image, tmp_path / "ext4", "loop") as small,
        pytest.raises(NotSupported, match="cannot store the time 99999999999"),
    ):
        apply([pax((b"mtime", b"99999999999")), member(b"f")], small)


def test_a_tree_that_is_read_only_is_named_with_the_entry(tmp_path):
    with (
        mounted("tmpfs", "none", tmp_path / "ro", "ro") as read_only,
        pytest.raises(BackendError, match=r"'f'.*[Rr]ead-only"),
    ):
        apply([member(b"f")], read_only)


ARCHIVE = b"".join(
    [
        header(b"./", b"5"),
        pax((b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"v"), (b"path", b"long" * 30)),
        member(b"short", b"y" * 1300),
        header(b"l", b"2", link=b"long"),
        header(b"L", b"L", 5),
        b"name\0" + bytes(507),
        member(b"cut", b"z" * 3),
        header(b"h", b"1", link=b"name"),
        END,
    ]
)


def _fate(archive, tree):
    """Apply what may or may not be legal: it ends, by success or by an error of ours."""
    try:
        apply(archive, tree)
    except CowshedError as error:
        assert str(error).isprintable()
        return str(error)
    return None


def test_cut_at_any_block_it_is_refused(tmp_path):
    for length in range(0, len(ARCHIVE) - 512, 512):
        assert _fate(ARCHIVE[:length], tmp_path / "tree"), length


def test_cut_anywhere_it_ends_in_one_line(tmp_path):
    chosen = random.Random(1)
    for _ in range(100):
        assert _fate(ARCHIVE[: chosen.randrange(len(ARCHIVE) - 512)], tmp_path / "tree")


def test_flipped_bits_never_reach_outside_or_crash(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    chosen = random.Random(2)
    for _ in range(300):
        damaged = bytearray(ARCHIVE)
        for _ in range(chosen.choice((1, 1, 4))):
            damaged[chosen.randrange(len(damaged))] ^= 1 << chosen.randrange(8)
        if chosen.random() < 0.7:
            at = 512 * chosen.randrange(len(damaged) // 512)
            damaged[at : at + 512] = summed(damaged[at : at + 512])
        _fate(bytes(damaged), tmp_path / "tree")
    assert sorted(os.listdir(tmp_path)) == ["outside", "tree"]
    assert os.listdir(outside) == []
