"""Containers in a store: created, named, mounted, limited, committed and removed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backends.errors import VolumeNotFound
from imagegraph import listing, mounting
from imagegraph.check import check
from imagegraph.errors import Ambiguous, Conflict, NameInUse, NotFound
from imagegraph.model import Container, Image
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.conftest import WITHOUT_ZFS
from tests.store.scenes import add_image, assert_sound, commit, contents, lose, names, write
from tests.trees import entries, fill


@pytest.fixture
def base(store: Store) -> Image:
    return add_image(store, {"a": b"1"}, "base:1")


@contextmanager
def unmounted_after(store: Store, container: Container) -> Iterator[str]:
    point = mounting.mount(store, container)
    try:
        yield point
    finally:
        mounting.unmount(store, container, missing_ok=True)


# create


def test_containers_of_one_image_have_nothing_in_common(store: Store, base: Image) -> None:
    one, two = store.create(base, count=2)
    write(store, one, {"a": b"changed", "b": b"new"})
    assert contents(store, one) == {"a": b"changed", "b": b"new"}
    assert contents(store, two) == contents(store, base) == {"a": b"1"}


@WITHOUT_ZFS
def test_several_get_numbered_names_and_are_all_there(store: Store, base: Image) -> None:
    made = store.create(base, name="web", count=3)
    assert [container.name for container in made] == ["web-1", "web-2", "web-3"]
    assert sorted(store.graph.containers(), key=lambda found: found.name) == made


@WITHOUT_ZFS
def test_many_without_a_name_get_a_name_each(store: Store, base: Image) -> None:
    assert len({container.name for container in store.create(base, count=50)}) == 50


@WITHOUT_ZFS
def test_one_name_in_use_and_none_of_several_is_made(store: Store, base: Image) -> None:
    store.create(base, name="web-2")
    with pytest.raises(NameInUse, match="web-2 is in use"):
        store.create(base, name="web", count=3)
    assert names(store) == {"web-2"}
    assert_sound(store)


@WITHOUT_ZFS
def test_a_container_of_an_image_that_was_removed_is_refused(store: Store, base: Image) -> None:
    store.remove_image("base:1")
    with pytest.raises(NotFound, match="removed meanwhile"):
        store.create(base, count=3)
    assert_sound(store)


def test_when_a_volume_cannot_be_made_none_of_several_stays(store: Store, base: Image) -> None:
    lose(store, base)
    with pytest.raises(VolumeNotFound):
        store.create(base, name="web", count=3)
    assert names(store) == set() and store.graph.undone() == []


@WITHOUT_ZFS
def test_a_name_is_free_again_after_rm(store: Store, base: Image) -> None:
    for _ in range(2):
        [container] = store.create(base, name="web")
        store.remove_container(container)
    assert_sound(store)


@WITHOUT_ZFS
def test_options_are_kept_as_they_were_given(store: Store, base: Image) -> None:
    options = {"Config": {"Env": ["A=b", "ü=\n"], "Tty": True}, "HostConfig": {"Memory": 1 << 40}}
    store.create(base, name="web", options=options)
    assert store.container("web").options == options


# Names


@WITHOUT_ZFS
def test_a_container_is_found_by_name_before_id_and_by_a_unique_prefix(
    store: Store, base: Image
) -> None:
    [one] = store.create(base, name="one")
    [two] = store.create(base, name=one.id[:12])
    assert store.container(one.id[:12]) == two
    assert store.container(one.id) == store.container(one.id[:13]) == one
    with pytest.raises(NotFound):
        store.container("nobody")


@WITHOUT_ZFS
def test_an_ambiguous_container_prefix_lists_names(store: Store, base: Image) -> None:
    made = store.create(base, count=17)
    digits = [container.id[0] for container in made]
    shared = next(digit for digit in digits if digits.count(digit) > 1)
    matching = [container for container in made if container.id[0] == shared]
    with pytest.raises(Ambiguous) as caught:
        store.container(shared)
    assert any(container.name in str(caught.value) for container in matching)


@WITHOUT_ZFS
def test_rename_takes_effect_and_frees_the_old_name(store: Store, base: Image) -> None:
    [container] = store.create(base, name="old")
    store.rename(container, "new")
    assert store.container("new").id == container.id
    store.create(base, name="old")
    assert names(store) == {"old", "new"}
    with pytest.raises(NameInUse, match="old is in use"):
        store.rename(container, "old")


@WITHOUT_ZFS
def test_a_container_that_was_removed_cannot_be_renamed(store: Store, base: Image) -> None:
    [container] = store.create(base, name="old")
    store.remove_container(container)
    with pytest.raises(NotFound, match="removed meanwhile"):
        store.rename(container, "new")


# mount and rm


def test_a_mounted_container_is_listed_and_changed_through_its_mount(
    store: Store, base: Image
) -> None:
    [container] = store.create(base, name="web")
    assert listing.containers(store) == []
    with unmounted_after(store, container) as point:
        assert point == mounting.mount(store, container) == f"{store.root}/mnt/{container.id}"
        assert mounting.mounted(container.id) == [point]
        Path(point, "b").write_bytes(b"2")
        [row] = listing.containers(store)
        assert (row.container, row.image, row.mounts) == (container, "base:1", (point,))
        mounting.unmount(store, container)
        assert mounting.mounted(container.id) == [] and not os.path.exists(point)
    assert contents(store, container) == {"a": b"1", "b": b"2"}
    with pytest.raises(Conflict, match="is not mounted"):
        mounting.unmount(store, container)


def test_mount_is_idempotent_below_a_root_with_links_in_its_path(
    btrfs_store: Store, tmp_path: Path
) -> None:
    [container] = btrfs_store.create(add_image(btrfs_store, {"a": b"1"}))
    (tmp_path / "link").symlink_to(Path(btrfs_store.root).parent)
    with Store.open(f"{tmp_path}/link/{Path(btrfs_store.root).name}") as store:
        with unmounted_after(store, container):
            point = mounting.mount(store, container)
            assert len(mounting.mounted(container.id)) == 1
            mounting.unmount(store, container)
            assert not os.path.exists(point)


def test_umount_of_a_mount_in_use_is_refused_and_keeps_it(store: Store, base: Image) -> None:
    [container] = store.create(base, name="web")
    with unmounted_after(store, container) as point:
        with open(f"{point}/a") as _, pytest.raises(Conflict, match="is in use"):
            mounting.unmount(store, container)
        assert mounting.mounted(container.id) == [point]


def test_rm_of_a_mounted_container_names_the_mount_unless_forced(store: Store, base: Image) -> None:
    [container] = store.create(base, name="web")
    with unmounted_after(store, container) as point:
        with pytest.raises(Conflict, match=point):
            store.remove_container(container)
        assert Path(point, "a").read_bytes() == b"1"
        store.remove_container(container, force=True)
    assert store.graph.containers() == []
    assert not os.path.exists(point)
    assert_sound(store)


def test_rm_after_a_umount_by_hand_leaves_no_mount_point(store: Store, base: Image) -> None:
    [container] = store.create(base, name="web")
    with unmounted_after(store, container) as point:
        subprocess.run(["umount", point], check=True)
        store.remove_container(container)
        assert not os.path.exists(point)


def test_rm_of_a_container_with_an_open_file_names_the_process_and_changes_nothing(
    store: Store, base: Image
) -> None:
    [container] = store.create(base, name="web")
    with store.open_tree(container) as tree, open(f"{tree}/a") as _:
        with pytest.raises(Conflict, match=f"process {os.getpid()} .*has a file open in it"):
            store.remove_container(container, force=True)
    assert store.container("web") == container
    assert contents(store, container) == {"a": b"1"}
    store.remove_container(container)
    assert_sound(store)


def test_a_mount_in_another_namespace_keeps_a_container(store: Store, base: Image) -> None:
    [container] = store.create(base, name="web")
    point = mounting.mount(store, container)
    script = "echo up && read line"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == b"up\n"
        # By hand: it would go there too if the mount point were removed here.
        subprocess.run(["umount", point], check=True)
        with pytest.raises(Conflict, match=f"mounted at .* of process {other.pid}"):
            store.remove_container(container)
        other.stdin.close()
    store.remove_container(container)
    assert_sound(store)


@WITHOUT_ZFS
def test_rm_of_what_is_gone_already_says_so(store: Store, base: Image) -> None:
    [container] = store.create(base)
    store.remove_container(container)
    with pytest.raises(NotFound, match="removed meanwhile"):
        store.remove_container(container)


def test_a_container_whose_volume_was_lost_can_be_removed(snapshotting: Store) -> None:
    store = snapshotting
    image = add_image(store, {"a": b"1"}, "base:1")
    [container] = store.create(image, name="web")
    lose(store, container)
    lose(store, image)
    assert len(check(store, repair=True)) == 2
    assert len(listing.images(store)) == len(listing.containers(store, every=True)) == 1
    store.remove_container(container)
    store.remove_image("base:1")
    assert_sound(store)


# commit


def test_a_commit_is_the_container_as_it_was_to_the_last_attribute(store: Store) -> None:
    image = store.add_image(lambda tree: fill(tree) or 0, {"history": [{}]})
    [container] = store.create(image)
    write(store, container, {"etc/motd": b"moo"})
    committed = commit(store, container, "child:1")
    with store.open_tree(container) as live, store.open_tree(committed) as sealed:
        assert entries(sealed) == entries(live)
    assert committed.parent == image.id
    [below] = store.graph.chain(committed.layer)[1:]
    assert below.id == image.layer


def test_a_squashed_commit_stands_alone(store: Store, base: Image) -> None:
    [container] = store.create(base)
    write(store, container, {"b": b"2"})
    image, _ = store.commit(container, parse("flat:1"), squash=True)
    assert image.parent is None and len(store.graph.chain(image.layer)) == 1
    assert contents(store, image) == {"a": b"1", "b": b"2"}
    assert listing.image_size(store, image) == 2
    assert len(listing.history(store, image)) == 1
    store.remove_container(container)
    store.remove_image("base:1")
    assert contents(store, image) == {"a": b"1", "b": b"2"}
    assert_sound(store)


def test_a_commit_of_a_container_that_is_gone_leaves_nothing(store: Store, base: Image) -> None:
    [container] = store.create(base)
    store.remove_container(container)
    with pytest.raises((VolumeNotFound, Conflict)):
        store.commit(container, parse("child:1"))
    assert store.graph.images() == [base]
    assert_sound(store)


BUSY = """
import itertools, os, sys
os.chdir(sys.argv[1])
for number in itertools.count():
    with open("fresh", "w") as file:
        file.write(f"{number}\\n" * 1000)
    os.rename("fresh", "whole")
    with open("log", "a") as log:
        log.write(f"{number:010}\\n")
    if not number:
        print("writing", flush=True)
"""


def test_a_mounted_busy_container_is_committed_again_and_again(snapshotting: Store) -> None:
    store = snapshotting
    [container] = store.create(add_image(store, {"a": b"1"}))
    with unmounted_after(store, container) as point:
        command = [sys.executable, "-c", BUSY, point]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
            made = []
            for _ in range(5):
                made.append(commit(store, container))
                time.sleep(0.05)
            writer.kill()
    lengths = []
    for image in made:
        found = contents(store, image)
        assert found["a"] == b"1"
        lines = found["log"].split()
        assert lines == [b"%010d" % number for number in range(len(lines))]
        lengths.append(len(lines))
        # A write that races the snapshot may be missing, but it is never there in part.
        whole = found["whole"].split()
        assert len(whole) in (0, 1000) and len(set(whole)) <= 1
    assert lengths == sorted(lengths) and lengths[0] < lengths[-1]
    assert check(store) == []


def test_a_commit_holds_the_contents_of_nested_subvolumes(btrfs_store: Store) -> None:
    store = btrfs_store
    [container] = store.create(add_image(store, {"a": b"1", "dir/b": b"2"}))
    with store.open_tree(container) as tree:
        for inner in ("dir/nested", "dir/nested/deeper"):
            subprocess.run(["btrfs", "-q", "subvolume", "create", f"{tree}/{inner}"], check=True)
            Path(tree, inner, "file").write_text(inner)
        os.chmod(f"{tree}/dir/nested", 0o1751)
        os.utime(f"{tree}/dir", ns=(7, 123456789))
        before = entries(tree)
    image, copied = store.commit(container, parse("child:1"))
    assert copied == ["dir/nested", "dir/nested/deeper"]
    with store.open_tree(image) as tree:
        assert entries(tree) == before
    squashed, _ = store.commit(container, squash=True)
    assert contents(store, squashed) == contents(store, image)
    store.remove_container(container)
    assert_sound(store)
