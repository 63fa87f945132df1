"""The embedded default: a btrfs pool in a sparse file, made, mounted, grown and missed."""

import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from backends import mounts
from backends.errors import BackendError, Unavailable
from imagegraph import listing, removal
from imagegraph.check import check
from imagegraph.graph import Graph
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.detect.conftest import MakeHost
from tests.store.scenes import (
    add_image,
    assert_sound,
    contents,
    loop_devices,
    release,
    write,
)
from tests.store.test_concurrency import race

MIB = 1 << 20
SIZE = 300 * MIB


def mount_lines(root: Path) -> list[str]:
    """The lines of mountinfo for the pool of `root`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4] == f"{root}/pool"]


# Making


def test_the_first_use_makes_a_sparse_pool_and_mounts_it_without_access_times(root: Path) -> None:
    with Store.open(str(root)) as store:
        assert type(store.backend).__name__ == "LoopbackBackend"
        add_image(store, {"a": b"1"}, "base:1")
        assert_sound(store)
    status = (root / "pool.btrfs").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_blocks * 512 < 40 * MIB < status.st_size
    [line] = mount_lines(root)
    assert " btrfs " in line and "noatime" in line.split()[5].split(",")
    assert "discard=async" in line


def test_the_default_size_is_three_quarters_of_what_is_free_and_is_told(root: Path) -> None:
    counts = os.statvfs(root.parent)
    free = counts.f_bavail * counts.f_frsize
    with Store.open(str(root)) as store:
        size = (root / "pool.btrfs").stat().st_size
        assert 0.74 * free < size <= 0.75 * free
        assert f"{size / (1 << 30):.1f} GiB at most" in store.backend.info()["Pool size"]


def test_what_is_removed_is_given_back_to_the_host(root: Path) -> None:
    def taken() -> int:
        subprocess.run(["btrfs", "filesystem", "sync", root / "pool"], check=True)
        return (root / "pool.btrfs").stat().st_blocks * 512

    with Store.init(str(root), size=SIZE) as store:
        empty = taken()
        add_image(store, {"a": os.urandom(100 * MIB)}, "base:1")
        assert taken() > empty + 90 * MIB
        store.remove_image("base:1")
        end = time.monotonic() + 30
        while taken() > empty + 50 * MIB:
            assert time.monotonic() < end, "the host's blocks are still taken"
            time.sleep(0.2)


def test_a_pool_too_small_for_btrfs_is_refused_and_leaves_nothing(root: Path) -> None:
    with pytest.raises(Unavailable, match="give 256M or more"):
        Store.init(str(root), size=100 * MIB)
    assert not (root / "pool.btrfs").exists()
    Store.init(str(root), size=SIZE).close()


def test_without_mkfs_the_package_is_named_and_no_pool_is_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nonexistent")
        patched.setattr("backends.run._SYSTEM", "/nonexistent")
        with pytest.raises(Unavailable, match="install the package btrfs-progs"):
            Store.open(str(root))
    assert not list(root.glob("pool.btrfs*"))
    Store.open(str(root)).close()


def test_what_a_crash_left_of_a_pool_in_the_making_is_no_hindrance(root: Path) -> None:
    root.mkdir(mode=0o700)
    Graph(f"{root}/graph.sqlite3").close()
    (root / "pool.btrfs.new").write_bytes(bytes(1000))
    with Store.init(str(root), size=SIZE) as store:
        assert_sound(store)
    assert not (root / "pool.btrfs.new").exists()


# Mounting


def test_the_pool_is_mounted_again_after_a_reboot(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        store.create(image, name="web")
    release(root)
    with Store.open(str(root)) as store:
        assert contents(store, store.container("web")) == {"a": b"1"}
        assert_sound(store)
    assert len(mount_lines(root)) == 1


def test_several_that_mount_it_again_at_once_mount_it_once(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        add_image(store, {"a": b"1"}, "base:1")
    release(root)
    race(root, "name", 3, processes=4)
    assert len(mount_lines(root)) == len(loop_devices(root)) == 1


def test_a_loop_device_that_is_attached_already_is_used(root: Path) -> None:
    Store.init(str(root), size=SIZE).close()
    release(root)
    command = ["losetup", "--find", "--show", root / "pool.btrfs"]
    device = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    Store.open(str(root)).close()
    mount = mounts.mount_at(f"{root}/pool")
    assert mount is not None and mount.source == device
    assert loop_devices(root) == [device]


def test_a_root_below_a_link_is_the_same_root(root: Path, tmp_path: Path) -> None:
    Store.init(str(root), size=SIZE).close()
    (tmp_path / "link").symlink_to(root)
    with Store.open(f"{tmp_path}/link") as store:
        add_image(store, {"a": b"1"}, "base:1")
    assert len(mount_lines(root)) == 1


def test_the_mount_outlives_the_namespace_of_its_first_user(root: Path) -> None:
    init = "import sys; from imagegraph.store import Store; Store.init(sys.argv[1])"
    # The shell is process 1 of a pid namespace; the store is made in another mount namespace.
    script = """
        unshare --mount --propagation private "$0" -c "$1" "$2" || exit
        grep --count " $2/pool " /proc/self/mountinfo
        umount "$2/pool"
    """
    command = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    found = subprocess.run(
        [*command, sys.executable, init, root], check=True, capture_output=True, text=True
    )
    assert found.stdout == "1\n"


def test_a_pool_whose_file_is_damaged_is_one_line(root: Path) -> None:
    Store.init(str(root), size=SIZE).close()
    release(root)
    with (root / "pool.btrfs").open("r+b") as file:
        file.write(bytes(64 * MIB))
    with pytest.raises(BackendError, match=r"cannot mount the pool .*pool\.btrfs") as caught:
        Store.open(str(root))
    assert "\n" not in str(caught.value)


# Growing


def test_a_pool_grows_while_it_is_in_use(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        before = store.backend.space().total
        with Store.init(str(root), size=2 * SIZE):
            assert store.backend.space().total == before + SIZE
        add_image(store, {"b": os.urandom(350 * MIB)}, "large:1")
        assert contents(store, image) == {"a": b"1"}
    assert (root / "pool.btrfs").stat().st_size == 2 * SIZE


def test_growing_that_was_cut_short_is_finished_by_the_next_attempt(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        os.truncate(root / "pool.btrfs", 2 * SIZE)
        assert store.backend.space().total == SIZE
        with Store.init(str(root), size=2 * SIZE):
            assert store.backend.space().total == 2 * SIZE


def test_a_pool_is_never_shrunk(root: Path) -> None:
    with Store.init(str(root), size=2 * SIZE) as store:
        with pytest.raises(Unavailable, match="cannot shrink"):
            Store.init(str(root), size=SIZE)
        assert (root / "pool.btrfs").stat().st_size == store.backend.space().total == 2 * SIZE


# Missing


def test_a_pool_whose_file_is_gone_is_named_and_never_made_anew(root: Path) -> None:
    Store.init(str(root), size=SIZE).close()
    release(root)
    (root / "pool.btrfs").rename(root.parent / "elsewhere")
    for opening in (Store.open, Store.init):
        with pytest.raises(Unavailable, match=re.escape(f"{root}/pool.btrfs is gone")) as caught:
            opening(str(root))
        assert "\n" not in str(caught.value)
    assert not (root / "pool.btrfs").exists()
    (root.parent / "elsewhere").rename(root / "pool.btrfs")
    Store.open(str(root)).close()


def test_a_pool_unmounted_under_way_is_named_and_nothing_is_lost(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        [container] = store.create(image, name="web")
        write(store, container, {"b": b"2"})
        child, _ = store.commit(container, parse("child:1"))
        release(root)
        for doing in (
            lambda: store.create(image, name="other"),
            lambda: add_image(store, {"a": b"2"}, "new:1"),
            lambda: store.commit(container, parse("new:1")),
            lambda: store.remove_container(container),
            lambda: store.remove_image("child:1"),
            lambda: store.tag(image, parse("new:1")),
            lambda: store.rename(container, "third"),
            lambda: list(store.diff(container)),
            lambda: contents(store, image),
            lambda: removal.prune(store, unused=True),
            lambda: check(store, repair=True),
            lambda: listing.disk_usage(store),
        ):
            with pytest.raises(Unavailable, match=f"{root}/pool") as caught:
                doing()
            assert "\n" not in str(caught.value)
    with Store.open(str(root)) as store:
        check(store, repair=True)
        assert store.container("third").id == container.id
        for thing, files in ((image, {"a": b"1"}), (child, {"a": b"1", "b": b"2"})):
            assert contents(store, thing) == files
        assert_sound(store)


def test_what_was_not_removed_because_the_pool_was_gone_is_still_seen(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        store.create(image, name="web")
        release(root)
        with pytest.raises(Unavailable):
            store.remove_container(store.container("web"))
    with Store.open(str(root)) as store:
        assert contents(store, store.container("web")) == {"a": b"1"}
        assert_sound(store)


def test_a_host_with_less_free_than_the_pool_may_take_is_warned_of(make_host: MakeHost) -> None:
    root = make_host(1 << 30)
    with Store.open(str(root)) as store:
        assert store.backend.warnings() == []
    with Store.init(str(root), size=5 << 30) as store:
        [warning] = store.backend.warnings()
        assert f"{root}/pool.btrfs" in warning and "MiB free" in warning and "\n" not in warning


def test_a_pool_whose_file_was_moved_away_while_mounted_is_warned_of(root: Path) -> None:
    with Store.init(str(root), size=SIZE) as store:
        (root / "pool.btrfs").rename(root.parent / "elsewhere")
        [warning] = store.backend.warnings()
        assert f"{root}/pool.btrfs is gone" in warning and "\n" not in warning
        assert "gone" in store.backend.info()["Pool size"]
        (root.parent / "elsewhere").rename(root / "pool.btrfs")
        assert store.backend.warnings() == []


FILL = """
import os, sys
from imagegraph.store import Store
from tests.store.scenes import add_image
with Store.open(sys.argv[1]) as store:
    add_image(store, {"b": os.urandom(800 << 20)}, "large:1")
"""


def test_a_host_that_is_full_fails_and_the_store_goes_on(
    make_host: MakeHost,
) -> None:
    root = make_host(500 * MIB)
    ballast = root.parent / "ballast"
    ballast.write_bytes(bytes(60 * MIB))
    with Store.init(str(root), size=2 << 30) as store:
        kept = add_image(store, {"a": b"1"}, "base:1")
        before = contents(store, kept)
    done = subprocess.run([sys.executable, "-c", FILL, root], stderr=subprocess.PIPE, text=True)
    assert done.returncode and re.match(r"(\w+\.)*\w+: .*", done.stderr.splitlines()[-1])
    release(root)
    ballast.unlink()
    with Store.open(str(root)) as store:
        check(store, repair=True)
        assert contents(store, store.image("base:1")) == before
        assert_sound(store)
