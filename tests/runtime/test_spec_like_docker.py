"""config.json beside the one that Docker makes of the same options.

What differs on purpose, from Docker 20.10:

| field | Docker | here | why |
|---|---|---|---|
| process.env | no HOME | HOME | it is the runtime that adds it for Docker |
| process.oomScoreAdj | 0 | none | 0 would change what cowshed was started with |
| linux.namespaces | cgroup on v2 only | cgroup | its own cgroup is the only one it sees |
| linux.sysctl | unprivileged ports, ping | none | there is no network to serve |
| linux.maskedPaths | | + interrupts, powercap, thermal_throttle | as later releases of Docker |
| linux.resources | zeros for what was not asked for | nothing | it means the same |
| linux.resources.devices | denies 10:229 | + 1:7, 5:2, 136:* | all is denied; runtimes add them |
| linux.seccomp | io_uring | not; newer calls | as later releases of Docker |
| linux.seccomp, socket | any family | not VSOCK, not ALG | as later releases of Docker |
| linux.seccomp, clone3 | | ENOSYS | as later releases of Docker; Debian's has it |
| linux.cgroupsPath | /docker/ID | the caller's | |
| mounts, read-only binds | ro | + rro | as later releases of Docker |
| hooks | libnetwork | none | |
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.mounts import Bind
from runtime.process import process
from runtime.spec import init_binds, spec
from runtime.users import resolve
from tests.conftest import new_btrfs, require
from tests.interop.conftest import unmount_below
from tests.interop.peers import Docker
from tests.runtime.bundles import USR, tree

COMMAND = ["/bin/sleep", "60"]
LOOP = {"PathOnHost": "/dev/loop-control", "PathInContainer": "/dev/lc", "CgroupPermissions": "r"}
# The options as Docker takes them, and as cowshed has read them.
CASES: dict[str, tuple[list[str], dict[str, Any], dict[str, Any]]] = {
    "nothing": ([], {}, {}),
    "all": (
        "--user=alice --group-add=video -t --init --memory=64m --cpus=1.5 --pids-limit=50"
        " --ulimit=nofile=100:200 --ulimit=core=0:-1 --read-only --tmpfs=/tmp:size=5m,exec"
        " --cap-add=SYS_ADMIN --cap-drop=KILL --security-opt=no-new-privileges"
        " --device=/dev/loop-control:/dev/lc:r --shm-size=1m -e A=b -w /home".split(),
        {"User": "alice", "Tty": True, "Env": ["A=b"], "WorkingDir": "/home"},
        {
            "GroupAdd": ["video"],
            "Init": True,
            "Memory": 64 << 20,
            "NanoCpus": 1_500_000_000,
            "PidsLimit": 50,
            "Ulimits": [
                {"Name": "nofile", "Soft": 100, "Hard": 200},
                {"Name": "core", "Soft": 0, "Hard": -1},
            ],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "size=5m,exec"},
            "CapAdd": ["CAP_SYS_ADMIN"],
            "CapDrop": ["CAP_KILL"],
            "SecurityOpt": ["no-new-privileges"],
            "Devices": [LOOP],
            "ShmSize": 1 << 20,
        },
    ),
    "the host's": (
        "--pid=host --ipc=host --cap-drop=ALL --cap-add=CHOWN --user=5:6"
        " --security-opt=systempaths=unconfined --security-opt=seccomp=unconfined"
        " --mount=type=tmpfs,target=/x,tmpfs-size=4096,tmpfs-mode=1700".split(),
        {"User": "5:6"},
        {
            "PidMode": "host",
            "IpcMode": "host",
            "CapDrop": ["ALL"],
            "CapAdd": ["CAP_CHOWN"],
            "SecurityOpt": ["systempaths=unconfined", "seccomp=unconfined"],
            "Mounts": [
                {
                    "Type": "tmpfs",
                    "Target": "/x",
                    "TmpfsOptions": {"SizeBytes": 4096, "Mode": 0o1700},
                }
            ],
        },
    ),
}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], list[Any]]]:
    """For each case Docker's document, and ours."""
    require("btrfs")
    for program in ("dockerd", "docker", "containerd", "runc"):
        require(program)
    directory = tmp_path_factory.mktemp("docker")
    root = tree(directory / "rootfs")
    archive = directory / "rootfs.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    with new_btrfs(directory) as point:
        with Docker.running(point / "docker") as docker:
            docker("import", archive, "image")
            tasks = point / "docker/exec/containerd/daemon/io.containerd.runtime.v2.task/moby"

            def both(case: str) -> list[Any]:
                options, config, host = CASES[case]
                start = ["run", "-d", "--network=none", "--hostname=cow", "-v", "/usr:/usr:ro"]
                id = docker(*start, *options, "image", *COMMAND)
                theirs = json.loads((tasks / id / "config.json").read_text())
                docker("rm", "-f", id)
                return [theirs, _ours(root, {**config, "Cmd": COMMAND}, host)]

            yield both
        unmount_below(point)


def _ours(root: Path, config: dict[str, Any], host: dict[str, Any]) -> Any:
    descriptor = os.open(root, os.O_PATH)
    identity = resolve(descriptor, config.get("User", ""), host.get("GroupAdd", ()))
    os.close(descriptor)
    terminal = config.get("Tty", False)
    own = process(config, host, identity, hostname="cow", cgroup="/c", terminal=terminal)
    still = host.get("ReadonlyRootfs", False)
    files = [Bind("/x", f"/etc/{name}", still, ()) for name in ("hosts", "hostname", "resolv.conf")]
    return spec(
        hostname="cow",
        tree=str(root),
        host=host,
        binds=[USR, *files, *init_binds(host)],
        process=own,
        cgroup="/c",
    )


def _rules(document: Any) -> dict[str, set[str]]:
    """The calls of each action, with their arguments."""
    found: dict[str, set[str]] = {}
    for rule in (document["linux"].get("seccomp") or {"syscalls": []})["syscalls"]:
        args = [[arg["index"], arg["value"], arg.get("valueTwo", 0), arg["op"]]
                for arg in rule.get("args") or []]  # fmt: skip
        suffix = json.dumps(args) if args else ""
        found.setdefault(rule["action"], set()).update(f"{name}{suffix}" for name in rule["names"])
    return found


# What holds of a mount for which Docker does not say it.
UNSAID = {"rw", "private", "rprivate", "rro"}
NEWER = set(
    """
    cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat
    io_pgetevents_time64 landlock_add_rule landlock_create_ruleset landlock_restrict_self listmount
    listxattrat map_shadow_stack memfd_secret mseal name_to_handle_at pkey_alloc pkey_free
    pkey_mprotect process_mrelease process_vm_readv process_vm_writev removexattrat setxattrat
    statmount uretprobe
    """.split()
)
NEWER_FOR_ADMIN = {"lsm_get_self_attr", "lsm_list_modules", "lsm_set_self_attr", "quotactl_fd"}


@pytest.mark.parametrize("case", CASES)
def test_it_is_dockers_but_for_what_is_meant(
    documents: Callable[[str], list[Any]], case: str
) -> None:
    theirs, ours = documents(case)

    their_rules, our_rules = _rules(theirs), _rules(ours)
    if their_rules:
        added = our_rules["SCMP_ACT_ALLOW"] - their_rules["SCMP_ACT_ALLOW"]
        gone = their_rules["SCMP_ACT_ALLOW"] - our_rules["SCMP_ACT_ALLOW"]
        assert {name for name in added if "socket" not in name} <= NEWER | NEWER_FOR_ADMIN
        assert gone == {"socket", "io_uring_enter", "io_uring_register", "io_uring_setup"}
        for key in ("architectures", "defaultAction"):
            assert ours["linux"]["seccomp"][key] == theirs["linux"]["seccomp"][key]
    else:
        assert our_rules == {}

    # What is meant, taken out of both.
    ours["process"]["env"] = [text for text in ours["process"]["env"] if "HOME=" not in text]
    del theirs["process"]["oomScoreAdj"], theirs["linux"]["sysctl"], theirs["hooks"]
    ours["linux"]["namespaces"].remove({"type": "cgroup"})
    added = {*ours["linux"]["maskedPaths"]} - {*(theirs["linux"].get("maskedPaths") or ())}
    assert all(path.endswith(("/interrupts", "/powercap", "/thermal_throttle")) for path in added)
    ours["linux"]["maskedPaths"] = [p for p in ours["linux"]["maskedPaths"] if p not in added]
    assert _plain(ours) == _plain(theirs)


def _plain(document: Any) -> dict[str, Any]:
    """What matters of a document, in one order, without what is nobody's choice."""
    own, linux = document["process"], document["linux"]
    resources = linux["resources"]
    memory = {name: value for name, value in resources.get("memory", {}).items() if value}
    cpu = {name: value for name, value in resources.get("cpu", {}).items() if value}
    devices = [
        (rule.get("major"), rule.get("minor"), rule["access"])
        for rule in resources["devices"]
        if rule["allow"] and (rule["major"], rule.get("minor")) not in ((1, 7), (5, 2), (136, None))
    ]
    nodes = [
        {name: node[name] for name in ("path", "type", "major", "minor", "uid", "gid")}
        for node in linux.get("devices") or []
        for node in [{"uid": 0, "gid": 0, **node}]
    ]
    return {
        "process": own
        | {
            "terminal": own.get("terminal", False),
            "noNewPrivileges": own.get("noNewPrivileges", False),
            "capabilities": {
                name: sorted(names) for name, names in own["capabilities"].items() if names
            },
            "rlimits": sorted(own.get("rlimits", []), key=str),
        },
        "hostname": document["hostname"],
        "readonly": document["root"].get("readonly", False),
        "mounts": {
            mount["destination"]: (
                mount["type"],
                {option.replace("size=4k", "size=4096") for option in mount["options"]} - UNSAID,
                # Where files of their own and the program of --init are is not the question.
                None if mount["destination"].startswith(("/etc", "/sbin")) else mount["source"],
            )
            for mount in document["mounts"]
        },
        "namespaces": sorted(namespace["type"] for namespace in linux["namespaces"]),
        "masked": sorted(linux.get("maskedPaths") or []),
        "read-only": sorted(linux.get("readonlyPaths") or []),
        "devices": (sorted(devices, key=str), nodes),
        "resources": (memory, cpu, resources.get("pids")),
        "propagation": linux.get("rootfsPropagation"),
    }
