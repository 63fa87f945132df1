"""A clone made by the library's call is what the command makes, and fails as that does."""

from collections.abc import Callable

import pytest

from backends import libzfs
from backends.libzfs import core
from tests.libzfs.conftest import command


@pytest.fixture(params=["by the library", "by the command"])
def clone(
    request: pytest.FixtureRequest, zfs: libzfs.ZFS, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    if request.param == "by the library":
        assert core._libraries() is not None
    else:
        monkeypatch.setattr(core, "_libraries", lambda: None)
    return core.clone


@pytest.fixture
def origin(dataset: libzfs.ZFSDataset) -> str:
    name = f"{dataset.name}@a snapshot"
    command("zfs", "snapshot", name)
    return name


def test_it_has_its_origin_and_properties(
    clone: Callable[..., None], dataset: libzfs.ZFSDataset, origin: str
) -> None:
    given = {"cow:a": "x" * 8000, "cow:b": "\udcff é"}
    clone(origin, f"{dataset.name}/made", given)
    told = command("zfs", "get", "-Hpo", "value", "origin,cow:a,cow:b", f"{dataset.name}/made")
    assert told.splitlines() == [origin, *given.values()]


def test_no_command_is_started(
    dataset: libzfs.ZFSDataset, origin: str, commands: list[list[str]]
) -> None:
    commands.clear()
    for number in range(5):
        core.clone(origin, f"{dataset.name}/{number}", {"cow:a": "b"})
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
    clone: Callable[..., None], dataset: libzfs.ZFSDataset, origin: str, case: str
) -> None:
    command("zfs", "create", f"{dataset.name}/there")
    snapshot, name, given, code = REFUSED[case]
    with pytest.raises(libzfs.ZFSException) as raised:
        clone(snapshot.format(d=dataset.name, o=origin), name.format(d=dataset.name), given)
    assert libzfs.Error(raised.value.code).name == code
    listed = command("zfs", "list", "-Hro", "name", dataset.name)
    assert listed.splitlines() == [dataset.name, f"{dataset.name}/there"]


@pytest.mark.parametrize("value", ["b\0c", "x" * 9000])
def test_a_value_is_whole_or_refused(dataset: libzfs.ZFSDataset, origin: str, value: str) -> None:
    with pytest.raises(libzfs.ZFSException) as raised:
        core.clone(origin, f"{dataset.name}/made", {"cow:a": value})
    assert raised.value.code == libzfs.Error.BADPROP
    assert command("zfs", "list", "-Hro", "name", dataset.name) == f"{dataset.name}\n"
