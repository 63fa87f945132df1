"""What it costs that an image travels in an archive, against Docker and skopeo on one btrfs."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import peers
from committing import NEW, write
from contest import Command, Contender, against_the_quicker
from measuring import COWSHED, Figure, cowshed, run
from memory import peak

MEMORY_BOUND = 150
NAME = "bench:1"


def loading(root: str, rootfs: str) -> Iterator[Figure]:
    """`load` of a docker-archive with one large layer, against the quicker of the peers."""
    beside = os.path.dirname(root)
    cowshed(root, "import", rootfs, NAME)
    for packed in ("none", "gzip"):
        cowshed(root, "save", "--compress", packed, "-o", f"{beside}/{packed}.tar", NAME)
    cowshed(root, "rmi", NAME)
    for packed in ("none", "gzip"):
        archive, name = f"{beside}/{packed}.tar", f"load of 450 MB, layers as {packed}"
        yield from against_the_quicker(root, name, 0.7, _loader(root, archive), _loaders(archive))
        yield peak(f"memory of {name}", root, "load", "-i", archive, bound=MEMORY_BOUND)
        cowshed(root, "rmi", NAME)
        os.unlink(archive)


def saving(root: str, rootfs: str) -> Iterator[Figure]:
    """`save` of what was just committed, and what it takes to know a commit by its digests."""
    archive = f"{os.path.dirname(root)}/saved.tar"
    cowshed(root, "import", rootfs, NAME)
    cowshed(root, "inspect", "--digests", NAME)
    few, large = (cowshed(root, "create", NAME) for _ in range(2))
    for container, change in ((few, _change_ten_files), (large, _add_one_gigabyte)):
        change(cowshed(root, "mount", container))
        cowshed(root, "umount", container)
    ours = [COWSHED, "--root", root]

    def docker(stack: ExitStack, change: Callable[[str], None]) -> tuple[Command, str]:
        """A client, and a container that was changed in the same way."""
        daemon = stack.enter_context(peers.dockerd(os.path.dirname(root)))
        with open(rootfs, "rb") as file:
            run(*daemon.client, "import", "-", NAME, stdin=file)
        container = run(*daemon.client, "create", NAME, "/none").strip()
        change(daemon.tree(container))
        return daemon.client, container

    def docker_save(stack: ExitStack) -> Iterator[Contender]:
        if peers.is_there("dockerd"):
            client, container = docker(stack, _change_ten_files)
            yield _saver("docker", client, container, archive)

    def docker_commit(stack: ExitStack) -> Iterator[Contender]:
        if peers.is_there("dockerd"):
            client, container = docker(stack, _add_one_gigabyte)
            commit = [*client, "commit", container, "large:1"]
            yield Contender("docker commit", [commit], [], [[*client, "rmi", "large:1"]])

    name = "save of a commit of 10 files on 450 MB"
    yield from against_the_quicker(
        root, name, 0.7, _saver("cowshed", ours, few, archive), docker_save
    )
    commit = [*ours, "commit", large, "large:1"]
    ask = [*ours, "inspect", "--digests", "large:1"]
    contender = Contender("cowshed", [commit, ask], [], [[*ours, "rmi", "large:1"]])
    name = "commit and digests of 1 GB"
    yield from against_the_quicker(root, name, 0.5, contender, docker_commit)
    cowshed(root, "commit", few, "few:1")
    save = ["save", "-o", archive, "few:1"]
    yield peak("memory of save of 450 MB", root, *save, bound=MEMORY_BOUND)
    cowshed(root, "commit", large, "large:1")
    ask = ["inspect", "--digests", "large:1"]
    yield peak("memory of the digests of 1 GB", root, *ask, bound=MEMORY_BOUND)


def _loader(root: str, archive: str) -> Contender:
    ours = [COWSHED, "--root", root]
    return Contender("cowshed", [[*ours, "load", "-i", archive]], [], [[*ours, "rmi", NAME]])


def _loaders(archive: str) -> Callable[[ExitStack], Iterator[Contender]]:
    def loaders(stack: ExitStack) -> Iterator[Contender]:
        beside = os.path.dirname(archive)
        if peers.is_there("dockerd"):
            client = stack.enter_context(peers.dockerd(beside)).client
            load, drop = [*client, "load", "-i", archive], [*client, "rmi", NAME]
            yield Contender("docker", [load], [], [drop])
        if peers.is_there("skopeo"):
            name = stack.enter_context(peers.containers_storage(beside)) + NAME
            copy = ["skopeo", "--insecure-policy", "copy", "-q", f"docker-archive:{archive}", name]
            yield Contender("skopeo", [copy], [], [["skopeo", "delete", name]])

    return loaders


def _saver(name: str, client: Command, container: str, archive: str) -> Contender:
    commit, drop = [*client, "commit", container, "few:1"], [*client, "rmi", "few:1"]
    return Contender(name, [[*client, "save", "-o", archive, "few:1"]], [commit], [drop])


def _change_ten_files(tree: str) -> None:
    for number in range(10):
        write(f"{tree}/etc/changed-{number}", 10_000)


def _add_one_gigabyte(tree: str) -> None:
    for number in range(10):
        write(f"{tree}/new-{number}", NEW // 10)
