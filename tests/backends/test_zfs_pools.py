"""Pools that are full, gone, suspended or locked, and what their defaults do to trees."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import zfs_dataset
from backends.base import CONTAINERS, LAYERS, Volume
from backends.errors import (
    BackendError,
    NoSpace,
    Unavailable,
    VolumeBusy,
    VolumeNotFound,
)
from backends.libzfs import core, run
from backends.zfs import ZfsBackend
from tests.backends.zfs_volumes import (
    MIB,
    commit,
    edit,
    everything,
    home,
    one,
    pool_of_its_own,
    problems,
    zfs,
)
from tests.contract.conftest import container, layer, new, read

pytestmark = pytest.mark.zfs


def fill_up(tree: str) -> None:
    """Write until not one more page can be had."""
    with Path(tree, "filling").open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(os.urandom(MIB)[:size])
        os.fsync(file.fileno())


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZfsBackend]:
    """A backend whose pool is full; the volumes that fill it are what a test removes."""
    with pool_of_its_own(tmp_path_factory.mktemp("full")) as (backend, _):
        yield backend


def test_after_a_failed_commit_on_a_full_pool_everything_can_be_removed(full: ZfsBackend) -> None:
    before = everything(full)
    base = layer(full, one)
    web = container(full, base)
    first = commit(full, web, "2")
    other = container(full, first)
    with full.open(web) as tree:
        fill_up(tree)
    made = everything(full)
    for refused in (lambda: commit(full, web), lambda: full.snapshot(web, new(LAYERS), edit=edit)):
        with pytest.raises(NoSpace, match="full"):
            refused()
        assert everything(full) == made
    assert full.leftovers() == [] and problems(full) == {}
    for volume in (first, base, other, web):
        full.remove(volume)
    assert everything(full) == before
    full.remove(layer(full, one))


def test_a_pool_that_is_exported_under_way_is_one_line(tmp_path: Path) -> None:
    with pool_of_its_own(tmp_path) as (backend, pool):
        base = layer(backend, one)
        subprocess.run(["zpool", "export", pool], check=True)
        assert_unavailable(backend, base, rf"no pool {pool}; zpool import {pool}")
        with pytest.raises(Unavailable, match="no pool"):
            ZfsBackend(str(tmp_path / "root")).create(new(CONTAINERS), base)
        subprocess.run(["zpool", "import", "-d", tmp_path, pool], check=True)
        backend.remove(container(backend, base))


def assert_unavailable(backend: ZfsBackend, base: Volume, match: str) -> None:
    """Every operation says in one line that the pool is not there."""
    calls: list[Callable[[], object]] = [
        lambda: backend.create(new(CONTAINERS), base),
        lambda: backend.snapshot(new(CONTAINERS), new(LAYERS)),
        lambda: backend.remove(base),
        lambda: read(backend, base, "a"),
        lambda: list(backend.changes(base, base)),
        lambda: backend.usage(base),
        lambda: backend.describe(base, b""),
        lambda: list(backend.volumes()),
        backend.leftovers,
        backend.sweep,
        backend.space,
        backend.info,
        backend.warnings,
    ]
    for call in calls:
        with pytest.raises(Unavailable, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_pool_that_is_suspended_is_one_line_and_nothing_waits_for_it(tmp_path: Path) -> None:
    # A sparse file on a file system that has no room for it: its writes fail.
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64M", "none", str(small)], check=True)
    filler = small / "filler"
    try:
        with pool_of_its_own(small, 256 * MIB) as (backend, pool):
            base = layer(backend, one)
            web = container(backend, base)
            subprocess.run(["zpool", "sync", pool], check=True)
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(MIB))
            state = Path(f"/proc/spl/kstat/zfs/{pool}/state")
            writing = threading.Thread(target=write_much, args=(backend, web))
            try:
                writing.start()
                for _ in range(100):
                    if state.read_text().strip() == "SUSPENDED":
                        break
                    threading.Event().wait(0.2)
                assert_unavailable(backend, base, rf"{pool} is suspended.* zpool clear {pool}")
            finally:
                filler.unlink()
                subprocess.run(["zpool", "clear", pool], check=True)
                writing.join()
            assert read(backend, base, "a") == "1"
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def write_much(backend: ZfsBackend, volume: Volume) -> None:
    with backend.open(volume) as tree, Path(tree, "b").open("wb") as file:
        file.write(os.urandom(24 * MIB))
        os.fsync(file.fileno())


def test_a_pool_that_goes_while_a_tree_is_read_is_one_line(
    backend: ZfsBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    web = container(backend)
    with pytest.raises(Unavailable, match="not installed"), backend.frozen(web):
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(run, "SYSTEM_PATH", str(tmp_path))
        monkeypatch.setattr(core, "_libraries", lambda: None)
    monkeypatch.undo()
    backend.sweep()
    backend.remove(web)


def test_without_the_command_that_is_said(
    backend: ZfsBackend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(run, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(Unavailable, match=r"zfs is not installed; install .*zfsutils-linux"):
        backend.create(new(CONTAINERS))
    with pytest.raises(Unavailable, match="zfs is not installed"):
        zfs_dataset.prepare(str(tmp_path), home(backend) + "2")


def test_a_key_that_is_unloaded_is_asked_for(zpool: str, tmp_path: Path) -> None:
    key, dataset = tmp_path / "key", f"{zpool}/secret"
    key.write_bytes(os.urandom(32))
    given = ["encryption=on", "keyformat=raw", f"keylocation=file://{key}", "mountpoint=none"]
    zfs("create", *[word for each in given for word in ("-o", each)], dataset)
    root = tmp_path / "root"
    root.mkdir()
    zfs_dataset.prepare(str(root), f"{dataset}/store")
    backend = ZfsBackend(str(root))
    base = layer(backend, one)
    web = container(backend, base)
    made = commit(backend, web, "2")
    zfs("unload-key", dataset)
    calls: list[Callable[[], object]] = [
        lambda: read(backend, base, "a"),
        lambda: commit(backend, web),
        lambda: zfs_dataset.prepare(str(tmp_path), dataset),
    ]
    for call in calls:
        with pytest.raises(BackendError, match="zfs load-key"):
            call()
    zfs("load-key", dataset)
    assert read(backend, made, "a") == "2"
    for volume in (base, made, web):
        backend.remove(volume)
    zfs("destroy", "-R", dataset)


def test_the_defaults_of_a_pool_do_not_reach_into_trees(zpool: str, tmp_path: Path) -> None:
    above = f"{zpool}/odd"
    odd = ["utf8only=on", "casesensitivity=insensitive", "normalization=formD", "mountpoint=none"]
    odd += ["devices=off", "exec=off", "setuid=off", "readonly=on", "acltype=off", "xattr=on"]
    zfs("create", *[word for each in odd for word in ("-o", each)], above)
    zfs_dataset.prepare(str(tmp_path), f"{above}/store")
    backend = ZfsBackend(str(tmp_path))
    names = {b"a", b"A", b"\xff\xfe", "ä".encode(), "a\u0308".encode()}

    def fill(tree: Path) -> None:
        for name in names:
            Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(name)
        os.setxattr(tree / "a", "user.x", b"y")

    base = layer(backend, fill)
    web = container(backend, base)
    made = commit(backend, web, "2")
    for volume in (base, web, made):
        with backend.open(volume) as tree:
            assert set(os.listdir(os.fsencode(tree))) == names
            assert not os.statvfs(tree).f_flag & (os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC)
    zfs("destroy", "-R", above)


def test_an_unreadable_mount_of_others_is_busy_and_named(
    backend: ZfsBackend, tmp_path: Path
) -> None:
    web = container(backend)
    point = tmp_path / "ro"
    point.mkdir()
    subprocess.run(["mount", "-t", "zfs", "-o", "ro", backend.location(web), point], check=True)
    try:
        with pytest.raises(VolumeBusy, match="open"):
            read(backend, web, "a")
        with pytest.raises(VolumeBusy, match=f"mounted at {point}"):
            backend.remove(web)
    finally:
        subprocess.run(["umount", point], check=True)
    backend.remove(web)


def test_a_container_that_is_not_there_is_not_found(backend: ZfsBackend) -> None:
    with pytest.raises(VolumeNotFound):
        commit(backend, new(CONTAINERS))
