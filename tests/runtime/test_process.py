"""What a process in a container is started with."""

from typing import Any

import pytest

from runtime import capabilities
from runtime.errors import RunError
from runtime.process import command_of
from runtime.users import Identity
from tests.runtime.documents import ALICE, made

DEFAULT = """
    CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW
    SYS_CHROOT MKNOD AUDIT_WRITE SETFCAP
""".split()


def bounding(*given: str, drop: tuple[str, ...] = (), **more: Any) -> list[str]:
    document = made({"CapAdd": list(given), "CapDrop": list(drop)}, **more)
    return [name.removeprefix("CAP_") for name in document["process"]["capabilities"]["bounding"]]


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({"Cmd": ["a", "b"]}, ["a", "b"]),
        ({"Entrypoint": ["e"], "Cmd": ["a"]}, ["e", "a"]),
        ({"Entrypoint": ["e"], "Cmd": None}, ["e"]),
    ],
)
def test_the_command_is_entrypoint_and_cmd(config: Any, command: list[str]) -> None:
    assert command_of(config) == command
    assert made({}, {"Cmd": None, **config})["process"]["args"] == command


@pytest.mark.parametrize("config", [{}, {"Entrypoint": None, "Cmd": []}])
def test_an_image_without_a_command_needs_one(config: Any) -> None:
    with pytest.raises(RunError, match="the image has no command: give one"):
        command_of(config)


def test_an_exec_has_a_command_an_environment_and_a_directory_of_its_own() -> None:
    config = {"Cmd": None, "Env": ["A=1", "B=2"], "WorkingDir": "/w"}
    own = made({}, config, command=["x"], env=["B=3", "A", "C="], workdir="/v/../u")["process"]
    assert own["args"] == ["x"]
    assert own["cwd"] == "/u"
    assert own["env"][3:] == ["B=3", "C="]


def test_the_environment_has_dockers_defaults_under_the_images() -> None:
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert made()["process"]["env"] == [path, "HOSTNAME=cow", "HOME=/root"]
    env = made({}, {"Env": ["PATH=/x", "HOME=/y", "TERM=dumb", "A=b=c"]}, terminal=True)
    assert env["process"]["env"] == ["PATH=/x", "HOSTNAME=cow", "TERM=dumb", "HOME=/y", "A=b=c"]
    nobody = made(identity=Identity(5, 5, (5,), "", ""))
    assert "HOME=/" in nobody["process"]["env"]
    assert "TERM=xterm" in made(terminal=True)["process"]["env"]


def test_the_size_is_the_terminals() -> None:
    own = made(terminal=True, size=(80, 25))["process"]
    assert own["terminal"] and own["consoleSize"] == {"width": 80, "height": 25}
    assert "consoleSize" not in made(size=(80, 25))["process"]


def test_a_working_directory_has_to_be_absolute() -> None:
    assert made()["process"]["cwd"] == "/"
    assert made({}, {"WorkingDir": "//a/./b/"})["process"]["cwd"] == "/a/b"
    with pytest.raises(RunError, match="'app' is not absolute: give --workdir"):
        made({}, {"WorkingDir": "app"})


def test_root_has_dockers_fourteen_capabilities_and_nobody_inherits_any() -> None:
    found = made()["process"]["capabilities"]
    assert set(found) == {"bounding", "effective", "permitted"}
    assert found["bounding"] == found["effective"] == found["permitted"]
    assert sorted(found["bounding"]) == sorted(f"CAP_{name}" for name in DEFAULT)


def test_who_is_not_root_has_the_bounding_set_alone() -> None:
    found = made(identity=ALICE)["process"]["capabilities"]
    assert len(found["bounding"]) == 14
    assert found["effective"] == found["permitted"] == []


def test_capabilities_are_added_and_dropped_as_docker_does() -> None:
    assert set(bounding("CAP_SYS_PTRACE")) == {*DEFAULT, "SYS_PTRACE"}
    assert set(bounding(drop=("CAP_KILL", "CAP_MKNOD"))) == {*DEFAULT} - {"KILL", "MKNOD"}
    assert bounding("CAP_KILL", drop=("ALL",)) == ["KILL"]
    assert bounding(drop=("ALL",)) == []
    assert "KILL" in bounding("CAP_KILL", drop=("CAP_KILL",))
    every = {name.removeprefix("CAP_") for name in capabilities.available()}
    assert set(bounding("ALL", drop=("CAP_KILL",))) == every - {"KILL"}
    assert set(made({"Privileged": True, "CapDrop": ["ALL"]})["process"]["capabilities"]
               ["bounding"]) == capabilities.available()  # fmt: skip


def test_a_capability_that_cowshed_lacks_is_refused_or_left_out_of_the_default() -> None:
    given = capabilities.DEFAULT - {"CAP_MKNOD"}
    chosen = capabilities.chosen([], [], given=given, default=capabilities.DEFAULT)
    assert "CAP_MKNOD" not in chosen and len(chosen) == 13
    with pytest.raises(RunError, match="cannot give CAP_MKNOD, which cowshed itself"):
        capabilities.chosen(["CAP_MKNOD"], [], given=given, default=capabilities.DEFAULT)


def test_where_no_cgroup_guards_the_devices_none_can_be_made() -> None:
    assert "MKNOD" not in bounding(cgroup=None)
    assert "MKNOD" in bounding("CAP_MKNOD", cgroup=None)


def test_limits_of_the_process_are_numbers_and_the_last_of_a_name_counts() -> None:
    limits = [{"Name": "nofile", "Soft": 1, "Hard": 1}, {"Name": "core", "Soft": 0, "Hard": -1},
              {"Name": "nofile", "Soft": 1024, "Hard": 4096}]  # fmt: skip
    assert made({"Ulimits": limits})["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 4096},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1},
    ]
    assert "rlimits" not in made()["process"]
