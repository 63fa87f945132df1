"""Any edit of any tree: the two-tree walk must say of it what the slow oracle says."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.changes import walk
from backends.copy import copy_tree
from tests.trees import Entry, difference, entries

MARGIN = 20_000_000
"""Nanoseconds by which a ctime may lag behind the clock."""

Script = list[tuple[str, bytes, bytes]]


# What may happen to a tree, as (operation, path, path); those that cannot happen do not.

DIRECTORIES = (b"a", b"a.b", b"a/b", b"a-")
FILES = (b"f", b"\xff", b"a/f", b"a/g", b"a.b/f", b"a/b/f", b"a/b/g", b"a-/f")
PATHS = st.sampled_from(DIRECTORIES + FILES)
OPERATIONS = (
    "write", "append", "forge", "mkdir", "remove", "rename", "exchange", "link", "symlink", "fifo",
    "device", "chmod", "chown", "xattr", "drop_xattr", "utime", "truncate",
)  # fmt: skip
STEP = st.tuples(st.sampled_from(OPERATIONS), PATHS, PATHS)
MAKING = st.lists(STEP, min_size=15, max_size=60)
EDIT = st.lists(STEP, min_size=4, max_size=30)


def perform(top: Path, script: Script) -> None:
    for operation, first, second in script:
        one, other = (os.path.join(os.fsencode(top), path) for path in (first, second))
        with contextlib.suppress(OSError):
            STEPS[operation](one, other)


def _require_regular(path: bytes) -> None:
    """Refuse what an open would block on or, with a device, reach out of the tree."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError


def _skeleton(top: Path) -> None:
    """Every directory and file that a script may name, so that most of its steps do something."""
    root = os.fsencode(top)
    for directory in DIRECTORIES:
        os.makedirs(os.path.join(root, directory))
    for path in FILES[:-1]:
        _write(os.path.join(root, path), b"some content")
    os.link(os.path.join(root, b"a/f"), os.path.join(root, FILES[-1]))


def _write(path: bytes, other: bytes, mode: str = "wb") -> None:
    _require_regular(path)
    with open(path, mode) as file:
        file.write(other[-10:])


def _forge(path: bytes, other: bytes) -> None:
    """Change the content and leave size and modification time as they were."""
    _require_regular(path)
    status = os.lstat(path)
    with open(path, "r+b") as file:
        file.write(other[-status.st_size :][: status.st_size] if status.st_size else b"")
    os.truncate(path, status.st_size)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove(path: bytes, other: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _exchange(path: bytes, other: bytes) -> None:
    aside = path + b".aside"
    os.rename(path, aside)
    try:
        os.rename(other, path)
    finally:
        os.rename(aside, other)


STEPS: dict[str, Callable[[bytes, bytes], None]] = {
    "write": _write,
    "append": lambda path, other: _write(path, other, "ab"),
    "forge": _forge,
    "mkdir": lambda path, other: os.makedirs(path),
    "remove": _remove,
    "rename": os.rename,
    "exchange": _exchange,
    "link": lambda path, other: os.link(path, other, follow_symlinks=False),
    "symlink": lambda path, other: os.symlink(os.path.basename(other), path),
    "fifo": lambda path, other: os.mkfifo(path),
    "device": lambda path, other: os.mknod(path, 0o20600, os.makedev(240, len(other))),
    "chmod": lambda path, other: os.chmod(path, 0o700 + len(other)),
    "chown": lambda path, other: os.lchown(path, len(other), len(path) % 5),
    "xattr": lambda path, other: os.setxattr(path, "user.x", other[:3], follow_symlinks=False),
    "drop_xattr": lambda path, other: os.removexattr(path, "user.x", follow_symlinks=False),
    "utime": lambda path, other: os.utime(path, ns=(1, len(other)), follow_symlinks=False),
    "truncate": lambda path, other: os.truncate(path, len(other)),
}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(MAKING, EDIT)
def test_any_edit_of_a_copy_is_found_exactly(making: Script, edit: Script) -> None:
    with tempfile.TemporaryDirectory() as directory:
        base, volume = Path(directory, "base"), Path(directory, "volume")
        volume.mkdir()
        _skeleton(base)
        perform(base, making)
        before = entries(base)
        copy_tree(str(base), str(volume))
        assert entries(volume) == before
        perform(volume, edit)
        _agree(base, before, volume, 0)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(MAKING, EDIT, st.booleans())
def test_any_edit_of_a_snapshot_is_found_exactly(
    btrfs_mount: Path,
    making: Script,
    edit: Script,
    wait: bool,
) -> None:
    import btrfsutil

    with tempfile.TemporaryDirectory(dir=btrfs_mount) as directory:
        base, volume = Path(directory, "base"), Path(directory, "volume")
        btrfsutil.create_subvolume(str(base))
        _skeleton(base)
        perform(base, making)
        # With a wait, unchanged inodes are older than the snapshot; without, none is to be trusted.
        time.sleep(2 * MARGIN / 1e9 if wait else 0)
        settled = time.time_ns() - MARGIN
        btrfsutil.create_snapshot(str(base), str(volume))
        before = entries(base)
        perform(volume, edit)
        try:
            _agree(base, before, volume, settled)
        finally:
            for tree in (base, volume):
                btrfsutil.delete_subvolume(str(tree))


def _agree(base: Path, before: dict[bytes, Entry], volume: Path, settled: int) -> None:
    expected = difference(before, entries(volume))
    assert list(walk(str(base), str(volume), settled=settled)) == expected
    backwards = difference(entries(volume), before)
    assert list(walk(str(volume), str(base), settled=settled)) == backwards
