"""Images of very many files, containers with some of them changed, and what finds that out."""

import os
from collections.abc import Callable
from contextlib import ExitStack

from measuring import seconds

from backends.base import LAYERS, Volume
from backends.btrfs_ioctl import is_stub
from backends.changes import walk
from imagegraph.model import Container
from imagegraph.store import Store

IN_ONE = 100
"""Files of one directory; there are as many directories as it takes."""


def fill(tree: str, files: int) -> int:
    """Small files in directories of a hundred; returns their bytes."""
    for number in range(files // IN_ONE):
        directory = f"{tree}/{number % 40}/{number}"
        os.makedirs(directory)
        for name in range(IN_ONE):
            descriptor = os.open(f"{directory}/file-{name}", os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, b"moo\n")
            os.close(descriptor)
    return 4 * files


def edit(tree: str, files: int, count: int) -> None:
    """Change so many files, all over the tree."""
    for turn in range(count):
        number = turn * files // count
        directory = number // IN_ONE
        path = f"{tree}/{directory % 40}/{directory}/file-{number % IN_ONE}"
        with open(path, "a") as file:
            file.write("changed\n")


def edited(store: Store, files: int, *counts: int) -> list[Container]:
    """Containers of an image of so many files, with so many of them changed."""
    image = store.add_image(lambda tree: fill(tree, files), {"config": {}})
    made = store.create(image, count=len(counts))
    for container, count in zip(made, counts, strict=True):
        with store.open_tree(container) as tree:
            edit(tree, files, count)
    return made


def engine(store: Store, container: Container, changes: int) -> Callable[[], float]:
    """The time of a diff, which must find so many changes."""

    def measured() -> float:
        found: list[object] = []
        taken = seconds(lambda: found.extend(store.diff(container)))
        if len(found) != changes:
            raise SystemExit(f"bench: diff found {len(found)} changes of {changes}")
        return taken

    return measured


def walked(store: Store, container: Container) -> Callable[[], float]:
    """The time in which both trees are read, as it is done where no filesystem can be asked."""
    image = store.graph.image(container.image)
    assert image is not None
    volume, layer = store.volume(container), Volume(LAYERS, image.layer)
    settled = container.created - 10**9

    def compare() -> None:
        with ExitStack() as stack:
            new = stack.enter_context(store.backend.frozen(volume))
            old = stack.enter_context(store.backend.frozen(layer))
            for _ in walk(old, new, settled=settled, is_stub=is_stub):
                pass

    return lambda: seconds(compare)
