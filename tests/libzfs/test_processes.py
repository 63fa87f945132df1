"""How many commands are started: as many for a large family of datasets as for a small one."""

import pytest

from backends import libzfs
from backends.libzfs import run, snapshots
from tests.libzfs.conftest import command

COUNTS = (2, 6)


@pytest.fixture(scope="module")
def families(zfs, pool):
    """Two datasets with few and with many children, each child with a held snapshot of its own."""
    names = [f"{pool}/family of {count}" for count in COUNTS]
    script = """
        for _, name in ipairs((...)["argv"]) do
            assert(zfs.sync.snapshot(name .. "@s") == 0)
        end
    """
    children = [
        f"{name}/child {number}"
        for name, count in zip(names, COUNTS, strict=True)
        for number in range(count)
    ]
    for name in (*names, *children):
        command("zfs", "create", "-o", "canmount=noauto", name)
    libzfs.program(pool, script, [*names, *children])
    command("zfs", "hold", "keep", *(f"{child}@s" for child in children))
    yield [zfs.get_dataset(name) for name in names]
    command("zfs", "release", "keep", *(f"{child}@s" for child in children))
    for name in names:
        command("zfs", "destroy", "-r", name)


def values(listed):
    return [
        (each.name, each.type, each.pool.name, each.properties["creation"].parsed)
        for each in listed
    ]


def states(listed):
    return [(each.mountpoint, each.encryption_root, each.key_loaded) for each in listed]


LISTINGS = {
    "children and their properties": lambda zfs, family: [
        values(family.children), states(family.children)
    ],
    "snapshots and their properties": lambda zfs, family: values(family.snapshots_recursive),
    "holds of snapshots": lambda zfs, family: snapshots.holds(
        each.name for each in family.snapshots_recursive
    ),
    "everything in plain types": lambda zfs, family: family.asdict(snapshots_recursive=True),
    "dependents": lambda zfs, family: list(family.dependents),
    "trees of what is named": lambda zfs, family: list(
        zfs.datasets_serialized(
            datasets=[*(x.name for x in family.children), f"{family.name}/none"],
            snapshots_recursive=True,
        )
    ),
    "snapshots in plain types": lambda zfs, family: zfs.snapshots_serialized(
        datasets=[family.name, f"{family.name}@none"], holds=True, mounted=True
    ),
    "all datasets of all pools": lambda zfs, family: values(zfs.datasets),
    "all snapshots of all pools": lambda zfs, family: values(zfs.snapshots),
    "space of users": lambda zfs, family: family.userspace(list(libzfs.UserquotaProp)),
}  # fmt: skip


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_listing_starts_as_many_commands_for_many_as_for_few(zfs, families, commands, listing):
    counts = []
    for family in families:
        commands.clear()
        assert LISTINGS[listing](zfs, family)
        counts.append(len(commands))
    assert counts[0] == counts[1] <= 6, commands


def test_the_tree_in_plain_types_is_whole(families):
    found = families[1].asdict(snapshots_recursive=True)
    assert len(found["children"]) == COUNTS[1]
    assert found["children"][0]["children"] == []
    assert [len(each["holds"]) for each in found["snapshots_recursive"]] == [0] + [1] * COUNTS[1]


def test_steps_on_many_snapshots_are_one_command(zfs, families, commands):
    family = families[1]
    names = [f"{each.name}@t" for each in family.children]
    commands.clear()
    libzfs.snapshots_taken_together(names)
    family.delete_snapshots({"all": False, "snapshots": ["t"], "recursive": True})
    libzfs.destroy_snapshots(family.name, [str(number) for number in range(300)])
    assert [each.split("'")[3] for each in commands] == ["snapshot", "destroy", "destroy"]
    assert f"{family.name}/child 0@t" not in {each.name for each in family.snapshots_recursive}


def test_names_that_one_command_cannot_take_are_given_to_several():
    assert list(run.parts([], 10)) == []
    assert list(run.parts(["aaa", "bbb", "é", "d" * 20, "e"], 8)) == [
        ["aaa", "bbb"], ["é"], ["d" * 20], ["e"],
    ]  # fmt: skip
