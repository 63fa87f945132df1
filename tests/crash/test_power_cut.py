"""Power that goes the moment an operation has returned: what was acknowledged is whole.

The pool is a file on another btrfs. A reflink copy of it is the disk as the pool's filesystem has
left it: what that still held in memory is not in it. The copy of the database is made likewise.
"""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagegraph import volumes
from imagegraph.check import check
from imagegraph.model import Container, Image
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.crash.scene import State, build_in, build_volumes, state, volume_fill
from tests.store.scenes import assert_sound, document, loopback_root, release, tags, write
from tests.trees import Entry, entries

SIZE = 512 << 20
KEPT = ("graph.sqlite3", "graph.sqlite3-wal", "pool.btrfs")
Trees = dict[str, dict[bytes, Entry]]


@pytest.fixture
def root(btrfs_mount: Path, tmp_path: Path) -> Iterator[Path]:
    """A loopback store on btrfs, with images and containers that were there for a while."""
    (btrfs_mount / tmp_path.name).mkdir()
    with loopback_root(btrfs_mount / tmp_path.name) as path:
        with Store.init(str(path), backend="loopback", size=SIZE) as store:
            build_in(store)
        # Nothing is to be saved by the kernel's writing it back in passing.
        subprocess.run(["mount", "-o", "remount,commit=300", path / "pool"], check=True)
        subprocess.run(["btrfs", "-q", "filesystem", "sync", path / "pool"], check=True)
        yield path


@pytest.fixture
def found(root: Path) -> Iterator[Path]:
    """The root as it is found after the power was cut."""
    with loopback_root(root.parent / "later") as path:
        yield path


def cut(root: Path, found: Path) -> None:
    """Put into `found` what a computer whose power is cut now would find in `root`."""
    found.mkdir(parents=True)
    for name in KEPT:
        subprocess.run(["cp", "--reflink=always", root / name, found / name], check=True)


def trees(store: Store) -> Trees:
    """Every tree that the graph knows, to the last attribute and byte."""
    found = {}
    things: list[Image | Container] = [*store.graph.images(), *store.graph.containers()]
    for thing in things:
        with store.open_tree(thing) as tree:
            found[thing.id] = entries(tree)
    return found


def survives(root: Path, found: Path, operation: Callable[[Store], object]) -> None:
    """Do it, cut the power, and see that everything is there and can be gone on with."""
    with Store.open(str(root)) as store:
        operation(store)
        cut(root, found)
        before, seen = trees(store), state(store)
    # Two filesystems with one UUID cannot be mounted at once.
    release(root)
    with Store.open(str(found)) as store:
        assert trees(store) == before
        assert state(store) == seen
        assert_sealed(store)
        for problem in check(store, repair=True):
            assert problem.repaired and "does not know" not in problem.what, problem
        assert trees(store) == before
        assert_sound(store)
        assert_usable(store, seen)


def assert_sealed(store: Store) -> None:
    for image in store.graph.images():
        path = store.backend.location(store.volume(image))
        command = ["btrfs", "property", "get", "-ts", path, "ro"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "ro=true\n"


def assert_usable(store: Store, seen: State) -> None:
    for id in seen.images:
        [container] = store.create(store.image(id))
        write(store, container, {"fresh": b"n"})
        store.remove_container(container)
    assert_sound(store)


def import_many(store: Store) -> None:
    from oci.layer import apply

    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for number in range(3000):
            member = tarfile.TarInfo(f"d{number % 40}/f{number}")
            member.size, member.mtime = number, number
            tar.addfile(member, io.BytesIO(b"%d" % (number % 7) * number))
    made.seek(0)
    store.add_image(lambda tree: apply(made, tree).size, document(), parse("many:1"))


def test_an_import_of_thousands_of_files(root: Path, found: Path) -> None:
    survives(root, found, import_many)
    with Store.open(str(found)) as store, store.open_tree(store.image("many:1")) as tree:
        assert len(entries(tree)) == 3041


def test_several_new_containers(root: Path, found: Path) -> None:
    survives(root, found, lambda store: store.create(store.image("base:1"), count=3))


def test_a_commit_and_the_container_as_it_was_committed(root: Path, found: Path) -> None:
    def write_and_commit(store: Store) -> None:
        container = store.container("work")
        write(store, container, {f"w/{number}": b"%d" % number * 999 for number in range(500)})
        store.commit(container, parse("moved:1"))

    survives(root, found, write_and_commit)


def test_a_commit_of_nested_subvolumes(root: Path, found: Path) -> None:
    def write_and_commit(store: Store) -> None:
        container = store.container("nested")
        write(store, container, {f"sub/deeper/{number}": b"x" * 5000 for number in range(200)})
        store.commit(container, parse("moved:1"))

    survives(root, found, write_and_commit)


def test_a_squashed_commit(root: Path, found: Path) -> None:
    survives(root, found, lambda store: store.commit(store.container("work"), squash=True))


def test_a_tag_and_the_record_that_tells_it(root: Path, found: Path) -> None:
    survives(root, found, lambda store: store.tag(store.image("top:1"), parse("moved:1")))
    with Store.open(str(found)) as store:
        top = store.image("top:1")
        assert tags(store)["moved:1"] == top.id
        listed = [image for record in records(store) for image in record.get("images", [])]
        assert [image["tags"] for image in listed if image["id"] == top.id] == [
            ["moved:1", "top:1"]
        ]


def test_a_new_name_and_the_record_that_tells_it(root: Path, found: Path) -> None:
    survives(root, found, lambda store: store.rename(store.container("work"), "renamed"))
    with Store.open(str(found)) as store:
        assert "renamed" in [record.get("name") for record in records(store)]


def records(store: Store) -> list[dict[str, object]]:
    return [json.loads(record or b"{}") for _, record, _ in store.backend.volumes()]


def test_every_record_of_what_was_just_made_is_whole(root: Path, found: Path) -> None:
    def make(store: Store) -> None:
        [container] = store.create(store.image("base:1"), name="web")
        store.commit(container, parse("web:1"))
        store.create(store.image("web:1"), name="last")

    survives(root, found, make)
    with Store.open(str(found)) as store:
        assert {record["id"] for record in records(store)} == {
            volume.id for volume, _, _ in store.backend.volumes()
        }


@pytest.mark.parametrize("name", ["work", "nested"])
def test_what_was_removed_does_not_come_back_to_sight(root: Path, found: Path, name: str) -> None:
    survives(root, found, lambda store: store.remove_container(store.container(name)))


def test_an_image_that_was_removed_does_not_come_back_to_sight(root: Path, found: Path) -> None:
    survives(root, found, lambda store: store.remove_image("top:1"))


def test_what_nobody_acknowledged_is_lost_which_shows_that_the_cut_is_one(
    root: Path, found: Path
) -> None:
    with Store.open(str(root)) as store:
        write(store, store.container("work"), {"unwritten": b"x" * 10000})
        cut(root, found)
    release(root)
    with Store.open(str(found)) as store, store.open_tree(store.container("work")) as tree:
        assert not Path(tree, "unwritten").exists()


def data(store: Store) -> Trees:
    """Every data volume, to the last attribute and byte."""
    found = {}
    for volume in volumes.listed(store):
        with store.backend.open(volumes.kept(volume)) as tree:
            found[volume.name] = entries(tree)
    return found


def test_data_volumes_and_what_filled_them(root: Path, found: Path) -> None:
    with Store.open(str(root)) as store:
        build_volumes(store)
        volumes.create(store, "fodder")
        volume_fill(store)
        before = data(store)
        assert len(before) == 4 and len(before["hay"]) == 6
        cut(root, found)
    release(root)
    with Store.open(str(found)) as store:
        assert data(store) == before
        assert all(problem.repaired for problem in check(store, repair=True))
        assert data(store) == before
        assert_sound(store)
        assert volumes.remove(store, volumes.find(store, "fodder")) == []


def test_a_data_volume_that_is_the_last_thing_made(root: Path, found: Path) -> None:
    with Store.open(str(root)) as store:
        volumes.create(store, "fodder")
        cut(root, found)
    release(root)
    with Store.open(str(found)) as store:
        assert data(store).keys() == {"fodder"}
        assert_sound(store)
