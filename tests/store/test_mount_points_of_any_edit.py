"""Any tree, any mount points, any edits: only what is as it was made is left out."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from backends.inside import open_inside
from imagegraph import mount_points
from imagegraph.errors import Conflict
from imagegraph.model import Container, Image
from imagegraph.mount_points import DIRECTORY, FILE
from imagegraph.store import Store
from tests.edits import EDIT, LOW, MAKING, PATHS, STEPS, Script, do, make, perform
from tests.store.prepared import diff, tree_entries, tree_of
from tests.store.scenes import commit, document
from tests.trees import difference, entries

KINDS = st.sampled_from((DIRECTORY, FILE))
OWN = st.sampled_from((b"mp", b"a/mp", b"a/b/mp/deep", b"a.b/mp", b"a/mp/" + LOW, b"g/mp/x"))
ANYWHERE = st.lists(st.tuples(st.one_of(PATHS, OWN), KINDS), min_size=1, max_size=6)
ASIDE = st.lists(st.tuples(OWN, KINDS), min_size=1, max_size=6)
# What moves a directory takes the mount points in it along, or is prevented by them.
MOVING = {"rename", "shift", "swap", "exchange", "whiteout", "invert"}
STAYING = st.tuples(st.sampled_from(sorted(STEPS.keys() - MOVING)), PATHS, PATHS)
INSIDE = st.tuples(st.sampled_from(sorted(STEPS)), st.one_of(PATHS, OWN), st.one_of(PATHS, OWN))
ANY_EDIT = st.one_of(EDIT, st.lists(INSIDE, min_size=4, max_size=30))
GENTLE = st.lists(STAYING, min_size=4, max_size=30)


def any_image(store: Store, making: Script) -> Image:
    def write(tree: str) -> int:
        make(Path(tree))
        perform(Path(tree), making)
        return 0

    return store.add_image(write, document())


def prepare_what_can_be(
    store: Store, container: Container, wanted: list[tuple[bytes, str]]
) -> None:
    """Have the mount points one by one; the kernel must agree where each of them is."""
    for path, kind in wanted:
        name = os.fsdecode(b"/" + path)
        with tree_of(store, container) as (tree, fd):
            try:
                [real] = mount_points.prepare(store, container, fd, [(name, kind)])
            except Conflict:
                continue
            place = open_inside(fd, name)
            try:
                assert os.path.samestat(os.fstat(place), os.lstat(f"{tree}{real}"))
            finally:
                os.close(place)


def change(tree: Path, edit: Script) -> None:
    for step in edit:
        # A file without a byte cannot be mapped.
        with contextlib.suppress(ValueError):
            do(tree, step)


def still_as_made(store: Store, container: Container) -> set[bytes]:
    """The oracle: told by the plainest means, and only while nobody else changes the tree."""
    found: set[bytes] = set()
    with tree_of(store, container) as (tree, _):
        seen = entries(tree)
    for path, kind in sorted(store.graph.mount_points(container.id), reverse=True):
        entry = seen.get(path)
        if entry is None or entry.owner != (0, 0) or entry.xattrs:
            continue
        below = {other for other in seen if other.startswith(path + b"/")}
        if kind == FILE and entry.mode == 0o100644 and entry.size == 0 and len(entry.names) == 1:
            found.add(path)
        if kind == DIRECTORY and entry.mode == 0o40755 and below <= found:
            found.add(path)
    return found


Scene = Callable[[Store, Script, list[tuple[bytes, str]], Script], None]


def for_any(*strategies: st.SearchStrategy[Any]) -> Callable[[Scene], Callable[[Store], None]]:
    """A test on any scene, and on fewer where each takes seconds."""

    def decorated(scene: Scene) -> Callable[[Store], None]:
        def test(store: Store) -> None:
            most = 5 if store.backend.name == "zfs" else 25
            checks = list(HealthCheck)

            @settings(max_examples=most, deadline=None, suppress_health_check=checks)
            @given(*strategies)
            def holds(making: Script, wanted: list[tuple[bytes, str]], edit: Script) -> None:
                scene(store, making, wanted, edit)

            holds()

        test.__name__ = scene.__name__
        return test

    return decorated


@for_any(MAKING, ANYWHERE, ANY_EDIT)
def test_whatever_is_done_only_what_is_as_it_was_made_is_left_out(
    store: Store, making: Script, wanted: list[tuple[bytes, str]], edit: Script
) -> None:
    image = any_image(store, making)
    [container] = store.create(image)
    before = tree_entries(store, container)
    prepare_what_can_be(store, container, wanted)
    made = {path for path, _ in store.graph.mount_points(container.id)}
    now = tree_entries(store, container)
    assert {path: entry for path, entry in now.items() if path not in made} == before
    assert diff(store, container) == []

    with tree_of(store, container) as (tree, _):
        change(tree, edit)
    left = still_as_made(store, container)
    kept = {
        path: entry for path, entry in tree_entries(store, container).items() if path not in left
    }
    expected = difference(before, kept)
    assert diff(store, container) == expected
    committed = commit(store, container)
    assert tree_entries(store, committed) == kept
    assert diff(store, committed) == expected
    remove(store, container, committed)


@for_any(MAKING, ASIDE, GENTLE)
def test_a_container_changes_as_its_twin_that_was_not_prepared(
    store: Store, making: Script, wanted: list[tuple[bytes, str]], edit: Script
) -> None:
    one, twin = store.create(any_image(store, making), count=2)
    prepare_what_can_be(store, one, wanted)
    # An edit of a mount point itself has nothing to do in the twin.
    assume(all(b"mp" in path.split(b"/") for path, _ in store.graph.mount_points(one.id)))
    for container in (one, twin):
        # Some steps write what the paths are that they are given.
        with tree_of(store, container) as (tree, _), contextlib.chdir(tree):
            change(Path(), edit)
    changes = diff(store, one)
    assert changes == diff(store, twin)
    # Only what was changed was changed a moment later in the twin.
    changed = {path for path, _ in changes}
    committed = commit(store, one), commit(store, twin)
    trees = [
        {
            path: entry._replace(mtime=0) if path in changed else entry
            for path, entry in tree_entries(store, image).items()
        }
        for image in committed
    ]
    assert trees[0] == trees[1]
    remove(store, one, *committed)


def remove(store: Store, container: Container, *images: Image) -> None:
    """Make room for the next example."""
    for other in store.graph.containers():
        if other.image == container.image:
            store.remove_container(other)
    for image in images:
        store.remove_image(image.id)
