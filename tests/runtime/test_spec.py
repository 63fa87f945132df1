"""What becomes of each option in config.json; what it does is in test_spec_inside.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtime import spec as specs
from runtime.errors import RunError
from runtime.mounts import Bind
from runtime.spec import init_binds, warnings
from tests.runtime.documents import made


def test_it_is_json_and_names_the_tree_and_the_host() -> None:
    document = json.loads(json.dumps(made()))
    assert document["ociVersion"].startswith("1.")
    assert document["root"] == {"path": "/the/tree", "readonly": False}
    assert document["hostname"] == "cow"
    assert document["linux"]["cgroupsPath"] == "/a/b"
    assert made({"ReadonlyRootfs": True})["root"]["readonly"]


def test_it_has_namespaces_of_its_own_but_what_is_the_hosts() -> None:
    def kinds(host: dict[str, Any]) -> set[str]:
        return {namespace["type"] for namespace in made(host)["linux"]["namespaces"]}

    every = {"mount", "uts", "cgroup", "network", "pid", "ipc"}
    assert kinds({}) == kinds({"NetworkMode": "none", "IpcMode": "private"}) == every
    assert kinds({"NetworkMode": "default"}) == every
    assert kinds({"NetworkMode": "host"}) == every - {"network"}
    assert kinds({"PidMode": "host"}) == every - {"pid"}
    assert kinds({"IpcMode": "host"}) == every - {"ipc"}
    assert kinds({"Privileged": True}) == every


def test_what_tells_of_the_host_is_hidden_unless_it_is_unmasked() -> None:
    linux = made()["linux"]
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= {*linux["maskedPaths"]}
    assert linux["readonlyPaths"] == [
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
    ]  # fmt: skip

    def hidden(*options: str, **host: Any) -> tuple[set[str], set[str]]:
        linux = made({"SecurityOpt": list(options), **host})["linux"]
        return {*linux["maskedPaths"]}, {*linux["readonlyPaths"]}

    assert hidden("systempaths=unconfined") == hidden("unmask=ALL") == (set(), set())
    assert hidden(Privileged=True) == (set(), set())
    assert hidden("unmask=ALL", "mask=/a:/b") == ({"/a", "/b"}, set())
    masked, read_only = hidden("unmask=/proc/kcore:/proc/sys", "mask=/etc/shadow")
    assert "/proc/kcore" not in masked and "/proc/keys" in masked and "/etc/shadow" in masked
    assert "/proc/sys" not in read_only and "/proc/bus" in read_only
    assert hidden("unmask=/proc:/") == hidden()
    masked, read_only = hidden("unmask=/proc/*")
    assert {path for path in masked if path.startswith("/proc")} == read_only == set()
    assert "/sys/firmware" in masked


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("label=type:spc_t", "no labels of SELinux"),
        ("label:user:u", "no labels of SELinux"),
        ("seccomp={}", "defaultAction"),
        ("mask=etc", "start with /"),
        ("unmask=proc", "start with /"),
        ("systempaths=masked", "not understood"),
        ("no-new-privileges=maybe", "not understood"),
        ("unheard-of=1", "not understood"),
    ],
)
def test_what_cannot_be_honoured_of_security_opt_is_refused(option: str, message: str) -> None:
    with pytest.raises(RunError, match=message):
        made({"SecurityOpt": [option]})


def test_a_profile_of_apparmor_is_set_or_refused() -> None:
    asked = {"SecurityOpt": ["apparmor=some-profile"]}
    if Path("/sys/module/apparmor/parameters/enabled").exists():
        assert made(asked)["process"]["apparmorProfile"] == "some-profile"
    else:
        with pytest.raises(RunError, match="AppArmor is off in this kernel"):
            made(asked)


def test_the_last_security_opt_counts() -> None:
    def privileges(*options: str) -> bool:
        own = made({"SecurityOpt": list(options)})["process"]
        return bool(own["noNewPrivileges"])

    assert not privileges()
    assert privileges("no-new-privileges") and privileges("no-new-privileges:true")
    assert not privileges("no-new-privileges", "no-new-privileges=false")
    harmless = ["label=disable", "label:disable", "apparmor=unconfined", "seccomp=unconfined"]
    assert "seccomp" not in made({"SecurityOpt": harmless})["linux"]


def test_the_filter_follows_the_capabilities() -> None:
    def calls(host: dict[str, Any]) -> str:
        return json.dumps(made(host)["linux"].get("seccomp"))

    assert '"mount"' not in calls({})
    assert '"mount"' in calls({"CapAdd": ["CAP_SYS_ADMIN"]})
    assert calls({"Privileged": True}) == "null"
    profile = 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}'
    own = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    for host in ({"SecurityOpt": [profile]}, {"SecurityOpt": [profile], "Privileged": True}):
        assert json.loads(calls(host)) == own


def test_resources_are_those_of_the_cgroup() -> None:
    host = {"Memory": 64 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 50}
    found = made(host)["linux"]["resources"]
    assert found["memory"]["limit"] == 64 << 20
    assert found["memory"].get("swap", 128 << 20) == 128 << 20
    assert found["cpu"] == {"period": 100000, "quota": 150000}
    assert found["pids"] == {"limit": 50}
    assert set(made({"PidsLimit": -1})["linux"]["resources"]) == {"devices"}


@pytest.mark.parametrize(
    ("host", "option"),
    [({"Memory": 64 << 20}, "--memory"), ({"NanoCpus": 10**9}, "--cpus"),
     ({"PidsLimit": 5}, "--pids-limit"), ({"Memory": 6 << 20, "PidsLimit": 5}, "--memory, --pids")],
)  # fmt: skip
def test_limits_that_nothing_would_hold_are_refused(host: dict[str, Any], option: str) -> None:
    with pytest.raises(RunError, match=f"{option}.*: this host has no cgroups mounted"):
        made(host, cgroup=None)
    assert "resources" not in made(cgroup=None)["linux"]


def test_an_init_is_mounted_and_runs_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "_INITS", ("/nowhere", "/usr/bin/env"))
    asked = {"Init": True}
    assert made(asked)["process"]["args"] == ["/sbin/docker-init", "--", "true"]
    assert init_binds(asked) == [
        Bind("/usr/bin/env", "/sbin/docker-init", True, ("bind", "rprivate"))
    ]
    monkeypatch.setattr(specs, "_INITS", ("/nowhere",))
    with pytest.raises(RunError, match="install the package tini"):
        init_binds(asked)
    hosts = {"Init": True, "PidMode": "host"}
    assert made(hosts)["process"]["args"] == ["true"]
    assert init_binds(hosts) == init_binds({}) == []
    assert "--init is discarded" in warnings(hosts)[0]


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ({"RestartPolicy": {"Name": "always"}}, "--restart always: cowshed has no daemon"),
        ({"RestartPolicy": {"Name": "on-failure"}}, "no daemon to restart it"),
        ({"NetworkMode": "bridge"}, "--network bridge is not there: take host or none"),
        ({"NetworkMode": "container:x"}, "--network container:x is not there"),
        ({"IpcMode": "container:x"}, "--ipc container:x is not there"),
        ({"PidMode": "container:x"}, "--pid container:x is not there"),
    ],
)
def test_what_cowshed_cannot_do_is_an_error(host: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message) as raised:
        made(host)
    assert raised.value.status == 125


def test_published_ports_are_warned_of() -> None:
    ports = {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}
    [line] = warnings({"PortBindings": ports, "NetworkMode": "host"})
    assert line == "published ports are discarded when using host network mode"
    assert "none network mode" in warnings({"PortBindings": ports})[0]
    assert warnings({"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}) == []
