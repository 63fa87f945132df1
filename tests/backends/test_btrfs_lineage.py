"""Where what btrfs tells proves nothing, because something else happened, both trees are read."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import btrfs_ioctl
from backends.base import LAYERS, STAGING, Volume
from imagegraph.model import new_id
from tests.backends.btrfs_volumes import World, opened, run
from tests.conftest import new_btrfs, require
from tests.edits import BLOCKS, DEDUPE, FIDEDUPERANGE
from tests.trees import fill


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    require("btrfs")
    with new_btrfs(tmp_path) as point:
        yield World(point)


def flip_and_write(world: World, image: Volume) -> None:
    path = world.tree(image)
    run("btrfs", "property", "set", "-f", path, "ro", "false")
    (path / "etc/passwd").write_text("forged")
    run("btrfs", "property", "set", path, "ro", "true")


def share_blocks(world: World, image: Volume) -> None:
    """Deduplicate, which the kernel allows in read-only subvolumes too."""
    with opened(world.tree(image) / "a") as a, opened(world.tree(image) / "b") as b:
        share = bytearray(DEDUPE.pack(0, len(BLOCKS), 1, 0, 0, a, 0, 0, 0, 0))
        fcntl.ioctl(b, FIDEDUPERANGE, share)
    run("btrfs", "filesystem", "sync", world.point)


def forget(world: World, image: Volume) -> None:
    for record in world.tree(image).parents[1].glob("records/containers-*"):
        _, _, rest = record.read_bytes().partition(b"\n")
        record.write_bytes(b"{}\n" + rest)


def put_another_in_its_place(world: World, image: Volume) -> None:
    world.backend.remove(image)
    staging = Volume(STAGING, new_id())
    world.backend.create(staging)
    fill(world.tree(staging))
    world.backend.seal(staging, image)


def put_a_clone_of_another_in_place(world: World, image: Volume) -> None:
    """Replace the container, not the image."""
    other = world.image(lambda tree: (tree / "file").touch())
    [container] = [found.volume for found in world.backend.volumes() if found.volume.kind != LAYERS]
    run("btrfs", "subvolume", "delete", world.tree(container))
    run("btrfs", "subvolume", "snapshot", world.tree(other), world.tree(container))


SPOIL = [
    flip_and_write,
    share_blocks,
    forget,
    put_another_in_its_place,
    put_a_clone_of_another_in_place,
]


@pytest.mark.parametrize("spoil", SPOIL)
def test_what_cannot_be_proved_is_read(
    world: World, spoil: Callable[[World, Volume], None]
) -> None:
    def write(tree: Path) -> None:
        fill(tree)
        for name in "ab":
            (tree / name).write_bytes(BLOCKS)

    image = world.image(write)
    container = world.clone(image)
    (world.tree(container) / "etc/new").touch()
    world.agree(image, container)
    spoil(world, image)
    world.agree(image, container, fast=False)


def test_a_kernel_that_does_not_tell_is_warned_of_and_both_trees_are_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = world.image(fill)
    container = world.clone(image)
    (world.tree(container) / "etc/passwd").write_text("edited")
    expected = world.changes(image, container)

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(btrfs_ioctl, "inodes_since", refuse)
    with pytest.warns(UserWarning, match="does not say what was changed") as caught:
        assert list(world.backend.changes(container, image)) == expected
    assert len(caught) == 1
