"""Stores to test on: on btrfs, on ZFS, on plain directories, and on a loopback pool."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagegraph.store import Store
from tests.conftest import require
from tests.store.scenes import loopback_root


@pytest.fixture
def btrfs_root(btrfs_mount: Path, tmp_path: Path) -> Path:
    """A root on btrfs that is not there yet."""
    return btrfs_mount / tmp_path.name


@pytest.fixture
def zfs_root(zfs_mount: Path, tmp_path: Path) -> Path:
    """A root on ZFS that is not there yet."""
    return zfs_mount / tmp_path.name


ZFS = pytest.param("zfs", marks=pytest.mark.zfs)

WITHOUT_ZFS = pytest.mark.parametrize("root", ["btrfs", "vfs"], indirect=True)
"""For a test of what no backend has a part in: tests on ZFS are slow, and CI's time is bounded."""


@pytest.fixture(params=["btrfs", ZFS, "vfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A root that is not there yet, and the backend to make there."""
    if request.param == "vfs":
        require("root")
        return tmp_path / "root", "vfs"
    return request.getfixturevalue(f"{request.param}_root"), request.param


@pytest.fixture
def store(root: tuple[Path, str]) -> Iterator[Store]:
    """An empty store on each backend."""
    with Store.init(str(root[0]), backend=root[1]) as opened:
        yield opened


@pytest.fixture(params=["btrfs", ZFS])
def snapshotting(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store on each filesystem that has snapshots and knows who uses them."""
    root = request.getfixturevalue(f"{request.param}_root")
    with Store.init(str(root), backend=request.param) as opened:
        yield opened


@pytest.fixture
def btrfs_store(btrfs_root: Path) -> Iterator[Store]:
    """An empty store on btrfs, for what only nested subvolumes need."""
    with Store.init(str(btrfs_root), backend="btrfs") as opened:
        yield opened


@pytest.fixture
def pool_root(tmp_path: Path) -> Iterator[Path]:
    """A root for a loopback store."""
    require("btrfs")
    with loopback_root(tmp_path) as path:
        yield path
