"""A tar is recorded as it is read, unpacked, and rebuilt from the tree to the last bit."""

import base64
import gzip
import io
import json
import os
import random
import subprocess
import tarfile
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import BackendError
from oci import tarsplit
from oci.errors import ArchiveError
from oci.sandbox import run_inside
from oci.tar import Reader
from oci.tarsplit import Body, Segment
from tests.conftest import require
from tests.oci.archives import (
    END,
    apply,
    body,
    gnu_tar,
    header,
    make,
    member,
    pax,
    summed,
)
from tests.trees import fill


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


def record_of(archive):
    """The record that is made while the archive is read."""
    with tempfile.TemporaryFile() as out:
        writer = tarsplit.Writer(out.fileno())
        for _ in Reader(io.BytesIO(archive), writer):
            pass
        writer.close()
        out.seek(0)
        return out.read()


def rebuilt(record, tree):
    """What comes of a record and a tree; the length told must be that of what was written."""
    out = io.BytesIO()
    length = tarsplit.rebuild(io.BytesIO(record), str(tree), out.write)
    assert length == len(out.getvalue())
    return out.getvalue()


def comes_back(archive, tree):
    """Whether the archive is the same after it was recorded, unpacked and rebuilt."""
    if not isinstance(archive, bytes):
        archive = b"".join(archive) + END
    record = record_of(archive)
    apply(archive, tree)
    return rebuilt(record, tree) == archive


def bodies(archive):
    """The names and sizes of the bodies that are left to the tree."""
    found = tarsplit.entries(io.BytesIO(record_of(archive)))
    return [part[:2] for part in found if isinstance(part, Body)]


def lines(*parts):
    """A record of these lines, given as bytes or as what JSON is made of."""
    return gzip.compress(
        b"".join((p if isinstance(p, bytes) else json.dumps(p).encode()) + b"\n" for p in parts)
    )


def of_file(name, size, position=0, **fields):
    return {"type": 1, "name": name, "size": size, "payload": None, "position": position, **fields}


def of_segment(data, position=0):
    return {"type": 2, "payload": base64.b64encode(data).decode(), "position": position}


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


def fill_plainly(tree):
    """What every format of tar can hold."""
    (tree / "d/e").mkdir(parents=True)
    (tree / "empty").touch()
    (tree / "d/one").write_bytes(b"1")
    (tree / "d/block").write_bytes(bytes(512))
    (tree / "d/e/big").write_bytes(random.Random(1).randbytes(3_000_001))
    (tree / "link").symlink_to("d/e")
    os.link(tree / "d/one", tree / "hard")


@pytest.mark.parametrize("kind", ["v7", "oldgnu", "gnu", "ustar", "posix"])
@pytest.mark.parametrize("factor", [1, 20, 63])
def test_what_gnu_tar_writes_in_every_format_and_blocking(source, tmp_path, kind, factor):
    fill_plainly(source)
    archive = gnu_tar("-C", source, f"--format={kind}", f"-b{factor}", "-cf", "-", ".")
    assert comes_back(archive, tmp_path / "tree")
    assert len(record_of(archive)) < 5000


def test_a_tree_with_one_of_everything(source, tmp_path):
    fill(source)
    archive = gnu_tar(
        "-C", source, "--format=posix", "--xattrs", "--xattrs-include=*", "-cf", "-", "."
    )
    assert comes_back(archive, tmp_path / "tree")
    assert comes_back(make(tmp_path / "tree"), tmp_path / "again")


@pytest.mark.parametrize("kind", ["ustar", "pax", "gnutar", "v7"])
def test_what_bsdtar_writes(source, tmp_path, kind):
    require("bsdtar")
    fill_plainly(source)
    command = ["bsdtar", "-C", source, "--format", kind, "-cf", "-", "."]
    archive = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert comes_back(archive, tmp_path / "tree")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_python_writes(source, tmp_path, kind):
    fill_plainly(source)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        archive.add(source, ".")
    assert comes_back(out.getvalue(), tmp_path / "tree")


@pytest.mark.parametrize("kind", ["gnu", "posix"])
def test_long_names_and_names_that_are_not_utf_8(source, tmp_path, kind):
    below = source / ("d" * 200) / ("e" * 200)
    below.mkdir(parents=True)
    (below / ("f" * 255)).write_bytes(b"far down")
    for name in (
        b"caf\xe9",
        "café".encode(),
        b"\xff\n\xed\xa0\x80",
        b"\xef\xbf\xbd",
        b'"<\\>&\x01',
    ):
        Path(os.fsdecode(os.fsencode(source) + b"/" + name)).write_bytes(name)
    archive = gnu_tar("-C", source, f"--format={kind}", "-cf", "-", ".")
    assert comes_back(archive, tmp_path / "tree")
    assert (b"./caf\xe9", 4) in bodies(archive)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        (b"", False),
        (b"a/b", False),
        ("ä☺".encode(), False),
        (b"\xe4", True),
        (b"\xed\xa0\x80", True),
    ],
)
def test_a_name_goes_raw_only_where_it_is_not_utf_8(name, needed):
    assert tarsplit.needs_name_raw(name) is needed


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
)
def test_sparse_members_are_kept_whole_in_the_record(source, tmp_path, options):
    with (source / "sparse").open("wb") as file:
        for number in range(50):
            file.seek(number << 20)
            file.write(b"%d" % number * 5000)
        file.truncate(60 << 20)
    (source / "zz").write_bytes(b"dense")
    archive = gnu_tar("-C", source, "--sparse", *options, "-cf", "-", "sparse", "zz")
    assert comes_back(archive, tmp_path / "tree")
    assert bodies(archive) == [(b"zz", 5)]


STAR = summed(
    header(b"star", size=5, prefix=b"dir")[:345]
    + b"dir".ljust(131, b"\0")
    + b"00000000001 00000000001 "
    + bytes(8)
    + b"tar\0"
)
ODD = {
    "star": [STAR, body(b"12345")],
    "a global header": [pax((b"comment", b"x" * 3000), kind=b"g"), member(b"f", b"1")],
    "a size told by PAX": [pax((b"size", b"3")), header(b"f"), body(b"abc")],
    "a name told by PAX": [pax((b"path", b"other/name")), member(b"f", b"abc")],
    "a volume label": [header(b"label", b"V"), member(b"f", b"1")],
    "a contiguous file": [header(b"f", b"7", 3) + body(b"abc")],
    "an absolute path": [member(b"/a//./f", b"1"), member(b"./a/./g/.", b"2")],
    "padding that is not zero": [header(b"f", size=3), b"abc".ljust(512, b"!"), member(b"g", b"1")],
    "a link that is replaced": [header(b"f", b"2", link=b"/etc/passwd"), member(b"f", b"1")],
    "names through links": [
        member(b"a/b/f", b"0"),
        header(b"c", b"2", link=b"/a/../../a/./b//"),
        header(b"a/d", b"2", link=b"../c"),
        member(b"a/d/g", b"1"),
        header(b"a/b/up", b"2", link=b"../../../.."),
        member(b"a/d/up/h", b"2"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("archive", ODD.values(), ids=ODD)
def test_odd_archives(tmp_path, archive):
    assert comes_back(archive, tmp_path / "tree")


EMBEDDED = {
    "a hard link": [pax((b"mtime", b"1")), member(b"f", b"abc"),
                    pax((b"mtime", b"1")), header(b"g", b"1", 3, link=b"f") + body(b"abc")],
    "a directory of a dump": [header(b"d/", b"D", 6) + body(b"Yname\0")],
    "a directory told by a slash": [header(b"d/", b"0", 6) + body(b"ignore")],
    "a whiteout": [member(b"d/.wh.f", b"why")],
    "a file of aufs": [member(b".wh..wh.plnk/1.2", b"linked")],
}  # fmt: skip


@pytest.mark.parametrize("archive", EMBEDDED.values(), ids=EMBEDDED)
def test_bodies_that_make_no_file_are_kept_in_the_record(tmp_path, archive):
    archive = b"".join(archive) + END
    assert bodies(archive) in ([], [(b"f", 3)])
    assert comes_back(archive, tmp_path / "tree")


@pytest.mark.parametrize("end", [bytes(512), bytes(1024), bytes(10240), END + b"more" * 700_000])
def test_the_end_of_an_archive_is_kept_whatever_it_is(tmp_path, end):
    assert comes_back(member(b"f", b"1") + end, tmp_path / "tree")


def test_a_path_longer_than_path_max_that_leads_through_links(tmp_path):
    deep = b"/".join([b"d" * 200] * 40)
    link = [pax((b"path", deep + b"/l")), header(b"x", b"2", link=b"/top/./..")]
    up = [pax((b"path", deep + b"/l/" + deep + b"/up")), header(b"x", b"2", link=b"..")]
    far = deep + b"/l/" + deep + b"/up/" + b"d" * 200 + b"/g"
    files = [
        pax((b"path", deep + b"/f")),
        member(b"x", b"1"),
        pax((b"path", far)),
        member(b"x", b"2"),
    ]
    assert comes_back([header(b"top/", b"5"), *link, *up, *files], tmp_path / "tree")


def test_a_file_that_a_later_entry_replaced_is_noticed(tmp_path):
    for number, other in enumerate((b"other", b"longer", None)):
        tree = tmp_path / str(number)
        second = header(b"f", b"6") if other is None else member(b"f", other)
        archive = member(b"f", b"first") + second + END
        apply(archive, tree)
        with pytest.raises(BackendError, match="'f' is not as it was unpacked"):
            rebuilt(record_of(archive), tree)


def test_the_reader_gives_the_record_every_byte_whether_it_is_asked_for_or_not(tmp_path):
    archive = member(b"a", b"x" * 3_000_000) + member(b"b", b"y" * 700) + bytes(10240)
    with tempfile.TemporaryFile() as out:
        writer = tarsplit.Writer(out.fileno())
        reader = Reader(io.BytesIO(archive), writer)
        for entry in reader:
            if entry.path == b"a":
                reader.piece()
        writer.close()
        out.seek(0)
        record = out.read()
    assert record == record_of(archive)


def test_a_record_is_written_in_a_chroot_where_nothing_can_be_imported(tmp_path):
    archive = member(b"caf\xe9", b"123456789") + member(b"b", b"b") + END
    (tmp_path / "empty").mkdir()

    def work(pipe):
        with io.FileIO(pipe, closefd=False) as stream:
            out = os.open("/record", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            writer = tarsplit.Writer(out)
            for _ in Reader(stream, writer):
                pass
            writer.close()
        return "written"

    assert run_inside(str(tmp_path / "empty"), work, lambda pipe: os.write(pipe, archive))
    assert (tmp_path / "empty/record").read_bytes() == record_of(archive)


def test_a_full_disk_is_one_line():
    with open("/dev/full", "wb", buffering=0) as out:
        with pytest.raises(BackendError, match="cannot write the tar-split record"):
            tarsplit.Writer(out.fileno()).close()


def test_the_record_has_the_fields_that_go_expects():
    archive = member(b"f", b"123456789") + member(b"caf\xe9", b"123456789") + bytes(1024)
    written = [json.loads(line) for line in gzip.decompress(record_of(archive)).splitlines()]
    crc = base64.b64encode(bytes.fromhex("b90956c775a41001")).decode()  # hash/crc64, ISO
    assert [line["position"] for line in written] == [0, 1, 2, 3, 4]
    assert written[1] == of_file("f", 9, 1, payload=crc)
    assert written[3] == {
        "type": 1, "name_raw": "Y2Fm6Q==", "size": 9, "payload": crc, "position": 3
    }  # fmt: skip
    assert base64.b64decode(written[0]["payload"]) == header(b"f", size=9)
    assert set(written[0]) == {"type", "payload", "position"}


def test_long_runs_of_bytes_without_a_file_are_several_lines():
    archive = header(b"d/", b"D", 5 << 20) + bytes(5 << 20) + END
    parts = list(tarsplit.entries(io.BytesIO(record_of(archive))))
    assert b"".join(part.data for part in parts) == archive
    assert {len(part.data) for part in parts[:-1]} == {tarsplit.MAX_SEGMENT}


def slow_crc(data):
    """CRC-64 with the ISO polynomial, bit by bit, as Go's table is made."""
    crc = (1 << 64) - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xD800000000000000 if crc & 1 else 0)
    return crc ^ (1 << 64) - 1


@given(st.lists(st.binary(max_size=700), max_size=5))
def test_the_checksum_is_that_of_go_however_the_body_is_cut(pieces):
    data = b"".join(pieces)
    with tempfile.TemporaryFile() as out:
        writer = tarsplit.Writer(out.fileno())
        writer.begin(b"f", len(data))
        for piece in pieces:
            writer.data(piece)
        writer.end()
        writer.close()
        out.seek(0)
        assert list(tarsplit.entries(out)) == [Body(b"f", len(data), slow_crc(data))]


def test_what_go_writes_is_read():
    record = lines(
        b'{"type":2,"payload":"aGVhZGVy","position":0}',
        b'{"type":1,"name":"./","payload":null,"position":1}',
        b'{"type":1,"name":"a\\u003cb\\u003e\\u0026","size":4,"payload":"xYYV740qx64=","position":2}',
        b'{"type":1,"name_raw":"Li9jYWbp","size":500,"payload":"xYYV740qx64=","position":3}',
        b'{"type":2,"payload":"","position":4}',
        b'{"type":2,"payload":null,"position":5}',
    )
    crc = 0xC58615EF8D2AC7AE
    assert list(tarsplit.entries(io.BytesIO(record))) == [
        Segment(b"header"), Body(b"./", 0, None), Body(b"a<b>&", 4, crc),
        Body(b"./caf\xe9", 500, crc), Segment(b""), Segment(b""),
    ]  # fmt: skip


def test_a_file_of_no_bytes_is_not_looked_for(tmp_path):
    record = lines(of_file("../../dev/full", 0), of_segment(b"x", 1))
    assert rebuilt(record, tmp_path) == b"x"


GOOD = of_file("f", 4)
WHOLE = lines(*(of_segment(os.urandom(3000), number) for number in range(5)))
HOSTILE = {
    "nothing": b"",
    "nothing in gzip": gzip.compress(b""),
    "an image": b"\x89PNG\r\n",
    "no JSON": lines(b"{"),
    "an empty line": lines(b"", GOOD),
    "a list": lines([]),
    "a number": lines(1),
    "null": lines(None),
    "no type": lines({"payload": "", "position": 0}),
    "an unknown type": lines({**GOOD, "type": 3}),
    "a type that is text": lines({**GOOD, "type": "1"}),
    "no position": lines({"type": 2, "payload": ""}),
    "no payload": lines({"type": 2, "position": 0}),
    "a first line that is not the first": lines({**GOOD, "position": 1}),
    "positions out of order": lines(GOOD, of_file("g", 1, 2), of_file("h", 1, 1)),
    "a position twice": lines(GOOD, GOOD),
    "a position beyond measure": lines({**GOOD, "position": 1 << 70}),
    "a negative size": lines({**GOOD, "size": -1}),
    "a size beyond measure": lines({**GOOD, "size": 1 << 63}),
    "a size that is a fraction": lines({**GOOD, "size": 0.5}),
    "a size that is null": lines({**GOOD, "size": None}),
    "bad base64": lines({**GOOD, "payload": "a?b="}),
    "base64 cut short": lines({**GOOD, "payload": "abc"}),
    "a short checksum": lines({**GOOD, "payload": "AAAA"}),
    "a bad raw name": lines({**GOOD, "name_raw": "*"}),
    "no name": lines({**GOOD, "name": ""}),
    "a zero byte in the name": lines({**GOOD, "name": "a\0b"}),
    "half a surrogate pair": lines(json.dumps({**GOOD, "name": "\ud800"}).encode()),
    "text that is not UTF-8": lines(b'{"type":1,"name":"\xff","payload":"","position":0}'),
    "a deep document": lines(b'{"x":' + b"[" * 1_000_000),
    "a deep document that is closed": lines(b'{"x":' + b"[" * 900_000 + b"]" * 900_000 + b"}"),
    "a line that is too long": lines({**GOOD, "name": "x" * tarsplit.MAX_LINE}),
    "half a gzip": WHOLE[: len(WHOLE) // 2],
    "a gzip without its end": WHOLE[:-4],
    "a damaged gzip": WHOLE[:-6] + b"\0\0" + WHOLE[-4:],
    "something after the gzip": WHOLE + b"x",
}  # fmt: skip


@pytest.mark.parametrize("record", HOSTILE.values(), ids=HOSTILE)
def test_a_record_that_is_damaged_is_refused_in_one_line(tmp_path, record):
    (tmp_path / "f").write_bytes(b"1234")
    with pytest.raises(ArchiveError) as caught:
        for _ in tarsplit.entries(io.BytesIO(record)):
            pass
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_line_without_end_is_refused_before_it_takes_memory():
    bomb = gzip.compress(b" " * (300 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError, match="a line of more than 8388608 bytes"):
            next(tarsplit.entries(io.BytesIO(bomb)))
        assert tracemalloc.get_traced_memory()[1] < 5 * tarsplit.MAX_LINE
    finally:
        tracemalloc.stop()


@pytest.fixture
def tree(tmp_path):
    """A tree with everything in it that must not be opened, beside a secret."""
    (tmp_path / "secret").write_bytes(b"outside")
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "f").write_bytes(b"1234567")
    (tree / "absolute").symlink_to(tmp_path / "secret")
    (tree / "relative").symlink_to("../secret")
    (tree / "up").symlink_to("../../../../../../..")
    (tree / "out").symlink_to(tmp_path)
    (tree / "fd").symlink_to("/proc/self/root")
    (tree / "loop").symlink_to("loop")
    (tree / "to-file").symlink_to("f")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "device", 0o20600, os.makedev(1, 5))
    return tree


@pytest.mark.parametrize(
    "name",
    [
        "absolute", "relative", "to-file", "out/secret", "up/secret", "d/../../secret",
        "../secret", "fd/etc/hostname", "loop", "loop/f", "fifo", "device", "d", "f/x", "missing",
        "missing/f", "/", ".", "x" * 300, "x/" * 3000, "f" + "/." * 9000 + "/x",
    ],
)  # fmt: skip
def test_nothing_but_a_regular_file_inside_the_tree_is_read(tree, name):
    with pytest.raises((ArchiveError, BackendError)) as caught:
        rebuilt(lines(of_file(name, 7)), tree)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_link_that_leads_outside_is_followed_inside(tree, tmp_path):
    inside = tree / str(tmp_path).lstrip("/")
    inside.mkdir(parents=True)
    (inside / "secret").write_bytes(b"inside!")
    (tree / "secret").write_bytes(b"inside?")
    names = ("out/secret", "up/secret")
    record = lines(*(of_file(name, 7, number) for number, name in enumerate(names)))
    assert rebuilt(record, tree) == b"inside!inside?"


def test_a_link_is_not_the_file_that_it_leads_to(tree):
    (tree / "link").symlink_to("d/../f")
    with pytest.raises(BackendError, match=r"'link' .* it is not a regular file"):
        rebuilt(lines(of_file("link", len("d/../f"))), tree)


@pytest.mark.parametrize("size", [1, 6, 8, 1 << 40])
def test_a_file_of_another_size_is_not_read(tree, size):
    with pytest.raises(BackendError, match=rf"'f' .* has 7 bytes and not {size};"):
        rebuilt(lines(of_file("f", size)), tree)


def test_contents_that_are_not_the_recorded_ones_are_an_error(tree):
    record = record_of(member(b"f", b"1234567") + END)
    assert rebuilt(record, tree)
    (tree / "f").write_bytes(b"1234568")
    with pytest.raises(BackendError, match=r"'f' .*: its contents are others"):
        rebuilt(record, tree)


def test_descriptors_are_given_back(tree):
    before = len(os.listdir("/proc/self/fd"))
    record = lines(of_file("f", 7), of_file("missing/f", 7, 1))
    for _ in range(3):
        with pytest.raises(BackendError):
            rebuilt(record, tree)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_error_of_the_one_who_writes_is_passed_on(tree):
    def write(piece):
        raise BrokenPipeError

    before = os.listdir("/proc/self/fd")
    with pytest.raises(BrokenPipeError) as caught:
        tarsplit.rebuild(io.BytesIO(lines(of_file("f", 7))), str(tree), write)
    assert caught and os.listdir("/proc/self/fd") == before


names = st.binary(min_size=1, max_size=150).filter(
    lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
)
members = st.one_of(
    st.tuples(st.just(tarfile.REGTYPE), st.binary(max_size=3000)),
    st.tuples(st.just(tarfile.SYMTYPE), names),
    st.tuples(st.just(tarfile.DIRTYPE), st.just(b"")),
    st.tuples(st.just(tarfile.FIFOTYPE), st.just(b"")),
)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(names, members, max_size=8),
    st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(0, 30),
)
def test_random_archives_come_back(tree_of, kind, padding):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind, errors="surrogateescape") as archive:
        for name, (member_type, content) in tree_of.items():
            info = tarfile.TarInfo(os.fsdecode(name))
            info.type = member_type
            if member_type == tarfile.SYMTYPE:
                info.linkname = os.fsdecode(content)
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with tempfile.TemporaryDirectory() as directory:
        assert comes_back(out.getvalue() + bytes(512 * padding), Path(directory) / "tree")
