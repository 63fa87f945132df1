"""Stores to test on: on btrfs, on plain directories, and on a loopback pool."""

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


@pytest.fixture(params=["btrfs", "vfs"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A root that is not there yet, and the backend to make there."""
    if request.param == "vfs":
        require("root")
        return tmp_path / "root", "vfs"
    return request.getfixturevalue("btrfs_root"), "btrfs"


@pytest.fixture
def store(root: tuple[Path, str]) -> Iterator[Store]:
    """An empty store on each backend."""
    with Store.init(str(root[0]), backend=root[1]) as opened:
        yield opened


@pytest.fixture
def btrfs_store(btrfs_root: Path) -> Iterator[Store]:
    """An empty store on btrfs, for what only a filesystem with snapshots promises."""
    with Store.init(str(btrfs_root), backend="btrfs") as opened:
        yield opened


@pytest.fixture
def pool_root(tmp_path: Path) -> Iterator[Path]:
    """A root for a loopback store."""
    require("btrfs")
    with loopback_root(tmp_path) as path:
        yield path
