"""Images that come in layer by layer: nothing twice, nothing half, nothing left behind."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from imagegraph import inspection, removal, splits
from imagegraph.arrival import Arrival
from imagegraph.check import check
from imagegraph.errors import Conflict, NotFound
from imagegraph.model import Blob, Image, Manifest
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.conftest import WITHOUT_ZFS
from tests.store.scenes import add_image, assert_sound, contents, tags

pytestmark = WITHOUT_ZFS

CHAIN = ["sha256:" + hashlib.sha256(str(number).encode()).hexdigest() for number in range(3)]


class Layers:
    """Makes layers that hold a file each, and counts them."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, name: str, store: Store) -> "Layers.Fill":
        return Layers.Fill(self, name, store)

    class Fill:
        def __init__(self, layers: "Layers", name: str, store: Store) -> None:
            self._layers, self._name, self._store = layers, name, store

        def __call__(self, tree: str, layer: str) -> tuple[int, Sequence[Blob]]:
            Path(tree, self._name).write_text(self._name)
            with splits.written(self._store.root, layer, splits.SPLIT) as file:
                file.write(b"record")
            self._layers.made.append(self._name)
            return len(self._name), [Blob(self._name, 1, "none", "")]


def bring(
    store: Store, layers: Layers, count: int = 3, name: str = "come:1", config: bytes = b"{}"
) -> Image:
    arrival = Arrival(store)
    for chain_id in CHAIN[:count]:
        short = chain_id[7:12]
        arrival.layer(chain_id, chain_id, layers(short, store))
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    return arrival.publish(config, digest, 5, [parse(name)], "oci")


def test_an_image_comes_in_with_its_layers_and_tags(store: Store) -> None:
    layers = Layers()
    image = bring(store, layers, config=b'{"config": {"Cmd": ["a"]}, "x": 1.50}')
    assert image == store.image("come:1")
    assert image.id == hashlib.sha256(image.config).hexdigest()
    assert image.config == b'{"config": {"Cmd": ["a"]}, "x": 1.50}'
    assert set(contents(store, image)) == set(layers.made)
    chain = store.graph.chain(image.layer)
    assert [layer.chain_id for layer in reversed(chain)] == CHAIN
    assert [blob.size for layer in chain for blob in store.graph.blobs(layer.id)] == [1, 1, 1]
    assert_sound(store)


def test_the_record_keeps_the_very_bytes_of_the_config(store: Store) -> None:
    config = b'{"config": {"Cmd": ["a"]}, "x": 1.50}'
    image = bring(store, Layers(), config=config)
    volumes = {found.volume: found.record for found in store.backend.volumes()}
    record = json.loads(volumes[store.volume(image)] or b"")
    assert record["images"][0]["config"].encode() == config


def test_layers_that_are_here_are_not_made_again(store: Store) -> None:
    layers = Layers()
    bring(store, layers, 2, "first:1")
    image = bring(store, layers, 3, "second:1", b'{"a": 1}')
    assert len(layers.made) == 3
    assert len(contents(store, image)) == 3
    removal.remove_image(store, "first:1", force=False, prune=True)
    assert len(contents(store, image)) == 3
    removal.remove_image(store, "second:1", force=False, prune=True)
    assert store.graph.known("layers") == {}
    assert os.listdir(f"{store.root}/{splits.DIRECTORY}") == []
    assert_sound(store)


def test_an_image_that_is_here_only_gets_tags(store: Store) -> None:
    image = bring(store, Layers())
    assert bring(store, Layers(), name="again:1") == image
    assert tags(store) == {"come:1": image.id, "again:1": image.id}


def test_a_container_of_it_can_be_committed(store: Store) -> None:
    image = bring(store, Layers())
    [web] = store.create(image)
    committed, _ = store.commit(web)
    assert len(contents(store, committed)) == 3
    assert committed.parent == image.id


def test_what_fails_leaves_nothing(store: Store) -> None:
    arrival, layers = Arrival(store), Layers()
    arrival.layer(CHAIN[0], CHAIN[0], layers("a", store))

    def fail(tree: str, layer: str) -> tuple[int, Sequence[Blob]]:
        Path(tree, "half").write_text("x")
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"):
        arrival.layer(CHAIN[1], CHAIN[1], fail)
    arrival.give_up()
    assert store.graph.known("layers") == {}
    assert os.listdir(f"{store.root}/{splits.DIRECTORY}") == []
    assert_sound(store)
    bring(store, layers)
    assert_sound(store)


def test_giving_up_leaves_what_others_stand_on(store: Store) -> None:
    arrival, layers = Arrival(store), Layers()
    arrival.layer(CHAIN[0], CHAIN[0], layers("a", store))
    image = bring(store, layers, 2)
    arrival.give_up()
    assert len(contents(store, image)) == 2
    assert [owner for _, _, _, owner in store.graph.undone()] == []
    assert_sound(store)


def test_a_layer_that_is_removed_under_way_is_a_conflict(store: Store) -> None:
    bring(store, Layers(), 1, "below:1")
    arrival = Arrival(store)
    arrival.layer(CHAIN[0], CHAIN[0], Layers()("a", store))
    removal.remove_image(store, "below:1", force=False, prune=True)
    with pytest.raises(Conflict, match="again"):
        arrival.layer(CHAIN[1], CHAIN[1], Layers()("b", store))
    arrival.give_up()
    assert_sound(store)


def test_two_that_want_one_layer_make_it_once(root: tuple[Path, str]) -> None:
    layers, errors = Layers(), []

    def one(number: int) -> None:
        with Store.open(str(root[0])) as store:
            try:
                bring(store, layers, 3, f"name:{number}")
            except BaseException as error:
                errors.append(error)
                raise

    with Store.init(str(root[0]), backend=root[1]) as store:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert len(layers.made) == 3
        assert len(store.graph.images()) == 1
        assert len(tags(store)) == 4
        assert_sound(store)


KILLED = """
import os, signal, sys
from imagegraph.arrival import Arrival
from imagegraph.store import Store
from tests.store.test_arrival import CHAIN, Layers
with Store.open(sys.argv[1]) as store:
    arrival = Arrival(store)
    arrival.layer(CHAIN[0], CHAIN[0], Layers()("a", store))
    def die(tree, layer):
        Layers()("b", store)(tree, layer)
        os.kill(os.getpid(), signal.SIGKILL)
    arrival.layer(CHAIN[1], CHAIN[1], die)
"""


def test_what_a_process_that_was_killed_brought_is_ended_by_the_next(store: Store) -> None:
    kept = add_image(store, {"a": b"1"}, "kept:1")
    killed = subprocess.run([sys.executable, "-c", KILLED, store.root], check=False)
    assert killed.returncode == -9
    assert sorted(store.graph.known("layers").values()) == ["creating", "ready", "ready"]
    problems = [problem.what for problem in check(store)]
    assert (
        problems.count("left by a pull or load that was broken off, for the next to go on from")
        == 1
    )
    check(store, repair=True)
    assert check(store) == []
    assert list(store.graph.known("layers")) == [kept.layer]
    assert os.listdir(f"{store.root}/{splits.DIRECTORY}") == []
    image = bring(store, Layers())
    assert len(contents(store, image)) == 3


def test_a_layer_of_a_dead_process_that_somebody_needs_stays(store: Store) -> None:
    subprocess.run([sys.executable, "-c", KILLED, store.root], check=False)
    layers = Layers()
    image = bring(store, layers)
    assert len(layers.made) == 2
    check(store, repair=True)
    assert check(store) == []
    assert len(contents(store, image)) == 3


def test_files_that_belong_to_no_layer_are_found_and_removed(store: Store) -> None:
    image = bring(store, Layers())
    directory = Path(store.root, splits.DIRECTORY)
    stray = directory / f"{'0' * 64}{splits.SPLIT}"
    half = directory / f"{image.layer}{splits.SPLIT}.00.part"
    stray.touch()
    half.touch()
    with splits.written(store.root, image.layer, splits.TAR):
        found = [problem.where for problem in check(store, repair=True)]
    assert found == sorted(f"{splits.DIRECTORY}/{path.name}" for path in (stray, half))
    assert not stray.exists() and not half.exists()
    assert splits.kept(store.root, image.layer) is not None
    assert check(store) == []


def test_what_registries_call_it_is_kept_and_found(store: Store) -> None:
    image = bring(store, Layers())
    index, manifest = (f"sha256:{digit * 64}" for digit in "ab")
    with store.graph.writing():
        store.graph.add_manifest(image.id, Manifest("quay.io/x/come", index, "index", None))
        store.graph.add_manifest(image.id, Manifest("quay.io/x/come", manifest, "one", b"{}"))
        store.graph.add_place(image.layer, manifest, "quay.io/x/come")
    assert store.image(f"quay.io/x/come@{manifest}").id == image.id
    assert store.image(f"quay.io/x/come@{index}").id == image.id
    with pytest.raises(NotFound):
        store.image(f"come@{index}")
    assert store.graph.repository_digests() == {(image.id, "quay.io/x/come"): index}
    shown = [f"quay.io/x/come@{digest}" for digest in (index, manifest)]
    assert inspection.image(store, image)["RepoDigests"] == shown
    assert store.graph.places(manifest) == ["quay.io/x/come"]
    store.remove_image("come:1")
    assert store.graph.repository_digests() == {} and store.graph.places(manifest) == []
