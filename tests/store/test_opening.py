"""Stores being opened: made where there is none, refused with one line where they cannot be."""

import concurrent.futures
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from backends.errors import CowshedError
from imagegraph.errors import NewerStore, StoreError
from imagegraph.store import Store
from tests.conftest import require
from tests.store.scenes import add_image, assert_sound


def test_opening_makes_a_private_store_where_there_is_none(btrfs_root: Path) -> None:
    with Store.open(str(btrfs_root)) as store:
        assert store.backend.name == "btrfs"
        assert_sound(store)
    assert stat.S_IMODE(btrfs_root.stat().st_mode) == 0o700
    assert stat.S_IMODE((btrfs_root / "pool").stat().st_mode) == 0o700


def test_what_was_made_is_there_when_opened_again(root: tuple[Path, str]) -> None:
    with Store.open(str(root[0]), backend=root[1]) as store:
        image = add_image(store, {"a": b"1"}, "base:1")
    with Store.open(str(root[0])) as store:
        assert store.image("base:1") == image


def test_a_store_made_by_a_newer_version_is_refused(root: tuple[Path, str]) -> None:
    Store.init(str(root[0]), backend=root[1]).close()
    with sqlite3.connect(root[0] / "graph.sqlite3") as database:
        database.execute("PRAGMA user_version = 99")
    for opening in (Store.open, Store.init):
        with pytest.raises(NewerStore, match="update cowshed"):
            opening(str(root[0]))


def test_another_backend_than_the_store_has_is_refused(btrfs_root: Path) -> None:
    Store.init(str(btrfs_root), backend="btrfs").close()
    for opening in (Store.open, Store.init):
        with pytest.raises(StoreError, match="is a btrfs store, not a vfs one"):
            opening(str(btrfs_root), backend="vfs")


def test_a_backend_that_is_not_known_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no backend lvm: take btrfs, zfs, loopback, vfs"):
        Store.init(str(tmp_path / "root"), backend="lvm")


REFUSED: dict[str, dict[str, Any]] = {
    "no such backend": {"backend": "lvm"},
    "not on btrfs": {"backend": "btrfs"},
    "no size of its own": {"backend": "vfs", "size": 1 << 30},
    "no quotas": {"backend": "vfs", "quota": True},
    "too small": {"backend": "loopback", "size": 1 << 20},
    "no dataset": {"backend": "vfs", "dataset": "tank/x"},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing(case: str) -> None:
    require("root")
    # A memory filesystem, where neither btrfs nor ZFS are.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        empty = Path(directory, "empty")
        empty.mkdir(mode=0o755)
        for root in (empty, Path(directory, "not/there/yet")):
            with pytest.raises(CowshedError):
                Store.init(str(root), **REFUSED[case])
        assert os.listdir(directory) == ["empty"] and os.listdir(empty) == []
        assert stat.S_IMODE(empty.stat().st_mode) == 0o755


def test_who_is_refused_takes_nothing_from_who_is_not(btrfs_root: Path) -> None:
    def begin(refused: bool) -> bool:
        try:
            options = REFUSED["no size of its own"] if refused else {"backend": "vfs"}
            with Store.init(str(btrfs_root), **options) as store:
                add_image(store, {"a": b"1"})
        except CowshedError:
            return True
        return False

    turns = [bool(number % 3) for number in range(24)]
    with concurrent.futures.ThreadPoolExecutor(len(turns)) as pool:
        assert list(pool.map(begin, turns)) == turns
    with Store.open(str(btrfs_root)) as store:
        assert len(store.graph.images()) == turns.count(False)
        assert_sound(store)


def test_a_root_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for root in (
        "/proc/nothing/here",
        "/sys/kernel/here",
        f"{tmp_path}/file",
        f"{tmp_path}/file/x",
    ):
        with pytest.raises(CowshedError) as caught:
            Store.open(root)
        assert root.rstrip("/x") in str(caught.value) and "\n" not in str(caught.value)


def test_a_root_that_became_read_only_is_one_line(btrfs_root: Path) -> None:
    Store.init(str(btrfs_root)).close()
    subprocess.run(["mount", "--bind", "-o", "ro", btrfs_root, btrfs_root], check=True)
    try:
        for opening in (Store.open, Store.init):
            with pytest.raises(CowshedError) as caught:
                opening(str(btrfs_root))
            assert str(btrfs_root) in str(caught.value)
    finally:
        subprocess.run(["umount", btrfs_root], check=True)


def test_another_user_is_told_so_in_one_line(btrfs_root: Path) -> None:
    require("root")
    Store.init(str(btrfs_root)).close()
    os.chmod(btrfs_root.parent, 0o755)
    script = (
        "import os, sys; os.setgid(65534); os.setuid(65534)\n"
        "from backends.errors import CowshedError\n"
        "from imagegraph.store import Store\n"
        "try: Store.open(sys.argv[1])\n"
        "except CowshedError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, btrfs_root], capture_output=True, text=True, check=True
    )
    assert "run as root" in done.stdout and done.stdout.count("\n") == 1


def test_a_database_that_is_damaged_is_named(btrfs_root: Path) -> None:
    Store.init(str(btrfs_root)).close()
    (btrfs_root / "graph.sqlite3").write_bytes(b"not a database" * 1000)
    with pytest.raises(StoreError, match=r"graph\.sqlite3 is damaged"):
        Store.open(str(btrfs_root))


def test_a_pool_that_is_gone_is_named(btrfs_root: Path) -> None:
    Store.init(str(btrfs_root)).close()
    subprocess.run(["btrfs", "-q", "subvolume", "delete", btrfs_root / "pool"], check=True)
    with pytest.raises(CowshedError, match=rf"{btrfs_root}/pool"):
        Store.open(str(btrfs_root))


def test_a_foreign_directory_is_not_taken_over(btrfs_mount: Path, tmp_path: Path) -> None:
    home = btrfs_mount / f"{tmp_path.name}-home"
    home.mkdir(mode=0o755)
    (home / "letters").touch()
    home.chmod(0o755)
    with pytest.raises(StoreError, match="is not empty"):
        Store.open(str(home))
    assert stat.S_IMODE(home.stat().st_mode) == 0o755 and os.listdir(home) == ["letters"]
