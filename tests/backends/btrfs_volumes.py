"""Volumes on a btrfs of a test's own, and the proof that what is told of two of them is so."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsutil

from backends import btrfs, btrfs_ioctl
from backends.base import CONTAINERS, LAYERS, STAGING, Volume
from backends.btrfs import BtrfsBackend
from backends.changes import Change, walk
from imagegraph.model import new_id
from tests.rebuild import rebuild
from tests.trees import Entry, difference, entries


class World:
    """The filesystem at `point`, which new_btrfs has mounted, and a pool on it."""

    def __init__(self, point: Path) -> None:
        self.point = point
        base = f"{point}/{new_id()[:8]}"
        btrfs.prepare(base)
        self.backend = BtrfsBackend(base)
        self.notes: list[str] = []
        self.backend.note = self.notes.append

    def tree(self, volume: Volume) -> Path:
        return Path(self.backend.location(volume))

    def image(self, write: Callable[[Path], object]) -> Volume:
        staging, sealed = Volume(STAGING, new_id()), Volume(LAYERS, new_id())
        self.backend.create(staging)
        write(self.tree(staging))
        self.backend.seal(staging, sealed)
        return sealed

    def clone(self, parent: Volume) -> Volume:
        volume = Volume(CONTAINERS, new_id())
        self.backend.create(volume, parent)
        return volume

    def commit(self, volume: Volume) -> Volume:
        sealed = Volume(LAYERS, new_id())
        self.backend.snapshot(volume, sealed)
        return sealed

    def agree(self, one: Volume, other: Volume, *, fast: bool = True) -> None:
        """See that engine, walk, oracle and a rebuilt tree agree, in both directions.

        The engine is not to have had to read both trees, or to have said that it did.
        """
        with self.backend.frozen(one) as a, self.backend.frozen(other) as b:
            before, after = seen(a), seen(b)
            with self.rebuilt(one, other, fast=fast) as (changes, clone):
                assert changes == difference(before, after)
                assert seen(clone) == after
            with self.rebuilt(other, one, fast=fast) as (changes, clone):
                assert changes == difference(after, before)
                assert seen(clone) == before

    def changes(self, base: Volume, volume: Volume) -> list[Change]:
        """What is told, proved without the oracle, which is slow and cannot go very deep."""
        with (
            self.rebuilt(base, volume) as (changes, clone),
            self.backend.frozen(volume) as tree,
        ):
            assert list(walk(clone, tree, is_stub=btrfs_ioctl.is_stub)) == []
        return changes

    @contextmanager
    def rebuilt(
        self, base: Volume, volume: Volume, *, fast: bool = True
    ) -> Iterator[tuple[list[Change], str]]:
        """What engine and walk tell, and a clone of the base to which that has been done."""
        with self.backend.frozen(base) as old, self.backend.frozen(volume) as new:
            self.notes.clear()
            changes = list(self.backend.changes(volume, base))
            assert (self.notes == []) == fast
            assert changes == list(walk(old, new, is_stub=btrfs_ioctl.is_stub))
            clone = f"{self.point}/{new_id()}"
            btrfsutil.create_snapshot(old, clone)
            try:
                rebuild(clone, new, changes)
                yield changes, clone
            finally:
                btrfsutil.delete_subvolume(clone)

    def close(self) -> None:
        """Remove all volumes; there must be nothing wrong with any."""
        for found in self.backend.volumes():
            assert found.problem is None
            self.backend.remove(found.volume)


@contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """A descriptor of a file or directory, to read."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def seen(tree: str) -> dict[bytes, Entry]:
    """Every entry but the stubs of nested subvolumes."""
    top = os.fsencode(tree)
    return {
        path: entry
        for path, entry in entries(tree).items()
        if not btrfs_ioctl.is_stub(os.lstat(os.path.join(top, path)))
    }


def remount(point: Path, options: str) -> None:
    """Mount what new_btrfs has mounted anew: numbers of inodes that are gone are used again."""
    run("umount", point)
    run("mount", "-t", "btrfs", "-o", f"loop,{options}", point.with_name("btrfs.img"), point)


def cut_power(point: Path, options: str) -> None:
    """Have what new_btrfs has mounted, with its image on btrfs, become what is on the disk now."""
    image, cut = point.with_name("btrfs.img"), point.with_name("cut.img")
    run("cp", "--reflink=always", image, cut)
    run("umount", point)
    shutil.move(cut, image)
    run("mount", "-t", "btrfs", "-o", f"loop,{options}", image, point)


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return done.stdout
