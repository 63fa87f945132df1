"""Snapshots, clones, holds, bookmarks and diffs of a real pool."""

import os
import time

import pytest

from backends import libzfs
from backends.libzfs import run, snapshots
from tests.libzfs.conftest import command

E = libzfs.Error


@pytest.fixture
def snapshot(zfs, dataset, tree):
    (tree / "file").write_text("one")
    dataset.snapshot(f"{dataset.name}@first one")
    return zfs.get_snapshot(f"{dataset.name}@first one")


def test_a_snapshot_knows_its_names_and_its_dataset(dataset, snapshot):
    assert snapshot.snapshot_name == "first one"
    assert snapshot.parent == dataset
    assert snapshot.type is libzfs.DatasetType.SNAPSHOT
    assert [each.name for each in dataset.snapshots] == [snapshot.name]
    assert snapshot.asdict()["dataset"] == dataset.name
    with pytest.raises(libzfs.ZFSException) as caught:
        dataset.snapshot(snapshot.name)
    assert caught.value.code is E.EXISTS


def test_a_snapshot_carries_properties_and_may_be_recursive(zfs, dataset):
    dataset.pool.create(f"{dataset.name}/child", {})
    dataset.snapshot(f"{dataset.name}@r", {"org.x:why": "a test"}, recursive=True)
    found = {each.name: each for each in dataset.snapshots_recursive}
    assert list(found) == [f"{dataset.name}@r", f"{dataset.name}/child@r"]
    assert {each.properties["org.x:why"].value for each in found.values()} == {"a test"}
    assert len(list(dataset.snapshots)) == 1


def test_holds_keep_a_snapshot(dataset, snapshot):
    # OpenZFS 2.1 prints the minute only.
    before = int(time.time()) - (0 if run.version() >= (2, 2) else 60)
    snapshot.hold("a tag\twith a tab")
    snapshot.hold("-n")
    found = snapshot.holds
    assert set(found) == {"a tag\twith a tab", "-n"}
    assert all(before - 1 <= when <= time.time() + 1 for when in found.values())
    with pytest.raises(libzfs.ZFSException) as caught:
        snapshot.hold("-n")
    assert caught.value.code is E.HOLD
    with pytest.raises(libzfs.ZFSException) as caught:
        snapshot.delete()
    assert caught.value.code is E.BUSY
    snapshot.release("a tag\twith a tab")
    snapshot.release("-n")
    with pytest.raises(libzfs.ZFSException) as caught:
        snapshot.release("-n")
    assert caught.value.code is E.RELE
    snapshot.delete()
    snapshot.delete()


def test_the_holds_of_many_snapshots_are_one_command(dataset, snapshot, commands):
    dataset.snapshot(f"{dataset.name}@second")
    command("zfs", "hold", "x\ny", snapshot.name, f"{dataset.name}@second")
    commands.clear()
    found = snapshots.holds([snapshot.name, f"{dataset.name}@second"])
    assert [list(tags) for tags in found.values()] == [["x\ny"], ["x\ny"]]
    assert len(commands) == 1


def test_a_clone_is_made_unmounted_and_keeps_its_origin(zfs, dataset, snapshot):
    name = f"{dataset.name}/clone"
    snapshot.clone(name, {"org.x:a": "b"})
    clone = zfs.get_dataset(name)
    assert clone.mountpoint is None
    assert clone.properties["origin"].value == snapshot.name
    assert [each.name for each in snapshot.dependents] == [name]
    for recursive in (False, True):
        with pytest.raises(libzfs.ZFSException) as caught:
            snapshot.delete(recursive=recursive)
        assert caught.value.code is E.EXISTS
    with pytest.raises(libzfs.ZFSException) as caught:
        snapshot.clone(name)
    assert caught.value.code is E.EXISTS
    snapshot.delete(recursive_children=True)
    assert [each.name for each in dataset.children] == []


def test_a_deferred_snapshot_goes_with_its_last_clone(zfs, dataset, snapshot):
    snapshot.clone(f"{dataset.name}/clone")
    snapshot.delete(defer=True)
    assert zfs.get_snapshot(snapshot.name).properties["defer_destroy"].value == "on"
    zfs.get_dataset(f"{dataset.name}/clone").delete()
    assert list(dataset.snapshots) == []


def test_promoting_turns_the_descent_around(zfs, dataset, snapshot):
    name = f"{dataset.name}/clone"
    snapshot.clone(name)
    clone = zfs.get_dataset(name)
    clone.promote()
    assert clone.properties["origin"].value == ""
    assert [each.name for each in clone.snapshots] == [f"{name}@first one"]
    assert zfs.get_dataset(dataset.name).properties["origin"].value == f"{name}@first one"
    zfs.get_dataset(dataset.name).promote()
    with pytest.raises(libzfs.ZFSException) as caught:
        dataset.promote()
    assert caught.value.code is E.BADTYPE


def test_dependents_come_in_an_order_in_which_they_can_be_destroyed(zfs, dataset, snapshot):
    base = dataset.name
    snapshot.clone(f"{base}/clone")
    command("zfs", "snapshot", f"{base}/clone@s")
    command("zfs", "clone", f"{base}/clone@s", f"{base}/far")
    command("zfs", "create", f"{base}/child")
    found = [each.name.removeprefix(base) for each in dataset.dependents]
    assert sorted(found) == ["/child", "/clone", "/clone@s", "/far", "@first one"]
    assert found.index("/far") < found.index("/clone@s") < found.index("/clone")
    assert found.index("/clone") < found.index("@first one")
    for each in list(dataset.dependents):
        if isinstance(each, libzfs.ZFSDataset):
            each.umount()
        each.delete()
    assert list(dataset.dependents) == []


def test_clones_anywhere_in_the_pool_are_dependents(zfs, dataset):
    base = dataset.name
    command("zfs", "create", f"{base}/in")
    command("zfs", "snapshot", f"{base}/in@s")
    command("zfs", "clone", f"{base}/in@s", f"{base}/out")
    command("zfs", "snapshot", f"{base}/out@s")
    command("zfs", "clone", f"{base}/out@s", f"{base}/further out")
    inner = zfs.get_dataset(f"{base}/in")
    found = [each.name.removeprefix(base) for each in inner.dependents]
    assert found == ["/further out", "/out@s", "/out", "/in@s"]
    snapshot = zfs.get_snapshot(f"{base}/in@s")
    assert [each.name.removeprefix(base) for each in snapshot.dependents] == found[:-1]


def test_rolling_back_takes_what_is_newer(zfs, dataset, tree, snapshot):
    (tree / "file").write_text("two")
    dataset.snapshot(f"{dataset.name}@second")
    zfs.get_snapshot(f"{dataset.name}@second").bookmark("mark")
    zfs.get_snapshot(f"{dataset.name}@second").clone(f"{dataset.name}/clone")
    snapshot.rollback()
    assert (tree / "file").read_text() == "one"
    assert [each.name for each in dataset.snapshots] == [snapshot.name]
    assert list(dataset.bookmarks) == []


def test_a_bookmark_outlives_its_snapshot(dataset, snapshot):
    guid = snapshot.properties["guid"].value
    snapshot.bookmark("mark 1")
    with pytest.raises(libzfs.ZFSException) as caught:
        snapshot.bookmark("mark 1")
    assert caught.value.code is E.EXISTS
    snapshot.delete()
    (mark,) = dataset.bookmarks
    assert (mark.bookmark_name, mark.parent, mark.type.name) == ("mark 1", dataset, "BOOKMARK")
    assert mark.properties["guid"].value == guid
    assert mark.asdict()["bookmark_name"] == "mark 1"
    mark.delete()
    assert list(dataset.bookmarks) == []


def test_a_mounted_snapshot_tells_where(snapshot, tmp_path):
    assert snapshot.mountpoint is None
    command("mount", "-t", "zfs", snapshot.name, str(tmp_path))
    assert snapshot.mountpoint == str(tmp_path)
    command("umount", str(tmp_path))


def take(dataset, names):
    """Snapshots of one dataset, one command each: ZFS takes no two of them together."""
    for name in names:
        command("zfs", "snapshot", f"{dataset.name}@{name}")


def test_many_snapshots_go_in_one_command(dataset, commands):
    take(dataset, "abcdef")
    commands.clear()
    gone = dataset.delete_snapshots(
        {"all": False, "snapshots": ["a", {"start": "c", "end": "d"}, {"start": "f"}]}
    )
    assert sorted(name[-1] for name in gone) == ["a", "c", "d", "f"]
    assert sum("destroy" in each for each in commands) == 1
    with pytest.raises(libzfs.ZFSException, match="could not be located"):
        dataset.delete_snapshots({"all": False, "snapshots": [{"start": "nope"}]})
    assert dataset.delete_snapshots({"all": False, "snapshots": ["nope"]}) == []
    assert len(dataset.delete_snapshots({"all": True, "snapshots": []})) == 2


def test_one_held_snapshot_saves_its_whole_batch(dataset):
    take(dataset, "abc")
    command("zfs", "hold", "keep", f"{dataset.name}@b")
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.destroy_snapshots(dataset.name, ["a", "b", "c"])
    assert caught.value.code is E.BUSY
    assert len(list(dataset.snapshots)) == 3
    command("zfs", "release", "keep", f"{dataset.name}@b")
    libzfs.destroy_snapshots(dataset.name, ["a", "b", "c", "gone already"])
    libzfs.destroy_snapshots(dataset.name, ["gone already"])
    assert list(dataset.snapshots) == []


def test_several_snapshots_are_taken_at_once_or_not_at_all(zfs, dataset):
    dataset.pool.create(f"{dataset.name}/child", {})
    names = [f"{dataset.name}@t", f"{dataset.name}/child@t"]
    libzfs.snapshots_taken_together(names, {"org.x:a": "b"})
    txgs = {zfs.get_snapshot(name).properties["createtxg"].value for name in names}
    assert len(txgs) == 1
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.snapshots_taken_together([f"{dataset.name}@u", names[1]])
    assert caught.value.code is E.EXISTS
    assert len(list(dataset.snapshots)) == 1


def test_a_channel_program_does_several_steps_as_one(dataset, commands):
    script = """
        local name = (...)["argv"][1]
        assert(zfs.sync.snapshot(name .. "@a") == 0)
        assert(zfs.sync.snapshot(name .. "/child@a") == 0)
        return {made = 2, name = name, known = zfs.exists(name)}
    """
    command("zfs", "create", f"{dataset.name}/child")
    found = libzfs.program(dataset.pool.name, script, [dataset.name])
    assert found == {"made": 2, "name": dataset.name, "known": True}
    assert len(commands) == 1
    assert len(list(dataset.snapshots_recursive)) == 2
    with pytest.raises(libzfs.ZFSException, match="oops"):
        libzfs.program(dataset.pool.name, 'error("oops")')
    with pytest.raises(libzfs.ZFSException):
        libzfs.program(dataset.pool.name, 'zfs.sync.snapshot("x@y")', readonly=True)
    with pytest.raises(libzfs.ZFSException) as caught:
        libzfs.program("nopool", "return 1")
    assert caught.value.code is E.NOENT


def test_a_diff_names_what_happened_byte_for_byte(zfs, dataset, tree):
    strange = os.fsdecode(b"\xff \t\n\\ -> \xc3\xa9")
    (tree / "changed").write_text("1")
    (tree / "gone").write_text("1")
    (tree / "old name").write_text("1")
    (tree / "linked").write_text("1")
    dataset.snapshot(f"{dataset.name}@from")
    (tree / "changed").write_text("22")
    (tree / "gone").unlink()
    (tree / "old name").rename(tree / "new -> name")
    (tree / "directory").mkdir()
    (tree / strange).write_text("1")
    os.mkfifo(tree / "fifo")
    os.link(tree / "linked", tree / "link")
    dataset.snapshot(f"{dataset.name}@to")
    records = list(dataset.diff("@from", f"{dataset.name}@to"))
    cut = len(str(tree)) + 1
    found = {(each.cmd.value, each.type.name, each.path[cut:]) for each in records}
    expected = {
        ("M", "DIRECTORY", ""), ("M", "FILE", "changed"), ("-", "FILE", "gone"),
        ("R", "FILE", "new -> name"), ("+", "DIRECTORY", "directory"), ("+", "FILE", strange),
        ("+", "FIFO", "fifo"),
    }  # fmt: skip
    assert expected <= found
    (renamed,) = [each for each in records if each.cmd is libzfs.DiffRecordType.RENAME]
    assert renamed.oldpath == str(tree / "old name")
    assert sum(each.link_delta for each in records) == 1
    assert [each.path for each in dataset.diff(f"{dataset.name}@to")] == []


def test_a_diff_starts_when_it_is_read_and_ends_when_it_is_left(dataset, tree, snapshot, commands):
    for number in range(50):
        (tree / str(number)).touch()
    command("zpool", "sync", dataset.pool.name)
    commands.clear()
    records = dataset.diff("@first one")
    assert commands == []
    next(records)
    records.close()
    assert len(commands) == 1
    with pytest.raises(libzfs.ZFSException) as caught:
        list(dataset.diff("@none"))
    assert caught.value.code is E.NOENT
