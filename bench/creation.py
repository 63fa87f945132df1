"""What it costs to create containers: the process, each container, and a crowd already there."""

import itertools
import os
from collections.abc import Iterator

import btrfsutil
import pool
from measuring import COWSHED, PYTHON, Figure, cowshed, in_turns, ratio, seconds, timed

BATCH = 100
CROWD = 5_000


def start_up(root: str) -> Iterator[Figure]:
    """A whole `create` against the import of the library that parses its arguments."""
    create = timed(COWSHED, "--root", root, "create", "debian:12")
    bare = timed(PYTHON, "-c", "import typer")
    for warm_up in (create, bare):
        warm_up()
    made, imported = in_turns(21, create, bare)
    yield ratio(
        "create / python -c 'import typer'",
        3,
        ("create", made),
        ("import typer", imported),
    )


def per_container(root: str) -> Iterator[Figure]:
    """Each of many containers against one snapshot ioctl of the same layer."""
    from imagegraph.store import Store

    with Store.open(root) as store:
        image = store.image("debian:12")
        layer = store.backend.location(store.volume(image))
        bare = f"{os.path.dirname(root)}/bare"
        btrfsutil.create_subvolume(bare)
        numbers = itertools.count()

        def ioctls() -> float:
            def snapshots() -> None:
                for _ in range(BATCH):
                    btrfsutil.create_snapshot(layer, f"{bare}/{next(numbers)}")

            return seconds(snapshots) / BATCH

        def creates() -> float:
            return seconds(lambda: store.create(image, count=BATCH)) / BATCH

        def processes() -> float:
            many = seconds(lambda: cowshed(root, "create", "-n", str(BATCH + 1), "debian:12"))
            one = seconds(lambda: cowshed(root, "create", "-n", "1", "debian:12"))
            return (many - one) / BATCH

        pool.settle(bare)
        process, library, snapshot = in_turns(7, processes, creates, ioctls)
    against = ("one snapshot ioctl", snapshot)
    name = "each of create -n 100 / snapshot ioctl"
    yield ratio(f"{name}, processes", 1.5, ("(-n 101 less -n 1)/100", process), against)
    yield ratio(f"{name}, Store.create", 1.5, ("Store.create(count=100)/100", library), against)
    btrfsutil.delete_subvolume(bare, recursive=True)


def crowd(few: str, many: str) -> Iterator[Figure]:
    """A whole `create` beside 5,000 containers against one beside 5, each on a pool of its own."""
    for root, count in ((few, 5), (many, CROWD)):
        os.mkdir(f"{root}.rootfs")
        with open(f"{root}.rootfs/motd", "w") as file:
            file.write("moo\n")
        cowshed(root, "import", f"{root}.rootfs", "small:latest")
        cowshed(root, "create", "-n", str(count), "small")
        pool.settle(root)
    beside = [timed(COWSHED, "--root", root, "create", "small") for root in (many, few)]
    crowded, alone = in_turns(15, *beside)
    yield ratio(
        "create beside 5,000 containers / beside 5",
        1.5,
        ("5,000", crowded),
        ("5", alone),
    )
