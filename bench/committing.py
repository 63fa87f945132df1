"""What a commit costs: with much new in the container, and with much unwritten beside it."""

import os
from collections.abc import Iterator

import btrfsutil
import pool
from measuring import Figure, in_turns, ratio, seconds

from imagegraph.model import Container
from imagegraph.store import Store

CHUNK = 1 << 20
NEW = 1_000_000_000
DIRTY = 700_000_000


def write(path: str, size: int) -> None:
    """Make a file of `size` random bytes, without waiting for the disk."""
    chunk = os.urandom(CHUNK)
    with open(path, "wb") as file:
        for offset in range(0, size, CHUNK):
            file.write(chunk[: min(CHUNK, size - offset)])


def weight(root: str) -> Iterator[Figure]:
    """Commit of 1 GB of new files, written back, against commit of an untouched container."""
    with Store.open(root) as store:
        image = store.image("debian:12")
        heavy, untouched = store.create(image, count=2)
        with store.open_tree(heavy) as tree:
            for number in range(10):
                write(f"{tree}/new-{number}", NEW // 10)
        pool.settle(root)
        full, empty = in_turns(11, lambda: _commit(store, heavy), lambda: _commit(store, untouched))
        yield ratio(
            "commit of 1 GB of new files / of none", 1.5, ("1 GB", full), ("untouched", empty)
        )


def _commit(store: Store, container: Container) -> float:
    return seconds(lambda: store.commit(container))


def neighbour(root: str) -> Iterator[Figure]:
    """Commit while 700 MB of another volume are unwritten, against commit while nothing is."""
    busy = f"{os.path.dirname(root)}/busy"
    btrfsutil.create_subvolume(busy)
    seen: list[int] = []
    with Store.open(root) as store:
        [container] = store.create(store.image("debian:12"))

        def beside_dirty() -> float:
            pool.settle(root)
            # A file of its own each time: closing one that was truncated starts its writing.
            write(f"{busy}/data-{len(seen)}", DIRTY)
            seen.append(pool.dirty_bytes())
            return _touched_commit(store, container)

        def beside_clean() -> float:
            pool.settle(root)
            return _touched_commit(store, container)

        dirty, clean = in_turns(7, beside_dirty, beside_clean)
    btrfsutil.delete_subvolume(busy)
    pool.settle(root)
    name = "commit beside 700 MB unwritten / without"
    figure = ratio(name, 3, ("beside", dirty), ("without", clean))
    least = min(seen) / 1e6
    yield figure._replace(details=f"{figure.details}; at least {least:.0f} MB were dirty")
    if least < DIRTY / 1e6 * 0.8:
        raise SystemExit(
            "bench: the kernel wrote the neighbour's data too early to measure beside it;"
            " raise vm.dirty_background_bytes"
        )


def _touched_commit(store: Store, container: Container) -> float:
    with store.open_tree(container) as tree:
        write(f"{tree}/etc/motd", 4096)
    return _commit(store, container)
