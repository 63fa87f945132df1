"""remove, leftovers, sweep and quarantine, on every backend."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Backend, Volume
from backends.errors import VolumeBusy, VolumeNotFound
from tests.conftest import require
from tests.contract.conftest import (
    FILES,
    NESTED,
    Pool,
    container,
    layer,
    new,
    present,
    process,
    read,
    write,
)
from tests.trees import entries


def test_a_removed_volume_is_gone(backend: Backend) -> None:
    parent = layer(backend)
    volume, staging = container(backend, parent), new(STAGING)
    backend.create(staging)
    for each in (volume, parent, staging):
        backend.remove(each)
        with pytest.raises(VolumeNotFound, match=each.id[:12]), backend.open(each):
            pass
    assert list(backend.volumes()) == []
    assert backend.leftovers() == []


def test_removing_what_is_gone_or_never_was_is_success(backend: Backend) -> None:
    volume = container(backend)
    for _ in range(2):
        backend.remove(volume)
    for kind in (LAYERS, CONTAINERS, STAGING):
        backend.remove(new(kind))


def test_children_live_on_when_their_parent_is_removed(backend: Backend) -> None:
    parent = layer(backend)
    child = container(backend, parent)
    backend.remove(parent)
    assert read(backend, child, "etc/passwd").startswith("root:")
    backend.snapshot(child, new(LAYERS))


def test_a_removed_id_can_be_made_again(backend: Backend) -> None:
    volume = container(backend, record=b"first")
    backend.remove(volume)
    backend.create(volume, record=b"second")
    assert [found.record for found in backend.volumes()] == [b"second"]


def test_a_tree_deeper_than_path_max_is_removed(backend: Backend) -> None:
    volume = container(backend)
    with backend.open(volume) as tree:
        here = os.open(tree, os.O_RDONLY)
        for _ in range(600):
            os.mkdir("deeper", dir_fd=here)
            here, above = os.open("deeper", os.O_RDONLY, dir_fd=here), here
            os.close(above)
        os.close(here)
    backend.remove(volume)
    assert not present(backend, volume)


USES = {
    "an open file": "file = open('etc/passwd'); os.chdir('/')",
    "a deleted file that is open": "f = open('etc/passwd'); os.unlink(f.name); os.chdir('/')",
    "an open directory": "os.open('etc', os.O_RDONLY); os.chdir('/')",
    "its working directory": "os.chdir('etc')",
    "its root": "os.chroot('.'); os.chdir('/')",
    "a memory map": (
        "fd = os.open('etc/passwd', os.O_RDONLY); os.chdir('/')\n"
        "import mmap; memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ); os.close(fd)"
    ),
}


@pytest.mark.parametrize("program", USES.values(), ids=USES)
def test_a_volume_that_a_process_uses_is_busy_and_the_process_is_named(
    backend: Backend, program: str
) -> None:
    volume = container(backend, layer(backend), b"record")
    program = f"import os, sys\nos.chdir(sys.argv[1])\n{program}\nprint(1, flush=True)\ninput()"
    with backend.open(volume) as tree, process(program, tree) as user:
        before = _state(backend, volume)
        with pytest.raises(VolumeBusy, match=rf"process {user.pid}\b"):
            backend.remove(volume)
        assert _state(backend, volume) == before
    backend.remove(volume)
    assert not present(backend, volume)


def test_a_volume_mounted_in_another_mount_namespace_is_busy(
    backend: Backend, tmp_path: Path
) -> None:
    require("root")
    volume = container(backend, layer(backend), b"record")
    point = tmp_path / "point"
    point.mkdir()
    backend.mount(volume, str(point))
    script = "echo mounted && exec sleep 60"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "mounted\n"
            subprocess.run(["umount", point], check=True)
            with pytest.raises(VolumeBusy, match=rf"mounted at {point}.*{holder.pid}"):
                backend.remove(volume)
            assert read(backend, volume, "etc/passwd").startswith("root:")
        finally:
            holder.kill()
    backend.remove(volume)


def test_a_volume_with_a_mount_inside_it_is_busy_and_the_mount_unharmed(
    backend: Backend, tmp_path: Path
) -> None:
    require("root")
    volume = container(backend, layer(backend))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/kept").touch()
    (tmp_path / "point").mkdir()
    backend.mount(volume, str(tmp_path / "point"))
    inside = tmp_path / "point/var/empty"
    subprocess.run(["mount", "--bind", tmp_path / "data", inside], check=True)
    try:
        with pytest.raises(VolumeBusy):
            backend.remove(volume)
        assert (tmp_path / "data/kept").exists()
        assert present(backend, volume)
    finally:
        for mounted in (inside, tmp_path / "point"):
            subprocess.run(["umount", mounted], check=True)
    backend.remove(volume)


def _state(backend: Backend, volume: Volume) -> object:
    with backend.open(volume) as tree:
        return entries(tree), list(backend.volumes()), backend.leftovers()


@pytest.mark.ability(NESTED)
def test_nested_subvolumes_go_with_their_volume_even_read_only_ones(backend: Backend) -> None:
    volume = container(backend)
    with backend.open(volume) as tree:
        for inner in ("a", "a/b", "a b\n", "a/c"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", f"{tree}/{inner}"], check=True)
        for inner in ("a/b", "a/c", "a"):
            subprocess.run(
                ["btrfs", "property", "set", f"{tree}/{inner}", "ro", "true"], check=True
            )
    backend.remove(volume)
    assert not present(backend, volume)
    assert backend.leftovers() == []


STAGES = """
import sys
from backends.base import Volume
{imported}
backend = Backend(sys.argv[1])
backend.create(Volume('staging', sys.argv[2]))
with backend.open(Volume('staging', sys.argv[2])) as tree:
    open(tree + '/half', 'w').close()
print('ready', flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_left_is_found_and_swept(backend: Backend, pool: Pool) -> None:
    staging = new(STAGING)
    with process(STAGES.format(imported=pool.imported), pool.base, staging.id) as worker:
        assert backend.leftovers() == []
        assert backend.sweep() == []
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert backend.leftovers() == [f"staging/{staging.id}"]
        assert backend.sweep() == [f"staging/{staging.id}"]
    assert backend.leftovers() == []
    backend.create(staging)


def test_what_a_living_process_works_on_is_not_swept(backend: Backend, pool: Pool) -> None:
    staging = new(STAGING)
    with process(STAGES.format(imported=pool.imported), pool.base, staging.id):
        backend.sweep()
        assert read(backend, staging, "half") == ""


def test_our_own_work_is_not_swept(backend: Backend) -> None:
    staging = new(STAGING)
    backend.create(staging)
    backend.sweep()
    write(backend, staging, "file", "kept")
    backend.seal(staging, new(LAYERS))


def test_sweeping_takes_no_layer_and_no_container(backend: Backend) -> None:
    parent = layer(backend)
    child = container(backend, parent)
    backend.sweep()
    assert {found.volume for found in backend.volumes()} == {parent, child}


@pytest.mark.parametrize("make", [layer, container])
def test_a_volume_put_aside_is_out_of_every_listing_and_whole(
    backend: Backend, pool: Pool, make: Callable[..., Volume]
) -> None:
    volume = make(backend, record=b"record")
    with backend.open(volume) as tree:
        before = entries(tree)
    aside = backend.quarantine(volume)
    assert list(backend.volumes()) == []
    assert backend.leftovers() == []
    assert backend.sweep() == []
    with pool.tree(aside) as tree:
        assert entries(tree) == before
    with pytest.raises(VolumeNotFound), backend.open(volume):
        pass


@pytest.mark.ability(FILES)
def test_a_plain_file_among_the_volumes_can_be_put_aside(backend: Backend) -> None:
    volume = new(LAYERS)
    Path(backend.location(volume)).write_text("who put this here?")
    aside = backend.quarantine(volume)
    assert Path(aside).read_text() == "who put this here?"
    assert list(backend.volumes()) == []


def test_putting_aside_what_is_not_there_is_refused(backend: Backend) -> None:
    with pytest.raises(VolumeNotFound):
        backend.quarantine(new(CONTAINERS))
