"""Filesystems and volumes of a real pool, against what the commands themselves say."""

import json
import os
from pathlib import Path

import pytest

from backends import libzfs
from backends.libzfs import run
from tests.libzfs.conftest import command

E = libzfs.Error


def test_every_property_is_what_zfs_get_says(zfs, dataset):
    command("zfs", "set", "quota=100M", "compression=lz4", "org.x:note=two words", dataset.name)

    def printed(options: str) -> dict[str, str]:
        output = command("zfs", "get", options, "-o", "property,value", "all", dataset.name)
        return {name: value for name, _, value in (x.partition("\t") for x in output.splitlines())}

    # A pool that has just been made still moves; ask until it stands still.
    before, after = None, printed("-Hp")
    while before != after:
        before = after
        properties = zfs.get_dataset(dataset.name).properties
        shown, after = printed("-H"), printed("-Hp")
    assert {name: properties[name].rawvalue for name in before} == before
    assert {name: properties[name].value for name in shown} == shown


def test_a_property_tells_its_source(zfs, dataset):
    dataset.properties["atime"].value = "off"
    zfs.get(dataset.pool.name).create(f"{dataset.name}/child", {})
    child = zfs.get_dataset(f"{dataset.name}/child")
    atime = child.properties["atime"]
    assert (atime.source, atime.source_info) == (libzfs.PropertySource.INHERITED, dataset.name)
    assert child.properties["recordsize"].source is libzfs.PropertySource.DEFAULT
    assert child.properties["used"].source is libzfs.PropertySource.NONE
    assert dataset.properties["atime"].source is libzfs.PropertySource.LOCAL


def test_a_property_is_set_parsed_refreshed_and_inherited(zfs, dataset):
    quota = dataset.properties["quota"]
    assert quota.parsed is None
    quota.parsed = 64 << 20
    assert command("zfs", "get", "-Hp", "-o", "value", "quota", dataset.name) == "67108864\n"
    quota.refresh()
    assert (quota.value, quota.parsed) == ("64M", 64 << 20)
    quota.parsed = None
    quota.refresh()
    assert quota.value == "none"
    dataset.properties["atime"].parsed = False
    dataset.properties["atime"].inherit()
    assert dataset.properties["atime"].value == "on"
    with pytest.raises(ValueError, match="read-only"):
        dataset.properties["used"].parsed = 1


def test_a_property_without_a_value_is_empty(dataset):
    assert dataset.properties["origin"].value == ""
    assert dataset.properties["name"].value == dataset.name


def test_user_properties_are_put_in_and_inherited_away(zfs, dataset):
    value = "tabs\tand\nnewlines and = and é"
    dataset.properties["org.x:note"] = libzfs.ZFSUserProperty(value)
    again = zfs.get_dataset(dataset.name).properties["org.x:note"]
    assert (again.value, again.source) == (value, libzfs.PropertySource.LOCAL)
    again.value = "other"
    del dataset.properties["org.x:note"]
    assert "org.x:note" not in dataset.properties
    with pytest.raises(ValueError, match="ZFSUserProperty"):
        dataset.properties["org.x:note"] = "text"
    with pytest.raises(NotImplementedError):
        dataset.properties.update({})


def test_a_user_property_that_forges_its_neighbours_deceives_nobody(zfs, dataset):
    victim = f"{dataset.name}/b"
    command("zfs", "create", f"{dataset.name}/a")
    command("zfs", "create", "-o", "org.x:owner=daemon", victim)
    bait = f"bait\n{victim}\ttype\t-\tfilesystem\n{victim}\torg.x:owner\tlocal\troot"
    command("zfs", "set", f"org.x:note={bait}", f"{dataset.name}/a")
    children = {child.name: child for child in dataset.children}
    assert children[victim].properties["org.x:owner"].value == "daemon"
    if run.version() >= (2, 3):
        assert children[f"{dataset.name}/a"].properties["org.x:note"].value == bait
    else:
        with pytest.raises(libzfs.ZFSException, match="line breaks"):
            _ = children[f"{dataset.name}/a"].properties


def test_a_user_property_cannot_forge_a_dataset_that_is_not_there(zfs, dataset):
    ghost = f"{dataset.name}/ghost"
    command("zfs", "set", f"org.x:note=\udcff\n{ghost}\ttype\t-\tfilesystem", dataset.name)
    with pytest.raises(libzfs.ZFSException, match="line breaks"):
        list(zfs.datasets_serialized(datasets=[dataset.name]))
    with pytest.raises(libzfs.ZFSException, match="line breaks"):
        zfs.get_dataset(dataset.name)


def test_a_value_may_hold_bytes_that_are_not_utf_8(zfs, dataset):
    value = os.fsdecode(b"\xff\xfe \n\t \xc3\xa9")
    dataset.properties["org.x:note"] = libzfs.ZFSUserProperty(value)
    assert zfs.get_dataset(dataset.name).properties["org.x:note"].value == value


def test_several_properties_are_set_by_one_command(dataset, commands):
    wanted = {"atime": {"parsed": False}, "org.x:a": {"value": "1"}, "quota": {"value": "64M"}}
    dataset.update_properties(wanted)
    assert len(commands) == 1
    dataset.update_properties({"quota": {"parsed": None}, "atime": {"source": "INHERIT"}})
    properties = dataset.properties
    assert [properties[name].value for name in ("atime", "quota")] == ["on", "none"]
    with pytest.raises(libzfs.ZFSException) as caught:
        dataset.update_properties({"atime": {}})
    assert caught.value.code is E.BADPROP


def test_a_listing_is_one_command_and_its_properties_one_more(zfs, dataset, commands):
    for name in ("one", "two", "three"):
        command("zfs", "create", f"{dataset.name}/{name}")
    children = dataset.children
    assert commands == []
    found = list(children)
    assert len(commands) == 1
    values = [child.properties["used"].parsed for child in found]
    assert len(commands) == 2
    assert len(values) == 3
    assert all(isinstance(value, int) for value in values)


def test_children_come_with_their_kind_and_their_own_children(zfs, dataset):
    pool = dataset.pool
    pool.create(f"{dataset.name}/a/b c", {}, create_ancestors=True)
    pool.create(f"{dataset.name}/v", {"volsize": "8M"}, libzfs.DatasetType.VOLUME, sparse_vol=True)
    direct = {child.name.removeprefix(dataset.name): child.type.name for child in dataset.children}
    assert direct == {"/a": "FILESYSTEM", "/v": "VOLUME"}
    below = [child.name.removeprefix(dataset.name) for child in dataset.children_recursive]
    assert below == ["/a", "/a/b c", "/v"]
    volume = zfs.get_dataset(f"{dataset.name}/v")
    assert volume.properties["volsize"].parsed == 8 << 20
    assert volume.properties["refreservation"].parsed is None
    assert "quota" not in volume.properties
    volume.mount()
    assert volume.mountpoint is None


def test_a_made_dataset_is_not_mounted_and_exists_only_once(zfs, dataset):
    pool = dataset.pool
    pool.create(f"{dataset.name}/new", {"atime": "off"})
    assert zfs.get_dataset(f"{dataset.name}/new").mountpoint is None
    for ancestors in (False, True):
        with pytest.raises(libzfs.ZFSException) as caught:
            pool.create(f"{dataset.name}/new", {}, create_ancestors=ancestors)
        assert caught.value.code is E.EXISTS
    for name, code in ((f"{dataset.name}/x/y", E.NOENT), (f"{dataset.name}/a*", E.INVALIDNAME)):
        with pytest.raises(libzfs.ZFSException) as caught:
            pool.create(name, {})
        assert caught.value.code is code


def test_mounting_and_unmounting(zfs, dataset):
    dataset.pool.create(f"{dataset.name}/in", {})
    inner = zfs.get_dataset(f"{dataset.name}/in")
    inner.mount()
    inner.mount()
    assert inner.mountpoint == f"{dataset.mountpoint}/in"
    assert inner.properties["mounted"].value == "yes"
    assert zfs.get_dataset_by_path(f"{dataset.mountpoint}/in/..").name == dataset.name
    dataset.umount()
    assert (dataset.mountpoint, inner.mountpoint) == (None, None)
    dataset.umount()
    dataset.mount_recursive()
    assert inner.mountpoint
    inner.properties["canmount"].value = "noauto"
    dataset.umount_recursive()
    dataset.mount_recursive()
    assert dataset.mountpoint
    assert inner.mountpoint is None


def test_a_legacy_mount_is_left_alone_by_mount_and_ended_by_umount(zfs, dataset, tmp_path):
    dataset.umount()
    dataset.properties["mountpoint"].value = "legacy"
    dataset.mount()
    assert dataset.mountpoint is None
    point = tmp_path / "here it is"
    point.mkdir()
    command("mount", "-t", "zfs", dataset.name, str(point))
    assert dataset.mountpoint == str(point)
    dataset.umount()
    assert dataset.mountpoint is None


def test_deleting_takes_only_the_dataset_itself(zfs, dataset):
    dataset.pool.create(f"{dataset.name}/a/b", {}, create_ancestors=True)
    parent = zfs.get_dataset(f"{dataset.name}/a")
    parent.umount()
    with pytest.raises(libzfs.ZFSException) as caught:
        parent.delete()
    assert caught.value.code is E.EXISTS
    child = zfs.get_dataset(f"{dataset.name}/a/b")
    child.snapshot(f"{child.name}@s")
    with pytest.raises(libzfs.ZFSException) as caught:
        child.delete()
    assert caught.value.code is E.BUSY
    child.destroy_snapshot("s")
    child.delete()
    child.delete()
    parent.delete()
    assert list(dataset.children) == []


def test_renaming(zfs, dataset):
    dataset.pool.create(f"{dataset.name}/old", {})
    zfs.get_dataset(f"{dataset.name}/old").rename(f"{dataset.name}/new name")
    assert [child.name for child in dataset.children] == [f"{dataset.name}/new name"]
    with pytest.raises(libzfs.ZFSException) as caught:
        zfs.get_dataset(f"{dataset.name}/new name").rename("elsewhere/x")
    assert caught.value.code is E.NOENT


def test_who_uses_how_much(dataset, tree):
    Path(tree, "file").write_bytes(os.urandom(1 << 20))
    os.chown(tree / "file", 1234, 55)
    command("zfs", "set", "userquota@1234=64M", dataset.name)
    command("zpool", "sync", dataset.pool.name)
    kinds = libzfs.UserquotaProp
    found = dataset.userspace([kinds.USERUSED, kinds.USERQUOTA, kinds.GROUPOBJUSED])
    used = {entry["rid"]: entry["space"] for entry in found[kinds.USERUSED]}
    assert used[1234] > 1 << 20
    assert found[kinds.USERQUOTA] == [
        {"domain": "", "rid": 1234, "space": 64 << 20, "default_quota": 0}
    ]
    assert {entry["rid"]: entry["space"] for entry in found[kinds.GROUPOBJUSED]}[55] == 1


def test_everything_in_plain_types_is_json_but_for_times(dataset):
    dataset.snapshot(f"{dataset.name}@s")
    found = dataset.asdict(snapshots=True)
    json.dumps(found, default=str)
    assert found["mountpoint"] == dataset.mountpoint
    assert found["snapshots"][0]["snapshot_name"] == "s"
    assert (found["encrypted"], found["encryption_root"], found["key_loaded"]) == (
        False, None, False,
    )  # fmt: skip


def test_looking_for_what_is_not_there(zfs, pool):
    for look, name in (
        (zfs.get, "nopool"), (zfs.get, "-x"), (zfs.get_dataset, f"{pool}/none"),
        (zfs.get_dataset, f"{pool}@s"), (zfs.get_snapshot, f"{pool}@none"),
        (zfs.get_snapshot, pool), (zfs.get_object, f"{pool}/a b@c"), (zfs.get_dataset, "--"),
        (zfs.get_dataset_by_path, "/proc/none"), (zfs.get_dataset_by_path, "/proc"),
    ):  # fmt: skip
        with pytest.raises(libzfs.ZFSException) as caught:
            look(name)
        assert caught.value.code is E.NOENT, name


def test_the_last_error_is_kept(zfs, dataset):
    with pytest.raises(libzfs.ZFSException) as caught:
        dataset.snapshot(f"{dataset.name}/none@s")
    assert (zfs.errno, zfs.errstr) == (E.NOENT, str(caught.value))


def test_a_full_quota_is_no_space_and_a_small_one_is_refused(dataset, tree):
    Path(tree, "file").write_bytes(os.urandom(4 << 20))
    command("zpool", "sync", dataset.pool.name)
    with pytest.raises(libzfs.ZFSException) as caught:
        dataset.properties["quota"].parsed = 1 << 20
    assert caught.value.code is E.PROPSPACE


LEGAL = " -_.:aZ09 "


def test_every_legal_byte_may_stand_in_every_name(zfs, dataset, tmp_path):
    parent = f"{dataset.name}/{LEGAL}"
    dataset.pool.create(parent, {})
    one = zfs.get_dataset(parent)
    one.mount()
    Path(one.mountpoint, LEGAL).touch()
    one.snapshot(f"{parent}@{LEGAL}")
    (snapshot,) = one.snapshots
    snapshot.hold(LEGAL)
    snapshot.bookmark(LEGAL)
    snapshot.clone(f"{dataset.name}/-{LEGAL}")
    assert command("zfs", "list", "-Hro", "name", "-t", "all", parent).split("\n")[:-1] == [
        parent, f"{parent}@{LEGAL}", f"{parent}#{LEGAL}",
    ]  # fmt: skip
    assert [each.name for each in snapshot.dependents] == [f"{dataset.name}/-{LEGAL}"]
    assert zfs.get_dataset(f"{dataset.name}/-{LEGAL}").properties["origin"].value == snapshot.name
    assert (snapshot.snapshot_name, snapshot.parent) == (LEGAL, one)
    assert next(one.bookmarks).bookmark_name == LEGAL
    assert one.mountpoint == f"{dataset.mountpoint}/{LEGAL}"
    assert zfs.get_dataset_by_path(one.mountpoint) == one
    assert list(snapshot.holds) == [LEGAL]
    (found,) = zfs.datasets_serialized(datasets=[parent], snapshots=True)
    assert [each["name"] for each in found["snapshots"]] == [snapshot.name]
    Path(one.mountpoint, LEGAL).unlink()
    gone = [each.path for each in one.diff(f"@{LEGAL}") if each.cmd.name == "REMOVE"]
    assert gone == [f"{one.mountpoint}/{LEGAL}"]
    with (tmp_path / "stream").open("w+b") as stream:
        snapshot.send(stream.fileno())
        stream.seek(0)
        zfs.receive(f"{dataset.name}/{LEGAL}2", stream.fileno())
    next(one.bookmarks).delete()
    snapshot.release(LEGAL)
    snapshot.rename(f"@{LEGAL}.")
    zfs.get_dataset(f"{dataset.name}/-{LEGAL}").promote()
    one.umount()
    one.delete()
    left = [each.name.removeprefix(dataset.name) for each in dataset.children_recursive]
    assert left == [f"/{LEGAL}2", f"/-{LEGAL}"]
