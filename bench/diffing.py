"""What a diff costs: by what was changed, by what was not, and beside other people's."""

import itertools
import os
from collections.abc import Iterator

import btrfsutil
import peers
import pool
from committing import DIRTY, write
from edits import edit, edited, engine, walked
from measuring import COWSHED, Figure, in_turns, ratio, timed

from imagegraph.model import Container
from imagegraph.store import Store

FEW = 20
MANY = 20_000
FILES = 200_000


def against_the_walk(root: str) -> Iterator[Figure]:
    """The engine against the walk, for few and for many changes, and beside a busy neighbour."""
    with Store.open(root) as store:
        few, many = edited(store, FILES, FEW, MANY)
        pool.settle(root)
        for container, count, bound, rounds in ((few, FEW, 1 / 50, 7), (many, MANY, 1 / 2, 5)):
            asked, read = in_turns(
                rounds, engine(store, container, count), walked(store, container)
            )
            name = f"diff after {count:,} edits of {FILES:,} files / the walk"
            yield ratio(name, bound, ("diff", asked), ("walk", read))
        yield _neighbour(store, few)


def _neighbour(store: Store, container: Container) -> Figure:
    busy = f"{os.path.dirname(store.root)}/busy"
    btrfsutil.create_subvolume(busy)
    numbers = itertools.count()
    diff = engine(store, container, FEW)

    def beside_dirty() -> float:
        pool.settle(store.root)
        write(f"{busy}/data-{next(numbers)}", DIRTY)
        return diff()

    def beside_clean() -> float:
        pool.settle(store.root)
        return diff()

    dirty, clean = in_turns(7, beside_dirty, beside_clean)
    btrfsutil.delete_subvolume(busy)
    pool.settle(store.root)
    name = "diff beside 700 MB unwritten / without"
    return ratio(name, 3, ("beside", dirty), ("without", clean))


def by_size(root: str) -> Iterator[Figure]:
    """The same changes in a large image and in a small one."""
    with Store.open(root) as store:
        [large] = edited(store, 400_000, FEW)
        [small] = edited(store, 100_000, FEW)
        pool.settle(root)
        over, under = in_turns(15, engine(store, large, FEW), engine(store, small, FEW))
    name = f"diff after {FEW} edits of 400,000 files / of 100,000"
    yield ratio(name, 1.3, ("400,000", over), ("100,000", under))


def against_peers(root: str) -> Iterator[Figure]:
    """A whole `cowshed diff` against what Docker and Podman need on the same filesystem."""
    with Store.open(root) as store:
        [container] = edited(store, FILES, FEW)
        pool.settle(root)
        image = store.graph.image(container.image)
        assert image is not None
        with store.open_tree(image) as tree:
            for peer in peers.there(os.path.dirname(root), tree, lambda t: edit(t, FILES, FEW)):
                with peer as theirs:
                    ours = timed(COWSHED, "--root", root, "diff", container.name)
                    mine, other = in_turns(7, ours, theirs.diff)
                    name = f"cowshed diff / {theirs.name} diff, {FEW} edits of {FILES:,} files"
                    yield ratio(name, 1 / 5, ("cowshed", mine), (theirs.name, other))
