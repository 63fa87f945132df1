"""create: what it prints, and how each option is checked and kept."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.options import options
from tests.cli.conftest import Cowshed

NOTHING: dict[str, Any] = dict.fromkeys(
    "command env env_file user workdir entrypoint label label_file hostname volume mount tmpfs "
    "network expose memory cpus cap_add cap_drop security_opt stop_signal stop_timeout "
    "publish restart device add_host dns shm_size ulimit group_add pid ipc runtime attach".split()
) | {
    "interactive": False,
    "tty": False,
    "remove": False,
    "read_only": False,
    "privileged": False,
    "init": False,
    "pids_limit": 0,
}


def config(**given: Any) -> dict[str, Any]:
    return options(NOTHING | given).get("Config", {})


def host(**given: Any) -> dict[str, Any]:
    return options(NOTHING | given).get("HostConfig", {})


def test_create_prints_an_id_for_each_container(cowshed: Cowshed):
    [id] = cowshed.lines("create", "base:1")
    assert re.fullmatch("[0-9a-f]{64}", id)
    assert len(set(cowshed.lines("create", "-n", "3", "base:1"))) == 3
    assert len(cowshed.lines("ps", "-aq")) == 4


def test_names_are_given_counted_and_checked(cowshed: Cowshed):
    cowshed.ok("create", "-n", "2", "--name", "cow", "base:1")
    assert cowshed.lines("ps", "-a", "--format", "{{.Names}}") == ["cow-2", "cow-1"]
    assert "cow-1" in cowshed.refused("create", "--name", "cow-1", "base:1")
    assert "container name" in cowshed.refused("create", "--name", "no/name", "base:1")
    assert "less than 1" in cowshed.refused("create", "-n", "0", "base:1", status=2)
    assert "whole number" in cowshed.refused("create", "-n", "many", "base:1", status=2)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("nothing", "no image is called nothing"),
        ("Base:1", "lowercase"),
        ("base:1:2", "tag"),
        ("0x", "no image is called 0x"),
    ],
)
def test_a_reference_that_is_no_image_is_refused(cowshed: Cowshed, reference: str, said: str):
    assert said in cowshed.refused("create", reference)
    assert cowshed.lines("ps", "-aq") == []


def test_what_follows_the_image_is_the_command(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1", "ls", "--all", "-n", "--", "--name", "x")
    [container] = cowshed.json("inspect", "cow")
    assert container["Path"] == "ls"
    assert container["Args"] == ["--all", "-n", "--", "--name", "x"]


def test_options_are_kept_in_dockers_words(cowshed: Cowshed):
    cowshed.ok(
        "create", "--name", "cow", "-e", "A=b", "-l", "stage=test", "-u", "1000:1000", "-w", "/srv",
        "-h", "barn", "-it", "--rm", "--entrypoint", "/bin/sh", "-m", "64m", "--cpus", "1.5",
        "--cap-add", "net_admin", "--cap-drop", "ALL", "--read-only", "--network", "none",
        "-v", "/srv:/data:ro", "--tmpfs", "/run:size=1m", "--stop-signal", "TERM",
        "--stop-timeout", "3", "--init", "--pids-limit", "9", "base:1", "-c", "true",
    )  # fmt: skip
    [container] = cowshed.json("inspect", "cow")
    assert container["Config"] == {
        "Hostname": "barn",
        "User": "1000:1000",
        "Tty": True,
        "OpenStdin": True,
        "Env": ["A=b"],
        "Cmd": ["-c", "true"],
        "WorkingDir": "/srv",
        "Labels": {"stage": "test"},
        "StopSignal": "TERM",
        "Entrypoint": ["/bin/sh"],
        "StopTimeout": 3,
    }
    assert container["HostConfig"] == {
        "StorageOpt": {},
        "Binds": ["/srv:/data:ro"],
        "Tmpfs": {"/run": "size=1m"},
        "NetworkMode": "none",
        "AutoRemove": True,
        "Memory": 64 << 20,
        "NanoCpus": 1_500_000_000,
        "PidsLimit": 9,
        "CapAdd": ["CAP_NET_ADMIN"],
        "CapDrop": ["ALL"],
        "ReadonlyRootfs": True,
        "Init": True,
    }


def test_nothing_is_kept_of_what_was_not_given():
    assert options(NOTHING) == {}


def test_environment_comes_from_files_then_from_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=file\n  B = x\nHERE\nABSENT\n".replace("B = x", "B=x y"))
    monkeypatch.setenv("HERE", "yes")
    given = config(env_file=[str(file)], env=["A=option", "C="])
    assert given["Env"] == ["A=option", "B=x y", "HERE=yes", "ABSENT", "C="]


def test_a_variable_that_is_not_set_here_is_taken_from_the_image(cowshed: Cowshed, rootfs: Path):
    cowshed.ok("import", "-c", "ENV NOWHERE=x KEPT=y", str(rootfs), "env")
    cowshed.ok("create", "--name", "cow", "-e", "NOWHERE", "env")
    assert cowshed.json("inspect", "cow")[0]["Config"]["Env"] == ["KEPT=y"]


def test_labels_may_have_no_value(tmp_path: Path):
    file = tmp_path / "labels"
    file.write_text("x=file\ny\n")
    given = config(label_file=[str(file)], label=["x=1=2", "z"])
    assert given["Labels"] == {"x": "1=2", "y": "", "z": ""}


def test_an_entrypoint_may_be_none_or_a_list():
    assert config(entrypoint="")["Entrypoint"] == []
    assert config(entrypoint='["a", "b"]')["Entrypoint"] == ["a", "b"]


def test_volumes_become_binds_and_anonymous_volumes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/usr")
    assert host(volume=["./bin:/x", "/a:/b:ro,rslave", "data:/c/"])["Binds"] == [
        "/usr/bin:/x",
        "/a:/b:ro,rslave",
        "data:/c",
    ]
    assert config(volume=["/cache"])["Volumes"] == {"/cache": {}}


def test_mounts_are_kept_as_docker_does():
    given = host(
        mount=[
            "type=bind,source=/usr,target=/x,readonly,bind-propagation=rslave",
            "src=data,dst=/y,volume-nocopy=true,volume-label=a=b",
            '"type=tmpfs","target=/z",tmpfs-size=1m,tmpfs-mode=1777',
        ]
    )
    assert given["Mounts"] == [
        {
            "Type": "bind",
            "Target": "/x",
            "Source": "/usr",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rslave"},
        },
        {
            "Type": "volume",
            "Target": "/y",
            "Source": "data",
            "VolumeOptions": {"NoCopy": True, "Labels": {"a": "b"}},
        },
        {"Type": "tmpfs", "Target": "/z", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o1777}},
    ]


def test_security_options_take_a_profile_from_a_file(tmp_path: Path):
    profile = tmp_path / "profile.json"
    profile.write_text('{\n "defaultAction": "SCMP_ACT_ALLOW" }')
    given = host(security_opt=[f"seccomp={profile}", "no-new-privileges", "label=disable"])
    assert given["SecurityOpt"] == [
        'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
        "no-new-privileges",
        "label=disable",
    ]


@pytest.mark.parametrize(
    "given",
    [
        {"env": ["=x"]},
        {"env": ["A B=x"]},
        {"env_file": ["/nowhere"]},
        {"label": ["=x"]},
        {"user": "a b"},
        {"user": "a:b:c"},
        {"workdir": "relative"},
        {"hostname": "-x"},
        {"hostname": "x" * 65},
        {"entrypoint": "[1]"},
        {"entrypoint": "[unclosed"},
        {"network": "bridge"},
        {"memory": "lots"},
        {"memory": "5m"},
        {"cpus": "0.001"},
        {"pids_limit": -2},
        {"stop_timeout": -2},
        {"publish": ["0:80"]},
        {"publish": ["8000-8001:80"]},
        {"publish": ["nine:80"]},
        {"restart": "perhaps"},
        {"restart": "always", "remove": True},
        {"device": ["dev/fuse"]},
        {"add_host": ["x:y"]},
        {"dns": ["1.2.3"]},
        {"shm_size": "0"},
        {"ulimit": ["nofile=9:1"]},
        {"ulimit": ["magic=1"]},
        {"pid": "container:x"},
        {"ipc": "x"},
        {"attach": ["x"]},
        {"cpus": "."},
        {"cpus": "1,5"},
        {"cpus": "-1"},
        {"cap_add": ["FLY"]},
        {"cap_drop": ["CAP_"]},
        {"security_opt": ["seccomp=/nowhere"]},
        {"security_opt": ["seccomp=/etc/passwd"]},
        {"security_opt": ["magic"]},
        {"stop_signal": "SIGNOTHING"},
        {"stop_signal": "99"},
        {"expose": ["x"]},
        {"volume": ["/"]},
        {"volume": ["relative"]},
        {"volume": ["a b:/x"]},
        {"volume": ["/a:relative"]},
        {"volume": ["/a:/"]},
        {"volume": ["/a:/b:magic"]},
        {"volume": ["/a:/b:ro,rw"]},
        {"volume": ["/a:/b:ro:rw"]},
        {"volume": [":/b"]},
        {"volume": ["/a:/b", "/c:/b/"]},
        {"mount": ["type=magic,target=/x"]},
        {"mount": ["type=bind,target=/x"]},
        {"mount": ["type=bind,source=/nowhere,target=/x"]},
        {"mount": ["type=bind,source=relative,target=/x"]},
        {"mount": ["type=tmpfs,source=x,target=/x"]},
        {"mount": ["type=tmpfs,target=/x,tmpfs-mode=9"]},
        {"mount": ["type=tmpfs,target=/x,tmpfs-size=big"]},
        {"mount": ["type=volume,source=a/b,target=/x"]},
        {"mount": ["type=volume"]},
        {"mount": ["type=volume,target=/x,readonly=perhaps"]},
        {"mount": ["type=volume,target=/x,bind-propagation=shared"]},
        {"mount": ["type=volume,target=/x,target=/y"]},
        {"mount": ["type=volume,target="]},
        {"mount": ['"unclosed']},
        {"tmpfs": ["relative"]},
        {"tmpfs": ["/x:magic"]},
        {"tmpfs": ["/x:size=big"]},
        {"tmpfs": ["/x"], "volume": ["/a:/x"]},
    ],
    ids=str,
)
def test_a_bad_value_is_refused_when_it_is_given(given: dict[str, Any]):
    with pytest.raises(typer.BadParameter):
        options(NOTHING | given)


def test_a_bad_value_is_wrong_usage_and_makes_nothing(cowshed: Cowshed):
    said = cowshed.refused("create", "-m", "lots", "base:1", status=2)
    assert said.startswith("Invalid value for --memory: invalid size 'lots'")
    assert cowshed.lines("ps", "-aq") == []


def test_the_ids_go_to_a_new_file_too(cowshed: Cowshed, tmp_path: Path):
    file = tmp_path / "ids"
    ids = cowshed.lines("create", "-n", "2", "--cidfile", str(file), "base:1")
    assert file.read_text().split() == ids
    assert "there already" in cowshed.refused("create", "--cidfile", str(file), "base:1")
    other = tmp_path / "other"
    assert "in use" in cowshed.refused(
        "create", "--cidfile", str(other), "--name", _name(cowshed), "base:1"
    )
    assert not other.exists()
    assert len(cowshed.lines("ps", "-aq")) == 2


def _name(cowshed: Cowshed) -> str:
    return cowshed.lines("ps", "-a", "--format", "{{.Names}}")[0]


def test_a_size_without_quotas_says_how_to_get_them(on_btrfs: Cowshed, cowshed: Cowshed):
    for store in (on_btrfs, cowshed):
        assert "quota" in store.refused("create", "--size", "10m", "base:1")
        assert "quota" in store.refused("create", "--storage-opt", "size=10m", "base:1")
        assert store.lines("ps", "-aq") == []
    assert "--size" in cowshed.refused("create", "--size", "0", "base:1", status=2)
    assert "--storage-opt" in cowshed.refused("create", "--storage-opt", "x=1", "base:1", status=2)


def test_what_the_host_gives_is_kept_as_docker_does():
    given = {
        "publish": ["8080:80", "127.0.0.1:53:53/udp", "9"],
        "restart": "on-failure:3",
        "device": ["/dev/fuse", "/dev/a:/dev/b:r"],
        "add_host": ["db:10.0.0.1", "up=host-gateway"],
        "dns": ["::1"],
        "shm_size": "64m",
        "ulimit": ["nofile=1:2"],
        "group_add": ["wheel"],
        "pid": "host",
        "ipc": "private",
    }
    assert host(**given) == {
        "PortBindings": {
            "80/tcp": [{"HostIp": "", "HostPort": "8080"}],
            "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
            "9/tcp": [{"HostIp": "", "HostPort": ""}],
        },
        "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
        "Devices": [
            {
                "PathOnHost": "/dev/fuse",
                "PathInContainer": "/dev/fuse",
                "CgroupPermissions": "rwm",
            },
            {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "r"},
        ],
        "ExtraHosts": ["db:10.0.0.1", "up:host-gateway"],
        "Dns": ["::1"],
        "ShmSize": 64 << 20,
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "GroupAdd": ["wheel"],
        "PidMode": "host",
        "IpcMode": "private",
    }
    assert config(publish=["80"])["ExposedPorts"] == {"80/tcp": {}}
    assert config(attach=["STDIN"]) == {"AttachStdin": True}


def test_no_bound_is_written_as_docker_writes_it():
    assert options(NOTHING | {"memory": "0", "cpus": "0"}) == {}
    assert host(pids_limit=-1) == {"PidsLimit": -1}


def test_an_image_for_another_platform_is_refused(cowshed: Cowshed):
    said = cowshed.refused("create", "--platform", "linux/pdp11", "base:1", status=2)
    assert said.startswith("Invalid value for --platform: the image is for linux/")
    assert cowshed.lines("ps", "-aq") == []


def test_a_switch_may_be_given_a_value(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "--rm=true", "--tty=false", "base:1", "--init=true")
    [container] = cowshed.json("inspect", "cow")
    assert container["HostConfig"]["AutoRemove"] is True
    assert "Tty" not in container["Config"]
    assert container["Path"] == "--init=true"
    assert "neither" in cowshed.refused("create", "--rm=perhaps", "base:1", status=2)
