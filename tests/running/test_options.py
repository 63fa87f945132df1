"""Every option of `run` that has an effect has it, with each runtime."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import cgroups
from tests.conftest import SharedBtrfs, mounted, require
from tests.running.conftest import RUNTIMES, Box, shared_by_module, stocked

SECCOMP = (
    '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":'
    '[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}'
)
MODES = "stat -c '%u %g %a'"
MOUNT = "sed -n 's,^[^ ]* {} ,,p' /proc/mounts"
"""Prints type and options of what is mounted there."""


@pytest.fixture(scope="module", params=RUNTIMES)
def box(
    request: pytest.FixtureRequest,
    shared_btrfs: SharedBtrfs,
    tmp_path_factory: pytest.TempPathFactory,
    busybox: Path,
) -> Iterator[Box]:
    """One store for all these tests; what each makes, it removes or names by itself."""
    directory = tmp_path_factory.mktemp("options")
    with shared_by_module(request, shared_btrfs, directory, busybox) as box:
        box.env["HERE"] = "from here"
        yield box


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is given to containers."""
    made = tmp_path_factory.mktemp("host")
    (made / "file").write_text("a file\n")
    (made / "dir/sub").mkdir(parents=True)
    (made / "dir/one").write_text("one\n")
    (made / "env").write_text("# a comment\n\nB=two words\nHERE\nGONE\nC=3\n")
    (made / "seccomp.json").write_text(SECCOMP)
    return made


# Options, a script, and what it prints; {host} stands for the directory of that fixture.
CASES = {
    "env": (["-e", "A=1", "-e", "B=x y=z"], "echo $A-$B", "1-x y=z"),
    "env of here": (["-e", "HERE", "-e", "GONE"], "echo ${HERE-unset} ${GONE-unset}",
                    "from here unset"),
    "env that unsets": (["-e", "PATH"], "/bin/busybox env | /bin/busybox grep -c ^PATH=.*sbin",
                        "1"),
    "env file": (["--env-file", "{host}/env", "-e", "C=4"], "echo $B-$HERE-${GONE-unset}-$C",
                 "two words-from here-unset-4"),
    "user": (["-u", "web:extra"], "id -u; id -g; echo $HOME", "1000\n2000\n/home/web"),
    "workdir": (["-w", "/tmp/../root"], "pwd; echo $PWD", "/root\n/root"),
    "workdir that is missing": (["-w", "/new/dir"], f"pwd; {MODES} /new /new/dir",
                                "/new/dir\n0 0 755\n0 0 755"),
    "bind of a directory": (["-v", "{host}/dir:/data"], "ls /data; echo x > /data/sub/w",
                            "one\nsub"),
    "bind of a file": (["-v", "{host}/file:/data/f"], "cat /data/f", "a file"),
    "bind of a file over a file": (["-v", "{host}/file:/etc/passwd"], "cat /etc/passwd", "a file"),
    "bind over the hosts file": (["-v", "{host}/file:/etc/hosts"], "cat /etc/hosts", "a file"),
    "read-only bind of a directory": (["-v", "{host}/dir:/data:ro"],
                                      "cat /data/one; echo x > /data/n; echo $?", "one\n1"),
    "read-only bind of a file": (["-v", "{host}/file:/data/f:ro"],
                                 "cat /data/f; echo x > /data/f; echo $?", "a file\n1"),
    "mount of type bind": (["--mount", "type=bind,src={host}/dir,dst=/data,ro"],
                           "cat /data/one; echo x > /data/n; echo $?", "one\n1"),
    "mount of type bind, alone": (
        ["--mount", "type=bind,src={host}/dir,dst=/data,readonly,bind-nonrecursive"],
        "cat /data/one; echo x > /data/n; echo $?", "one\n1"),
    "mount of type volume": (["--mount", "type=volume,dst=/data"], f"{MODES} /data", "0 0 755"),
    "mount of type tmpfs": (
        ["--mount", "type=tmpfs,dst=/data,tmpfs-size=1m,tmpfs-mode=0700"],
        f"{MODES} /data; {MOUNT.format('/data')} | grep -o 'size=[^, ]*'",
        "0 0 700\nsize=1024k"),
    "tmpfs": (["--tmpfs", "/data:size=2m,mode=1750,uid=7"],
              f"{MODES} /data; dd if=/dev/zero of=/data/x bs=1M count=3 2>/dev/null; echo $?;"
              " stat -c %s /data/x", "7 0 1750\n1\n2097152"),
    "tmpfs that runs nothing": (["--tmpfs", "/data"],
                                "cp /bin/busybox /data/echo; /data/echo no; echo $?", "126"),
    "tmpfs that runs programs": (["--tmpfs", "/data:exec"],
                                 "cp /bin/busybox /data/echo; /data/echo yes", "yes"),
    "no network": (["--network", "none"], "ls /sys/class/net", "lo"),
    "read-only": (["--read-only"], "echo > /new; echo $?; echo > /dev/shm/x; echo $?", "1\n0"),
    "read-only with a tmpfs": (["--read-only", "--tmpfs", "/tmp"],
                               "echo > /tmp/x; echo $?; echo > /new; echo $?", "0\n1"),
    "added capability": (["--cap-add", "SYS_TIME", "--cap-add", "cap_net_admin"],
                         "ip link set lo down; echo $?; grep CapEff /proc/self/status",
                         "0\nCapEff:\t00000000aa0435fb"),
    "dropped capability": (["--cap-drop", "CHOWN"], "chown 1 /tmp; echo $?", "1"),
    "all capabilities dropped": (["--cap-drop", "ALL", "--cap-add", "CHOWN"],
                                 "chown 1 /tmp; grep CapBnd /proc/self/status",
                                 "CapBnd:\t0000000000000001"),
    "no new privileges": (["--security-opt", "no-new-privileges"],
                          "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1"),
    "unfiltered": (["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status",
                   "Seccomp:\t0"),
    "a filter of one's own": (["--security-opt", "seccomp={host}/seccomp.json"],
                              "mkdir /x; echo $?; unshare -U echo yes", "1\nyes"),
    "unmasked": (["--security-opt", "systempaths=unconfined"],
                 "head -c 1 /proc/interrupts | wc -c", "1"),
    "masked": (["--security-opt", "mask=/etc/passwd"], "wc -c < /etc/passwd", "0"),
    "privileged": (["--privileged"], "grep Seccomp: /proc/self/status; mount -t tmpfs n /tmp",
                   "Seccomp:\t0"),
    "hostname": (["--hostname", "cow.barn"], "hostname; cat /etc/hostname; echo $HOSTNAME",
                 "cow.barn\ncow.barn\ncow.barn"),
    "hostname on the host's network": (["--hostname", "cow", "--network", "host"], "hostname",
                                       "cow"),
    "added hosts": (["--add-host", "a:192.0.2.1", "--add-host", "b=2001:db8::1"],
                    "tail -n 2 /etc/hosts", "192.0.2.1\ta\n2001:db8::1\tb"),
    "name servers": (["--dns", "192.0.2.53", "--dns", "192.0.2.54"],
                     "grep nameserver /etc/resolv.conf",
                     "nameserver 192.0.2.53\nnameserver 192.0.2.54"),
    "shared memory": (["--shm-size", "1m"],
                      "dd if=/dev/zero of=/dev/shm/x bs=1M count=2 2>/dev/null; stat -c %s"
                      " /dev/shm/x", "1048576"),
    "limits": (["--ulimit", "nofile=100:200", "--ulimit", "core=0", "--ulimit", "fsize=102400"],
               "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f", "100\n200\n0\n200"),
    "groups": (["--group-add", "extra", "--group-add", "4711"], "id -G", "0 2000 4711"),
    "device": (["--device", "/dev/loop-control:/dev/lc:r"],
               "true < /dev/lc && echo read; true > /dev/lc || echo no; ls /dev/loop-control",
               "read\nno"),
    "the host's processes": (["--pid", "host"], f"[ -e /proc/{os.getpid()} ] && echo seen", "seen"),
    "the host's shared memory": (["--ipc", "host"], f"{MOUNT.format('/dev/shm')} | grep -c .", "1"),
    "no shared memory": (["--ipc", "none"], "ls -A /dev/shm 2>/dev/null; [ ! -d /dev/shm ]", ""),
    "platform": (["--platform", "linux/amd64"], "echo ran", "ran"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_option_does_what_it_says(box: Box, host: Path, case: str):
    options, script, expected = CASES[case]
    done = box("run", "--rm", *(text.format(host=host) for text in options), "box", "sh", "-c",
               f"( {script} ) 2>/dev/null")  # fmt: skip
    assert (done.stdout.rstrip("\n"), done.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("entrypoint", "words", "expected"),
    [
        ("echo", ["a", "b"], "a b\n"),
        ("", ["echo", "a"], "a\n"),
        ('["echo", "-n"]', ["a"], "a"),
    ],
)
def test_an_entrypoint_takes_the_images_place(
    box: Box, busybox: Path, entrypoint: str, words: list[str], expected: str
):
    box.ok("import", "-c", 'ENTRYPOINT ["false"]', "-c", 'CMD ["lost"]', str(busybox), "entry")
    assert box.run("--entrypoint", entrypoint, "entry", *words) == expected
    assert box("run", "--rm", "entry", *words).returncode == 1


def test_a_new_entrypoint_forgets_the_images_command(box: Box, busybox: Path):
    box.ok("import", "-c", 'CMD ["echo", "lost"]', str(busybox), "command")
    assert box.run("--entrypoint", "pwd", "command") == "/\n"


def _of_cgroup(of_v1: str, of_v2: str) -> str:
    """A script that prints a setting of the container's control group."""
    if not cgroups.version():
        pytest.skip("no control groups are mounted here")
    return f"cat /sys/fs/cgroup/{of_v2 if cgroups.version() == 2 else of_v1}"


@pytest.mark.parametrize(
    ("options", "of_v1", "of_v2", "expected"),
    [
        ("--memory 64m", "memory/memory.limit_in_bytes", "memory.max", ["67108864"] * 2),
        ("--cpus 0.5", "cpu/cpu.cfs_quota_us", "cpu.max", ["50000", "50000 100000"]),
        ("--cpus 1.25", "cpu/cpu.cfs_quota_us", "cpu.max", ["125000", "125000 100000"]),
        ("--pids-limit 7", "pids/pids.max", "pids.max", ["7", "7"]),
        ("--pids-limit -1", "pids/pids.max", "pids.max", ["max", "max"]),
    ],
)
def test_a_bound_stands_in_the_control_group(
    box: Box, options: str, of_v1: str, of_v2: str, expected: list[str]
):
    script = _of_cgroup(of_v1, of_v2)
    done = box("run", "--rm", *options.split(), "box", "sh", "-c", script)
    assert done.stdout.strip() == expected[cgroups.version() - 1]


def test_who_takes_more_memory_than_there_is_is_killed(box: Box):
    taking = ("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    done = box("run", "--name", "greedy", "--memory", "16m", "box", *taking)
    assert done.returncode == 137
    assert box.state("greedy")["ExitCode"] == 137
    assert box("run", "--rm", "--memory", "400m", "box", *taking).returncode == 0
    box.ok("rm", "greedy")


def test_no_more_processes_start_than_are_allowed(box: Box):
    script = "for n in 1 2 3 4 5 6; do sleep 1 & done; wait"
    done = box("run", "--rm", "--pids-limit", "4", "box", "sh", "-c", script)
    assert done.returncode == 2 and "can't fork" in done.stderr


def test_an_init_is_process_one_and_reaps(box: Box):
    require("tini-static")
    script = "readlink /proc/1/exe; (sleep 0.1 &); sleep 0.5; grep -l ^State:.Z /proc/[0-9]*/status"
    assert box.run("--init", "box", "sh", "-c", f"{script}; true") == "/sbin/docker-init\n"


def test_the_init_is_not_in_the_diff(box: Box):
    require("tini-static")
    box.ok("run", "--init", "--name", "inited", "box", "true")
    assert box.lines("diff", "inited") == []
    box.ok("rm", "inited")


def test_a_name_is_the_containers(box: Box):
    box.ok("run", "--name", "cow", "box", "true")
    [found] = box.json("ps", "-a", "--filter", "name=cow", "--format", "json")
    assert (found["Name"], found["State"]) == ("cow", "exited")
    box.ok("rm", "cow")


def test_with_rm_nothing_stays_and_without_it_does(box: Box):
    before = box.lines("ps", "-aq")
    box.run("box", "true")
    assert box.lines("ps", "-aq") == before
    box.ok("run", "--name", "stays", "box", "true")
    assert len(box.lines("ps", "-aq")) == len(before) + 1
    box.ok("rm", "stays")


def test_the_id_is_written_to_a_file_which_must_be_new(box: Box, tmp_path: Path):
    file = tmp_path / "id"
    id = box.ok("run", "-d", "--rm", "--cidfile", str(file), "box", "sleep", "1000").strip()
    assert file.read_text() == id
    assert "there already" in box.refused("run", "--cidfile", str(file), "box", status=125)
    assert file.read_text() == id
    box.ok("rm", "-f", id)


def test_no_file_for_the_id_stays_of_what_could_not_be_run(box: Box, tmp_path: Path):
    box.refused("run", "--cidfile", str(tmp_path / "id"), "box", "nosuch", status=127)
    assert not (tmp_path / "id").exists()


def test_an_image_for_another_machine_is_refused(box: Box):
    done = box("run", "--platform", "linux/s390x", "box", "true")
    assert done.returncode in (2, 125) and "s390x" in done.stderr


@pytest.mark.parametrize(
    ("options", "out", "err"),
    [
        ([], "out\n", "err\n"),
        (["-a", "stdout"], "out\n", ""),
        (["-a", "stderr"], "", "err\n"),
        (["-a", "stdout", "-a", "stderr"], "out\n", "err\n"),
    ],
)
def test_only_the_streams_that_were_asked_for_are_shown(
    box: Box, options: list[str], out: str, err: str
):
    done = box("run", "--rm", *options, "box", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.returncode, done.stdout, done.stderr) == (3, out, err)


def test_who_does_not_stop_is_killed_when_its_time_is_over(box: Box):
    script = "trap '' TERM; while true; do sleep 0.1; done"
    box.ok("run", "-d", "--name", "deaf", "--stop-timeout", "1", "box", "sh", "-c", script)
    begun = time.monotonic()
    box.ok("stop", "deaf")
    assert 0.9 < time.monotonic() - begun < 6
    assert box.state("deaf")["ExitCode"] == 137
    box.ok("rm", "deaf")


def test_the_images_signal_asks_it_to_stop_unless_there_is_another(box: Box, busybox: Path):
    box.ok("import", "-c", "STOPSIGNAL USR1", str(busybox), "signal")
    script = "trap 'exit 1' USR1; trap 'exit 2' USR2; echo up; while true; do sleep 0.05; done"
    for options, status in (([], 1), (["--stop-signal", "USR2"], 2)):
        box.ok("run", "-d", *options, "--name", "asked", "signal", "sh", "-c", script)
        while box.ok("logs", "asked") != "up\n":
            time.sleep(0.05)
        box.ok("stop", "asked")
        assert box.state("asked")["ExitCode"] == status
        box.ok("rm", "asked")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A mount of the host that passes on what is mounted below it."""
    point = tmp_path / "shared"
    with mounted("tmpfs", Path("none"), point, "size=1m"):
        subprocess.run(["mount", "--make-rshared", point], check=True)
        (point / "below").mkdir()
        yield point


@pytest.mark.parametrize(("option", "comes_in"), [("rprivate", False), ("rslave", True)])
def test_what_is_mounted_later_comes_in_as_was_asked_for(
    box: Box, shared: Path, option: str, comes_in: bool
):
    name = f"later-{option}"
    box.ok("run", "-d", "--name", name, "-v", f"{shared}:/data:{option}", "box", "sleep", "1000")
    with mounted("tmpfs", Path("none"), shared / "below", "size=1m"):
        (shared / "below/file").write_text("later")
        seen = box("exec", name, "cat", "/data/below/file").stdout
    box.ok("rm", "-f", name)
    assert (seen == "later") is comes_in


def test_what_is_mounted_inside_does_not_come_out(box: Box, shared: Path):
    options = ("--cap-add", "SYS_ADMIN", "-v", f"{shared}:/data:rslave")
    box.ok("run", "-d", "--name", "out", *options, "box", "sleep", "1000")
    box.ok("exec", "out", "mount", "-t", "tmpfs", "none", "/data/below")
    assert not os.path.ismount(shared / "below")
    box.ok("rm", "-f", "out")
    assert "take rslave" in box.refused("run", "-v", f"{shared}:/data:rshared", "box", status=125)


def test_nothing_is_left_of_all_that(box: Box, host: Path):
    assert box.lines("ps", "-aq") == []
    assert box.lines("volume", "ls", "-q") == []
    assert (host / "file").read_text() == "a file\n"
    assert sorted(os.listdir(host / "dir")) == ["one", "sub"]
    box.require_clean()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_container_that_is_full_says_so_and_others_are_not(
    fresh_btrfs: Path, busybox: Path, runtime: str
):
    for box in stocked(Box(fresh_btrfs / "root", runtime), busybox):
        _turn_on_quotas(fresh_btrfs, box)
        script = "dd if=/dev/zero of=/big bs=1M count=30; sync"
        done = box("run", "--rm", "--size", "10m", "box", "sh", "-c", script)
        assert "Disk quota exceeded" in done.stderr or "No space left" in done.stderr
        done = box("run", "--rm", "--size", "50m", "box", "sh", "-c", script)
        assert (done.returncode, "quota" in done.stderr) == (0, False), done.stderr
        done = box("run", "--rm", "box", "sh", "-c", script)
        assert done.returncode == 0, done.stderr


def _turn_on_quotas(mount: Path, box: Box) -> None:
    if box("init", "--quota").returncode:
        subprocess.run(["btrfs", "quota", "enable", mount], check=True)
        subprocess.run(["btrfs", "quota", "rescan", "-w", mount], check=True)
