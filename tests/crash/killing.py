"""Ending a program at an exact place: strace delivers SIGKILL where it enters its nth system call.

A call that the signal meets at its entry is not carried out, so killing a program at every call
that changes a disk leaves the disk, one run after the other, in every state between two of them.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
CHANGING = (
    "write writev pwrite64 pwritev copy_file_range sendfile ftruncate truncate fallocate"
    " fsync fdatasync syncfs sync_file_range rename renameat renameat2 link linkat"
    " symlink symlinkat unlink unlinkat mkdir mkdirat rmdir mknod mknodat chmod fchmod fchmodat"
    " chown fchown lchown fchownat setxattr lsetxattr fsetxattr utimensat mount umount2 vfork"
).split()
"""System calls that change a disk, or start the command that does, whatever their arguments."""

SOMETIMES = {"openat": "O_CREAT", "ioctl": "BTRFS_IOC_|FICLONE|LOOP_"}
"""Calls that do if their arguments match."""


class Point(NamedTuple):
    """The nth call of that name by the program itself, or by a process that it forked."""

    call: str
    number: int
    in_child: bool = False

    def __str__(self) -> str:
        where = " of its child" if self.in_child else ""
        return f"{self.call} number {self.number}{where}"


class Outcome(NamedTuple):
    """How a program ended: its exit status, and what it had said on stdout and stderr."""

    status: int
    said: str
    errors: str


def run(root: Path, operation: str, point: Point) -> Outcome:
    """Run the operation, killed at the point."""
    trace = ["--output=/dev/null", f"--trace={point.call}"]
    trace += [f"--inject={point.call}:signal=KILL:when={point.number}"]
    if point.in_child:
        trace += ["--follow-forks"]
    with _program(root, operation) as program:
        outcome = _traced(program, trace)
    assert point.in_child or outcome.status == -signal.SIGKILL, outcome
    return outcome


def points(root: Path, operation: str) -> list[Point]:
    """Where the operation changes the disk, found by watching it once; of children too."""
    with tempfile.NamedTemporaryFile("r") as log:
        calls = ",".join(f"?{name}" for name in [*CHANGING, *SOMETIMES])
        options = ["--follow-forks", f"--output={log.name}", f"--trace={calls}"]
        with _program(root, operation) as program:
            outcome = _traced(program, options)
        assert outcome == Outcome(0, "done", "")
        return list(_points(log.read().splitlines(), str(program.pid)))


def _points(lines: list[str], program: str) -> Iterator[Point]:
    counts: Counter[tuple[str, str]] = Counter()
    found, own = [], set()
    for line in lines:
        match = re.match(r"([0-9]+) +([a-z0-9_]+)\((.*)", line)
        if match is None:
            continue
        process, call, arguments = match.groups()
        counts[process, call] += 1
        if process == program:
            own.add(call)
        if re.search(SOMETIMES.get(call, ""), arguments):
            found.append(Point(call, counts[process, call], process != program))
    # A child is told from the program by calls that the program itself does not make.
    yield from (point for point in found if not point.in_child or point.call not in own)


@contextmanager
def _program(root: Path, operation: str) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.crash.scene", root, operation],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=environment,
    ) as program:
        try:
            assert program.stdout is not None and program.stdout.readline() == "ready\n"
            yield program
        finally:
            program.kill()


def _traced(program: "subprocess.Popen[str]", options: list[str]) -> Outcome:
    """Let the program go on under strace to its end."""
    command = ["strace", *options, f"--attach={program.pid}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        attached = tracer.stderr.readline()
        assert attached == f"strace: Process {program.pid} attached\n", attached
        said, errors = program.communicate("\n", timeout=60)
        for line in tracer.stderr:
            assert re.fullmatch(r"strace: Process [0-9]+ attached\n", line), line
    return Outcome(program.returncode, said.strip(), errors.strip())
