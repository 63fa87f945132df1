"""`cowshed run` and `docker run` do the same with the same words: output, silence and exit status.

Differences that are meant, and so not compared here:

| | Docker | cowshed |
|---|---|---|
| wording of what is refused | several lines, `docker: Error response...` | one line, `Error: ...` |
| network without --network | a bridge | none: every line here has --network |
| an image that is not here | is pulled | is refused |
| --device of what is not there | 127, for its message looks like that | 125 |
| /proc/interrupts | masked only by releases after this one | masked |
| -v of a directory that is not there | is made on the host | is refused |
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.interop.conftest import Shed
from tests.interop.peers import Docker
from tests.running.conftest import busybox_tar

NAME = "alike:1"
MOUNTS = (
    "awk '$2 ~ /^.(proc|dev|sys.?$|sys.firmware)/ && $2 !~ /interrupts/ {print $2, $3}'"
    " /proc/mounts | sort -u"
)
"""Prints where what kind of filesystem is, but for control groups, which differ by runtime."""


class Pair:
    """The image in a store and in a daemon."""

    def __init__(self, shed: Shed, docker: Docker) -> None:
        self._shed, self._docker = shed, docker

    def both(self, *words: str) -> tuple[subprocess.CompletedProcess[str], ...]:
        """What cowshed and Docker do with the words after run."""
        theirs = [*self._docker._client, "run", "--rm", *words]
        done = subprocess.run(theirs, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return self._shed("run", "--rm", "--runtime", "runc", *words), done


@pytest.fixture(scope="module")
def pair(docker: Docker, disk: Path) -> Pair:
    shed = Shed(disk / "alike-store")
    path = disk / "alike.tar"
    path.write_bytes(busybox_tar())
    shed.ok("import", "-c", 'CMD ["echo", "command"]', "-c", "ENV A=image B=image",
            "-c", 'ENTRYPOINT ["env"]', str(path), NAME)  # fmt: skip
    archive = disk / "alike-docker.tar"
    shed.ok("save", "--format", "docker-archive", "-o", str(archive), NAME)
    docker.load(archive, NAME)
    return Pair(shed, docker)


def _sh(script: str, *options: str) -> tuple[list[str], list[str]]:
    return [*options, "--entrypoint", "sh"], ["-c", script]


RUN = {
    "the image's command": ([], []),
    "another command": ([], ["echo", "moo"]),
    "no entrypoint": (["--entrypoint", ""], ["echo", "moo"]),
    "another entrypoint": (["--entrypoint", "pwd"], []),
    "status 1": _sh("exit 1"),
    "status 125": _sh("exit 125"),
    "status 255": _sh("exit 255"),
    "killed": _sh("kill -9 $$; sh -c 'kill -9 $$'; exit $?"),
    "environment": _sh("env | sort | grep -v ^HOSTNAME"),
    "environment given": _sh("env | sort | grep -v ^HOSTNAME", "-e", "A=mine", "-e", "C=x y", "-e",
                             "B"),
    "home of a user": _sh("echo $HOME", "-u", "web"),
    "home of nobody": _sh("echo $HOME", "-u", "4711"),
    "home given": _sh("echo $HOME", "-u", "web", "-e", "HOME=/tmp"),
    "root": _sh("id"),
    "user by name": _sh("id", "-u", "web"),
    "user by number": _sh("id", "-u", "1000"),
    "user and group": _sh("id", "-u", "web:extra"),
    "user and group by number": _sh("id", "-u", "1000:1000"),
    "unknown user": _sh("id", "-u", "4711"),
    "unknown user and group": _sh("id", "-u", "4711:4712"),
    "added groups": _sh("id -G", "-u", "web", "--group-add", "4711", "--group-add", "root"),
    "directory": _sh("pwd; stat -c '%u %g %a' .", "-w", "/tmp"),
    "directory that is missing": _sh("pwd; stat -c '%u %g %a' .", "-w", "/new/dir"),
    "missing directory of a user": _sh("pwd; stat -c '%u %g %a' .", "-w", "/new/dir", "-u", "web"),
    "mask": _sh("umask"),
    "limits": _sh("ulimit -Sn; ulimit -Hn; ulimit -c", "--ulimit", "nofile=100:200", "--ulimit",
                  "core=0"),
    "capabilities": _sh("grep Cap /proc/self/status"),
    "capabilities of a user": _sh("grep Cap /proc/self/status", "-u", "web"),
    "capabilities added": _sh("grep Cap /proc/self/status", "--cap-add", "SYS_TIME", "--cap-drop",
                              "CHOWN"),
    "capabilities dropped": _sh("grep Cap /proc/self/status", "--cap-drop", "ALL"),
    "filter and privileges": _sh("grep -E 'Seccomp:|NoNewPrivs' /proc/self/status"),
    "no new privileges": _sh("grep NoNewPrivs /proc/self/status", "--security-opt",
                             "no-new-privileges"),
    "filesystems": _sh(MOUNTS),
    "devices": _sh("ls -l /dev | awk '{print $1, $3, $4, $5, $6}' | sed 's/ [A-Z][a-z]* *$//'"),
    "names of devices": _sh("ls /dev"),
    "descriptors": _sh("ls /proc/self/fd"),
    "settings": _sh("ls /proc/sys; echo x > /proc/sys/kernel/domainname; echo $?"),
    "the machine's": _sh("ls /sys /sys/firmware; ls /sys/class/net"),
    "hidden": _sh("wc -c < /proc/keys; wc -c < /proc/timer_list; ls /proc/acpi"),
    "processes": _sh("echo $$ /proc/[0-9]*"),
    "read-only": _sh("echo > /x; echo $?; echo > /dev/shm/x; echo $?", "--read-only"),
    "a tmpfs": _sh("stat -c '%u %g %a' /t; grep -c ' /t tmpfs' /proc/mounts", "--tmpfs", "/t"),
    "a tmpfs with a mode": _sh("stat -c '%u %g %a' /t", "--tmpfs", "/t:mode=1750,size=1m"),
    "a volume": _sh("stat -c '%u %g %a' /root /v; ls -A /v", "-v", "/root", "-v", "/v"),
    "a name": _sh("hostname; cat /etc/hostname; echo $HOSTNAME", "--hostname", "cow.barn"),
    "added hosts": _sh("tail -n 1 /etc/hosts; head -n 7 /etc/hosts", "--add-host", "a:192.0.2.1"),
    "shared memory": _sh("df -k /dev/shm | awk '{print $2}'", "--shm-size", "2m"),
    "the host's name": _sh("hostname", "--network", "host"),
}  # fmt: skip


def _line(case: tuple[Sequence[str], Sequence[str]]) -> list[str]:
    options, words = case
    network = [] if "--network" in options else ["--network", "none"]
    return [*network, *options, NAME, *words]


@pytest.mark.parametrize("case", RUN)
def test_what_runs_is_the_same(pair: Pair, case: str):
    ours, theirs = pair.both(*_line(RUN[case]))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert bool(ours.stderr) == bool(theirs.stderr), (ours.stderr, theirs.stderr)


REFUSED = {
    "not there": (["--entrypoint", "nosuch"], []),
    "not there by path": (["--entrypoint", "/bin/nosuch"], []),
    "not executable": (["--entrypoint", "/etc/passwd"], []),
    "a directory": (["--entrypoint", "/etc"], []),
    "no such user": (["-u", "nosuch"], []),
    "no such group": (["-u", "web:nosuch"], []),
    "work in a file": (["-w", "/etc/passwd"], []),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_ends_with_the_same_status(pair: Pair, case: str):
    ours, theirs = pair.both(*_line(REFUSED[case]))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout), ours.stderr
    assert ours.stderr and theirs.stderr


@pytest.mark.parametrize(
    "options", ["--nosuch", "--cap-add NOSUCH", "--mount type=bind,src=/nosuch,dst=/x"]
)
def test_wrong_usage_ends_with_the_same_status(pair: Pair, options: str):
    ours, theirs = pair.both(*_line((options.split(), [])))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout) == (125, "")
    assert ours.stderr and theirs.stderr
