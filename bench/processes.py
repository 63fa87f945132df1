"""What it costs to run a process in a container, against Podman and Docker on the same btrfs."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import peers
from contest import Command, Contender, against_the_quicker
from measuring import COWSHED, Figure, cowshed, run

IMAGE = "localhost/bench/base:1"
LIMIT = 10000
REPEATS = 5
"""Times that each command is run within one measurement; a single one is too short."""

MIXED = "/sys/fs/cgroup/unified/cgroup.controllers"


def running(root: str, rootfs: str) -> Iterator[Figure]:
    """`run --rm IMAGE true` and `exec CONTAINER true`."""
    cowshed(root, "import", rootfs, IMAGE)
    ours = [COWSHED, "--root", root]
    yield from _against_podman(root, rootfs, ours)
    yield from _against_docker(root, rootfs, ours)


def _against_podman(root: str, rootfs: str, ours: Command) -> Iterator[Figure]:
    if not peers.is_there("podman"):
        return
    with (
        peers.podman_store(os.path.dirname(root)) as store,
        # Podman wants its path to be short where it runs something.
        tempfile.TemporaryDirectory(prefix="bench-", dir="/run") as state,
    ):
        theirs = [*store, f"--runroot={state}", "--cgroup-manager=cgroupfs"]
        same: Command = []
        if _is_mixed():
            # Podman's crun refuses a host with control groups of both versions.
            theirs.append("--runtime=/usr/sbin/runc")
            same = ["--runtime=runc"]
        run(*theirs, "import", "--quiet", rootfs, IMAGE)
        # It asks for more than every root may give.
        limits = [f"--ulimit={name}={LIMIT}:{LIMIT}" for name in ("nofile", "nproc")]
        one = partial(_run, [*ours, "run", *same])
        other = partial(_run, [*theirs, "run", "--network=none", *limits])
        yield from _contest(root, "run --rm of true", 1.0, one("cowshed"), other("podman"))
        contenders = [
            _exec(name, command, run(*command, "run", *options, "-d", IMAGE, "sleep", "1000"))
            for name, command, options in (
                ("cowshed", ours, same),
                ("podman", theirs, ["--network=none", *limits]),
            )
        ]
        yield from _contest(root, "exec of true", 1.2, *contenders)
        for command, contender in zip((ours, theirs), contenders, strict=True):
            run(*command, "rm", "-f", contender.measured[0][-2])


def _against_docker(root: str, rootfs: str, ours: Command) -> Iterator[Figure]:
    if not peers.is_there("dockerd"):
        return
    with peers.dockerd(os.path.dirname(root)) as docker:
        run(*docker.client, "import", rootfs, IMAGE)
        one = _run([*ours, "run"], "cowshed")
        other = _run([*docker.client, "run", "--network=none"], "docker")
        yield from _contest(root, "run --rm of true", 0.8, one, other)


def _contest(
    root: str, name: str, bound: float, one: Contender, other: Contender
) -> Iterator[Figure]:
    def others(_: ExitStack) -> Iterator[Contender]:
        yield other

    return against_the_quicker(root, name, bound, one, others)


def _run(command: Command, name: str) -> Contender:
    return Contender(name, [[*command, "--rm", IMAGE, "true"]] * REPEATS, [], [])


def _exec(name: str, command: Command, container: str) -> Contender:
    return Contender(name, [[*command, "exec", container.strip(), "true"]] * REPEATS, [], [])


def _is_mixed() -> bool:
    try:
        with open(MIXED) as file:
            return bool(file.read().strip())
    except FileNotFoundError:
        return False
