"""Archives that unpack to more than there is room for: stopped early, and nothing is left."""

import bz2
import gzip
import io
import lzma
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import zstandard

from backends.errors import NoSpace
from imagegraph.store import Store
from oci import compression, layer
from oci.rootfs import import_rootfs
from tests.conftest import mounted, new_btrfs, require
from tests.oci.archives import END, header, member
from tests.oci.bundles import (
    GOOD,
    OCI_LAYER,
    Layout,
    config,
    docker,
    legacy,
    oci,
    sha256,
    tar,
    written,
)
from tests.oci.bundles import layer as tarred
from tests.oci.refusing import Refusing

ROOM = 16 << 20
PACKERS = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}
BIG = tarred(member(b"big", bytes(2 * ROOM)))
MORE = "unpacks to more than"


@cache
def big(kind):
    """The layer that is too big, packed."""
    return PACKERS[kind](BIG)


@pytest.fixture(autouse=True)
def _as_root():
    require("root")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem with little room."""
    require("root")
    point = tmp_path_factory.mktemp("bombs") / "small"
    with mounted("tmpfs", Path("none"), point, f"size={ROOM},nr_inodes=6000") as made:
        yield made


@pytest.fixture(scope="module")
def store(small: Path) -> Iterator[Store]:
    with Store.init(str(small / "root"), backend="vfs") as opened:
        yield opened


@pytest.fixture
def crowded(store: Store, small: Path, tmp_path: Path) -> Iterator[Refusing]:
    """A store with little room, all of which must be there again."""
    refusing = Refusing(store, tmp_path)
    before = _used(small)
    yield refusing
    refusing.clear()
    refusing.works()
    assert _used(small) <= before + (1 << 20)


def _used(place: Path) -> int:
    counts = os.statvfs(place)
    return (counts.f_blocks - counts.f_bfree) * counts.f_frsize


def _with_layer(packed, diff_id):
    layout = Layout()
    own = layout.add(packed, OCI_LAYER + "+gzip")
    return layout.index(layout.image([own], config([diff_id])))


@pytest.mark.parametrize("kind", PACKERS)
def test_a_layer_that_unpacks_to_more_than_there_is_room_for(crowded, kind):
    said = crowded.refuse(_with_layer(big(kind), sha256(BIG)), NoSpace)
    assert MORE in said and said.startswith("blobs/sha256/")


@pytest.mark.parametrize("kind", PACKERS)
def test_an_archive_that_unpacks_to_more_than_there_is_room_for(crowded, kind):
    assert MORE in crowded.refuse(PACKERS[kind](tar(docker(BIG))), NoSpace)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_bomb_inside_an_archive_that_is_packed_itself(crowded, kind):
    nested = PACKERS[kind](tar(_with_layer(big("gzip"), sha256(BIG))))
    assert MORE in crowded.refuse(nested, NoSpace)


@pytest.mark.parametrize("form", [docker, oci, legacy])
def test_a_plain_layer_for_which_there_is_no_room(crowded, form):
    assert MORE in crowded.refuse(form(GOOD, BIG), NoSpace)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_layer_of_the_old_form(crowded, kind):
    said = crowded.refuse(legacy(GOOD, big(kind)), NoSpace)
    assert MORE in said and "layer.tar" in said


def test_what_takes_time_and_no_room_is_bounded_too(crowded):
    """Bodies that are passed over, and padding after the end."""
    for bomb in (tarred(member(b".wh..wh.plnk/x", bytes(2 * ROOM))), GOOD + bytes(2 * ROOM)):
        packed = PACKERS["zstd"](bomb)
        assert MORE in crowded.refuse(_with_layer(packed, sha256(bomb)), NoSpace)


def test_a_terabyte_is_stopped_at_once(crowded):
    blocks = (1 << 40) // (1 << 17)
    frame = b"\x28\xb5\x2f\xfd\x00\x38" + (1 << 17 << 3 | 2).to_bytes(3, "little") + b"\0"
    bomb = frame + ((1 << 17 << 3 | 2).to_bytes(3, "little") + b"\0") * blocks
    head = PACKERS["zstd"](header(b"big", size=b"\x80" + (1 << 40).to_bytes(11, "big")))
    start = time.monotonic()
    assert MORE in crowded.refuse(_with_layer(head + bomb, sha256(BIG)), NoSpace)
    assert MORE in crowded.refuse(head + bomb, NoSpace)
    assert time.monotonic() - start < 20


def test_more_files_than_the_filesystem_can_have(crowded):
    many = tarred(*[member(f"{number}".encode()) for number in range(7000)])
    assert "the disk is full" in crowded.refuse(docker(GOOD, many), NoSpace)


def test_small_files_that_take_more_room_than_they_have_bytes(crowded):
    """A file of one byte takes a block: more than the archive lets expect."""
    many = tarred(*[member(b"%d" % number, b"x") for number in range(5000)])
    assert "the disk is full" in crowded.refuse(docker(GOOD, many), NoSpace)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_root_filesystem_for_which_there_is_no_room(crowded, tmp_path, kind):
    archive = written(big(kind), tmp_path / "rootfs")
    with pytest.raises(NoSpace, match=MORE):
        import_rootfs(crowded.store, str(archive))
    crowded.is_empty()


def test_there_must_be_room_for_the_layer_where_its_record_is(tmp_path):
    """A pool in a file has more room to offer than the disk that it is on."""
    (tmp_path / "tree").mkdir()
    with mounted("tmpfs", Path("none"), tmp_path / "small", f"size={ROOM}") as place:
        with (place / "split").open("wb") as record, pytest.raises(NoSpace, match=MORE):
            layer.apply_layer(io.BytesIO(BIG), str(tmp_path / "tree"), split=record.fileno())


def test_on_btrfs_the_store_goes_on(tmp_path):
    require("btrfs")
    bomb = tarred(member(b"big", bytes(300 << 20)))
    packed = PACKERS["zstd"](bomb)
    with new_btrfs(tmp_path, 200 << 20) as point:
        with Store.init(str(point / "root"), backend="btrfs") as opened:
            refusing = Refusing(opened, tmp_path)
            assert MORE in refusing.refuse(_with_layer(packed, sha256(bomb)), NoSpace)
            assert MORE in refusing.refuse(PACKERS["zstd"](tar(docker(GOOD, bomb))), NoSpace)
            assert MORE in refusing.refuse(docker(GOOD, bomb), NoSpace)
            refusing.works()


def test_a_filesystem_that_tells_no_size_has_no_bound(tmp_path):
    with mounted("ramfs", Path("none"), tmp_path / "ram", "rw") as place:
        layer.apply_layer(io.BytesIO(member(b"f", b"x" * 5000) + END), str(place))
        assert (place / "f").stat().st_size == 5000


def test_a_twentieth_stays_free(tmp_path):
    with mounted("tmpfs", Path("none"), tmp_path / "small", f"size={ROOM}") as place:
        counts = os.statvfs(place)
        room = counts.f_bavail * counts.f_frsize * 19 // 20
        assert sum(map(len, compression.within_room([bytes(room)], str(place)))) == room
        with pytest.raises(NoSpace, match=f"more than the {room} bytes"):
            list(compression.within_room([bytes(room), b"x"], str(place)))
