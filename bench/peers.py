"""Docker and Podman on the same btrfs, each in a directory of its own, where they are installed."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from measuring import run, seconds

PATIENCE = 30.0


class Peer(NamedTuple):
    """A container like ours in another store: `diff` lists its changes and tells the seconds."""

    name: str
    changes: int
    diff: Callable[[], float]


class Docker(NamedTuple):
    """A daemon: the command line of its client, and the directory where all of it is."""

    client: list[str]
    home: str

    def tree(self, container: str) -> str:
        """The subvolume of a container, by its full id."""
        with open(f"{self.home}/data/image/btrfs/layerdb/mounts/{container}/mount-id") as file:
            return f"{self.home}/data/btrfs/subvolumes/{file.read()}"


@contextlib.contextmanager
def dockerd(directory: str) -> Iterator[Docker]:
    """A daemon with a socket of its own, which is ended afterwards."""
    home = f"{directory}/docker"
    socket = f"unix://{home}/socket"
    os.mkdir(home)
    command = ["dockerd", "--storage-driver=btrfs", "--bridge=none", "--iptables=false"]
    command += [f"--data-root={home}/data", f"--exec-root={home}/exec", f"--host={socket}"]
    command += [f"--pidfile={home}/pid"]
    client = ["docker", f"--host={socket}"]
    with open(f"{home}/log", "w") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _await([*client, "version"], daemon)
        yield Docker(client, home)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()
        _remove(home)


@contextlib.contextmanager
def docker(directory: str, tree: str, edit: Callable[[str], None]) -> Iterator[Peer]:
    """Its container."""
    with dockerd(directory) as daemon:
        client = daemon.client
        _import(tree, [*client, "import", "-", "bench"])
        container = run(*client, "create", "bench", "/none").strip()
        edit(daemon.tree(container))
        yield _peer("docker", [*client, "diff", container])
        run(*client, "rm", container)
        run(*client, "rmi", "bench")


@contextlib.contextmanager
def podman_store(directory: str) -> Iterator[list[str]]:
    """The command line of Podman with a store of its own."""
    home = f"{directory}/podman"
    os.mkdir(home)
    try:
        yield ["podman", f"--root={home}/root", f"--runroot={home}/run", "--storage-driver=btrfs"]
    finally:
        _remove(home)


@contextlib.contextmanager
def podman(directory: str, tree: str, edit: Callable[[str], None]) -> Iterator[Peer]:
    """Its container; there is no daemon."""
    with podman_store(directory) as client:
        _import(tree, [*client, "import", "--quiet", "-", "bench"])
        container = run(*client, "create", "--network=none", "bench", "/none").strip()
        edit(run(*client, "mount", container).strip())
        yield _peer("podman", [*client, "diff", container])
        run(*client, "umount", container)
        run(*client, "rm", container)
        run(*client, "rmi", "bench")


@contextlib.contextmanager
def containers_storage(directory: str) -> Iterator[str]:
    """Where skopeo puts images: a store as Podman's, as a prefix of their names."""
    home = f"{directory}/storage"
    os.mkdir(home)
    try:
        yield f"containers-storage:[btrfs@{home}/root+{home}/run]"
    finally:
        _remove(home)


PEERS = {"dockerd": docker, "podman": podman}


def there(
    directory: str, tree: str, edit: Callable[[str], None]
) -> Iterator[contextlib.AbstractContextManager[Peer]]:
    """Each peer that is installed, with an image of the tree and an edited container of it."""
    for program, start in PEERS.items():
        if is_there(program):
            yield start(directory, tree, edit)


def is_there(program: str) -> bool:
    """Whether a peer is installed; its figures are missing where not."""
    return shutil.which(program) is not None


def _peer(name: str, command: list[str]) -> Peer:
    changes = len(run(*command).splitlines())
    return Peer(name, changes, lambda: seconds(lambda: run(*command)))


def _import(tree: str, command: list[str]) -> None:
    with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as tar:
        subprocess.run(command, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=True)


def _await(command: list[str], daemon: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE
    while subprocess.run(command, capture_output=True).returncode:
        if daemon.poll() is not None or time.monotonic() > end:
            raise SystemExit("bench: dockerd does not answer")
        time.sleep(0.2)


def _remove(home: str) -> None:
    """Remove a peer's directory with the mounts and the subvolumes that are left in it."""
    with open("/proc/self/mounts") as mounts:
        points = [line.split()[1] for line in mounts]
    for point in reversed(points):
        if point.startswith(f"{home}/"):
            run("umount", point)
    listed = run("btrfs", "subvolume", "list", "-o", home).splitlines()
    for line in listed:
        name = line.split(" path ", 1)[1].rpartition("/subvolumes/")[2]
        for below in ("data/btrfs", "root/btrfs"):
            path = f"{home}/{below}/subvolumes/{name}"
            if os.path.isdir(path):
                run("btrfs", "-q", "subvolume", "delete", path)
    shutil.rmtree(home, ignore_errors=True)
