"""Containers as they are from the inside, with each runtime: what they see, have and may do."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime import capabilities
from runtime.mounts import Bind
from tests.conftest import require
from tests.runtime.bundles import CGROUPS, PYTHON, RUNTIMES, Runner, runner

REFUSED = """
    add_key alg bpf fsopen init_module io_uring_setup kexec_load keyctl mount open_tree personality
    sethostname setns unshare vsock
""".split()
FILES = (
    "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/interrupts", "/proc/sysrq-trigger",
)  # fmt: skip


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runner]:
    with runner(request.param, tmp_path_factory.mktemp(request.param)) as runtime:
        yield runtime


@pytest.fixture(scope="module")
def plain(runtime: Runner) -> Any:
    """What a container finds that has no option at all."""
    return runtime.probed({}, *FILES)


def _sets(seen: Any, *names: str) -> list[set[str]]:
    masks = [int(seen["status"][name], 16) for name in names]
    return [
        {name for bit, name in enumerate(capabilities.CAPABILITIES) if mask >> bit & 1}
        for mask in masks
    ]


def test_it_is_process_one_and_sees_no_other(plain: Any) -> None:
    assert (plain["pid"], plain["processes"]) == (1, [1])


def test_it_is_root_at_home_with_a_name_and_a_mask(plain: Any) -> None:
    assert (plain["ids"], plain["groups"]) == ([0, 0], [0])
    assert plain["hostname"] == plain["environment"]["HOSTNAME"] == "cow"
    assert plain["environment"]["HOME"] == "/root"
    assert (plain["directory"], plain["umask"]) == ("/", 0o022)
    assert plain["terminal"] is None


def test_it_has_the_default_capabilities_and_inherits_none(plain: Any) -> None:
    default = capabilities.DEFAULT
    assert _sets(plain, "CapBnd", "CapEff", "CapPrm") == [default, default, default]
    assert _sets(plain, "CapInh", "CapAmb") == [set(), set()]


def test_its_calls_are_filtered(plain: Any) -> None:
    assert (plain["status"]["Seccomp"], plain["status"]["NoNewPrivs"]) == ("2", "0")
    calls = plain["calls"]
    assert {name: calls[name] for name in REFUSED} == dict.fromkeys(REFUSED, "EPERM")
    assert calls["unshare user"] == "EPERM"
    assert calls["clone3"] == "ENOSYS"
    assert calls["chroot"] == calls["inet"] == "done"


def test_it_can_make_the_node_of_a_device_of_the_hosts_and_not_open_it(plain: Any) -> None:
    assert plain["calls"]["kmsg"] == "open: EPERM"


def test_it_reads_nothing_of_the_hosts_secrets(plain: Any) -> None:
    hidden = {path: plain["files"][path] for path in FILES[:4]}
    assert set(hidden.values()) <= {"", "ENOENT"}


def test_it_writes_its_own_files_and_not_the_kernels(plain: Any) -> None:
    calls = plain["calls"]
    assert calls["write /"] == calls["write /tmp"] == "done"
    assert calls["write /proc/sys"] == calls["write /sys"] == "EROFS"
    assert "ro" in plain["mounts"]["/proc/sys"]["options"]


def test_it_has_the_standard_devices_and_a_loopback_interface(plain: Any) -> None:
    found = {*plain["devices"]} - {"core"}
    assert found == set(
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero".split()
    )
    assert plain["interfaces"] == ["lo"]


def test_its_filesystems_are_dockers(plain: Any) -> None:
    mounts = plain["mounts"]
    kinds = {path: mounts[path]["type"] for path in ("/proc", "/sys", "/dev", "/dev/pts")}
    assert kinds == {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts"}
    assert {"nosuid", "nodev", "noexec"} <= {*mounts["/proc"]["options"]}
    assert {"nosuid", "mode=755", "size=65536k"} <= {*mounts["/dev"]["options"]}
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= {*mounts["/dev/pts"]["options"]}
    assert {"nosuid", "nodev", "noexec", "size=65536k"} <= {*mounts["/dev/shm"]["options"]}
    groups = [mount for path, mount in mounts.items() if path.startswith("/sys/fs/cgroup/")]
    assert all("ro" in mount["options"] for mount in groups)
    assert mounts["/dev/mqueue"]["type"] == "mqueue"


def test_nothing_that_it_mounts_reaches_the_host(plain: Any) -> None:
    assert not [path for path, mount in plain["mounts"].items() if "shared" in str(mount["tags"])]


def test_a_user_has_the_groups_of_the_tree_and_no_capability(runtime: Runner) -> None:
    seen = runtime.probed({"GroupAdd": ["video", "4711"]}, config={"User": "alice"})
    assert (seen["ids"], seen["groups"]) == ([1000, 1000], [29, 44, 1000, 4711])
    assert seen["environment"]["HOME"] == "/home/alice"
    assert _sets(seen, "CapEff", "CapPrm", "CapInh", "CapAmb") == [set()] * 4
    assert _sets(seen, "CapBnd") == [capabilities.DEFAULT]
    assert seen["calls"]["write /"] == "EACCES"


def test_the_environment_the_directory_and_the_command_are_the_configs(runtime: Runner) -> None:
    code = "import os, sys; print(os.environ['A'], os.environ['PATH'], os.getcwd(), sys.argv[1])"
    config = {"Entrypoint": [PYTHON, "-c", code], "Cmd": ["é"], "WorkingDir": "/home/new",
              "Env": ["A=ü\n", "PATH=/nowhere"]}  # fmt: skip
    ran = runtime.run({}, config)
    assert ran.output.split() == ["ü", "/nowhere", "/home/new", "é"], ran.errors


def test_capabilities_come_and_go(runtime: Runner) -> None:
    seen = runtime.probed({"CapAdd": ["CAP_SYS_ADMIN"], "CapDrop": ["CAP_MKNOD", "CAP_KILL"]})
    wanted = capabilities.DEFAULT - {"CAP_MKNOD", "CAP_KILL"} | {"CAP_SYS_ADMIN"}
    assert _sets(seen, "CapBnd", "CapEff") == [wanted, wanted]
    calls = seen["calls"]
    assert [calls[name] for name in ("mount", "unshare", "sethostname")] == ["done"] * 3
    assert calls["kmsg"] == "mknod: EPERM"
    assert calls["keyctl"] == "EPERM"
    assert _sets(runtime.probed({"CapDrop": ["ALL"]}), "CapBnd", "CapEff") == [set(), set()]


def test_without_a_filter_the_capabilities_alone_decide(runtime: Runner) -> None:
    seen = runtime.probed({"SecurityOpt": ["seccomp=unconfined", "no-new-privileges"]})
    assert (seen["status"]["Seccomp"], seen["status"]["NoNewPrivs"]) == ("0", "1")
    calls = seen["calls"]
    assert calls["personality"] == calls["unshare user"] == "done"
    assert "EPERM" not in (calls["keyctl"], calls["add_key"]) and calls["clone3"] != "ENOSYS"
    assert calls["mount"] == "EPERM"


def test_a_filter_of_ones_own_is_obeyed(runtime: Runner) -> None:
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 75}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    seen = runtime.probed({"SecurityOpt": [f"seccomp={json.dumps(profile)}"]})
    assert seen["calls"]["write /tmp"] == "EOVERFLOW"
    assert seen["calls"]["personality"] == "done"


def test_a_privileged_container_may_all_that_cowshed_may(runtime: Runner) -> None:
    seen = runtime.probed({"Privileged": True}, *FILES)
    every = set(capabilities.available())
    assert _sets(seen, "CapBnd", "CapEff") == [every, every]
    assert seen["status"]["Seccomp"] == "0"
    assert seen["calls"]["mount"] == "done" and seen["calls"]["kmsg"] == "open: done"
    assert seen["calls"]["write /proc/sys"] == "done"
    assert seen["files"]["/proc/interrupts"] != ""
    assert "rw" in seen["mounts"]["/sys"]["options"]
    assert {"null", "loop-control"} <= {*seen["devices"]}


def test_what_is_unmasked_is_seen(runtime: Runner) -> None:
    options = ["unmask=/proc/interrupts:/proc/sys", "mask=/etc/passwd:/home"]
    seen = runtime.probed({"SecurityOpt": options}, *FILES, "/etc/passwd")
    assert seen["files"]["/proc/interrupts"] and not seen["files"]["/proc/timer_list"]
    assert seen["files"]["/etc/passwd"] == "" and "/home" in seen["mounts"]
    assert seen["calls"]["write /proc/sys"] == "done"


def test_a_read_only_root_is_written_only_where_something_is_mounted(
    runtime: Runner, tmp_path: Path
) -> None:
    seen = runtime.probed({"ReadonlyRootfs": True, "Tmpfs": {"/tmp": "size=2m,mode=1777"}})
    assert seen["calls"]["write /"] == "EROFS" and seen["calls"]["write /tmp"] == "done"
    assert {"size=2048k", "noexec", "nodev"} <= {*seen["mounts"]["/tmp"]["options"]}


def test_binds_are_there_a_parent_first(runtime: Runner, tmp_path: Path) -> None:
    for name in ("outer/in", "inner"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "inner/file").write_text("inner")
    (tmp_path / "outer/file").write_text("outer")
    binds = (
        Bind(str(tmp_path / "inner"), "/tmp/b/in", True, ()),
        Bind(str(tmp_path / "outer"), "/tmp/b", False, ("nosuid",)),
    )
    seen = runtime.probed({}, "/tmp/b/file", "/tmp/b/in/file", binds=binds)
    assert seen["files"] == {"/tmp/b/file": "outer", "/tmp/b/in/file": "inner"}
    assert "ro" in seen["mounts"]["/tmp/b/in"]["options"]
    assert {"rw", "nosuid"} <= {*seen["mounts"]["/tmp/b"]["options"]}


def test_a_read_only_bind_is_so_with_all_that_is_mounted_below_it(
    runtime: Runner, tmp_path: Path
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", below], check=True)
    try:
        binds = (Bind(str(tmp_path), "/tmp/b", True, ()),)
        seen = runtime.probed({}, binds=binds)
        alone = (Bind(str(tmp_path), "/tmp/b", True, ("bind", "rprivate")),)
        seen_alone = runtime.probed({}, binds=alone)
    finally:
        subprocess.run(["umount", below], check=True)
    assert {"ro"} <= {*seen["mounts"]["/tmp/b/below"]["options"]} - {"rw"}
    assert "/tmp/b/below" not in seen_alone["mounts"]


def test_what_is_the_hosts_is_the_hosts(runtime: Runner) -> None:
    modes = {"NetworkMode": "host", "PidMode": "host", "IpcMode": "host"}
    seen = runtime.probed(modes)
    assert os.getpid() in seen["processes"]
    assert seen["interfaces"] == sorted(os.listdir("/sys/class/net"))
    assert seen["mounts"]["/dev/shm"]["type"] == "tmpfs"
    assert seen["calls"]["write /sys"] == "EROFS"


def test_shared_memory_has_its_size_or_is_not_there(runtime: Runner) -> None:
    sized = runtime.probed({"ShmSize": 1 << 20})["mounts"]["/dev/shm"]
    assert "size=1024k" in sized["options"]
    assert "/dev/shm" not in runtime.probed({"IpcMode": "none"})["mounts"]


def test_a_device_can_be_used_as_far_as_it_is_given(runtime: Runner) -> None:
    asked = {"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/lc"}
    code = """if True:
        import os
        for flags in (os.O_RDONLY, os.O_WRONLY):
            try:
                os.open("/dev/lc", flags)
                print("done")
            except OSError as error:
                print(error.errno)
    """
    for access, output in (("r", "done\n1\n"), ("rw", "done\ndone\n")):
        host = {"Devices": [asked | {"CgroupPermissions": access}]}
        ran = runtime.run(host, {}, PYTHON, "-c", code)
        assert ran.output == output, ran.errors


def test_the_limits_hold(runtime: Runner) -> None:
    if not (CGROUPS / "memory").is_dir() and not (CGROUPS / "cgroup.controllers").exists():
        pytest.skip("no cgroups are mounted here")
    files = [f"/sys/fs/cgroup/{name}" for name in (
        "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes",
        "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "pids/pids.max",
        "memory.max", "cpu.max", "pids.max",
    )]  # fmt: skip
    host = {
        "Memory": 256 << 20, "NanoCpus": 1_500_000_000, "PidsLimit": 50,
        "Ulimits": [{"Name": "nofile", "Soft": 100, "Hard": 200}],
    }  # fmt: skip
    seen = runtime.probed(host, *files)
    values = [text.strip() for text in seen["files"].values() if text != "ENOENT"]
    of_v1 = ["268435456", "536870912", "150000", "100000", "50"]
    assert values in (of_v1, of_v1[:1] + of_v1[2:], ["268435456", "150000 100000", "50"])
    assert seen["nofile"] == [100, 200]


def test_who_takes_more_memory_than_is_given_is_killed(runtime: Runner) -> None:
    ran = runtime.run({"Memory": 32 << 20}, {}, PYTHON, "-c", "x = b'x' * (200 << 20)")
    assert ran.status == 137


def test_a_terminal_has_the_size_asked_for(runtime: Runner) -> None:
    seen = runtime.probed({}, terminal=True, size=(97, 31))
    # In the foreground runc takes that of the terminal that it was started on.
    assert seen["terminal"] == ([97, 31] if runtime.name == "crun" else [0, 0])
    assert seen["environment"]["TERM"] == "xterm"
    assert "console" in seen["devices"]


def test_an_init_is_process_one(runtime: Runner) -> None:
    require("tini-static")
    seen = runtime.probed({"Init": True})
    assert seen["arguments"][:3] == ["/sbin/docker-init", "--", PYTHON]
    assert seen["pid"] != 1


def test_without_a_cgroup_it_runs_and_makes_no_device(tmp_path: Path) -> None:
    # runc always makes one.
    with runner("crun", tmp_path) as crun:
        seen = crun.probed({}, cgroup=False)
    assert seen["calls"]["kmsg"] == "mknod: EPERM"
    assert not [path for path in seen["mounts"] if path.startswith("/sys/fs/cgroup")]
