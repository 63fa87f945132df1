"""What the library's calls do is what the commands do, and they fail as those do."""

import pytest

from backends import libzfs
from backends.libzfs import core
from tests.libzfs.conftest import command


@pytest.fixture(params=["by the library", "by the command"])
def way(request: pytest.FixtureRequest, zfs: libzfs.ZFS, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by the library":
        assert core._libraries() is not None
    else:
        monkeypatch.setattr(core, "_libraries", lambda: None)
    return str(request.param)


@pytest.fixture
def origin(dataset: libzfs.ZFSDataset) -> str:
    name = f"{dataset.name}@a snapshot"
    command("zfs", "snapshot", name)
    return name


def test_it_has_its_origin_and_properties(
    way: str, dataset: libzfs.ZFSDataset, origin: str
) -> None:
    given = {"cow:a": "x" * 8000, "cow:b": "\udcff é"}
    core.clone(origin, f"{dataset.name}/made", given)
    told = command("zfs", "get", "-Hpo", "value", "origin,cow:a,cow:b", f"{dataset.name}/made")
    assert told.splitlines() == [origin, *given.values()]


def test_no_command_is_started(
    dataset: libzfs.ZFSDataset, origin: str, commands: list[list[str]]
) -> None:
    commands.clear()
    for number in range(5):
        core.clone(origin, f"{dataset.name}/{number}", {"cow:a": "b"})
        core.snapshot(f"{dataset.name}@{number}")
        assert libzfs.program(dataset.pool.name, "return 1", readonly=True) == 1
    assert [each for each in commands if each[0] == "zfs"] == []


REFUSED = {
    "no snapshot": ("{d}@none", "{d}/made", {}, "NOENT"),
    "nothing to be in": ("{d}@a snapshot", "{d}/none/made", {}, "NOENT"),
    "another pool": ("{d}@a snapshot", "nopool/made", {}, "NOENT"),
    "there already": ("{d}@a snapshot", "{d}/there", {}, "EXISTS"),
    "no name": ("{d}@a snapshot", "{d}//made", {}, "INVALIDNAME"),
    "no name of a snapshot": ("{d}", "{d}/made", {}, "INVALIDNAME"),
    "no property": ("{d}@a snapshot", "{d}/made", {"compresion": "on"}, "BADPROP"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    way: str, dataset: libzfs.ZFSDataset, origin: str, case: str
) -> None:
    command("zfs", "create", f"{dataset.name}/there")
    snapshot, name, given, code = REFUSED[case]
    with pytest.raises(libzfs.ZFSException) as raised:
        core.clone(snapshot.format(d=dataset.name, o=origin), name.format(d=dataset.name), given)
    assert libzfs.Error(raised.value.code).name == code
    listed = command("zfs", "list", "-Hro", "name", dataset.name)
    assert listed.splitlines() == [dataset.name, f"{dataset.name}/there"]


@pytest.mark.parametrize(("value", "code"), [("b\0c", "INVALARG"), ("x" * 9000, "UNKNOWN")])
def test_a_value_is_whole_or_refused(
    dataset: libzfs.ZFSDataset, origin: str, value: str, code: str
) -> None:
    with pytest.raises(libzfs.ZFSException) as raised:
        core.clone(origin, f"{dataset.name}/made", {"cow:a": value})
    assert libzfs.Error(raised.value.code).name == code
    assert command("zfs", "list", "-Hro", "name", dataset.name) == f"{dataset.name}\n"


def test_a_snapshot_is_taken(way: str, dataset: libzfs.ZFSDataset) -> None:
    core.snapshot(f"{dataset.name}@a b")
    listed = command("zfs", "list", "-Hrt", "snapshot", "-o", "name", dataset.name)
    assert listed == f"{dataset.name}@a b\n"


@pytest.mark.parametrize(
    ("name", "code"),
    [("{d}@there", "EXISTS"), ("{d}/none@a", "NOENT"), ("{d}@a@b", "INVALIDNAME")],
)
def test_a_snapshot_that_cannot_be_is_refused(
    way: str, dataset: libzfs.ZFSDataset, name: str, code: str
) -> None:
    core.snapshot(f"{dataset.name}@there")
    with pytest.raises(libzfs.ZFSException) as raised:
        core.snapshot(name.format(d=dataset.name))
    assert libzfs.Error(raised.value.code).name == code


RETURNED = {
    "nothing": ("", None),
    "a number": ("return -5", -5),
    "a text": ('return "\\t\\"\\\\ \\195\\169"', '\t"\\ é'),
    "a truth": ("return true", True),
    "a list of lists": ('return {{"a", 1}, {}}', {"1": {"1": "a", "2": 1}, "2": {}}),
    "its arguments": ('return (...)["argv"]', {"1": "x y", "2": "", "3": "é"}),
    "a property": ('local a = zfs.get_prop((...)["argv"][4], "type") return a', "filesystem"),
}


@pytest.mark.parametrize("case", RETURNED)
def test_a_program_returns(way: str, dataset: libzfs.ZFSDataset, case: str) -> None:
    script, expected = RETURNED[case]
    arguments = ["x y", "", "é", dataset.name][: 4 if "[4]" in script else 3]
    assert libzfs.program(dataset.pool.name, script, arguments, readonly=True) == expected


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ('error("oops")', "oops"),
        ("return", ""),
        ("retur", "syntax error"),
        ("while true do end", "timed out"),
        ('local a = "x" while true do a = a .. a end', "Memory limit exhausted"),
        ('zfs.sync.snapshot("x@y")', "passing sync"),
    ],
)
def test_a_program_that_fails_says_why(
    way: str, dataset: libzfs.ZFSDataset, script: str, message: str
) -> None:
    if not message:
        assert libzfs.program(dataset.pool.name, script, readonly=True) is None
        return
    with pytest.raises(libzfs.ZFSException, match=message):
        libzfs.program(dataset.pool.name, script, readonly=True, instructions=100_000)
