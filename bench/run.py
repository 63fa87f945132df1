"""Measure what the README claims, on a btrfs of our own; exit 1 if a bound is missed.

    bench/run.py [--json FILE] [NAME...]

Needs root and about 12 GB of space. BENCH_DIR is where (by default /var/tmp), BENCH_ROOTFS a
root filesystem tar to take instead of a fresh Debian.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator

import archives
import commands
import committing
import creation
import diffing
import importing
import listing
import memory
import pool
import processes
import registries
import rootfs
from measuring import Figure, command_line, cowshed, report

POOL = 40 << 30
"""Bytes that a pool may grow to; its file is sparse."""

NEEDED = 12 << 30


class Bench:
    """The pools that the figures are measured on, made when a figure first asks."""

    def __init__(self, directory: str, stack: contextlib.ExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._root: str | None = None

    def root(self) -> str:
        """A store with the image debian:12."""
        if self._root is None:
            self._root = self.store("pool")
            cowshed(self._root, "import", rootfs.archive(), "debian:12")
            pool.settle(self._root)
        return self._root

    def store(self, name: str) -> str:
        """An empty store on a btrfs of its own."""
        point = self._stack.enter_context(pool.mounted(self._directory, name, POOL))
        cowshed(f"{point}/store", "init")
        return f"{point}/store"

    def plain(self, name: str) -> str:
        """A path for a store that needs no btrfs."""
        return f"{self._directory}/{name}"


FAMILIES: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "start-up": lambda bench: creation.start_up(bench.root()),
    "create": lambda bench: creation.per_container(bench.root()),
    "commit": lambda bench: committing.weight(bench.root()),
    "neighbour": lambda bench: committing.neighbour(bench.root()),
    "memory": lambda bench: memory.peaks(bench.root(), rootfs.archive()),
    "import": lambda bench: importing.against_tar(bench.root(), rootfs.archive()),
    "lists": lambda bench: listing.rows(bench.plain("few"), bench.plain("many")),
    "crowd": lambda bench: creation.crowd(bench.store("pool-few"), bench.store("pool-many")),
    "diff": lambda bench: diffing.against_the_walk(bench.store("diff")),
    "sizes": lambda bench: diffing.by_size(bench.store("sizes")),
    "peers": lambda bench: diffing.against_peers(bench.store("peers")),
    "load": lambda bench: archives.loading(bench.store("load"), rootfs.archive()),
    "save": lambda bench: archives.saving(bench.store("save"), rootfs.archive()),
    "registry": lambda bench: registries.pulling_and_pushing(bench.store("pull"), rootfs.archive()),
    "processes": lambda bench: processes.running(bench.store("processes"), rootfs.archive()),
    "commands": lambda bench: commands.medians(bench.root()),
}


def measure(names: list[str]) -> list[Figure]:
    """The figures of the families, measured one after another."""
    parent = os.environ.get("BENCH_DIR", "/var/tmp")
    if shutil.disk_usage(parent).free < NEEDED:
        raise SystemExit(f"bench: {parent} has less than {NEEDED >> 30} GiB free: set BENCH_DIR")
    figures: list[Figure] = []
    with contextlib.ExitStack() as stack:
        directory = tempfile.mkdtemp(prefix="cowshed-bench-", dir=parent)
        stack.callback(shutil.rmtree, directory)
        bench = Bench(directory, stack)
        for name in names:
            print(f"bench: {name}", file=sys.stderr)
            figures += FAMILIES[name](bench)
    return figures


def main() -> int:
    arguments = command_line("Measure what the README claims.", FAMILIES)
    return report(measure(arguments.names or list(FAMILIES)), arguments.json)


if __name__ == "__main__":
    sys.exit(main())
