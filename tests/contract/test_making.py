"""create, seal and snapshot, on every backend."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Backend
from backends.errors import VolumeExists, VolumeNotFound
from tests.contract.conftest import (
    CLONES,
    NESTED,
    Pool,
    container,
    layer,
    new,
    present,
    read,
    write,
)
from tests.trees import entries


def test_a_new_volume_is_an_empty_directory_that_all_may_read(backend: Backend) -> None:
    for kind in (STAGING, CONTAINERS):
        volume = new(kind)
        backend.create(volume)
        with backend.open(volume) as tree:
            status = os.stat(tree)
            assert os.listdir(tree) == []
        assert status.st_mode & 0o7777 == 0o755
        assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def test_the_umask_does_not_show_in_a_new_volume(backend: Backend) -> None:
    before = os.umask(0o077)
    try:
        volume = container(backend)
    finally:
        os.umask(before)
    with backend.open(volume) as tree:
        assert os.stat(tree).st_mode & 0o7777 == 0o755


def test_a_clone_holds_all_that_its_parent_holds(backend: Backend) -> None:
    parent = layer(backend)
    clone = container(backend, parent)
    with backend.open(parent) as original, backend.open(clone) as copy:
        assert entries(copy) == entries(original)


def test_what_is_written_to_a_clone_stays_in_it(backend: Backend) -> None:
    parent = layer(backend)
    one, other = container(backend, parent), container(backend, parent)
    write(backend, one, "etc/passwd", "mine")
    assert read(backend, parent, "etc/passwd").startswith("root:")
    assert read(backend, other, "etc/passwd").startswith("root:")


def test_a_staging_volume_may_be_a_clone(backend: Backend) -> None:
    parent, staging = layer(backend), new(STAGING)
    backend.create(staging, parent)
    assert read(backend, staging, "etc/passwd").startswith("root:")


@pytest.mark.ability(CLONES)
def test_a_clone_takes_no_space(backend: Backend, pool: Pool) -> None:
    parent = layer(backend, lambda tree: _write_bytes(tree / "big", 64 << 20))
    before = os.statvfs(pool.base).f_bavail
    clones = [container(backend, parent) for _ in range(10)]
    backend.snapshot(clones[0], new(LAYERS))
    taken = (before - os.statvfs(pool.base).f_bavail) * os.statvfs(pool.base).f_frsize
    assert taken < 16 << 20


def _write_bytes(path: Path, size: int) -> None:
    path.write_bytes(os.urandom(size))


def test_creating_what_exists_is_refused_and_destroys_nothing(backend: Backend) -> None:
    parent = layer(backend)
    volume = container(backend, parent, b"first")
    write(backend, volume, "kept", "yes")
    for base in (None, parent):
        with pytest.raises(VolumeExists, match=volume.id[:12]):
            backend.create(volume, base, b"second")
    assert read(backend, volume, "kept") == "yes"
    assert [found.record for found in backend.volumes() if found.volume == volume] == [b"first"]


def test_a_clone_of_what_is_not_there_is_refused_and_leaves_nothing(backend: Backend) -> None:
    volume, parent = new(CONTAINERS), new(LAYERS)
    with pytest.raises(VolumeNotFound, match=parent.id[:12]):
        backend.create(volume, parent)
    assert list(backend.volumes()) == []
    backend.create(volume)


def test_of_many_that_create_one_volume_one_wins(backend: Backend, pool: Pool) -> None:
    parent, volume = layer(backend), new(CONTAINERS)
    program = (
        "import sys\n"
        "from backends.base import Volume\n"
        "from backends.errors import VolumeExists\n"
        f"{pool.imported}\n"
        "backend = Backend(sys.argv[1])\n"
        "sys.stdin.read()\n"
        "try: backend.create(Volume('containers', sys.argv[2]), Volume('layers', sys.argv[3]))\n"
        "except VolumeExists: sys.exit(3)\n"
    )
    argv = [sys.executable, "-c", program, pool.base, volume.id, parent.id]
    racers = [subprocess.Popen(argv, stdin=subprocess.PIPE) for _ in range(4)]
    time.sleep(0.5)
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    assert sorted(racer.wait() for racer in racers) == [0, 3, 3, 3]
    with backend.open(parent) as original, backend.open(volume) as copy:
        assert entries(copy) == entries(original)
    assert backend.leftovers() == []


def test_sealing_keeps_the_tree_and_ends_the_staging_volume(backend: Backend) -> None:
    staging, sealed = new(STAGING), new(LAYERS)
    backend.create(staging)
    with backend.open(staging) as tree:
        Path(tree, "file").write_text("content")
        before = entries(tree)
    backend.seal(staging, sealed, b"record")
    with backend.open(sealed) as tree:
        assert entries(tree) == before
    with pytest.raises(VolumeNotFound), backend.open(staging):
        pass
    assert backend.leftovers() == []


def test_a_sealed_volume_cannot_be_written_to(backend: Backend) -> None:
    sealed = layer(backend)
    with backend.open(sealed) as tree:
        before = entries(tree)
        for attempt in (
            lambda: Path(tree, "new").touch(),
            lambda: Path(tree, "etc/passwd").write_text("x"),
            lambda: Path(tree, "etc/passwd").chmod(0),
            lambda: os.unlink(f"{tree}/etc/passwd"),
            lambda: os.rename(f"{tree}/etc", f"{tree}/conf"),
            lambda: os.setxattr(f"{tree}/etc/passwd", "user.x", b""),
            lambda: os.utime(tree),
        ):
            with pytest.raises(OSError, match="Read-only"):
                attempt()
        assert entries(tree) == before


def test_programs_that_are_started_see_an_opened_volume(backend: Backend) -> None:
    with backend.open(layer(backend)) as tree:
        done = subprocess.run(["cat", f"{tree}/etc/passwd"], capture_output=True, text=True)
    assert done.stdout.startswith("root:")


def test_sealing_over_a_layer_is_refused_and_changes_nothing(backend: Backend) -> None:
    there, staging = layer(backend, record=b"first"), new(STAGING)
    backend.create(staging)
    write(backend, staging, "file", "still here")
    with pytest.raises(VolumeExists, match=there.id[:12]):
        backend.seal(staging, there, b"second")
    assert read(backend, there, "etc/passwd").startswith("root:")
    assert read(backend, staging, "file") == "still here"
    assert [found.record for found in backend.volumes()] == [b"first"]


def test_sealing_what_is_not_there_is_refused(backend: Backend) -> None:
    staging, sealed = new(STAGING), new(LAYERS)
    with pytest.raises(VolumeNotFound, match=staging.id[:12]):
        backend.seal(staging, sealed)
    assert not present(backend, sealed)


def test_a_snapshot_is_the_container_as_it_was(backend: Backend) -> None:
    volume, sealed = container(backend, layer(backend)), new(LAYERS)
    write(backend, volume, "etc/passwd", "changed")
    with backend.open(volume) as tree:
        before = entries(tree)
    assert backend.snapshot(volume, sealed, b"record") == []
    write(backend, volume, "etc/passwd", "changed again")
    with backend.open(sealed) as tree:
        assert entries(tree) == before
    assert read(backend, volume, "etc/passwd") == "changed again"


@pytest.mark.parametrize("first", ["source", "target"])
def test_after_a_snapshot_either_side_can_go_first(backend: Backend, first: str) -> None:
    volume, sealed = container(backend, layer(backend)), new(LAYERS)
    backend.snapshot(volume, sealed)
    gone, left = (volume, sealed) if first == "source" else (sealed, volume)
    backend.remove(gone)
    assert read(backend, left, "etc/passwd").startswith("root:")
    backend.remove(left)


def test_an_edit_changes_the_snapshot_and_not_its_source(backend: Backend) -> None:
    volume, sealed = container(backend, layer(backend)), new(LAYERS)

    def edit(tree: str) -> None:
        Path(tree, "etc/passwd").write_text("edited")
        Path(tree, "etc/empty").unlink()

    backend.snapshot(volume, sealed, edit=edit)
    assert read(backend, sealed, "etc/passwd") == "edited"
    assert read(backend, volume, "etc/empty") == ""
    with backend.open(sealed) as tree, pytest.raises(OSError, match="Read-only"):
        Path(tree, "new").touch()


def test_an_edit_that_fails_leaves_nothing(backend: Backend) -> None:
    volume, sealed = container(backend, layer(backend)), new(LAYERS)

    def fail(tree: str) -> None:
        Path(tree, "half").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        backend.snapshot(volume, sealed, edit=fail)
    assert not present(backend, sealed)
    assert backend.leftovers() == []
    backend.snapshot(volume, sealed)


def test_a_snapshot_over_a_layer_is_refused_and_changes_nothing(backend: Backend) -> None:
    there, volume = layer(backend, record=b"first"), container(backend)
    for edit in (None, lambda tree: None):
        with pytest.raises(VolumeExists, match=there.id[:12]):
            backend.snapshot(volume, there, b"second", edit)
    assert read(backend, there, "etc/passwd").startswith("root:")
    assert b"first" in [found.record for found in backend.volumes()]
    assert backend.leftovers() == []


def test_a_snapshot_of_what_is_not_there_is_refused(backend: Backend) -> None:
    volume, sealed = new(CONTAINERS), new(LAYERS)
    for edit in (None, lambda tree: None):
        with pytest.raises(VolumeNotFound, match=volume.id[:12]):
            backend.snapshot(volume, sealed, edit=edit)
    assert not present(backend, sealed)
    assert backend.leftovers() == []


def test_snapshots_of_a_container_that_is_being_written_to_are_whole(backend: Backend) -> None:
    volume = container(backend, layer(backend))
    with backend.open(volume) as tree:
        before = {path for path in entries(tree) if path}
    done = threading.Event()

    def work() -> None:
        with backend.open(volume) as tree:
            number = 0
            while not done.is_set():
                Path(tree, f"file{number}").write_text(str(number))
                os.rename(f"{tree}/file{number}", f"{tree}/named{number}")
                number += 1
                time.sleep(0.002)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(5):
            sealed = new(LAYERS)
            backend.snapshot(volume, sealed)
            with backend.open(sealed) as tree:
                assert before <= set(entries(tree))
            assert read(backend, sealed, "etc/passwd").startswith("root:")
    finally:
        done.set()
        writer.join()


@pytest.mark.ability(NESTED)
def test_nested_subvolumes_are_copied_into_a_snapshot(backend: Backend) -> None:
    volume, sealed = container(backend), new(LAYERS)
    with backend.open(volume) as tree:
        subprocess.run(["btrfs", "-q", "subvolume", "create", f"{tree}/inner"], check=True)
        Path(tree, "inner/file").write_text("nested")
        os.chown(f"{tree}/inner", 7, 8)
        Path(tree, "inner/dir").mkdir()
        subprocess.run(["btrfs", "-q", "subvolume", "create", f"{tree}/inner/dir/deep"], check=True)
        Path(tree, "inner/dir/deep/file").write_text("deeper")
        before = entries(tree)
    assert sorted(backend.snapshot(volume, sealed)) == ["inner", "inner/dir/deep"]
    with backend.open(sealed) as tree:
        assert entries(tree) == before
    assert backend.leftovers() == []


def test_unwritten_data_is_in_the_snapshot(backend: Backend) -> None:
    volume, sealed = container(backend), new(LAYERS)
    with backend.open(volume) as tree, Path(tree, "log").open("w") as log:
        log.write("not synced")
        log.flush()
        backend.snapshot(volume, sealed)
    assert read(backend, sealed, "log") == "not synced"
