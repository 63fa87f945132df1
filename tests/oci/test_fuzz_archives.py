"""Real archives, damaged at random: whatever comes of it is right, or one line of ours.

COWSHED_EXAMPLES=100000 makes a long run of it.
"""

import bz2
import gzip
import io
import lzma
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import CowshedError
from imagegraph.store import Store
from oci import compression, layer, tarsplit
from oci.errors import ArchiveError
from oci.loading import load
from tests.conftest import require
from tests.oci.archives import END, gnu_tar, header, member, pax
from tests.oci.bundles import BETTER, FORMS, GOOD, sha256, tar
from tests.oci.mutations import DAMAGES, damaged, resummed
from tests.oci.refusing import Refusing
from tests.oci.test_stacks import EXAMPLES

SECRET = b"nobody's but mine " * 100


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


def _tree(place):
    """A tree with an entry of each kind, which tar has something to tell about."""
    (place / "d/e").mkdir(parents=True)
    (place / "d/file").write_bytes(b"contents " * 200)
    os.link(place / "d/file", place / "linked")
    (place / "symlink").symlink_to("d")
    (place / ("long" * 40)).write_bytes(b"x")
    os.mkfifo(place / "fifo")
    with (place / "sparse").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    os.setxattr(place / "d/file", "user.x", b"value")
    os.utime(place / "d/file", ns=(5, 1_600_000_000_123_456_789))
    os.utime(place / "d", ns=(5, 1_600_000_000_123_456_789))


WRITTEN = (
    ("--format=gnu", "--sparse"),
    ("--format=pax", "--xattrs", "--sparse"),
    ("--format=pax", "--sparse", "--sparse-version=0.1"),
    ("--format=ustar", "--exclude=long*"),
    ("--format=v7", "--exclude=long*", "--exclude=fifo"),
)
LAYER = b"".join(
    [
        header(b"d", b"5", mode=0o755),
        member(b"d/kept", b"kept"),
        member(b"d/.wh.file"),
        member(b"d/.wh..wh..opq"),
        pax((b"path", b"d/new"), (b"mtime", b"1.5")),
        member(b"short", b"y" * 1300),
        header(b"n", b"3", major=1, minor=3),
        header(b"h", b"1", link=b"d/kept"),
        END,
    ]
)
SEEDS = st.integers(0, len(WRITTEN))
LOWER = b"".join([header(b"d", b"5"), member(b"d/file", b"below"), member(b"linked"), END])


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Layers in all formats of GNU tar, and one with whiteouts."""
    place = tmp_path_factory.mktemp("seeds")
    _tree(place)
    common = "--sort=name", "-b1", "-C", place, "-c", "."
    return [*(gnu_tar(*options, *common) for options in WRITTEN), LAYER]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a secret beside the trees."""
    made = tmp_path_factory.mktemp("fuzz")
    (made / "secret").write_bytes(SECRET)
    return made


def _told(error):
    assert str(error).isprintable() and len(str(error)) < 10_000, error


@EXAMPLES
@given(SEEDS, SEEDS, DAMAGES, st.booleans())
def test_a_damaged_layer_stays_inside_and_comes_back_or_is_refused(
    place, seeds, number, other, damages, right_sums
):
    archive = damaged(seeds[number], damages, seeds[other])
    if right_sums:
        archive = resummed(archive)
    tree = place / "tree"
    tree.mkdir()
    try:
        layer.apply_layer(io.BytesIO(LOWER), str(tree))
        with tempfile.TemporaryFile() as record:
            try:
                applied = layer.apply_layer(io.BytesIO(archive), str(tree), split=record.fileno())
            except CowshedError as error:
                _told(error)
                return
            assert (applied.diff_id, applied.length) == (sha256(archive), len(archive))
            if applied.faithful:
                record.seek(0)
                out = bytearray()
                tarsplit.rebuild(record, str(tree), out.extend)
                assert out == archive
    finally:
        shutil.rmtree(tree)
        assert os.listdir(place) == ["secret"]
        assert (place / "secret").read_bytes() == SECRET
        assert (place / "secret").stat().st_nlink == 1


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """A tree and the lines of its record; a secret lies beside, and links lead there."""
    made = tmp_path_factory.mktemp("rebuild")
    (made / "secret").write_bytes(SECRET)
    (made / "tree").mkdir()
    with tempfile.TemporaryFile() as record:
        layer.apply_layer(io.BytesIO(LAYER), str(made / "tree"), split=record.fileno())
        record.seek(0)
        lines = gzip.decompress(record.read())
    (made / "tree/out").symlink_to(made / "secret")
    (made / "tree/up").symlink_to("..")
    os.mkfifo(made / "tree/fifo")
    return made / "tree", lines


NAMES = [b"../secret", b"out", b"up/secret", b"up/../secret", b"fifo", b"n", b"d", b"/", b"", b"\0"]


@EXAMPLES
@given(DAMAGES, st.sampled_from(NAMES), st.sampled_from([len(SECRET), 4, 0, 1 << 62]))
def test_a_damaged_record_gives_nothing_that_is_not_in_the_tree(unpacked, damages, name, size):
    tree, lines = unpacked
    lines = lines.replace(b'"d/kept"', b'"%b"' % name.replace(b"\0", b"\\u0000"), len(damages) % 2)
    lines = lines.replace(b'"size":4', b'"size":%d' % size, len(damages) // 2 % 2)
    out = bytearray()
    try:
        record = gzip.compress(damaged(lines, damages))
        length = tarsplit.rebuild(io.BytesIO(record), str(tree), out.extend)
        assert length == len(out)
    except CowshedError as error:
        _told(error)
    assert SECRET[:18] not in out


DATA = b"".join(b"%d and so on, " % number for number in range(3000)) + bytes(300_000)
PACKED = {
    "gzip": gzip.compress(DATA) + gzip.compress(b"more"),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(DATA) * 2,
    "bzip2": bz2.compress(DATA) + bz2.compress(b"more"),
    "xz": lzma.compress(DATA) + lzma.compress(b"more"),
}
ONE = {"bzip2": bz2.BZ2Decompressor, "xz": lzma.LZMADecompressor}


@EXAMPLES
@given(st.sampled_from(sorted(PACKED)), DAMAGES)
def test_damaged_compression_is_refused_or_means_what_it_means_elsewhere(kind, damages):
    packed = damaged(PACKED[kind], damages, PACKED[kind]) or PACKED[kind]
    try:
        found = list(compression.pieces(kind, io.BytesIO(packed).read))
    except ArchiveError as error:
        _told(error)
        return
    assert max(map(len, found), default=0) <= compression.PIECE
    assert b"".join(found) == _elsewhere(kind, packed)


def _elsewhere(kind, packed):
    """What the library that is known for it unpacks, all at once; zeros are padding."""
    if kind == "zstd":
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        return reader.read()
    if kind == "gzip":
        return gzip.decompress(packed)
    unpacked = b""
    while packed := packed.lstrip(b"\0"):
        one = ONE[kind]()
        unpacked += one.decompress(packed)
        assert one.eof
        packed = one.unused_data
    return unpacked


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.init(str(tmp_path_factory.mktemp("fuzz") / "root"), backend="vfs") as opened:
        yield opened


ARCHIVES = [tar(FORMS[form](GOOD, BETTER)) for form in FORMS]


@EXAMPLES
@given(st.sampled_from(ARCHIVES), st.sampled_from(ARCHIVES), DAMAGES, st.booleans())
def test_a_damaged_archive_is_loaded_whole_or_not_at_all(
    store, tmp_path_factory, archive, other, damages, right_sums
):
    archive = damaged(archive, damages, other)
    if right_sums:
        archive = resummed(archive)
    refusing = Refusing(store, tmp_path_factory.getbasetemp())
    source = refusing.beside / "archive"
    source.write_bytes(archive)
    try:
        for loaded in load(store, str(source)):
            assert store.image(loaded.image.id) == loaded.image
    except CowshedError as error:
        _told(error)
    finally:
        refusing.clear()
    refusing.is_empty()
