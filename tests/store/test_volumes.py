"""Data volumes in a store: made, attached, filled, removed, and what is left when that fails."""

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from backends.base import VOLUMES, Volume
from backends.errors import BackendError, VolumeNotFound
from imagegraph import config as configs
from imagegraph import removal, volumes
from imagegraph.check import check
from imagegraph.errors import Ambiguous, Conflict, NotFound, StoreError
from imagegraph.model import Container, DataVolume, Image
from imagegraph.store import Store
from tests.store.conftest import WITHOUT_ZFS
from tests.store.scenes import add_image, assert_sound, commit, contents, files_in
from tests.trees import difference, entries, fill

REPOSITORY = Path(__file__).parents[2]
DATA = {"/data": {}}


@pytest.fixture
def base(store: Store) -> Image:
    return add_image(store, {"a": b"1", "data/b": b"2", "data/c/d": b"3"}, "base:1")


def merged(store: Store, container: Container) -> dict[str, Any]:
    """What the runtime gives to `ensure`."""
    image = store.graph.image(container.image)
    assert image is not None
    inner = configs.load(image.config).get("config") or {}
    return configs.overlaid(inner, container.options.get("Config", {}))


def create(store: Store, image: Image, *, config: Any = None, **host: Any) -> Container:
    options = {"Config": config or {}, "HostConfig": host}
    [container] = store.create(image, options=options)
    return container


def anonymous(store: Store, image: Image) -> tuple[Container, DataVolume]:
    """A container with one anonymous volume at /data."""
    container = create(store, image, config={"Volumes": DATA})
    [attachment] = volumes.attached(store, container)
    return container, attachment.volume


def fill_from(
    store: Store, volume: DataVolume, thing: Container | Image, path: str = "/data"
) -> None:
    with store.open_tree(thing) as tree:
        root = os.open(tree, os.O_PATH)
        try:
            volumes.fill(store, volume, root, path)
        finally:
            os.close(root)


def held(store: Store, volume: DataVolume) -> dict[str, bytes]:
    """Path -> content of every regular file in the volume."""
    with store.backend.open(volumes.kept(volume)) as tree:
        return files_in(tree)


def put(store: Store, volume: DataVolume, name: str, content: bytes) -> None:
    with store.backend.open(volumes.kept(volume)) as tree:
        Path(tree, name).write_bytes(content)


def named(store: Store) -> list[str]:
    return [volume.name for volume in volumes.listed(store)]


def on_disk(store: Store) -> set[str]:
    return {found.volume.id for found in store.backend.volumes() if found.volume.kind == VOLUMES}


# Making and finding


@WITHOUT_ZFS
def test_a_volume_is_made_once_and_found_by_its_name(store: Store) -> None:
    made = volumes.create(store, "data", {"a": "b"})
    assert made == volumes.create(store, "data") == volumes.find(store, "data")
    assert (made.name, made.anonymous, made.labels) == ("data", False, {"a": "b"})
    assert volumes.listed(store) == [made]
    assert on_disk(store) == {made.id}
    assert_sound(store)


@WITHOUT_ZFS
def test_one_without_a_name_is_called_as_its_id_and_found_by_the_begin_of_that(
    store: Store,
) -> None:
    one, other = volumes.create(store), volumes.create(store)
    assert one.anonymous and one.name == one.id
    assert volumes.find(store, one.id[:20]) == volumes.find(store, one.id) == one
    with pytest.raises(NotFound, match="volume ls"):
        volumes.find(store, "beef")
    with pytest.raises(Ambiguous, match=other.id[:12]):
        store.graph.volume_by_prefix("")


@WITHOUT_ZFS
def test_a_named_one_is_not_found_by_its_id_which_nobody_is_shown(store: Store) -> None:
    made = volumes.create(store, "data")
    with pytest.raises(NotFound):
        volumes.find(store, made.id[:20])


@WITHOUT_ZFS
@pytest.mark.parametrize("name", ["", "a", "-ab", "a/b", "a b", "ab\n", "é" * 3])
def test_what_docker_takes_for_no_name_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StoreError, match="invalid volume name"):
        volumes.create(store, name)
    assert named(store) == []


@WITHOUT_ZFS
def test_its_record_says_what_the_graph_says(store: Store) -> None:
    made = volumes.create(store, "data", {"a": "b"})
    [found] = [each for each in store.backend.volumes() if each.volume.kind == VOLUMES]
    assert json.loads(found.record or b"") == {"kind": "volume", **made._asdict()}


# What a container wants


@WITHOUT_ZFS
def test_a_container_gets_what_its_image_and_its_options_ask_for(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={"/of/image/": {}, "/bound": {}, "/t": {}})
    container = create(
        store,
        image,
        config={"Volumes": {"/own": {}}},
        Binds=["data:/named:ro,nocopy", "/etc:/bound", "data:/again"],
        Mounts=[
            {"Type": "volume", "Source": "other", "Target": "/m", "ReadOnly": True,
             "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}}},
            {"Type": "volume", "Target": "/anonymous"},
            {"Type": "bind", "Source": "/etc", "Target": "/n"},
        ],
        Tmpfs={"/t": ""},
    )  # fmt: skip
    found = {each.target: each for each in volumes.attached(store, container)}
    assert sorted(found) == ["/again", "/anonymous", "/m", "/named", "/of/image", "/own"]
    assert found["/named"].volume == found["/again"].volume == volumes.find(store, "data")
    assert found["/m"].volume.labels == {"a": "b"}
    assert {target for target, each in found.items() if each.read_only} == {"/named", "/m"}
    assert {target for target, each in found.items() if not each.copy} == {"/named", "/m"}
    fresh = {target for target, each in found.items() if each.volume.anonymous}
    assert fresh == {"/anonymous", "/of/image", "/own"}
    assert_sound(store)


@WITHOUT_ZFS
def test_what_a_container_has_is_what_it_is_given_again_when_it_starts(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={"/v": {}})
    container = create(store, image, Binds=["data:/named"])
    for _ in range(2):
        there = volumes.ensure(store, container, merged(store, container))
        assert sorted(there) == volumes.attached(store, container)
    assert len(on_disk(store)) == 2


@WITHOUT_ZFS
def test_a_container_that_lacks_its_volumes_gets_them_when_it_starts(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={"/v": {}})
    container = create(store, image, Binds=["data:/named"])
    with store.graph.writing():
        store.graph._rows("DELETE FROM attached")
    there = volumes.ensure(store, container, merged(store, container))
    assert [each.target for each in there] == ["/named", "/v"]
    assert there[0].volume == volumes.find(store, "data")
    assert len(on_disk(store)) == 3
    assert_sound(store)


@WITHOUT_ZFS
def test_a_container_without_volumes_asks_the_graph_for_none(
    store: Store, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = store.graph._rows

    def noted(statement: str, *arguments: object) -> list[Any]:
        asked.append(statement)
        return rows(statement, *arguments)

    monkeypatch.setattr(store.graph, "_rows", noted)
    container = create(store, base)
    assert volumes.ensure(store, container, merged(store, container)) == []
    assert [statement for statement in asked if "volumes" in statement] == []


@WITHOUT_ZFS
@pytest.mark.parametrize("path", ["/", "relative", "/..", "", "/a\0b"])
def test_an_image_that_wants_a_volume_nowhere_is_refused(store: Store, path: str) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={path: {}})
    with pytest.raises(StoreError, match="the image's config has"):
        store.create(image)
    assert store.graph.containers() == [] and on_disk(store) == set()


@WITHOUT_ZFS
def test_a_target_above_the_root_is_below_it(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={"/../../etc": {}, "//x/./y/": {}})
    container = create(store, image)
    assert [each.target for each in volumes.attached(store, container)] == ["/etc", "/x/y"]


@WITHOUT_ZFS
def test_several_containers_share_what_is_named_and_nothing_else(store: Store) -> None:
    image = add_image(store, {"a": b"1"}, Volumes={"/v": {}})
    options = {"HostConfig": {"Binds": ["data:/named"]}}
    made = store.create(image, count=3, options=options)
    assert len({each.volume.id for c in made for each in volumes.attached(store, c)}) == 4
    assert volumes.in_use(store)[volumes.find(store, "data").id] == 3


@WITHOUT_ZFS
def test_when_a_container_cannot_be_made_its_anonymous_volumes_are_not_either(
    store: Store, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Volume] = []
    real = store.backend.create

    def second_fails(volume: Volume, *arguments: Any, **options: Any) -> None:
        if volume.kind == VOLUMES:
            made.append(volume)
            if len(made) == 2:
                raise BackendError("no")
        real(volume, *arguments, **options)

    monkeypatch.setattr(store.backend, "create", second_fails)
    with pytest.raises(BackendError, match="no"):
        create(store, base, config={"Volumes": {"/x": {}, "/y": {}}})
    assert len(made) == 2
    assert on_disk(store) == set() and store.graph.containers() == []
    assert_sound(store)


# Never part of an image


def test_what_is_in_a_volume_is_in_no_diff_and_no_commit(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    put(store, volume, "secret", b"s")
    assert list(store.diff(container)) == []
    assert contents(store, commit(store, container)) == contents(store, base)


# Filling


def test_an_empty_volume_gets_exactly_what_the_container_has_there(store: Store) -> None:
    def write_data(tree: str) -> int:
        data = Path(tree, "data")
        data.mkdir()
        fill(data)
        os.setxattr(data, "user.of_the_root", b"x")
        os.chown(data, 1000, 2000)
        data.chmod(0o2750)
        os.utime(data, ns=(5, 1_234_567_890_123_456_789))
        return 0

    image = store.add_image(write_data, {"config": {"Volumes": DATA}})
    [container] = store.create(image)
    [attachment] = volumes.attached(store, container)
    fill_from(store, attachment.volume, container)
    with (
        store.open_tree(container) as tree,
        store.backend.open(volumes.kept(attachment.volume)) as root,
    ):
        assert difference(entries(f"{tree}/data"), entries(root)) == []
        assert os.getxattr(root, "user.of_the_root") == b"x"
        assert os.stat(root).st_mtime_ns == 1_234_567_890_123_456_789
    assert_sound(store)


def test_a_volume_is_filled_once_though_it_was_emptied_since(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    fill_from(store, volume, container)
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}
    with store.backend.open(volumes.kept(volume)) as root:
        subprocess.run(f"rm -r {root}/*", shell=True, check=True)
    fill_from(store, volume, container)
    assert held(store, volume) == {}


@WITHOUT_ZFS
def test_what_is_in_a_volume_already_stays_as_it_is(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    put(store, volume, "mine", b"m")
    fill_from(store, volume, container)
    assert held(store, volume) == {"mine": b"m"}


@WITHOUT_ZFS
@pytest.mark.parametrize("path", ["/nothing", "/a", "/a/b", "/loop/x"])
def test_without_a_directory_there_the_volume_stays_as_it_was_made(
    store: Store, base: Image, path: str
) -> None:
    container, volume = anonymous(store, base)
    with store.open_tree(container) as tree:
        Path(tree, "loop").symlink_to("loop")
    fill_from(store, volume, container, path)
    with store.backend.open(volumes.kept(volume)) as root:
        assert os.listdir(root) == []
        assert (os.stat(root).st_mode & 0o7777, os.stat(root).st_uid) == (0o755, 0)
    fill_from(store, volume, container)
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}


@WITHOUT_ZFS
def test_an_empty_directory_gives_its_owner_and_mode_but_once(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    with store.open_tree(container) as tree:
        Path(tree, "empty").mkdir()
        os.chown(f"{tree}/empty", 7, 8)
    fill_from(store, volume, container, "/empty")
    with store.backend.open(volumes.kept(volume)) as root:
        assert (os.stat(root).st_uid, os.stat(root).st_gid) == (7, 8)
        os.chown(root, 9, 9)
    fill_from(store, volume, container, "/empty")
    with store.backend.open(volumes.kept(volume)) as root:
        assert os.stat(root).st_uid == 9
    fill_from(store, volume, container)
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}


@WITHOUT_ZFS
@pytest.mark.parametrize("link", ["{}", "../../../../../../../..{}"])
def test_links_of_a_hostile_tree_do_not_lead_out_of_it(
    store: Store, base: Image, tmp_path: Path, link: str
) -> None:
    (tmp_path / "secret").write_text("of the host")
    container, volume = anonymous(store, base)
    with store.open_tree(container) as tree:
        Path(tree, "hostile").symlink_to(link.format(tmp_path))
        Path(tree, "inside").symlink_to("/../data/c")
    fill_from(store, volume, container, "/hostile")
    fill_from(store, volume, container, "/hostile/..")
    assert "secret" not in held(store, volume)
    with store.backend.open(volumes.kept(volume)) as root:
        subprocess.run(f"rm -rf {root}/*", shell=True, check=True)
    other = volumes.create(store, "other")
    fill_from(store, other, container, "/inside")
    assert held(store, other) == {"d": b"3"}


def test_a_filling_that_fails_leaves_the_volume_as_empty_as_it_was(
    store: Store, base: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, volume = anonymous(store, base)

    def full(kept: Volume) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.backend), "sync", lambda self, kept: full(kept))
        with pytest.raises(OSError, match="full"):
            fill_from(store, volume, container)
    assert_filled_again(store, volume, container)


def assert_filled_again(store: Store, volume: DataVolume, container: Container) -> None:
    check(store, repair=True)
    assert held(store, volume) == {}
    with store.backend.open(volumes.kept(volume)) as root:
        assert (os.stat(root).st_mode & 0o7777, os.stat(root).st_uid) == (0o755, 0)
    fill_from(store, volume, container)
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}
    assert_sound(store)


KILLED = """
import os, signal, sys
from backends import copy
from imagegraph import filling, volumes
from imagegraph.store import Store

def half(source, target):
    os.mkdir(f"{target}/c")
    open(f"{target}/half", "w").close()
    os.chown(target, 7, 7)
    os.setxattr(target, "user.half", b"")
    if sys.argv[4] == "wait":
        print("half", flush=True)
        sys.stdin.read()
        return copy.copy_tree(source, target)
    os.kill(os.getpid(), signal.SIGKILL)

filling.copy_tree = half
with Store.open(sys.argv[1]) as store:
    with store.open_tree(store.container(sys.argv[2])) as tree:
        root = os.open(tree, os.O_PATH)
        volumes.fill(store, volumes.find(store, sys.argv[3]), root, "/data")
"""


def half_filled(store: Store, volume: DataVolume, container: Container) -> None:
    """Have a process killed while it fills the volume."""
    command = [sys.executable, "-c", KILLED, store.root, container.id, volume.name, "kill"]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -9
    assert held(store, volume) == {"half": b""}


def test_what_a_killed_process_left_half_filled_is_filled_from_the_start(
    store: Store, base: Image
) -> None:
    container, volume = anonymous(store, base)
    half_filled(store, volume, container)
    fill_from(store, volume, container)
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}
    with store.backend.open(volumes.kept(volume)) as root:
        assert os.stat(root).st_uid == 0 and "user.half" not in os.listxattr(root)
    assert_sound(store)


@WITHOUT_ZFS
def test_a_container_that_copies_nothing_gets_a_half_filled_volume_empty(
    store: Store, base: Image
) -> None:
    container, volume = anonymous(store, base)
    half_filled(store, volume, container)
    volumes.ensure(store, container, merged(store, container))
    assert held(store, volume) == {}
    assert_sound(store)


@WITHOUT_ZFS
def test_check_tells_of_a_half_filled_volume_and_repair_empties_it(
    store: Store, base: Image
) -> None:
    container, volume = anonymous(store, base)
    half_filled(store, volume, container)
    [problem] = check(store)
    assert problem.where == f"volumes/{volume.id}" and "half-filled" in problem.what
    [problem] = check(store, repair=True)
    assert problem.repaired
    assert_filled_again(store, volume, container)


@WITHOUT_ZFS
def test_while_one_process_fills_a_volume_another_waits(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    command = [sys.executable, "-c", KILLED, store.root, container.id, volume.name, "wait"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as filler:
        try:
            assert filler.stdout is not None and filler.stdout.readline() == "half\n"
            assert check(store) == []
            waiter = threading.Thread(target=fill_elsewhere, args=(store.root, volume, container))
            waiter.start()
            waiter.join(0.3)
            assert waiter.is_alive()
            assert "half" in held(store, volume)
            # It dies: the other one takes over.
            filler.kill()
            waiter.join(30)
            assert not waiter.is_alive()
        finally:
            filler.kill()
    assert held(store, volume) == {"b": b"2", "c/d": b"3"}


@WITHOUT_ZFS
def test_a_volume_that_is_being_filled_is_not_removed(store: Store, base: Image) -> None:
    container, volume = create(store, base), volumes.create(store, "loose")
    command = [sys.executable, "-c", KILLED, store.root, container.id, volume.name, "wait"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as filler:
        try:
            assert filler.stdout is not None and filler.stdout.readline() == "half\n"
            with pytest.raises(Conflict, match="loose is being filled"):
                volumes.remove(store, volume)
        finally:
            filler.kill()
    volumes.remove(store, volume)
    assert_sound(store)


def fill_elsewhere(root: str, volume: DataVolume, container: Container) -> None:
    with Store.open(root) as store:
        fill_from(store, volume, container)


RACE = """
import os, sys
from imagegraph import config, volumes
from imagegraph.store import Store
with Store.open(sys.argv[1]) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    volumes.create(store, "raced")
    container = store.container(sys.argv[2])
    [one, named] = volumes.ensure(store, container, {"Volumes": {"/data": {}}})
    with store.open_tree(container) as tree:
        root = os.open(tree, os.O_PATH)
        for each in (one, named):
            volumes.fill(store, each.volume, root, "/data")
            with store.backend.open(volumes.kept(each.volume)) as path:
                assert len(os.listdir(path)) == 201, len(os.listdir(path))
    print(one.volume.id, named.volume.id, volumes.find(store, "raced").id)
"""


def test_of_many_that_start_at_once_one_makes_and_fills_each_volume(store: Store) -> None:
    files = {f"data/{number}": b"x" for number in range(201)}
    container = create(store, add_image(store, files), Binds=["shared:/x"])
    with store.graph.writing():
        store.graph._rows("DELETE FROM attached")
    volumes.remove(store, volumes.find(store, "shared"))
    command = [sys.executable, "-c", RACE, store.root, container.id]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    racers = [
        subprocess.Popen(command, cwd=REPOSITORY, text=True, **pipes)
        for _ in range(2 if store.backend.name == "zfs" else 5)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=120) for racer in racers]
    assert [errors for _, errors in answers] == [""] * len(racers)
    assert len({out for out, _ in answers}) == 1
    assert len(on_disk(store)) == 3
    assert_sound(store)


# Removing


@WITHOUT_ZFS
def test_a_volume_of_a_container_is_not_removed_and_the_container_named(
    store: Store, base: Image
) -> None:
    container = create(store, base, Binds=["data:/x"])
    volume = volumes.find(store, "data")
    with pytest.raises(Conflict, match=f"in use by container {container.name}"):
        volumes.remove(store, volume, force=True)
    store.remove_container(container, volumes=True)
    assert named(store) == ["data"]
    assert volumes.remove(store, volume) == []
    assert named(store) == [] and on_disk(store) == set()
    with pytest.raises(NotFound, match="removed meanwhile"):
        volumes.remove(store, volume)
    assert_sound(store)


def test_a_volume_that_is_in_use_stays(store: Store) -> None:
    volume = volumes.create(store, "data")
    with store.backend.open(volumes.kept(volume)) as root:
        holder = subprocess.Popen(["sleep", "60"], cwd=root)
        try:
            with pytest.raises(Conflict, match=f"data stays: .*{holder.pid}"):
                volumes.remove(store, volume)
        finally:
            holder.kill()
            holder.wait()
    assert volumes.find(store, "data") == volume
    volumes.remove(store, volume)
    assert_sound(store)


def test_removing_a_container_with_its_volumes_takes_the_anonymous_that_are_its_own(
    store: Store, base: Image
) -> None:
    container, volume = anonymous(store, base)
    lent, by_name = volumes.create(store), volumes.create(store, "named")
    neighbour = create(store, base, Binds=[f"{volume.name}:/n"])
    borrower = create(
        store, base, config={"Volumes": DATA}, Binds=[f"{lent.name}:/lent", "named:/named"]
    )
    store.remove_container(container, volumes=True)
    assert volumes.find(store, volume.name)
    store.remove_container(neighbour, volumes=True)
    store.remove_container(borrower, volumes=True)
    assert on_disk(store) == {volume.id, lent.id, by_name.id}
    assert_sound(store)


@WITHOUT_ZFS
def test_removing_a_container_alone_leaves_its_volumes_to_nobody(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    store.remove_container(container)
    assert volumes.listed(store) == [volume] and volumes.in_use(store) == {}


def test_a_container_that_cannot_be_removed_keeps_its_volumes(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    with store.open_tree(container) as tree:
        holder = subprocess.Popen(["sleep", "60"], cwd=tree)
        try:
            with pytest.raises(Conflict, match="stays"):
                store.remove_container(container, volumes=True)
        finally:
            holder.kill()
            holder.wait()
    assert [each.volume for each in volumes.attached(store, container)] == [volume]
    store.remove_container(container, volumes=True)
    assert on_disk(store) == set()
    assert_sound(store)


def test_a_volume_in_use_outlives_its_container_and_that_is_said(store: Store, base: Image) -> None:
    container, volume = anonymous(store, base)
    with store.backend.open(volumes.kept(volume)) as root:
        holder = subprocess.Popen(["sleep", "60"], cwd=root)
        try:
            with pytest.raises(Conflict, match=f"is removed, but: volume {volume.name} stays"):
                store.remove_container(container, volumes=True)
        finally:
            holder.kill()
            holder.wait()
    assert store.graph.containers() == [] and volumes.listed(store) == [volume]
    assert_sound(store)


def test_prune_takes_anonymous_volumes_that_nobody_has_and_named_ones_if_told(
    store: Store, base: Image
) -> None:
    _, used = anonymous(store, base)
    loose = volumes.create(store)
    volumes.create(store, "data", {"keep": "yes"})
    pruned = volumes.prune(store)
    assert [(gone.kind, gone.name) for gone in pruned.removed] == [("volume", loose.name)]
    assert (pruned.sizes == [None]) == (store.backend.name != "zfs")
    nothing = volumes.prune(store, every=True, wanted=lambda volume: "keep" not in volume.labels)
    assert nothing == ([], [])
    volumes.prune(store, every=True)
    assert volumes.listed(store) == [used]
    assert_sound(store)


@WITHOUT_ZFS
def test_prune_of_images_and_containers_leaves_volumes_alone(store: Store, base: Image) -> None:
    _, volume = anonymous(store, base)
    removal.prune(store, unused=True)
    assert volumes.listed(store) == [volume]


# What check finds


def test_a_lost_volume_is_told_and_can_be_removed(store: Store) -> None:
    volume = volumes.create(store, "data")
    store.backend.remove(volumes.kept(volume))
    [problem] = check(store, repair=True)
    assert "volume rm" in problem.remedy and not problem.repaired
    volumes.remove(store, volume)
    assert_sound(store)


def test_a_volume_without_a_row_is_put_aside_and_not_deleted(store: Store) -> None:
    stray = Volume(VOLUMES, "ab" * 32)
    store.backend.create(stray)
    [problem] = check(store, repair=True)
    assert "quarantine" in problem.remedy
    with pytest.raises(VolumeNotFound), store.backend.open(stray):
        pass
    assert check(store) == []


@WITHOUT_ZFS
def test_a_record_that_was_lost_is_written_again(store: Store) -> None:
    volume = volumes.create(store, "data")
    store.backend.describe(volumes.kept(volume), b"{}")
    [problem] = check(store, repair=True)
    assert problem.repaired
    assert_sound(store)
