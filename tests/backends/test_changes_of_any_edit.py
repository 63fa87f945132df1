"""Any edit of any tree: the two-tree walk must say of it what the slow oracle says."""

import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backends.changes import walk
from backends.copy import copy_tree
from tests.edits import EDIT, MAKING, Script, make, perform
from tests.trees import Entry, difference, entries

MARGIN = 20_000_000
"""Nanoseconds by which a ctime may lag behind the clock."""


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(MAKING, EDIT)
def test_any_edit_of_a_copy_is_found_exactly(making: Script, edit: Script) -> None:
    with tempfile.TemporaryDirectory() as directory:
        base, volume = Path(directory, "base"), Path(directory, "volume")
        volume.mkdir()
        make(base)
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
        make(base)
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
