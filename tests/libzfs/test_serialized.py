"""Whole listings in plain types."""

import json

import pytest

from backends import libzfs
from backends.libzfs import run
from tests.libzfs.conftest import command


def listings(count):
    """Commands for so many listings: without JSON (before 2.3), names are listed a second time."""
    return count if run.version() >= (2, 3) else 2 * count


@pytest.fixture
def family(dataset):
    """A dataset with a child and a grandchild, a snapshot of each."""
    command("zfs", "create", "-p", f"{dataset.name}/a/b")
    command("zfs", "set", "org.x:a=b", f"{dataset.name}/a")
    command("zfs", "snapshot", "-r", f"{dataset.name}@s")
    command("zfs", "hold", "keep", f"{dataset.name}/a@s")
    yield dataset
    command("zfs", "release", "keep", f"{dataset.name}/a@s")


def test_datasets_come_as_a_tree_by_one_command(zfs, family, commands):
    (found,) = zfs.datasets_serialized(datasets=[family.name])
    assert len(commands) == listings(1)
    json.dumps(found, default=str)
    child = found["children"][0]
    grandchild = child["children"][0]
    assert [each["name"] for each in (found, child, grandchild)] == [
        family.name, f"{family.name}/a", f"{family.name}/a/b",
    ]  # fmt: skip
    assert (found["type"], found["pool"], found["encrypted"]) == (
        "FILESYSTEM", family.pool.name, False,
    )  # fmt: skip
    assert grandchild["properties"]["org.x:a"] == {
        "value": "b", "rawvalue": "b", "parsed": "b", "source": "INHERITED",
    }  # fmt: skip
    used = child["properties"]["used"]
    assert (used["parsed"], used["source"], used["source_info"]) == (
        int(used["rawvalue"]), "NONE", None,
    )  # fmt: skip
    assert "snapshots" not in found


def test_only_what_was_asked_for_is_there(zfs, family):
    (found,) = zfs.datasets_serialized(["used"], False, [family.name], retrieve_children=False)
    assert list(found["properties"]) == ["used"]
    assert "children" not in found
    (found,) = zfs.datasets_serialized([], datasets=[f"{family.name}/a"], retrieve_children=False)
    assert list(found["properties"]) == ["org.x:a"]
    assert list(zfs.datasets_serialized(datasets=["nopool/x", f"{family.name}/none"])) == []


def test_datasets_bring_their_snapshots(zfs, family):
    (found,) = zfs.datasets_serialized(["name"], datasets=[family.name], snapshots=True)
    assert [each["name"] for each in found["snapshots"]] == [f"{family.name}@s"]
    assert [each["name"] for each in found["children"][0]["snapshots"]] == [f"{family.name}/a@s"]
    (found,) = zfs.datasets_serialized(
        [], datasets=[family.name], snapshots_recursive=True, snapshot_props=["used"]
    )
    assert len(found["snapshots"]) == 3
    assert set(found["snapshots"][1]["properties"]) == {"name", "used", "org.x:a"}


def test_snapshots_come_as_a_list(zfs, family, commands):
    found = zfs.snapshots_serialized(datasets=[family.name], holds=True, mounted=True)
    assert len(commands) == 1 + listings(1)
    assert [each["dataset"].removeprefix(family.name) for each in found] == ["", "/a", "/a/b"]
    assert [list(each["holds"]) for each in found] == [[], ["keep"], []]
    assert [each["mountpoint"] for each in found] == [None] * 3
    assert found[0]["properties"]["used"]["source"] == "NONE"
    assert found[1]["properties"]["org.x:a"]["value"] == "b"


def test_names_alone_are_cheap_and_bounded_by_transaction_groups(zfs, family):
    found = zfs.snapshots_serialized(["name"], datasets=[family.name], recursive=False)
    assert [set(each) for each in found] == [
        {"pool", "name", "type", "snapshot_name", "dataset", "id", "createtxg"}
    ]
    txg = int(found[0]["createtxg"])
    assert zfs.snapshots_serialized(["name"], datasets=[family.name], min_txg=txg + 1) == []
    assert len(zfs.snapshots_serialized(["name"], datasets=[family.name], max_txg=txg)) == 3
    named = zfs.snapshots_serialized(["name"], datasets=[f"{family.name}@s", f"{family.name}@no"])
    assert [each["name"] for each in named] == [f"{family.name}@s"]


def test_everything_of_all_pools(zfs, family):
    names = {each["name"] for each in zfs.snapshots_serialized(["name"])}
    assert f"{family.name}/a/b@s" in names
    assert family.name in {each.name for each in zfs.datasets}
    assert f"{family.name}@s" in {each.name for each in zfs.snapshots}
    assert family.pool.name in {each["name"] for each in zfs.datasets_serialized([], False)}


def test_a_program_written_for_py_libzfs_runs_unchanged(zfs, family):
    libzfs.install()
    program = """
import libzfs
with libzfs.ZFS() as zfs:
    try:
        zfs.get_dataset("no/such")
    except libzfs.ZFSException as e:
        assert e.code == libzfs.Error.NOENT
    names = [c.name for c in zfs.get_dataset(NAME).children_recursive]
    used = zfs.get_dataset(NAME).properties["used"].parsed
"""
    space: dict[str, object] = {"NAME": family.name}
    exec(program, space)
    assert space["names"] == [f"{family.name}/a", f"{family.name}/a/b"]
    assert isinstance(space["used"], int)
