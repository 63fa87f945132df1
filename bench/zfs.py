"""Measure what the README claims of ZFS, on a pool of our own; exit 1 if a bound is missed.

    bench/zfs.py [--json FILE] [NAME...]

Needs root, ZFS and strace; `make bench-zfs` runs it in a guest that has them. BENCH_DIR is where
the pool's file is made (by default /var/tmp).
"""

import contextlib
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edits import edited, engine, walked
from measuring import (
    COWSHED,
    Figure,
    command_line,
    cowshed,
    in_turns,
    ratio,
    report,
    run,
    seconds,
    timed,
)

from backends.base import CONTAINERS, LAYERS, Volume
from imagegraph.model import new_id
from imagegraph.store import Store

POOL = 3 << 29
"""Bytes of the pool's file, which is sparse."""

WRITTEN = 64 << 20
CROWD = 1000
FILES = 20_000
EDITS = 20
ROUNDS = 15


class Pool:
    """A pool with the store `few`, which has an image and five containers."""

    def __init__(self, name: str, point: str) -> None:
        self.bare = f"{name}/bare"
        """For what the bare commands make, which mount nothing either."""
        run("zfs", "create", "-o", "mountpoint=legacy", self.bare)
        self.few = f"{point}/few"
        self.many = f"{point}/many"
        self._fill(self.few, 5)

    def _fill(self, root: str, containers: int) -> None:
        with tempfile.TemporaryDirectory() as tree:
            Path(tree, "motd").write_text("moo\n")
            cowshed(root, "import", tree, "small:1")
        cowshed(root, "create", "-n", str(containers), "small:1")

    def crowded(self) -> str:
        """A second store, with a thousand containers."""
        if not os.path.exists(self.many):
            self._fill(self.many, CROWD)
        return self.many


@contextlib.contextmanager
def pool() -> Iterator[Pool]:
    """A fresh pool on a sparse file, gone afterwards."""
    name = f"bench-{os.getpid()}"
    parent = os.environ.get("BENCH_DIR", "/var/tmp")
    with tempfile.TemporaryDirectory(prefix="cowshed-bench-", dir=parent) as directory:
        disk = Path(directory, "disk")
        with disk.open("wb") as file:
            file.truncate(POOL)
        run("zpool", "create", "-m", f"{directory}/pool", name, str(disk))
        try:
            yield Pool(name, f"{directory}/pool")
        finally:
            run("zpool", "destroy", "-f", name)


def create(pool: Pool) -> Iterator[Figure]:
    """The backend's create against the one command that it cannot do without."""
    with Store.open(pool.few) as store:
        layer = Volume(LAYERS, store.image("small:1").layer)
        origin = _snapshot(store, layer)
        numbers = itertools.count()

        def bare() -> float:
            return seconds(lambda: run("zfs", "clone", origin, f"{pool.bare}/{next(numbers)}"))

        def ours() -> float:
            volume = Volume(CONTAINERS, new_id())
            taken = seconds(lambda: store.backend.create(volume, layer, b"{}"))
            store.backend.remove(volume)
            return taken

        made, cloned = in_turns(ROUNDS, ours, bare)
    yield ratio("create / zfs clone", 1.3, ("backend.create", made), ("zfs clone", cloned))


def commit(pool: Pool) -> Iterator[Figure]:
    """A commit against the three commands that make one, with little and with much to commit."""
    with Store.open(pool.few) as store:
        for name, size in (("nothing new", 0), (f"{WRITTEN >> 20} MB of new files", WRITTEN)):
            yield _commit(pool, store, name, size)


def _commit(pool: Pool, store: Store, name: str, size: int) -> Figure:
    [container] = store.create(store.image("small:1"))
    volume = store.volume(container)
    layer = Volume(LAYERS, store.image("small:1").layer)
    numbers = itertools.count()
    plain = f"{pool.bare}/plain{size}"
    run("zfs", "clone", _snapshot(store, layer), plain)
    with store.open_tree(container) as tree:
        Path(tree, "new").write_bytes(os.urandom(size))
        os.sync()

    def ours() -> float:
        return seconds(lambda: store.commit(container))

    def backend() -> float:
        return seconds(lambda: store.backend.snapshot(volume, Volume(LAYERS, new_id()), b"{}"))

    def bare() -> float:
        number = next(numbers)

        def commands() -> None:
            run("zfs", "snapshot", f"{plain}@{number}")
            run("zfs", "clone", "-o", "readonly=on", f"{plain}@{number}", f"{plain}-{number}")
            run("zfs", "promote", f"{plain}-{number}")

        return seconds(commands)

    whole, inner, three = in_turns(ROUNDS, ours, backend, bare)
    figure = ratio(
        f"commit of {name} / its three commands",
        1.3,
        ("Store.commit", whole),
        ("snapshot, clone, promote", three),
    )
    return figure._replace(details=f"{figure.details}, backend.snapshot {inner * 1000:.1f} ms")


def _snapshot(store: Store, layer: Volume) -> str:
    return f"{store.backend.location(layer)}@{layer.id}"


def processes(pool: Pool) -> Iterator[Figure]:
    """How many programs each command starts."""
    for name, most, arguments in (
        ("create", 2, ("create", "--name", "counted", "small:1")),
        ("commit", 4, ("commit", "counted", "counted:1")),
        ("rm", 3, ("rm", "counted")),
    ):
        yield Figure(f"processes started by {name}", started(pool.few, *arguments), most, "", "")
    for name in ("ps", "images"):
        count = started(pool.crowded(), name, *(("-a",) if name == "ps" else ()))
        yield Figure(f"processes started by {name}, {CROWD} containers", count, 0, "", "")


def started(root: str, *arguments: str) -> int:
    """How many programs `cowshed` starts for the command."""
    with tempfile.NamedTemporaryFile("r") as log:
        trace = ["strace", "--follow-forks", "--trace=execve", f"--output={log.name}"]
        run(*trace, COWSHED, "--root", root, *arguments)
        done = re.findall(r"execve\(.* = 0$", log.read(), re.MULTILINE)
    # The first is cowshed itself, through the interpreter that its script names.
    return len(done) - 1


def diff(pool: Pool) -> Iterator[Figure]:
    """The engine against the walk."""
    with Store.open(pool.few) as store:
        [container] = edited(store, FILES, EDITS)
        os.sync()
        asked, read = in_turns(5, engine(store, container, EDITS), walked(store, container))
    name = f"diff after {EDITS} edits of {FILES:,} files / the walk"
    yield ratio(name, 1 / 5, ("diff", asked), ("walk", read))


def crowd(pool: Pool) -> Iterator[Figure]:
    """A whole `create` beside a thousand containers against one beside five."""
    beside = [timed(COWSHED, "--root", r, "create", "small:1") for r in (pool.crowded(), pool.few)]
    many, few = in_turns(ROUNDS, *beside)
    yield ratio(f"create beside {CROWD} containers / beside 5", 1.5, (str(CROWD), many), ("5", few))


FAMILIES: dict[str, Callable[[Pool], Iterator[Figure]]] = {
    "create": create,
    "commit": commit,
    "processes": processes,
    "crowd": crowd,
    "diff": diff,
}


def main() -> int:
    arguments = command_line("Measure what the README claims of ZFS.", FAMILIES)
    figures: list[Figure] = []
    with pool() as made:
        for name in arguments.names or FAMILIES:
            print(f"bench: {name}", file=sys.stderr)
            figures += FAMILIES[name](made)
    return report(figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
