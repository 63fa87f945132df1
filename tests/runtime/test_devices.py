"""Which devices a container has and may use."""

import os
import stat
from pathlib import Path

import pytest

from runtime.errors import RunError
from tests.conftest import require
from tests.runtime.documents import made, mounted


def test_only_the_standard_devices_may_be_used() -> None:
    linux = made()["linux"]
    assert linux["devices"] == []
    assert linux["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    for rule in linux["resources"]["devices"][1:]:
        assert rule["type"] == "c" and rule["major"] in (1, 5, 136)


def test_a_device_of_the_host_is_as_it_is_there(tmp_path: Path) -> None:
    require("root")
    node = tmp_path / "node"
    os.mknod(node, stat.S_IFBLK | 0o640, os.makedev(7, 99))
    os.chown(node, 3, 4)
    link = tmp_path / "link"
    link.symlink_to("node")
    asked = {"PathOnHost": str(link), "PathInContainer": "/dev/x", "CgroupPermissions": "r"}
    linux = made({"Devices": [asked]})["linux"]
    assert linux["devices"] == [
        {"path": "/dev/x", "type": "b", "major": 7, "minor": 99, "fileMode": 0o640, "uid": 3,
         "gid": 4}
    ]  # fmt: skip
    rule = {"allow": True, "type": "b", "major": 7, "minor": 99, "access": "r"}
    assert linux["resources"]["devices"][-1] == rule


def test_a_directory_of_devices_is_taken_whole(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "of/more").mkdir(parents=True)
    for number, name in enumerate(("of/b", "of/a", "of/more/c")):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o600, os.makedev(1, number))
    (tmp_path / "of/file").touch()
    (tmp_path / "of/link").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "of/fifo")
    asked = {"PathOnHost": str(tmp_path / "of"), "PathInContainer": "/dev/d"}
    linux = made({"Devices": [asked]})["linux"]
    found = {node["path"]: node["minor"] for node in linux["devices"]}
    assert found == {"/dev/d/a": 1, "/dev/d/b": 0, "/dev/d/more/c": 2}
    assert [rule["access"] for rule in linux["resources"]["devices"][-3:]] == ["rwm"] * 3


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "No such file"), ("file", "is no device"), ("empty", "is no device"),
     ("loop", "Too many levels|No such file")],
)  # fmt: skip
def test_what_is_no_device_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(RunError, match=f"--device {tmp_path}/{name}: .*({message})"):
        made({"Devices": [{"PathOnHost": f"{tmp_path}/{name}"}]})


def test_a_privileged_container_has_all_devices_but_those_of_its_own() -> None:
    linux = made({"Privileged": True})["linux"]
    paths = [node["path"] for node in linux["devices"]]
    assert "/dev/null" in paths and len(set(paths)) == len(paths)
    own = ("/dev/pts", "/dev/ptmx", "/dev/console", "/dev/shm")
    assert not [path for path in paths if path.startswith(own)]
    assert linux["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    found = mounted(made({"Privileged": True}))
    assert "rw" in found["/sys"]["options"] and "rw" in found["/sys/fs/cgroup"]["options"]
    moved = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nul"}
    assert "/dev/nul" in str(made({"Privileged": True, "Devices": [moved]})["linux"]["devices"])
