"""Stores on ZFS: their dataset, snapshots of others, quotas, a full pool, commands started."""

import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import BackendError, CowshedError, Unavailable
from backends.libzfs import run
from imagegraph import listing, removal
from imagegraph.check import check
from imagegraph.errors import Conflict
from imagegraph.model import Removed
from imagegraph.store import Store
from tests.conftest import new_zpool
from tests.store.scenes import add_image, assert_sound, commit, contents, names, tags, write

pytestmark = pytest.mark.zfs

MIB = 1 << 20


def zfs(*argv: str) -> str:
    """What the command printed: the oracle of these tests."""
    return subprocess.run(["zfs", *argv], check=True, capture_output=True, text=True).stdout


def cowshed(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command in a process of its own."""
    command = [sys.executable, "-m", "cli", "--root", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def store(zfs_root: Path) -> Iterator[Store]:
    with Store.init(str(zfs_root)) as opened:
        yield opened


# Snapshots of others


def test_snapshots_of_others_keep_container_and_image_until_they_are_forced(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [web] = store.create(image, name="web")
    home = zfs_of(store)
    zfs("snapshot", "-r", f"{home}@daily")
    location = store.backend.location
    before = zfs("list", "-Hrt", "all", "-o", "name", home)
    with pytest.raises(Conflict, match=rf"web stays: .*{web.id}@daily; --force"):
        store.remove_container(web)
    [busy] = removal.prune(store)
    assert busy.kind == "busy" and f"{web.id}@daily" in busy.name
    assert (names(store), set(tags(store))) == ({"web"}, {"base:1"})
    assert zfs("list", "-Hrt", "all", "-o", "name", home) == before
    assert contents(store, web) == {"a": b"1"}

    status, out, err = cowshed(Path(store.root), "rm", "-f", "web")
    daily = f"{location(store.volume(web))}@daily"
    assert (status, out) == (0, "web\n")
    assert err == f"Warning: destroyed {daily}, a snapshot that cowshed had not made\n"

    with pytest.raises(Conflict, match=rf"base:1 stays: .*{image.layer}@daily; --force"):
        store.remove_image("base:1")
    assert set(tags(store)) == {"base:1"} and check(store) == []
    daily = f"{location(store.volume(image))}@daily"
    assert Removed("snapshot", daily) in store.remove_image("base:1", force=True)
    for kind in ("", "/layers", "/containers", "/volumes", "/staging", "/quarantine"):
        zfs("destroy", f"{home}{kind}@daily")
    assert_sound(store)


def zfs_of(store: Store) -> str:
    """The store's dataset."""
    return str(json.loads(Path(store.root, "dataset").read_text())["dataset"])


def test_a_container_that_was_promoted_is_told_with_its_remedy_and_repair_harms_nothing(
    store: Store,
) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [web] = store.create(image)
    location = store.backend.location(store.volume(image))
    zfs("promote", store.backend.location(store.volume(web)))
    for repair in (False, True):
        [problem] = check(store, repair=repair)
        assert f"zfs promote {location} brings it back" in f"{problem.what} {problem.remedy}"
        assert not problem.repaired
    with pytest.raises(BackendError, match="lost its snapshot"):
        store.create(image)
    assert len(names(store)) == 1
    zfs("promote", location)
    assert_sound(store)
    store.remove_container(web)
    assert_sound(store)
    store.remove_container(store.create(image)[0])


# The dataset


def test_init_makes_the_dataset_that_it_is_told_and_takes_no_other_afterwards(
    zpool: str, tmp_path: Path
) -> None:
    root = tmp_path / "odd  root\t'ä\" "
    dataset = f"{zpool}/given name"
    with Store.init(str(root), dataset=dataset) as store:
        assert store.backend.name == "zfs"
        add_image(store, {"a": b"1"}, "base:1")
        assert_sound(store)
    Store.init(str(root), dataset=dataset).close()
    with pytest.raises(Unavailable, match=rf"keeps its volumes in {dataset} already"):
        Store.init(str(root), dataset=f"{dataset} 2")
    for inside in (dataset, f"{dataset}/containers", f"{dataset}/layers/new"):
        with pytest.raises(Unavailable, match="of the store at"):
            Store.init(str(tmp_path / "thief"), dataset=inside)
    with Store.open(str(root)) as store:
        assert_sound(store)
    zfs("destroy", "-R", dataset)


def test_a_dataset_that_cannot_serve_is_refused_in_one_line_and_left_alone(
    zpool: str, zfs_mount: Path, tmp_path: Path
) -> None:
    full, volume, parent = (f"{zpool}/{name}" for name in ("full", "volume", "parent"))
    zfs("create", full)
    (zfs_mount / "full/letter").touch()
    zfs("create", "-s", "-V", "1M", volume)
    zfs("create", "-p", f"{parent}/child")
    refused = {
        full: "is not cowshed's",
        parent: "is not cowshed's",
        volume: "is a volume",
        f"{volume}/below": "not a filesystem|not there",
        f"{zpool}/not/there": f"{zpool}/not is not there; zfs create -p",
        "no-such-pool/store": "there is no pool no-such-pool",
        f"{zpool}/{'x' * 200}": "too long",
        f"{zpool}/{'x/' * 60}x": "too long|nesting",
        f"{zpool}/a@b": "'@'",
        f"{zpool}/a#b": "'#'",
        f"{zpool}/ä": "invalid character",
        f"{zpool}/a\nb": "invalid character",
        f"{zpool}/../x": "'..'",
        f"{zpool}/x/": "trailing slash",
        "../x": "letter",
        "-o": "letter",
        "": "missing",
    }
    before = zfs("list", "-Hrt", "all", "-o", "name,guid,mountpoint", zpool)
    root = tmp_path / "root"
    for dataset, why in refused.items():
        with pytest.raises(CowshedError, match=why) as caught:
            Store.init(str(root), dataset=dataset)
        assert "\n" not in str(caught.value)
        assert not (root / "dataset").exists()
    assert zfs("list", "-Hrt", "all", "-o", "name,guid,mountpoint", zpool) == before
    for backend in ("vfs", "btrfs", "loopback"):
        with pytest.raises(CowshedError, match="--dataset is for a zfs store"):
            Store.init(str(root), backend=backend, dataset=f"{zpool}/store")
    with pytest.raises(Unavailable, match="is not on ZFS: say with --dataset"):
        Store.init(str(root), backend="zfs")
    # None of that is in the way of the right one.
    with Store.init(str(root), dataset=f"{zpool}/store") as store:
        assert_sound(store)
    for name in (full, volume, parent, f"{zpool}/store"):
        zfs("destroy", "-R", name)


def test_a_root_whose_name_is_none_for_a_dataset_says_what_to_give(
    zpool: str, zfs_mount: Path
) -> None:
    root = zfs_mount / "kühe"
    with pytest.raises(Unavailable, match="--dataset"):
        Store.init(str(root))
    Store.init(str(root), dataset=f"{zpool}/cows").close()
    zfs("destroy", "-R", f"{zpool}/cows")


def test_an_empty_dataset_of_the_administrator_is_taken(zpool: str, tmp_path: Path) -> None:
    zfs("create", "-o", "mountpoint=none", f"{zpool}/empty")
    with Store.init(str(tmp_path / "root"), dataset=f"{zpool}/empty") as store:
        assert_sound(store)
    zfs("destroy", "-R", f"{zpool}/empty")


def test_a_file_that_names_the_dataset_and_is_damaged_or_gone_is_named(store: Store) -> None:
    add_image(store, {"a": b"1"}, "base:1")
    file = Path(store.root, "dataset")
    good = file.read_bytes()
    for damaged in (
        b"",
        b"[]",
        b"{}",
        b'{"dataset": "a"}',
        b"\xff",
        b'{"dataset": 1, "guid": "x"}',
    ):
        file.write_bytes(damaged)
        for opening in (Store.open, Store.init):
            with pytest.raises(Unavailable, match=rf"{file} is damaged"):
                opening(store.root)
    file.unlink()
    for opening in (Store.open, Store.init):
        with pytest.raises(Unavailable, match=rf"{file} is gone"):
            opening(store.root)
    # Under a store that is open, too.
    with pytest.raises(CowshedError, match="cannot create staging"):
        add_image(store, {"a": b"1"})
    file.write_bytes(good)
    with Store.open(store.root) as again:
        assert_sound(again)


def test_another_dataset_of_the_same_name_is_not_taken_for_it(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, "base:1")
    [web] = store.create(image, name="web")
    home = zfs_of(store)
    zfs("rename", home, f"{home}-away")
    zfs("create", "-o", "mountpoint=none", home)
    with Store.open(store.root) as again:
        for refused in (
            lambda: again.create(image),
            lambda: again.remove_container(web),
            lambda: again.remove_image("base:1", force=True),
            lambda: check(again, repair=True),
        ):
            with pytest.raises(Unavailable, match="is not the one that the store was made with"):
                refused()
    # A store that had seen the right one finds out as soon as a volume is not there.
    with pytest.raises(Unavailable, match="is not the one"):
        store.remove_container(web)
    zfs("destroy", home)
    zfs("rename", f"{home}-away", home)
    assert (names(store), set(tags(store))) == ({"web"}, {"base:1"})
    # What could not be undone on the wrong one.
    assert all(problem.repaired for problem in check(store, repair=True))
    assert_sound(store)


def test_another_user_is_told_so_in_one_line(zpool: str, store: Store) -> None:
    os.chmod(Path(store.root).parent, 0o755)
    os.chmod(store.root, 0o755)
    script = (
        "import os, sys; os.setgid(65534); os.setuid(65534)\n"
        "from backends.errors import CowshedError\n"
        "from backends import zfs, zfs_dataset\n"
        "from backends.base import Volume\n"
        "from imagegraph.store import Store\n"
        "def say(call):\n"
        "    try: call()\n"
        "    except CowshedError as error: print(error)\n"
        "say(lambda: Store.open(sys.argv[1]))\n"
        "say(lambda: Store.init('/tmp/nowhere/x', dataset='x/y'))\n"
        "say(lambda: zfs.ZfsBackend(sys.argv[1]).create(Volume('containers', 'a' * 64)))\n"
    )
    command = [sys.executable, "-c", script, store.root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 3, done.stdout
    assert all("root" in line for line in done.stdout.splitlines())
    assert_sound(store)


# Quotas


def written(tree: str, name: str, size: int) -> int:
    """Bytes that could be written, of `size`."""
    path = Path(tree, name)
    try:
        with path.open("wb", buffering=0) as file:
            while file.tell() < size:
                file.write(os.urandom(MIB))
                os.fsync(file.fileno())
    except OSError as error:
        assert error.errno == errno.EDQUOT
    return path.stat().st_size if path.exists() else 0


def test_a_container_adds_to_its_image_what_its_size_allows(store: Store) -> None:
    image = add_image(store, {"a": os.urandom(8 * MIB)}, "base:1")
    [small] = store.create(image, size=4 * MIB)
    with store.open_tree(small) as tree:
        assert 3 * MIB <= written(tree, "b", 12 * MIB) <= 5 * MIB
    committed = commit(store, small, "next:1")
    # What was committed counts in the container that it was committed from.
    with store.open_tree(small) as tree:
        assert written(tree, "c", 4 * MIB) <= MIB
    [fresh] = store.create(committed, size=4 * MIB)
    with store.open_tree(fresh) as tree:
        assert 3 * MIB <= written(tree, "c", 12 * MIB) <= 5 * MIB
    store.backend.limit(store.volume(fresh), None)
    with store.open_tree(fresh) as tree:
        assert written(tree, "d", 8 * MIB) == 8 * MIB
    assert_sound(store)


# A full pool


@pytest.mark.parametrize("on_it", [True, False], ids=["root on it", "root elsewhere"])
def test_a_container_that_fills_the_pool_can_be_seen_and_removed(
    tmp_path: Path, on_it: bool
) -> None:
    with new_zpool(tmp_path, 160 * MIB) as pool:
        zfs("set", "compression=off", pool)
        point = tmp_path / "point"
        zfs("set", f"mountpoint={point if on_it else 'none'}", pool)
        root = point / "root" if on_it else tmp_path / "root"
        with Store.init(str(root), dataset=f"{pool}/store") as store:
            image = add_image(store, {"a": b"1"}, "base:1")
            [web, second] = (store.create(image, name=name)[0] for name in ("web", "second"))
            commit(store, second, "next:1")
            # What ZFS frees a while later makes room again, so it takes several turns.
            for _ in range(20):
                with store.open_tree(web) as tree, Path(tree, "b").open("ab", buffering=0) as file:
                    for size in (MIB, 4096):
                        with contextlib.suppress(OSError):
                            while True:
                                file.write(os.urandom(MIB)[:size])
                    os.fsync(file.fileno())
                if not int(zfs("list", "-Hpo", "available", pool)):
                    break
            else:
                pytest.fail("the pool does not become full")
        status, out, err = cowshed(root, "ps", "-a")
        assert (status, err) == (0, "") and "web" in out
        if not on_it:
            # Otherwise the reserve has left some room.
            status, out, err = cowshed(root, "commit", "web", "full:1")
            assert (status, out, err.count("\n")) == (1, "", 1) and "full" in err
        for removing in (("rmi", "next:1"), ("rm", "second"), ("prune", "-f"), ("rmi", "base:1")):
            status, _, err = cowshed(root, *removing)
            assert (status, err) == (0, ""), removing
        with Store.open(str(root)) as store:
            assert (names(store), tags(store)) == (set(), {})
            assert_sound(store)
            add_image(store, {"a": os.urandom(20 * MIB)}, "next:1")
            assert_sound(store)
        zfs("set", "mountpoint=none", pool)


# Commands started


@pytest.fixture
def started() -> Iterator[list[str]]:
    """The commands that were started since the list was last cleared."""
    seen: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler, level = Note(), run.log.level
    run.log.addHandler(handler)
    run.log.setLevel(logging.DEBUG)
    try:
        yield seen
    finally:
        run.log.removeHandler(handler)
        run.log.setLevel(level)


def test_each_command_of_cowshed_starts_few_of_zfs(store: Store, started: list[str]) -> None:
    base = add_image(store, {"a": b"1"}, "base:1")
    [web] = store.create(base, name="web")
    write(store, web, {"b": b"2"})
    root = store.root

    def count() -> int:
        try:
            return len(started)
        finally:
            started.clear()

    started.clear()
    with Store.open(root) as opened:
        opened.create(opened.image("base:1"))
    assert count() <= 2, started
    with Store.open(root) as opened:
        made = commit(opened, opened.container("web"), "next:1")
    assert count() <= 4
    # The size of what was committed is counted once, and kept.
    listing.images(store)
    started.clear()
    with Store.open(root) as opened:
        listing.images(opened)
        opened.graph.containers()
    assert count() == 0
    with Store.open(root) as opened:
        opened.remove_container(opened.container("web"))
    assert count() <= 3
    with Store.open(root) as opened:
        opened.remove_image("next:1")
    assert count() <= 3
    assert made.id not in {image.id for image in store.graph.images()}
    assert_sound(store)
