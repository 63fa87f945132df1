"""Containers that are prepared to run: what the tests of mount points have in common."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from imagegraph import mount_points
from imagegraph.model import Container, Image
from imagegraph.mount_points import DIRECTORY, FILE
from imagegraph.store import Store
from tests.trees import Entry, entries

Wanted = list[tuple[str, str]]

USUAL: Wanted = [
    ("/proc", DIRECTORY),
    ("/sys", DIRECTORY),
    ("/dev", DIRECTORY),
    ("/etc/hosts", FILE),
    ("/etc/hostname", FILE),
    ("/etc/resolv.conf", FILE),
    ("/srv/data/deep", DIRECTORY),
]


@contextlib.contextmanager
def tree_of(store: Store, container: Container) -> Iterator[tuple[Path, int]]:
    """The path of the container's tree, and a descriptor of it."""
    with store.open_tree(container) as tree:
        fd = os.open(tree, os.O_PATH | os.O_DIRECTORY)
        try:
            yield Path(tree), fd
        finally:
            os.close(fd)


def prepare(store: Store, container: Container, wanted: Wanted) -> list[str]:
    with tree_of(store, container) as (_, fd):
        return mount_points.prepare(store, container, fd, wanted)


def diff(store: Store, thing: Image | Container) -> list[tuple[bytes, str]]:
    return [(path, kind) for path, kind in store.diff(thing)]


def tree_entries(store: Store, thing: Image | Container) -> dict[bytes, Entry]:
    with store.open_tree(thing) as tree:
        return entries(tree)
