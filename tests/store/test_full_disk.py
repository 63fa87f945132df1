"""A btrfs that is full to the last block: what fills it can be seen and removed."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagegraph import reserve
from imagegraph.store import Store
from tests.conftest import new_btrfs, require
from tests.store.scenes import add_image, assert_sound, names, tags

MIB = 1 << 20
SIZE = 400 * MIB


@pytest.fixture
def full_root(tmp_path: Path) -> Iterator[Path]:
    """A root, not there yet, on a btrfs that is soon full."""
    require("btrfs")
    with new_btrfs(tmp_path, SIZE) as point:
        yield point / "root"


def cowshed(root: Path, *arguments: str, stdin: int | None = None) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in a process of its own."""
    command = [sys.executable, "-m", "cli", "--root", str(root), *arguments]
    done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def fill_up(tree: str | Path) -> None:
    """Write to a file until not one more page can be had, and wait until it is on disk."""
    with Path(tree, "filling").open("wb", buffering=0) as file:
        for size in (MIB, 4096):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC
        os.fsync(file.fileno())
    subprocess.run(["btrfs", "filesystem", "sync", tree], check=True)


def test_an_archive_larger_than_the_disk_is_one_line_and_leaves_nothing(
    full_root: Path, tmp_path: Path
) -> None:
    with Store.init(str(full_root), backend="btrfs") as store:
        add_image(store, {"a": b"1"}, "base:1")
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "file").write_bytes(os.urandom(MIB) * (SIZE // MIB + 50))
    with subprocess.Popen(
        ["tar", "-c", "-C", tmp_path / "big", "."],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as tar:
        assert tar.stdout is not None
        status, out, err = cowshed(full_root, "import", "-", "big:1", stdin=tar.stdout.fileno())
        tar.stdout.close()
    assert (status, out) == (1, "")
    assert err.startswith("Error: ") and err.count("\n") == 1
    assert "full" in err or "No space" in err
    with Store.open(str(full_root)) as store:
        assert len(tags(store)) == len(store.graph.images()) == 1
        assert_sound(store)


@pytest.mark.parametrize("removal", [("rm", "web"), ("prune", "-f")])
def test_a_container_that_fills_the_disk_can_be_seen_and_removed(
    full_root: Path, removal: tuple[str, ...]
) -> None:
    with Store.init(str(full_root), backend="btrfs") as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        [container] = store.create(image, name="web")
        with store.open_tree(container) as tree:
            fill_up(tree)
    for _ in range(2 * reserve.PIECES):
        status, out, err = cowshed(full_root, "ps", "-a")
        assert (status, err) == (0, "") and "web" in out
    assert cowshed(full_root, "check")[0] == 0
    assert cowshed(full_root, "check", "--repair")[0] == 0
    status, _, err = cowshed(full_root, *removal)
    assert (status, err) == (0, "")
    subprocess.run(["btrfs", "filesystem", "sync", full_root], check=True)
    subprocess.run(["btrfs", "subvolume", "sync", full_root / "pool"], check=True)
    with Store.open(str(full_root)) as store:
        assert names(store) == set()
        add_image(store, {"a": bytes(100 * MIB)}, "next:1")
        assert_sound(store)
    Store.open(str(full_root)).close()
    assert len(os.listdir(full_root / "reserve")) == reserve.PIECES


def test_a_disk_that_fills_up_under_an_open_store_lets_it_remove(full_root: Path) -> None:
    with Store.init(str(full_root), backend="btrfs") as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        made = store.create(image, count=20)
        with store.open_tree(made[0]) as tree:
            fill_up(tree)
        for container in reversed(made):
            store.remove_container(container)
        store.remove_image("base:1")
        assert_sound(store)


def test_the_graph_s_files_are_not_copied_on_write_and_volumes_are(full_root: Path) -> None:
    with Store.init(str(full_root), backend="btrfs") as store:
        image = add_image(store, {"a": b"1"}, "base:1")
        [container] = store.create(image)
        listed = subprocess.run(
            [
                "lsattr",
                "-d",
                full_root / "graph.sqlite3-shm",
                full_root / "graph.sqlite3-wal",
                full_root / "graph.sqlite3",
                full_root / "pool",
                full_root / "pool/staging",
                store.backend.location(store.volume(container)),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
    assert ["C" in line.split()[0] for line in listed] == [True] * 3 + [False] * 3
