"""What only btrfs volumes go through: chattr, nested subvolumes out of reach, quotas, clocks."""

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends import btrfs
from backends.base import CONTAINERS, LAYERS, STAGING, VOLUMES, Volume
from backends.btrfs import BtrfsBackend
from backends.changes import CLOCK_MARGIN
from backends.errors import BackendError, VolumeBusy
from imagegraph.model import new_id


@pytest.fixture
def backend(fresh_btrfs: Path) -> Iterator[BtrfsBackend]:
    base = f"{fresh_btrfs}/pool"
    btrfs.prepare(base)
    yield BtrfsBackend(base)


def layer(backend: BtrfsBackend, files: dict[str, bytes]) -> Volume:
    staging, sealed = Volume(STAGING, new_id()), Volume(LAYERS, new_id())
    backend.create(staging)
    for name, content in files.items():
        Path(backend.location(staging), name).write_bytes(content)
    backend.seal(staging, sealed)
    return sealed


def clone(backend: BtrfsBackend, parent: Volume) -> Volume:
    volume = Volume(CONTAINERS, new_id())
    backend.create(volume, parent)
    return volume


def commit(backend: BtrfsBackend, volume: Volume) -> Volume:
    sealed = Volume(LAYERS, new_id())
    backend.snapshot(volume, sealed)
    return sealed


def gone(backend: BtrfsBackend) -> bool:
    return not [found for found in backend.volumes() if found.volume.kind == CONTAINERS]


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_an_immutable_container_is_removed_and_so_is_its_layer(backend: BtrfsBackend) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    run("chattr", "+i", backend.location(volume))
    sealed = commit(backend, volume)
    backend.remove(volume)
    backend.remove(sealed)
    assert gone(backend) and backend.leftovers() == []


def test_a_nested_subvolume_in_an_immutable_directory_is_kept_and_removed(
    backend: BtrfsBackend,
) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    tree = Path(backend.location(volume))
    (tree / "d").mkdir()
    run("btrfs", "subvolume", "create", tree / "d/s")
    (tree / "d/s/f").write_text("precious")
    run("chattr", "+i", tree / "d")
    sealed = Volume(LAYERS, new_id())
    assert backend.snapshot(volume, sealed) == ["d/s"]
    assert Path(backend.location(sealed), "d/s/f").read_text() == "precious"
    assert "i" in run("lsattr", "-d", f"{backend.location(sealed)}/d").split()[0]
    backend.remove(volume)
    backend.remove(sealed)
    assert gone(backend) and backend.leftovers() == []


def test_a_nested_subvolume_below_a_very_long_path_is_removed(backend: BtrfsBackend) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    here = os.open(backend.location(volume), os.O_RDONLY)
    for _ in range(18):
        os.mkdir("x" * 250, dir_fd=here)
        below = os.open("x" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    run("btrfs", "subvolume", "create", f"/proc/{os.getpid()}/fd/{here}/s")
    os.close(here)
    backend.remove(volume)
    assert gone(backend) and backend.leftovers() == []


def test_a_loop_device_on_a_file_keeps_the_volume(backend: BtrfsBackend) -> None:
    volume = clone(backend, layer(backend, {"disk": bytes(1 << 20)}))
    device = run("losetup", "--find", "--show", f"{backend.location(volume)}/disk")
    try:
        with pytest.raises(VolumeBusy, match=device):
            backend.remove(volume)
    finally:
        run("losetup", "--detach", device)
    backend.remove(volume)


def test_an_overlay_keeps_the_volume(backend: BtrfsBackend, tmp_path: Path) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    lower = backend.location(volume)
    options = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    run("mount", "-t", "overlay", "-o", options, "overlay", tmp_path / "merged")
    try:
        with pytest.raises(VolumeBusy, match="merged"):
            backend.remove(volume)
    finally:
        run("umount", tmp_path / "merged")
    backend.remove(volume)


def test_who_reads_a_record_does_not_use_the_volume(backend: BtrfsBackend) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    [record] = Path(backend.location(volume)).parents[1].glob(f"records/*{volume.id}")
    with record.open():
        backend.remove(volume)
    assert gone(backend)


def test_a_layer_that_was_written_to_is_reported(backend: BtrfsBackend) -> None:
    good, bad = layer(backend, {"a": b"1"}), layer(backend, {"a": b"1"})
    clone(backend, good)
    path = backend.location(bad)
    run("btrfs", "property", "set", "-f", path, "ro", "false")
    Path(path, "a").write_bytes(b"2")
    run("btrfs", "property", "set", path, "ro", "true")
    problems = {found.volume: found.problem for found in backend.volumes()}
    assert problems[good] is None
    assert "written to" in (problems[bad] or "")


def test_siblings_that_changed_while_the_clock_was_behind_differ(backend: BtrfsBackend) -> None:
    parent = layer(backend, {})
    one, other = clone(backend, parent), clone(backend, parent)
    trees = [Path(backend.location(volume)) for volume in (one, other)]
    for number in range(200):
        for letter, tree in zip(b"ab", trees, strict=True):
            # Without a look at its status, by which the kernel would make the next ctime finer.
            file = os.open(tree / f"{number}", os.O_CREAT | os.O_WRONLY)
            os.write(file, bytes([letter]) * 10)
            os.close(file)
            os.utime(tree / f"{number}", ns=(1, 1))
    for tree in trees:
        os.utime(tree, ns=(1, 1))
    first, second = commit(backend, one), commit(backend, other)
    # As if the clones had been made an hour later than the files: the clock was set back between.
    for volume in (first, second):
        [record] = Path(backend.location(volume)).parents[1].glob(f"records/layers-{volume.id}")
        head, _, rest = record.read_bytes().partition(b"\n")
        told = json.loads(head)
        told["cloned"] += 3600 * 10**9
        record.write_bytes(json.dumps(told).encode() + b"\n" + rest)
    # What is older than CLOCK_MARGIN is trusted where trust is due at all.
    time.sleep(2 * CLOCK_MARGIN / 1e9)
    assert len(list(backend.changes(second, first))) == 200


def test_a_committed_image_does_not_inherit_the_bound_of_a_full_qgroup(
    backend: BtrfsBackend,
) -> None:
    run("btrfs", "quota", "enable", Path(backend.location(Volume(LAYERS, ""))).parent)
    run("btrfs", "quota", "rescan", "-w", Path(backend.location(Volume(LAYERS, ""))).parent)
    bounded = clone(backend, layer(backend, {"a": b"1"}))
    backend.limit(bounded, 4 << 20)
    free = clone(backend, commit(backend, bounded))
    with open(f"{backend.location(free)}/large", "wb") as file:
        file.write(os.urandom(16 << 20))
        os.fsync(file.fileno())
    path = Path(backend.location(bounded), "b")
    with pytest.raises(OSError, match="quota"), path.open("wb") as file:
        file.write(os.urandom(16 << 20))
        os.fsync(file.fileno())


def test_a_subvolume_made_during_a_commit_is_not_lost(
    backend: BtrfsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = clone(backend, layer(backend, {"a": b"1"}))
    tree = Path(backend.location(volume))
    ask, asked = btrfs.subvolumes.nested, []

    def nested(path: str) -> list[str]:
        found = ask(path)
        if not asked:
            asked.append(path)
            run("btrfs", "subvolume", "create", tree / "s")
            (tree / "s/f").write_text("precious")
        return found

    monkeypatch.setattr(btrfs.subvolumes, "nested", nested)
    sealed = Volume(LAYERS, new_id())
    assert backend.snapshot(volume, sealed) == ["s"]
    assert Path(backend.location(sealed), "s/f").read_text() == "precious"


# Bad luck with volumes


@pytest.mark.parametrize("kind", [CONTAINERS, LAYERS])
@pytest.mark.parametrize("there", ["nothing", "a directory"])
def test_what_is_no_volume_any_more_is_told_as_that(
    backend: BtrfsBackend, kind: str, there: str
) -> None:
    """A volume that was lost or replaced, as another's base too."""
    base = layer(backend, {"a": b"1"})
    web = clone(backend, base)
    [lost, other] = (web, base) if kind == CONTAINERS else (base, web)
    subprocess.run(["btrfs", "subvolume", "delete", backend.location(lost)], check=True)
    if there == "a directory":
        Path(backend.location(lost)).mkdir()
    why = "not on disk" if there == "nothing" else "not .*a subvolume"
    acts = [
        lambda: compare(backend, lost, None),
        lambda: compare(backend, lost, other),
        lambda: compare(backend, other, lost),
        lambda: commit(backend, lost),
        lambda: clone(backend, lost),
    ]
    for act in acts:
        with pytest.raises(BackendError, match=f"^cannot [^\n]*({why})[^\n]*; cowshed check"):
            act()
    assert backend.leftovers() == []


def compare(backend: BtrfsBackend, volume: Volume, base: Volume | None) -> None:
    with backend.compared(volume, base) as compared:
        list(compared.changes)


def test_a_data_volume_that_cannot_be_made_durable_is_not_there(
    backend: BtrfsBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(errno.EIO, "no disk")

    volume = Volume(VOLUMES, new_id())
    with monkeypatch.context() as patch:
        patch.setattr(btrfs, "sync_directory", fail)
        with pytest.raises(BackendError):
            backend.create(volume)
    assert list(backend.volumes()) == []
    backend.create(volume)
