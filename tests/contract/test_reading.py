"""open, changes, usage, limit, records and listings, on every backend."""

import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Backend, Usage, Volume
from backends.changes import ADDED, MODIFIED
from backends.errors import NotSupported, Unavailable, VolumeNotFound
from tests.contract.conftest import (
    BACKENDS,
    FILES,
    NESTED,
    NO_QUOTA,
    Pool,
    container,
    layer,
    new,
    read,
    write,
)
from tests.trees import difference, entries


def test_opens_nest_and_run_side_by_side(backend: Backend) -> None:
    sealed, volume = layer(backend), container(backend)
    with backend.open(sealed) as one, backend.open(sealed) as two, backend.open(volume):
        assert os.listdir(one) == os.listdir(two)
    with backend.open(sealed) as outer:
        with backend.open(sealed):
            pass
        assert os.listdir(outer)


def test_threads_may_share_a_backend(backend: Backend) -> None:
    sealed, found = layer(backend), []
    threads = [
        threading.Thread(target=lambda: found.append(read(backend, sealed, "etc/passwd")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4


def test_an_open_volume_leaves_no_descriptor_behind(backend: Backend) -> None:
    sealed = layer(backend)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with backend.open(sealed):
            pass
        assert any(True for _ in backend.changes(sealed, None))
    assert len(os.listdir("/proc/self/fd")) == before


def test_opening_what_is_not_there_is_refused(backend: Backend) -> None:
    for kind in (LAYERS, CONTAINERS, STAGING):
        volume = new(kind)
        with pytest.raises(VolumeNotFound, match=volume.id[:12]), backend.open(volume):
            pass


def test_an_error_inside_an_open_passes_unchanged(backend: Backend) -> None:
    volume = container(backend)
    with pytest.raises(FileNotFoundError), backend.open(volume) as tree:
        os.stat(f"{tree}/missing")


def edit(tree: str) -> None:
    """Change a filled tree in every way that a Change knows."""
    top = Path(tree)
    shutil.rmtree(top / "home")
    (top / "new").mkdir()
    (top / "new/file").write_text("new")
    (top / "var/fifo").unlink()
    (top / "var/fifo").mkdir()
    (top / "var/fifo/inside").touch()
    (top / "bin/sh").chmod(0o700)
    os.link(top / "etc/empty", top / "etc/another")
    os.setxattr(top / "etc", "user.x", b"y")
    status = (top / "etc/passwd").stat()
    (top / "etc/passwd").write_text((top / "etc/passwd").read_text().swapcase())
    os.utime(top / "etc/passwd", ns=(status.st_atime_ns, status.st_mtime_ns))
    (top / "etc/absolute").rename(top / "etc/a-b")


def test_changes_are_exact(backend: Backend) -> None:
    base = layer(backend)
    volume = container(backend, base)
    assert list(backend.changes(volume, base)) == []
    with backend.open(base) as before, backend.open(volume) as after:
        edit(after)
        expected = difference(entries(before), entries(after))
    assert list(backend.changes(volume, base)) == expected


def test_changes_made_long_after_the_clone_are_exact_too(backend: Backend) -> None:
    base = layer(backend)
    time.sleep(0.3)
    volume = container(backend, base)
    time.sleep(0.3)
    assert list(backend.changes(volume, base)) == []
    with backend.open(base) as before, backend.open(volume) as after:
        edit(after)
        expected = difference(entries(before), entries(after))
    assert list(backend.changes(volume, base)) == expected


def test_changes_of_a_commit_and_between_any_two_layers_are_exact(backend: Backend) -> None:
    base = layer(backend)
    one, other = container(backend, base), container(backend, base)
    first, second, third = new(LAYERS), new(LAYERS), new(LAYERS)
    with backend.open(one) as tree:
        edit(tree)
    backend.snapshot(one, first)
    write(backend, one, "later", "still the same container")
    backend.snapshot(one, second)
    write(backend, other, "etc/passwd", "a sibling")
    backend.snapshot(other, third)
    trees = {}
    for volume in (base, first, second, third):
        with backend.open(volume) as tree:
            trees[volume] = entries(tree)
    for old in trees:
        for volume in trees:
            found = list(backend.changes(volume, old))
            assert found == difference(trees[old], trees[volume])


def test_against_nothing_all_is_added(backend: Backend) -> None:
    sealed = layer(backend)
    with backend.open(sealed) as tree:
        assert list(backend.changes(sealed, None)) == difference(None, entries(tree))


def test_reading_changes_disturbs_nothing(backend: Backend) -> None:
    base = layer(backend)
    volume = container(backend, base)
    with backend.open(volume) as tree:
        edit(tree)
        before = entries(tree)
        list(backend.changes(volume, base))
        assert entries(tree) == before
    assert backend.leftovers() == []


def test_changes_that_are_not_read_to_their_end_leave_nothing(backend: Backend) -> None:
    sealed = layer(backend)
    volume = container(backend, sealed)
    found = backend.changes(volume, None)
    assert next(found).kind == ADDED
    del found
    assert backend.leftovers() == []
    backend.remove(volume)


def test_changes_of_what_is_not_there_are_refused(backend: Backend) -> None:
    volume, missing = container(backend), new(LAYERS)
    with pytest.raises(VolumeNotFound):
        list(backend.changes(new(CONTAINERS), None))
    with pytest.raises(VolumeNotFound):
        list(backend.changes(volume, missing))


@pytest.mark.ability(NESTED)
def test_nested_subvolumes_are_neither_added_nor_deleted(backend: Backend) -> None:
    base = layer(backend)
    volume = container(backend, base)
    with backend.open(volume) as tree:
        subprocess.run(["btrfs", "-q", "subvolume", "create", f"{tree}/inner"], check=True)
        Path(tree, "inner/file").touch()
    assert list(backend.changes(volume, base)) == [(b"", MODIFIED)]


def test_usage_is_bytes_or_unknown(backend: Backend) -> None:
    usage = backend.usage(layer(backend))
    assert isinstance(usage, Usage)
    assert all(count is None or count >= 0 for count in usage)


@pytest.mark.ability(NO_QUOTA)
def test_a_limit_that_cannot_be_says_what_could(backend: Backend) -> None:
    volume = container(backend)
    with pytest.raises(NotSupported, match="quota"):
        backend.limit(volume, 1 << 20)


def test_lifting_a_limit_that_never_was_is_success_or_not_supported(backend: Backend) -> None:
    volume = container(backend)
    try:
        backend.limit(volume, None)
    except NotSupported as error:
        assert "quota" in str(error)


@pytest.fixture(params=["btrfs", pytest.param("zfs", marks=pytest.mark.zfs)])
def limiting(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend whose pool has quotas."""
    if request.param == "zfs":
        make, _ = BACKENDS["zfs"]
        for pool in make(request):
            yield pool.open(str(pool.base))
        return
    from backends.btrfs import BtrfsBackend, prepare

    mount = request.getfixturevalue("fresh_btrfs")
    prepare(f"{mount}/pool")
    backend = BtrfsBackend(f"{mount}/pool")
    try:
        backend.enable_quota()
    except NotSupported:
        # Before Linux 6.7 there are full qgroups only.
        subprocess.run(["btrfs", "quota", "enable", mount], check=True)
        subprocess.run(["btrfs", "quota", "rescan", "-w", mount], check=True)
    yield backend


def test_a_limit_bounds_what_a_container_adds_to_its_image(limiting: Backend) -> None:
    backend = limiting
    sealed = layer(backend, lambda tree: _fill(tree, 64 << 20))
    volume = container(backend, sealed)
    backend.limit(volume, 16 << 20)
    with backend.open(volume) as tree:
        _fill(Path(tree), 8 << 20)
        with pytest.raises(OSError, match="quota"):
            _fill(Path(tree), 16 << 20)
    backend.limit(volume, None)
    with backend.open(volume) as tree:
        _fill(Path(tree), 32 << 20)
        # What is used is counted when the transaction is committed.
        os.sync()
    exclusive = backend.usage(volume).exclusive
    assert exclusive is not None
    assert exclusive >= 32 << 20


def _fill(tree: Path, size: int) -> None:
    with open(tree / secrets.token_hex(4), "wb") as file:
        file.write(os.urandom(size))
        os.fsync(file.fileno())


@pytest.mark.parametrize("record", [b"", b"\n", b'{"a": 1}\nline\n\n', bytes(range(256)) * 8])
def test_a_record_comes_back_as_it_was_written(backend: Backend, record: bytes) -> None:
    sealed = layer(backend, record=record)
    volume, taken = container(backend, sealed, record), new(LAYERS)
    backend.snapshot(volume, taken, record)
    found = {found.volume: found.record for found in backend.volumes()}
    assert found == {sealed: record, volume: record, taken: record}


def test_a_record_is_never_in_the_tree(backend: Backend) -> None:
    volume = container(backend, record=b"record")
    with backend.open(volume) as tree:
        assert os.listdir(tree) == []
        assert os.listxattr(tree) == []


def test_a_record_is_replaced(backend: Backend, pool: Pool) -> None:
    volume = container(backend, record=b"old")
    backend.describe(volume, b"new")
    for process in (backend, pool.open(str(pool.base))):
        assert [found.record for found in process.volumes()] == [b"new"]


def test_changes_are_exact_after_a_record_was_replaced(backend: Backend) -> None:
    base = layer(backend)
    volume = container(backend, base)
    backend.describe(volume, b"new")
    backend.describe(base, b"new")
    write(backend, volume, "etc/passwd", "changed")
    assert list(backend.changes(volume, base)) == [(b"etc/passwd", MODIFIED)]


def test_describing_what_is_not_there_is_refused(backend: Backend) -> None:
    volume = new(CONTAINERS)
    with pytest.raises(VolumeNotFound, match=volume.id[:12]):
        backend.describe(volume, b"record")
    assert list(backend.volumes()) == []


def test_volumes_are_the_layers_and_containers_and_nothing_else(
    backend: Backend, pool: Pool
) -> None:
    sealed, staging = layer(backend, record=b"l"), new(STAGING)
    volume = container(backend, sealed, b"c")
    backend.create(staging)
    expected = {(sealed, b"l", None), (volume, b"c", None)}
    assert set(backend.volumes()) == expected
    assert set(pool.open(str(pool.base)).volumes()) == expected


@pytest.mark.ability(FILES)
def test_a_broken_volume_is_reported_and_stops_nothing(backend: Backend) -> None:
    good = layer(backend, record=b"good")
    for kind in (LAYERS, CONTAINERS):
        file, directory, link, odd = (new(kind) for _ in range(4))
        Path(backend.location(file)).touch()
        Path(backend.location(directory)).mkdir()
        Path(backend.location(link)).symlink_to("/")
        Path(backend.location(Volume(odd.kind, "not an id"))).mkdir()
    found = {found.volume: found for found in backend.volumes()}
    assert len(found) == 9
    assert found.pop(good).problem is None
    assert all(each.problem for each in found.values())


def test_a_lost_record_is_reported(backend: Backend, pool: Pool) -> None:
    volume = layer(backend, record=b"record")
    pool.lose_record(volume)
    (found,) = backend.volumes()
    assert found.record is None
    assert found.problem is not None
    assert "record" in found.problem


def test_space_is_that_of_the_filesystem(backend: Backend) -> None:
    space = backend.space()
    assert 0 < space.free <= space.total


def test_what_is_told_of_the_pool_is_text(backend: Backend) -> None:
    assert all(isinstance(part, str) for item in backend.info().items() for part in item)
    assert all("\n" not in line for line in backend.warnings())


def test_a_pool_that_has_gone_away_is_unavailable(backend: Backend, pool: Pool) -> None:
    sealed = layer(backend)
    volume = container(backend, sealed)
    with pool.away() as missed:
        for attempt in (
            lambda: backend.create(new(CONTAINERS), sealed),
            lambda: backend.create(new(CONTAINERS)),
            lambda: backend.snapshot(volume, new(LAYERS)),
            lambda: backend.remove(volume),
            lambda: backend.open(volume).__enter__(),
            lambda: list(backend.changes(volume, sealed)),
            lambda: list(backend.volumes()),
            lambda: backend.leftovers(),
            lambda: backend.sweep(),
            lambda: backend.describe(volume, b""),
            lambda: backend.space(),
        ):
            with pytest.raises(Unavailable, match=missed):
                attempt()
    assert list(backend.changes(volume, sealed)) == []
