"""Data volumes, which have no parent and are never sealed, on every backend."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from backends.base import VOLUMES, Backend, Volume
from backends.errors import VolumeBusy, VolumeExists, VolumeNotFound
from tests.conftest import require
from tests.contract.conftest import Pool, new, present, process, read, write
from tests.trees import entries, fill


def made(backend: Backend, record: bytes = b"") -> Volume:
    volume = new(VOLUMES)
    backend.create(volume, record=record)
    return volume


def test_a_new_one_is_an_empty_directory_that_all_may_read(backend: Backend) -> None:
    with backend.open(made(backend)) as tree:
        assert os.listdir(tree) == []
        assert os.stat(tree).st_mode & 0o7777 == 0o755
        assert (os.stat(tree).st_uid, os.stat(tree).st_gid) == (os.geteuid(), os.getegid())


def test_it_holds_one_of_everything_and_is_gone_when_it_is_removed(backend: Backend) -> None:
    volume = made(backend)
    with backend.open(volume) as tree:
        fill(Path(tree))
        before = entries(tree)
    with backend.open(volume) as tree:
        assert entries(tree) == before
    backend.remove(volume)
    with pytest.raises(VolumeNotFound, match=volume.id[:12]), backend.open(volume):
        pass
    assert list(backend.volumes()) == []
    assert backend.leftovers() == []
    backend.remove(volume)


def test_it_is_listed_with_the_record_it_was_given_last(backend: Backend, pool: Pool) -> None:
    volume = made(backend, b"first")
    assert [tuple(found) for found in backend.volumes()] == [(volume, b"first", None)]
    backend.describe(volume, b"second")
    assert [tuple(found) for found in backend.volumes()] == [(volume, b"second", None)]
    pool.lose_record(volume)
    assert [tuple(found) for found in backend.volumes()] == [(volume, None, "it has no record")]


def test_making_what_exists_is_refused_and_destroys_nothing(backend: Backend) -> None:
    volume = made(backend, b"first")
    write(backend, volume, "kept", "yes")
    with pytest.raises(VolumeExists, match=volume.id[:12]):
        backend.create(volume, record=b"second")
    assert read(backend, volume, "kept") == "yes"
    assert [found.record for found in backend.volumes()] == [b"first"]


def test_one_that_a_process_uses_is_busy_and_stays(backend: Backend) -> None:
    volume = made(backend)
    write(backend, volume, "kept", "yes")
    program = "import os, sys\nos.chdir(sys.argv[1])\nprint(1, flush=True)\ninput()"
    with backend.open(volume) as tree, process(program, tree) as user:
        with pytest.raises(VolumeBusy, match=rf"process {user.pid}\b"):
            backend.remove(volume)
    assert read(backend, volume, "kept") == "yes"
    backend.remove(volume)


def test_one_that_is_mounted_is_written_to_through_its_mount(
    backend: Backend, tmp_path: Path
) -> None:
    require("root")
    volume, point = made(backend), tmp_path / "point"
    point.mkdir()
    backend.mount(volume, str(point))
    try:
        (point / "file").write_text("through the mount")
        with pytest.raises(VolumeBusy, match=f"mounted at {point}"):
            backend.remove(volume)
    finally:
        subprocess.run(["umount", point], check=True)
    assert read(backend, volume, "file") == "through the mount"


def test_it_can_be_measured_read_as_it_is_now_and_synced(backend: Backend) -> None:
    volume = made(backend)
    write(backend, volume, "file", "content")
    usage = backend.usage(volume)
    assert usage.exclusive is None or usage.exclusive >= 0
    with backend.frozen(volume) as tree:
        assert Path(tree, "file").read_text() == "content"
    backend.sync(volume)
    assert read(backend, volume, "file") == "content"
    assert backend.leftovers() == []
    with pytest.raises(VolumeNotFound):
        backend.sync(new(VOLUMES))


def test_sweeping_leaves_it_and_putting_it_aside_keeps_it_whole(
    backend: Backend, pool: Pool
) -> None:
    volume = made(backend, b"record")
    write(backend, volume, "file", "kept")
    backend.sweep()
    assert present(backend, volume)
    aside = backend.quarantine(volume)
    assert list(backend.volumes()) == []
    with pool.tree(aside) as tree:
        assert Path(tree, "file").read_text() == "kept"


def test_a_pool_that_is_older_than_data_volumes_gets_a_place_for_the_first(
    backend: Backend, pool: Pool
) -> None:
    if backend.name == "zfs":
        home = backend.location(new(VOLUMES)).rpartition("/")[0]
        subprocess.run(["zfs", "destroy", home], check=True)
    else:
        shutil.rmtree(pool.base / VOLUMES)
    assert list(backend.volumes()) == []
    assert backend.leftovers() == []
    backend.remove(new(VOLUMES))
    with pytest.raises(VolumeNotFound), backend.open(new(VOLUMES)):
        pass
    volume = made(backend)
    write(backend, volume, "file", "kept")
    assert present(backend, volume)
