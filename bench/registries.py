"""What it costs to pull and push, against Docker and Podman, with one registry and one btrfs."""

import contextlib
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import peers
from contest import Command, Contender, against_the_quicker
from measuring import COWSHED, Figure, cowshed, run
from memory import peak

MEMORY_BOUND = 200
LAYERS = 5
PATIENCE = 20.0

_CHANGE = 'for n in 0 1 2 3 4 5 6 7 8 9; do head -c 10000 /dev/urandom > "$0/etc/new-$n"; done'
"""Ten files, with other content each time, so that no registry has the layer."""


@contextlib.contextmanager
def served(directory: str) -> Iterator[str]:
    """Docker's registry on loopback; its name."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{probe.getsockname()[1]}"
    home = f"{directory}/registry"
    os.mkdir(home)
    config = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": f"{home}/data"}},
        "http": {"addr": name},
    }
    with open(f"{home}/config.json", "w") as file:
        json.dump(config, file)
    with open(f"{home}/log", "w") as log:
        daemon = subprocess.Popen(["docker-registry", "serve", file.name], stdout=log, stderr=log)
    try:
        _await(name, daemon)
        yield name
    finally:
        daemon.terminate()
        daemon.wait()


def _await(name: str, daemon: subprocess.Popen[bytes]) -> None:
    host, _, port = name.partition(":")
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return
        except OSError:
            if daemon.poll() is not None or time.monotonic() > end:
                raise SystemExit("bench: docker-registry does not answer") from None
            time.sleep(0.05)


def pulling_and_pushing(root: str, rootfs: str) -> Iterator[Figure]:
    """An image of five layers: pulled cold and again, pushed whole, and after ten edits."""
    beside = os.path.dirname(root)
    with served(beside) as registry, ExitStack() as stack:
        name = f"{registry}/bench/five:1"
        _five_layers(root, rootfs, name)
        cowshed(root, "push", name)
        cowshed(root, "rmi", name)
        command = [COWSHED, "--root", root]
        ours = _Client("cowshed", command, (), _mount(command))
        theirs = list(_clients(beside, stack))
        wipe = ["rm", "-rf", f"{beside}/registry/data/docker"]
        for figure, bound, contest in (
            ("pull of 450 MB in 5 gzip layers", 0.6, _cold),
            ("pull of what is here", 1.5, _again),
            ("push of 450 MB in 5 layers", 0.4, partial(_whole, wipe)),
            ("push of a commit of 10 files on a pushed base", 0.7, _edited),
            ("the same with the commit itself", None, _committed),
        ):
            mine, *others = [contest(client, name) for client in (ours, *theirs)]
            yield from against_the_quicker(root, figure, bound, mine, partial(_these, others))
        cowshed(root, "umount", "--all")
        run(*wipe)
        yield peak("memory of push of 450 MB", root, "push", name, bound=MEMORY_BOUND)
        cowshed(root, "rmi", "-f", name)
        yield peak("memory of pull of 450 MB", root, "pull", name, bound=MEMORY_BOUND)


def _these(contenders: list[Contender], _: ExitStack) -> Iterator[Contender]:
    return iter(contenders)


class _Client(NamedTuple):
    """A program's command line, its options of pull and push, and what mounts a container."""

    name: str
    command: Command
    plain: tuple[str, ...]
    tree: Callable[[str], str]

    def to(self, what: str, name: str) -> Command:
        return [*self.command, what, *self.plain, name]


def _clients(beside: str, stack: ExitStack) -> Iterator[_Client]:
    if peers.is_there("dockerd"):
        docker = stack.enter_context(peers.dockerd(beside))
        yield _Client("docker", docker.client, (), docker.tree)
    if peers.is_there("podman"):
        client = stack.enter_context(peers.podman_store(beside))
        yield _Client("podman", client, ("--tls-verify=false",), _mount(client))


def _cold(client: _Client, name: str) -> Contender:
    pull, drop = client.to("pull", name), [*client.command, "rmi", name]
    return Contender(client.name, [pull], [], [drop])


def _again(client: _Client, name: str) -> Contender:
    run(*client.to("pull", name))
    return Contender(client.name, [client.to("pull", name)], [], [])


def _whole(wipe: Command, client: _Client, name: str) -> Contender:
    return Contender(client.name, [client.to("push", name)], [wipe], [])


def _edited(client: _Client, name: str) -> Contender:
    """Each time a container is made, changed and committed anew; the base is there."""
    own = f"{name.rpartition('/')[0]}/{client.name}"
    run(*client.command, "tag", name, f"{own}:1")
    run(*client.to("push", f"{own}:1"))
    container = run(*client.command, "create", "--network=none", name, "/none").strip()
    change = ["sh", "-c", _CHANGE, client.tree(container)]
    commit = [*client.command, "commit", container, f"{own}:edited"]
    return Contender(client.name, [client.to("push", f"{own}:edited")], [change, commit], [])


def _committed(client: _Client, name: str) -> Contender:
    """As _edited; other programs make the layer's tar when they commit, and we when we push."""
    edited = _edited(client, name)
    change, commit = edited.before
    return edited._replace(measured=[commit, *edited.measured], before=[change])


def _mount(command: Command) -> Callable[[str], str]:
    return lambda container: run(*command, "mount", container).strip()


def _five_layers(root: str, rootfs: str, name: str) -> None:
    """The tar as an image of LAYERS layers of about the same size."""
    size, part = os.path.getsize(rootfs) // LAYERS, f"{root}-part.tar"
    with tarfile.open(rootfs) as whole:
        members = iter(whole)
        for number in range(LAYERS):
            with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as out:
                for member in members:
                    out.addfile(member, whole.extractfile(member) if member.isreg() else None)
                    if number + 1 < LAYERS and out.offset >= size:
                        break
            if number == 0:
                cowshed(root, "import", part, name)
                continue
            container = cowshed(root, "create", name)
            tree = cowshed(root, "mount", container)
            run("tar", "-C", tree, "--numeric-owner", "-xpf", part)
            cowshed(root, "umount", container)
            cowshed(root, "commit", container, name)
            cowshed(root, "rm", container)
    os.unlink(part)
