"""Store against a model of it in memory: any operations in any order, and the two must agree.

COWSHED_EXAMPLES=1000 makes a long run of it.
"""

import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from imagegraph import listing, removal
from imagegraph.errors import Conflict, NameInUse
from imagegraph.model import Container, Image
from imagegraph.reference import parse
from imagegraph.store import Store
from tests.store.scenes import Files, add_image, assert_sound, contents

EXAMPLES = int(os.environ.get("COWSHED_EXAMPLES", "50"))
STEPS = 30
PATHS = st.sampled_from(["a", "b", "c.d", "ü"])
CONTENTS = st.binary(max_size=20) | st.integers(4000, 5000).map(bytes)
FILES = st.dictionaries(PATHS, CONTENTS, max_size=3)
TAGS = st.sampled_from(["one:1", "one:2", "two:1", "host.example/two:1"])
NAMES = st.sampled_from(["web", "web-1", "db"])
PICKS = st.integers(0, 1 << 30)


@dataclass
class MadeImage:
    """An image as the model knows it."""

    files: Files
    parent: str | None
    tags: set[str] = field(default_factory=set)


@dataclass
class MadeContainer:
    """A container as the model knows it."""

    name: str
    image: str
    files: Files


class Forest:
    """What the store should hold. Nothing here knows how it does so."""

    def __init__(self) -> None:
        self.images: dict[str, MadeImage] = {}
        self.containers: dict[str, MadeContainer] = {}

    def users(self, image: str) -> list[str]:
        return [id for id, made in self.containers.items() if made.image == image]

    def children(self, image: str) -> list[str]:
        return [id for id, made in self.images.items() if made.parent == image]

    def named(self) -> set[str]:
        return {made.name for made in self.containers.values()}

    def point(self, tag: str, image: str) -> None:
        for made in self.images.values():
            made.tags.discard(tag)
        self.images[image].tags.add(tag)

    def refuses(self, image: str, tag: str | None, force: bool) -> bool:
        """Whether `rmi` of the image, by its id or that tag, is to be refused."""
        tags = self.images[image].tags
        if tag is not None and len(tags) > 1:
            return False
        if self.users(image) and (not force or not tags):
            return True
        if self.children(image) and not tags:
            return True
        several = len({each.partition(":")[0] for each in tags}) > 1
        return several and tag is None and not force

    def remove(self, image: str, tag: str | None, prune: bool) -> None:
        made = self.images[image]
        made.tags -= made.tags if tag is None else {tag}
        step: str | None = image
        while step is not None and self._serves_nobody(step):
            above = self.images.pop(step).parent
            step = above if prune else None

    def prune(self, unused: bool) -> None:
        self.containers.clear()
        if unused:
            for made in self.images.values():
                made.tags.clear()
        while useless := [id for id in self.images if self._serves_nobody(id)]:
            for id in useless:
                del self.images[id]

    def _serves_nobody(self, image: str) -> bool:
        return not (self.images[image].tags or self.users(image) or self.children(image))


class StoreMachine(RuleBasedStateMachine):
    """Does the same to a store and to a Forest."""

    def __init__(self, root: Path, backend: str) -> None:
        super().__init__()
        self.store = Store.init(str(root), backend=backend)
        self.model = Forest()

    # Choosing

    def an_image(self, pick: int) -> Image:
        # By age: ids are random, and a failure must be reproducible.
        ids = list(self.model.images)
        found = self.store.graph.image(ids[pick % len(ids)])
        assert found is not None
        return found

    def a_container(self, pick: int) -> Container:
        ids = list(self.model.containers)
        return self.store.container(ids[pick % len(ids)])

    def are_images(self) -> bool:
        return bool(self.model.images)

    def are_containers(self) -> bool:
        return bool(self.model.containers)

    # Doing

    @initialize(files=FILES)
    def begin(self, files: Files) -> None:
        self.add(files, "one:1")

    @rule(files=FILES, tag=st.none() | TAGS)
    def add(self, files: Files, tag: str | None) -> None:
        image = add_image(self.store, files, tag)
        self.model.images[image.id] = MadeImage(dict(files), None)
        if tag:
            self.model.point(tag, image.id)

    @precondition(are_images)
    @rule(pick=PICKS, name=st.none() | NAMES, count=st.integers(1, 3))
    def create(self, pick: int, name: str | None, count: int) -> None:
        image = self.an_image(pick)
        wanted = {name} if count == 1 else {f"{name}-{number}" for number in range(1, count + 1)}
        if name is not None and wanted & self.model.named():
            with pytest.raises(NameInUse):
                self.store.create(image, name=name, count=count)
            return
        made = self.store.create(image, name=name, count=count)
        assert len(made) == count
        assert name is None or {container.name for container in made} == wanted
        for container in made:
            files = dict(self.model.images[image.id].files)
            self.model.containers[container.id] = MadeContainer(container.name, image.id, files)

    @precondition(are_containers)
    @rule(pick=PICKS, files=FILES, gone=st.none() | PATHS)
    def write(self, pick: int, files: Files, gone: str | None) -> None:
        container = self.a_container(pick)
        known = self.model.containers[container.id].files
        with self.store.open_tree(container) as tree:
            for path, content in files.items():
                Path(tree, path).write_bytes(content)
            if gone in known and gone not in files:
                Path(tree, gone).unlink()
                del known[gone]
        known.update(files)

    @precondition(are_containers)
    @rule(pick=PICKS, tag=st.none() | TAGS, squash=st.booleans())
    def commit(self, pick: int, tag: str | None, squash: bool) -> None:
        container = self.a_container(pick)
        known = self.model.containers[container.id]
        reference = parse(tag) if tag else None
        image, _ = self.store.commit(container, reference, squash=squash)
        parent = None if squash else known.image
        self.model.images[image.id] = MadeImage(dict(known.files), parent)
        if tag:
            self.model.point(tag, image.id)

    @precondition(are_images)
    @rule(pick=PICKS, tag=TAGS)
    def tag(self, pick: int, tag: str) -> None:
        image = self.an_image(pick)
        self.store.tag(image, parse(tag))
        self.model.point(tag, image.id)

    @precondition(are_images)
    @rule(pick=PICKS, by_tag=st.booleans(), force=st.booleans(), prune=st.booleans())
    def rmi(self, pick: int, by_tag: bool, force: bool, prune: bool) -> None:
        image = self.an_image(pick).id
        tags = sorted(self.model.images[image].tags)
        tag = tags[pick % len(tags)] if by_tag and tags else None
        if self.model.refuses(image, tag, force):
            with pytest.raises(Conflict):
                self.store.remove_image(tag or image, force=force, prune=prune)
            return
        self.store.remove_image(tag or image, force=force, prune=prune)
        self.model.remove(image, tag, prune)

    @precondition(are_containers)
    @rule(pick=PICKS)
    def rm(self, pick: int) -> None:
        container = self.a_container(pick)
        self.store.remove_container(container)
        del self.model.containers[container.id]

    @precondition(are_containers)
    @rule(pick=PICKS, name=NAMES)
    def rename(self, pick: int, name: str) -> None:
        container = self.a_container(pick)
        known = self.model.containers[container.id]
        if name in self.model.named() - {known.name}:
            with pytest.raises(NameInUse):
                self.store.rename(container, name)
            return
        self.store.rename(container, name)
        known.name = name

    @rule(unused=st.booleans())
    def prune(self, unused: bool) -> None:
        removal.prune(self.store, unused=unused)
        self.model.prune(unused)

    # Agreeing

    @invariant()
    def images_are_as_in_the_model(self) -> None:
        listed = {row.image.id: row for row in listing.images(self.store, every=True)}
        assert listed.keys() == self.model.images.keys()
        for id, made in self.model.images.items():
            row = listed[id]
            assert set(map(str, row.tags)) == made.tags
            assert row.image.parent == made.parent
            assert row.containers == len(self.model.users(id))
            assert row.dangling == (not made.tags and not self.model.children(id))
        shown = {row.image.id for row in listing.images(self.store)}
        assert shown == {id for id, row in listed.items() if row.tags or row.dangling}

    @invariant()
    def containers_are_as_in_the_model(self) -> None:
        rows = [row.container for row in listing.containers(self.store, every=True)]
        assert {row.id: (row.name, row.image) for row in rows} == {
            id: (made.name, made.image) for id, made in self.model.containers.items()
        }

    @invariant()
    def changes_are_what_differs_from_the_image(self) -> None:
        for id, made in itertools.islice(reversed(self.model.containers.items()), 2):
            before, after = self.model.images[made.image].files, made.files
            found = {
                path.decode(): kind for path, kind in self.store.diff(self.store.container(id))
            }
            found.pop("", None)
            shared = before.keys() & after.keys()
            assert {path for path, kind in found.items() if kind == "added"} == (
                after.keys() - before.keys()
            )
            assert {path for path, kind in found.items() if kind == "deleted"} == (
                before.keys() - after.keys()
            )
            differing = {path for path in shared if before[path] != after[path]}
            assert differing <= {path for path, kind in found.items() if kind == "modified"}

    def teardown(self) -> None:
        try:
            for id, made in self.model.containers.items():
                assert contents(self.store, self.store.container(id)) == made.files
            for id, known in self.model.images.items():
                assert contents(self.store, self.store.image(id)) == known.files
            assert_sound(self.store)
            removal.prune(self.store, unused=True)
            assert list(self.store.backend.volumes()) == []
            assert_sound(self.store)
        finally:
            self.store.close()


def test_the_store_is_what_the_model_says(root: tuple[Path, str]) -> None:
    here, backend = root
    here.mkdir()
    numbers = itertools.count()
    run_state_machine_as_test(
        lambda: StoreMachine(here / str(next(numbers)), backend),
        settings=settings(
            # On ZFS each step is some commands, and to shrink a failure takes half an hour.
            max_examples=EXAMPLES // 12 if backend == "zfs" else EXAMPLES,
            stateful_step_count=STEPS // 2 if backend == "zfs" else STEPS,
            phases=set(Phase) - {Phase.shrink} if backend == "zfs" else set(Phase),
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
