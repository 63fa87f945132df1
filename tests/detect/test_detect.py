"""Which backend serves a root that has none yet."""

import subprocess
import sys
from pathlib import Path

import pytest

from backends import detect
from backends.errors import NotSupported, Unavailable
from imagegraph.store import Store
from tests.store.scenes import loopback_root


def test_a_root_on_btrfs_gets_subvolumes_of_it(btrfs_mount: Path) -> None:
    assert detect.choose(str(btrfs_mount)) == "btrfs"
    assert detect.choose(str(btrfs_mount / "not/there/yet")) == "btrfs"


def test_a_root_on_another_filesystem_gets_a_pool_of_its_own(root: Path) -> None:
    assert detect.filesystem(str(root)) == "ext4"
    assert detect.choose(str(root)) == "loopback"


def test_a_link_is_followed_to_where_the_root_will_be(root: Path, btrfs_mount: Path) -> None:
    link = root.parent / "link"
    link.symlink_to(btrfs_mount)
    assert detect.choose(str(link / "root")) == "btrfs"


def test_a_mount_point_is_not_mistaken_for_a_name_that_begins_like_it(
    btrfs_mount: Path, root: Path
) -> None:
    beside = root.parent.with_name(f"{root.parent.name}-beside")
    assert detect.filesystem(str(beside)) == detect.filesystem(str(beside.parent))


def test_whoever_is_not_root_gets_plain_directories(btrfs_mount: Path) -> None:
    script = (
        "import os, sys; os.setuid(65534); from backends import detect;"
        "print(detect.choose(sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, btrfs_mount]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "vfs\n"


def test_btrfs_is_refused_where_there_is_none(root: Path) -> None:
    with pytest.raises(Unavailable, match="is not on btrfs: take --backend loopback"):
        Store.init(str(root), backend="btrfs")


def test_only_a_loopback_pool_has_a_size(btrfs_mount: Path, tmp_path: Path) -> None:
    for backend in ("btrfs", "vfs"):
        root = btrfs_mount / f"{tmp_path.name}-{backend}"
        with pytest.raises(NotSupported, match="--size is for a loopback pool"):
            Store.init(str(root), backend=backend, size=1 << 30)


def test_a_loopback_pool_is_made_on_btrfs_too_if_asked_for(
    btrfs_mount: Path, tmp_path: Path
) -> None:
    with loopback_root(btrfs_mount / tmp_path.name) as root:
        (root.parent).mkdir()
        with Store.init(str(root), backend="loopback", size=300 << 20) as store:
            assert store.backend.space().total == 300 << 20
