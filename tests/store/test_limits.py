"""How much a container may add to its image."""

import errno
import os
import platform
import subprocess
from pathlib import Path

import pytest

from backends.errors import NotSupported
from imagegraph import listing
from imagegraph.store import Store
from tests.store.scenes import add_image, assert_sound, names

MIB = 1 << 20
HAS_SIMPLE_QUOTAS = tuple(map(int, platform.release().split(".")[:2])) >= (6, 7)


def fill_up(path: Path, size: int) -> int:
    """Write until the quota or `size` bytes; returns the bytes that are durably there."""
    with path.open("wb", buffering=0) as file:
        while file.tell() < size:
            try:
                file.write(os.urandom(MIB))
                os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.EDQUOT
                break
        return file.tell()


def test_a_limit_stops_writing_on_our_own_pool(pool_root: Path) -> None:
    with Store.init(str(pool_root), backend="loopback", size=1 << 30) as store:
        image = add_image(store, {"a": bytes(30 * MIB)}, "base:1")
        if not HAS_SIMPLE_QUOTAS:
            with pytest.raises(NotSupported, match=r"Linux 6\.7"):
                store.create(image, size=20 * MIB)
            return
        [small, large] = store.create(image, name="lim", count=2, size=20 * MIB)
        assert listing.images(store)[0].size == 30 * MIB
        for container in (small, large):
            with store.open_tree(container) as tree:
                written = fill_up(Path(tree, "b"), 60 * MIB)
                assert 18 * MIB <= written <= 20 * MIB
                assert Path(tree, "a").stat().st_size == 30 * MIB
        store.backend.limit(store.volume(large), None)
        with store.open_tree(large) as tree:
            assert fill_up(Path(tree, "c"), 40 * MIB) == 40 * MIB
        [free] = store.create(image)
        with store.open_tree(free) as tree:
            assert fill_up(Path(tree, "b"), 40 * MIB) == 40 * MIB
        assert store.container("lim-1").size == 20 * MIB
        # The kernel counts when it commits.
        subprocess.run(["btrfs", "filesystem", "sync", f"{pool_root}/pool"], check=True)
        usage = store.backend.usage(store.volume(free))
        assert usage.exclusive is not None and 40 * MIB <= usage.exclusive < 42 * MIB


@pytest.mark.parametrize("root", ["btrfs", "vfs"], indirect=True)
def test_a_limit_where_there_are_no_quotas_says_what_to_do_and_makes_nothing(
    store: Store,
) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    with pytest.raises(NotSupported, match="quota"):
        store.create(base, name="small", count=2, size=MIB)
    assert names(store) == set()
    assert_sound(store)


def test_full_quotas_that_are_there_are_used_as_they_are(fresh_btrfs: Path) -> None:
    subprocess.run(["btrfs", "quota", "enable", fresh_btrfs], check=True)
    subprocess.run(["btrfs", "quota", "rescan", "-w", fresh_btrfs], check=True)
    with Store.init(str(fresh_btrfs / "root")) as store:
        image = add_image(store, {"a": os.urandom(8 * MIB)}, "base:1")
        [container] = store.create(image, size=10 * MIB)
        with store.open_tree(container) as tree:
            assert 8 * MIB <= fill_up(Path(tree, "b"), 30 * MIB) <= 10 * MIB
