"""What a container does not see, cannot do and did not get, asked from the inside.

Most of it is asked of the container's own process and of one that `exec` adds, with each runtime.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import SharedBtrfs
from tests.running.conftest import RUNTIMES, Box, shared_by_module

DEFAULT_CAPABILITIES = "00000000a80425fb"
"""Docker's fourteen, as a mask (capabilities(7))."""
NO_CAPABILITY = "0" * 16

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
IPC_CREAT, IPC_RMID = 0o1000, 0

Inside = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", params=RUNTIMES)
def box(
    request: pytest.FixtureRequest,
    shared_btrfs: SharedBtrfs,
    tmp_path_factory: pytest.TempPathFactory,
    busybox: Path,
) -> Iterator[Box]:
    """One store for all these tests, for nothing here changes it."""
    directory = tmp_path_factory.mktemp("isolation")
    with shared_by_module(request, shared_btrfs, directory, busybox) as made:
        yield made


@pytest.fixture(scope="module")
def web(box: Box) -> str:
    """A container that runs as long as these tests."""
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    return "web"


@pytest.fixture(params=["run", "exec"])
def inside(request: pytest.FixtureRequest, box: Box) -> Inside:
    """Runs a command in a container of its own, or in one that runs already."""
    if request.param == "run":
        return lambda *words, **more: box("run", "--rm", "box", *words, **more)
    name = request.getfixturevalue("web")
    return lambda *words, **more: box("exec", name, *words, **more)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed that ended well."""
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def mask(box: Box, name: str, *options: str) -> str:
    """A field of the process's status."""
    return box.run(*options, "box", "sed", "-n", f"s/^{name}:.//p", "/proc/self/status").strip()


def test_it_is_process_one_and_sees_no_other(box: Box):
    assert box.run("box", "sh", "-c", "echo $$ /proc/[0-9]*") == "1 /proc/1\n"


def test_what_exec_adds_sees_the_first_process_and_itself(box: Box, web: str):
    seen = said(box("exec", web, "sh", "-c", "echo $$ /proc/[0-9]*")).split()
    assert seen[1:] == ["/proc/1", f"/proc/{seen[0]}"]


@pytest.mark.parametrize(
    "path", "kcore keys timer_list interrupts sched_debug latency_stats timer_stats scsi".split()
)
def test_what_tells_of_the_host_is_empty_or_not_there(inside: Inside, path: str):
    done = inside("sh", "-c", f"cat /proc/{path} || ls -A /proc/{path}")
    assert done.stdout == ""


@pytest.mark.parametrize("path", ["/sys/firmware", "/proc/acpi"])
def test_the_firmware_is_hidden(inside: Inside, path: str):
    assert inside("ls", "-A", path).stdout == ""


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/domainname",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/mm/ksm/run",
        "/sys/fs/cgroup/memory/tasks",
        "/sys/fs/cgroup/cgroup.procs",
    ],
)
def test_the_kernels_settings_cannot_be_written(inside: Inside, path: str):
    done = inside("sh", "-c", f"if [ -e {path} ]; then echo 0 > {path}; else echo absent; fi")
    is_absent = done.stdout == "absent\n" and not Path(path).exists()
    assert is_absent or "Read-only file system" in done.stderr, done.stderr


def capabilities(status: str) -> dict[str, str]:
    """The sets in a /proc/PID/status."""
    return dict(line.split(":\t") for line in status.splitlines() if line.startswith("Cap"))


def test_it_has_dockers_capabilities_and_inherits_none(inside: Inside):
    sets = capabilities(said(inside("cat", "/proc/self/status")))
    assert {sets.pop(name) for name in ("CapBnd", "CapEff", "CapPrm")} == {DEFAULT_CAPABILITIES}
    assert sets == {"CapInh": NO_CAPABILITY, "CapAmb": NO_CAPABILITY}


def test_who_is_not_root_has_none(box: Box, web: str):
    added = box.run("-u", "web", "--cap-add", "NET_ADMIN", "box", "cat", "/proc/self/status")
    for status in (added, said(box("exec", "-u", "1000", web, "cat", "/proc/self/status"))):
        sets = capabilities(status)
        del sets["CapBnd"]
        assert set(sets.values()) == {NO_CAPABILITY}


def test_its_calls_are_filtered(inside: Inside):
    assert "Seccomp:\t2\n" in said(inside("cat", "/proc/self/status"))


@pytest.mark.parametrize("device", ["b 254 0", "b 7 0", "c 1 1", "c 1 11", "c 10 237", "c 10 229"])
def test_the_node_of_a_device_of_the_host_cannot_be_opened(inside: Inside, device: str):
    # A disk, a loop device, memory, the kernel's log, loop-control and fuse.
    done = inside("sh", "-c", f"mknod /tmp/d {device}; head -c 1 /tmp/d; rm -f /tmp/d")
    assert done.stdout == ""
    assert "Operation not permitted" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "mount -t tmpfs none /tmp",
        "mount -o remount,rw /proc/sys",
        "mount -o bind / /tmp",
        "umount /proc/sys",
        "umount /etc/hosts",
        "unshare -m true",
        "unshare -U true",
        "nsenter -t 1 -m true",
        "hostname other",
        "date -s 2020-01-01",
        "dmesg",
        "swapon /bin/busybox",
        "pivot_root / /tmp",
        "ip link set lo down",
        "chroot / mount -t proc none /tmp",
    ],
)
def test_what_is_the_administrators_of_the_host_is_refused(inside: Inside, command: str):
    assert "ermi" in inside(*command.split()).stderr


def test_it_has_three_descriptors_whatever_cowshed_was_given(inside: Inside, tmp_path: Path):
    with (tmp_path / "secret").open("w") as file, socket.socket() as connection:
        given = (file.fileno(), connection.fileno())
        assert said(inside("ls", "/proc/self/fd", pass_fds=given)) == "0\n1\n2\n3\n"


def test_its_first_process_holds_three_descriptors(box: Box, web: str):
    assert sorted(os.listdir(f"/proc/{box.state(web)['Pid']}/fd")) == ["0", "1", "2"]


def test_the_hosts_environment_does_not_come_in(box: Box, web: str, monkeypatch):
    monkeypatch.setitem(box.env, "SECRET", "moo")
    expected = {"HOME=/root", f"PATH={DEFAULT_PATH}"}
    for done in (box("run", "--rm", "box", "env"), box("exec", web, "env")):
        seen = {line for line in said(done).split("\n") if line}
        assert {line for line in seen if not line.startswith(("HOSTNAME=", "SHLVL="))} == expected
    environ = box.run("box", "sh", "-c", "tr '\\0' '\\n' < /proc/1/environ")
    assert {line.partition("=")[0] for line in environ.split()} <= {"HOME", "PATH", "HOSTNAME"}


def test_it_starts_at_its_own_root(inside: Inside):
    assert said(inside("pwd")) == "/\n"
    assert said(inside("ls", "/../../..")) == said(inside("ls", "/"))


def test_neither_store_nor_bundle_can_be_reached(box: Box, inside: Inside):
    for path in (str(box.root), "/run/cowshed", "/proc/1/cwd/../../run", "/proc/1/root/run"):
        done = inside("ls", path)
        assert (done.returncode, done.stdout) == (1, ""), path


def test_a_links_target_on_the_host_is_not_its_own(box: Box, inside: Inside, tmp_path: Path):
    (tmp_path / "secret").write_text("moo")
    done = inside("sh", "-c", f"ln -s {tmp_path} /tmp/l; cat /tmp/l/secret; rm /tmp/l")
    assert done.stdout == "" and "No such file" in done.stderr


def test_only_loopback_is_there_without_a_network(inside: Inside):
    assert said(inside("ls", "/sys/class/net")) == "lo\n"
    assert [line.split(":")[0].strip() for line in said(inside("cat", "/proc/net/dev")).split("\n")
            if ":" in line] == ["lo"]  # fmt: skip


def test_the_hosts_network_has_the_hosts_interfaces_and_name(box: Box):
    seen = box.run("--network", "host", "box", "sh", "-c", "hostname; ls /sys/class/net")
    assert seen.split() == [socket.gethostname(), *sorted(os.listdir("/sys/class/net"))]


@pytest.fixture
def segment() -> Iterator[int]:
    """The id of shared memory of the host (shmget(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    id = libc.shmget(0, 4096, IPC_CREAT | 0o600)
    assert id >= 0
    yield id
    libc.shmctl(id, IPC_RMID, None)


def test_the_hosts_shared_memory_is_seen_only_where_that_was_asked_for(box: Box, segment: int):
    segments = ("box", "sed", "1d", "/proc/sysvipc/shm")
    assert box.run(*segments) == ""
    seen = [line.split()[1] for line in box.run("--ipc", "host", *segments).splitlines()]
    assert str(segment) in seen


def test_a_name_that_it_may_change_is_its_own(box: Box):
    assert box.run("--cap-add", "SYS_ADMIN", "box", "sh", "-c", "hostname x; hostname") == "x\n"
    assert socket.gethostname() != "x"


def test_a_read_only_root_is_so_with_what_is_mounted_on_it(box: Box):
    for path in ("/new", "/etc/passwd", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        done = box("run", "--rm", "--read-only", "box", "sh", "-c", f"echo >> {path}")
        assert done.returncode == 1 and "Read-only file system" in done.stderr, path
    assert box.run("--read-only", "box", "sh", "-c", "echo > /dev/shm/x; echo $?") == "0\n"


def test_a_privileged_container_is_given_what_that_says(box: Box, web: str):
    every = Path("/proc/self/status").read_text().partition("CapEff:\t")[2][:16]
    assert mask(box, "CapEff", "--privileged") == every
    assert mask(box, "Seccomp", "--privileged") == "0"
    script = (
        "mount -t tmpfs none /tmp && [ -e /dev/loop-control ] && echo x > /proc/sys/kernel/hostname"
        " && head -c 1 /proc/interrupts | wc -c && mknod /d c 1 11 && : < /d && hostname"
    )
    assert box.run("--privileged", "box", "sh", "-c", script) == "1\nx\n"
    assert box.run("--privileged", "box", "sh", "-c", "echo /proc/[0-9]*") == "/proc/1\n"
    given = said(box("exec", "--privileged", web, "cat", "/proc/self/status"))
    assert f"CapEff:\t{every}\n" in given


def test_its_name_is_the_start_of_its_id(box: Box):
    id = box.ok("create", "--rm", "box", "sh", "-c", "hostname; cat /etc/hostname; echo $HOSTNAME")
    assert box.ok("start", "-a", id.strip()).split() == [id[:12]] * 3


def test_it_has_files_for_names_that_are_dockers(box: Box):
    assert box.run("box", "cat", "/etc/hosts").split("\n")[:2] == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
    ]
    assert box.run("box", "cat", "/etc/resolv.conf") == Path("/etc/resolv.conf").read_text()
    hosts = box.run("--network", "host", "box", "cat", "/etc/hosts")
    assert hosts == Path("/etc/hosts").read_text()
    for path in ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
        assert box.run("box", "stat", "-c", "%u %g %a %F", path) == "0 0 644 regular file\n"


def test_what_is_written_to_those_files_stays_there(box: Box):
    before = {path: Path(path).read_bytes() for path in ("/etc/hosts", "/etc/resolv.conf")}
    script = (
        "for f in hosts hostname resolv.conf; do echo moo >> /etc/$f; done; tail -n 1 /etc/hosts"
    )
    assert box.run("--network", "host", "box", "sh", "-c", script) == "moo\n"
    assert {path: Path(path).read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("user", "uid", "gid", "groups", "home"),
    [
        ("root", "0", "0", "0", "/root"),
        ("0", "0", "0", "0", "/root"),
        ("web", "1000", "1000", "1000 2000", "/home/web"),
        ("1000", "1000", "1000", "1000 2000", "/home/web"),
        ("web:extra", "1000", "2000", "2000", "/home/web"),
        ("web:2000", "1000", "2000", "2000", "/home/web"),
        ("1000:1000", "1000", "1000", "1000", "/home/web"),
        ("4711", "4711", "0", "0", "/"),
        ("4711:4712", "4711", "4712", "4712", "/"),
    ],
)
def test_a_user_is_whom_the_containers_own_files_say(
    box: Box, web: str, user: str, uid: str, gid: str, groups: str, home: str
):
    script = "id -u; id -g; id -G; echo $HOME; grep Groups: /proc/self/status"
    expected = [uid, gid, groups, home, f"Groups:\t{groups}"]
    for before in (("run", "--rm", "-u", user, "box"), ("exec", "-u", user, web)):
        seen = [line.strip() for line in said(box(*before, "sh", "-c", script)).splitlines()]
        assert seen == expected


def test_added_groups_come_beside_the_users_own(box: Box):
    options = ("-u", "web", "--group-add", "4711", "--group-add", "root")
    assert box.run(*options, "box", "id", "-G") == "1000 0 2000 4711\n"


def test_nothing_is_left_of_all_that(box: Box):
    box.ok("rm", "-f", "web")
    assert box.lines("ps", "-aq") == []
    box.require_clean()
