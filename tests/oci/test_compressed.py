"""Compressed input: told by its first bytes, verified to its end, and bounded in memory."""

import bz2
import gzip
import io
import lzma
import os
import random
import subprocess

import pytest
import zstandard

from oci import compression, layer
from oci.errors import ArchiveError
from tests.conftest import require
from tests.oci.archives import END, apply, member

DATA = b"".join(b"%d and so on, " % number for number in range(60_000))


def zstd(data, **options):
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(data)


PACKERS = {"gzip": gzip.compress, "zstd": zstd, "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture(params=PACKERS)
def packed(request):
    return PACKERS[request.param](DATA)


def unpacked(data):
    return compression.decompressed(io.BytesIO(data)).read()


def test_what_was_packed_comes_back(packed):
    assert unpacked(packed) == DATA


def test_several_members_are_one_stream(packed):
    assert unpacked(packed + packed) == DATA * 2


def test_an_empty_member_is_nothing():
    for pack in PACKERS.values():
        assert unpacked(pack(b"")) == b""
        assert unpacked(pack(b"") + pack(b"x") + pack(b"")) == b"x"


def test_what_is_not_packed_is_left_as_it_is():
    assert unpacked(DATA) == DATA
    assert unpacked(b"") == b""
    assert unpacked(b"BZ") == b"BZ"


def test_zeros_after_the_last_member_are_padding():
    for kind in ("gzip", "xz", "bzip2"):
        assert unpacked(PACKERS[kind](DATA) + bytes(100_000)) == DATA


def test_cut_short_anywhere_it_is_refused(packed):
    chosen = random.Random(3)
    cuts = [len(packed) - 1, len(packed) - 4, len(packed) - 9]
    for cut in cuts + [chosen.randrange(10, len(packed)) for _ in range(15)]:
        with pytest.raises(ArchiveError, match="cut short"):
            unpacked(packed[:cut])


def test_damage_is_noticed(packed):
    for at in (len(packed) // 2, len(packed) // 3):
        damaged = bytearray(packed)
        damaged[at] ^= 0x10
        with pytest.raises(ArchiveError) as caught:
            unpacked(bytes(damaged))
        assert str(caught.value).isprintable()


def test_a_wrong_checksum_at_the_very_end_is_noticed():
    for kind, at in (("gzip", -8), ("gzip", -1), ("zstd", -1), ("bzip2", -3), ("xz", -10)):
        damaged = bytearray(PACKERS[kind](DATA))
        damaged[at] ^= 0x40
        with pytest.raises(ArchiveError):
            unpacked(bytes(damaged))


def test_garbage_after_the_last_member_is_refused(packed):
    with pytest.raises(ArchiveError):
        unpacked(packed + b"garbage that is no member")


@pytest.mark.parametrize(
    "options",
    [
        ["-1"],
        ["-19"],
        ["--long=27"],
        ["--no-check"],
        ["--content-size"],
        ["-B1MiB", "-T2"],
        ["--rsyncable", "-T2"],
    ],
)
def test_zstd_as_its_own_program_writes_it(options):
    require("zstd")
    data = DATA + os.urandom(300_000) + bytes(3_000_000)
    piped = subprocess.run(["zstd", "-qc", *options], input=data, capture_output=True, check=True)
    assert unpacked(piped.stdout) == data
    for cut in (5, 10, len(piped.stdout) // 2, len(piped.stdout) - 1):
        with pytest.raises(ArchiveError):
            unpacked(piped.stdout[:cut])


def test_zstd_frames_to_be_skipped_are_skipped():
    skipped = b"\x53\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"12345"
    assert unpacked(skipped + zstd(DATA) + skipped + zstd(b"end")) == DATA + b"end"
    with pytest.raises(ArchiveError, match="cut short"):
        unpacked(zstd(DATA) + skipped[:-1])


def test_a_frame_that_wants_too_much_memory_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(ArchiveError, match="memory"):
        unpacked(packer.compress(DATA) + packer.flush())


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_is_unpacked_in_small_pieces(kind):
    bomb = PACKERS[kind](bytes(64 << 20))
    pieces = compression.pieces(kind, io.BytesIO(bomb).read)
    assert max(map(len, pieces)) <= compression.PIECE


@pytest.mark.parametrize("kind", PACKERS)
def test_apply_takes_it_from_a_pipe(kind, tmp_path):
    require("root")
    archive = PACKERS[kind](member(b"f", DATA) + END)
    end, other = os.pipe()
    feeder = os.fork()
    if feeder == 0:
        os.close(end)
        with open(other, "wb") as out:
            out.write(archive)
        os._exit(0)
    os.close(other)
    with open(end, "rb") as source:
        (tmp_path / "tree").mkdir()
        heard = []
        layer.apply(source, str(tmp_path / "tree"), progress=heard.append)
    os.waitpid(feeder, 0)
    assert (tmp_path / "tree/f").read_bytes() == DATA
    assert sum(heard) == len(archive)


@pytest.mark.parametrize("kind", PACKERS)
def test_apply_refuses_what_is_damaged_after_the_last_entry(kind, tmp_path):
    """The tar has ended, but the checksum of what it came in is wrong: nothing of it is trusted."""
    require("root")
    archive = bytearray(PACKERS[kind](member(b"f", DATA) + END + bytes(100_000)))
    archive[-9 if kind == "xz" else -2] ^= 0x20
    with pytest.raises(ArchiveError, match=kind):
        apply(bytes(archive), tmp_path / "tree")
