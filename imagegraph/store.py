"""Store: the graph and the backend kept in step; the Python API that everything else uses.

    with Store.open("/var/lib/cowshed") as store:
        image = store.image("debian:12")
        [container] = store.create(image)
        with store.open_tree(container) as tree:
            open(f"{tree}/etc/motd", "w").write("moo\\n")
        for change in store.diff(container):
            print(change.kind, change.path)
        store.commit(container, parse("debian:motd"), comment="a greeting")
        store.remove_container(container)

Concurrency: any number of processes may use one root, each through a Store of its own, used by
one thread. Every change that touches graph and disk is three steps: a row in state `creating`
(or `removing`) is committed, the backend acts, the row is committed as `ready` (or
deleted). A process that is killed between two steps leaves a row that nobody sees and whose owner
is known to be dead; whoever meets it, and `check` with repair, ends it. What has been
returned to the caller survives a power cut.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from backends import detect
from backends.base import CONTAINERS, LAYERS, Backend, Volume
from backends.changes import Change, Compared
from imagegraph import attachments, departure, publishing, records, removal, reserve, undoing
from imagegraph import config as configs
from imagegraph.errors import NameInUse, NotFound, StoreError
from imagegraph.founding import founded, founding
from imagegraph.graph import Graph
from imagegraph.model import Container, DataVolume, Image, Removed, new_id
from imagegraph.names import check, random_name
from imagegraph.owners import Owner
from imagegraph.reference import Reference

DEFAULT_ROOT = "/var/lib/cowshed"
DATABASE = "graph.sqlite3"

Fill = Callable[[str], int]
"""Puts a tree into the directory that it is given; returns the bytes of its regular files."""


class Store:
    """A store's graph and backend. Make one with `Store.open`; it is a context manager."""

    def __init__(self, root: str, graph: Graph, backend: Backend) -> None:
        self.root = root
        self.graph = graph
        self.backend = backend
        self.owner = Owner(f"{root}/owners.lock")

    @classmethod
    def open(cls, root: str = DEFAULT_ROOT, *, backend: str | None = None) -> Self:
        """Open the store at `root`; where there is none yet, make one with the defaults.

        `backend` is the name the store must have (btrfs, zfs, loopback, vfs). Raises StoreError,
        BackendError.
        """
        root = os.path.realpath(root)
        if not founded(f"{root}/{DATABASE}"):
            return cls.init(root, backend=backend)
        graph = Graph(f"{root}/{DATABASE}")
        try:
            name = graph.setting("backend")
            if name is not None:
                _require_backend(root, name, backend)
                return cls(root, graph, detect.open_backend(root, name))
        except BaseException:
            graph.close()
            raise
        graph.close()
        return cls.init(root, backend=backend)

    @classmethod
    def init(
        cls,
        root: str = DEFAULT_ROOT,
        *,
        backend: str | None = None,
        size: int | None = None,
        quota: bool = False,
        dataset: str | None = None,
    ) -> Self:
        """Make a store at `root`, or bring the one there to the `size` and `quota` asked for.

        `size`: bytes of a loopback pool. `dataset`: the ZFS dataset for the volumes, which is
        made. Raises StoreError, BackendError.
        """
        if dataset is not None:
            backend = backend or "zfs"
        # The kernel names mounts by their real paths.
        root = os.path.realpath(root)
        path = f"{root}/{DATABASE}"
        with founding(path) as new, contextlib.ExitStack() as stack:
            graph, there = None, None
            if not new:
                graph = stack.enter_context(contextlib.closing(Graph(path)))
                there = graph.setting("backend")
            name = there or backend or detect.choose(root)
            _require_backend(root, name, backend)
            if there:
                # A pool that is gone is to be put back, and never made anew.
                detect.open_backend(root, name)
            detect.prepare(root, name, size=size, quota=quota, dataset=dataset)
            opened = detect.open_backend(root, name)
            if graph is None:
                if name == "btrfs":
                    reserve.overwrite_in_place(path)
                graph = stack.enter_context(contextlib.closing(Graph(path)))
            graph.settle("backend", name)
            stack.pop_all()
            return cls(root, graph, opened)

    def close(self) -> None:
        self.owner.close()
        self.graph.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Looking up

    def image(self, name: str) -> Image:
        """The image that `name` means: repository:tag, repository@digest, or an id prefix.

        Raises NotFound, Ambiguous, InvalidReference.
        """
        from imagegraph.lookup import find_image

        return find_image(self.graph, name)

    def container(self, name: str) -> Container:
        """The container with that name or id prefix. Raises NotFound, Ambiguous."""
        from imagegraph.lookup import find_container

        return find_container(self.graph, name)

    # Making images

    def add_image(
        self,
        fill: Fill,
        document: dict[str, Any],
        reference: Reference | None = None,
        *,
        form: str = "docker",
    ) -> Image:
        """Make an image of one layer whose tree `fill` writes, with the config `document`.

        Raises what `fill` raises, after everything was undone; BackendError.
        """
        return publishing.add_image(self, fill, document, reference, form)

    def commit(
        self,
        container: Container,
        reference: Reference | None = None,
        *,
        author: str = "",
        comment: str = "",
        change: Callable[[dict[str, Any]], dict[str, Any]] = lambda config: config,
        squash: bool = False,
        form: str = "docker",
        frozen: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> tuple[Image, list[str]]:
        """Make an image of the container as it is now: one snapshot, whatever it weighs.

        `change` turns the container's config into the image's; `squash` makes it a single layer.
        The snapshot is made within `frozen`, which may hold still who writes to the container.
        Returns the image and the nested subvolumes whose contents were copied in.
        Raises BackendError; Conflict if the container's image is gone.
        """
        return publishing.commit(
            self,
            container,
            reference,
            author=author,
            comment=comment,
            change=change,
            squash=squash,
            form=form,
            frozen=frozen,
        )

    def tag(self, image: Image, reference: Reference) -> None:
        """Point the tag to the image, wherever it pointed before. Raises NotFound."""
        publishing.tag(self, image, reference)

    def remove_image(self, name: str, *, force: bool = False, prune: bool = True) -> list[Removed]:
        """Untag `name`, and remove the image that no tag, child or container needs any more.

        `force`: also where a container is cloned from it (it then stays, untagged) or tags in
        several repositories would go. `prune`: untagged ancestors that nothing else needs go too.
        Raises NotFound, Ambiguous, Conflict.
        """
        return removal.remove_image(self, name, force=force, prune=prune)

    # Containers

    def create(
        self,
        image: Image,
        *,
        name: str | None = None,
        count: int = 1,
        size: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> list[Container]:
        """Clone `count` containers from the image, all of them or none.

        `name`: of the one, or the stem of several (`name-1`, ...); by default a random one each.
        `size`: bytes that each may add to the image. The data volumes that image and options ask
        for are made and attached. Raises NameInUse, NotFound, StoreError, BackendError.
        """
        options = options or {}
        inner = configs.load(image.config).get("config") or {}
        wants = attachments.wanted(configs.overlaid(inner, options.get("Config", {})), options)
        containers = self._named(image, name, count, size, options)
        source = Volume(LAYERS, image.layer)
        try:
            for container in containers:
                volume = Volume(CONTAINERS, container.id)
                self.backend.create(volume, source, records.of_container(container))
                if size is not None:
                    self.backend.limit(volume, size)
            made = self._attach(containers, wants) if wants else []
            with self.graph.writing():
                for fresh in made:
                    self.graph.ready_volume(fresh.id)
                for container in containers:
                    self.graph.ready_container(container.id)
        except BaseException:
            if wants:
                self._detach(containers)
            self.undo("containers", [container.id for container in containers])
            raise
        return containers

    def _attach(
        self, containers: list[Container], wants: list[attachments.Wanted]
    ) -> list[DataVolume]:
        """The data volumes that were made for new containers, and become ready with them."""
        from imagegraph import volumes

        return volumes.attach(self, containers, wants)

    def _detach(self, containers: list[Container]) -> None:
        from imagegraph import volumes

        volumes.undo(self, containers)

    def _named(
        self, image: Image, name: str | None, count: int, size: int | None, options: dict[str, Any]
    ) -> list[Container]:
        """Rows in state `creating` for new containers, each with a name of its own."""
        if name is not None:
            check(name)
        for attempt in range(10):
            names = [_name(name, count, number, attempt) for number in range(1, count + 1)]
            containers = [
                Container(new_id(), own, image.id, time.time_ns(), size, options) for own in names
            ]
            try:
                with self.graph.writing():
                    for container in containers:
                        self.graph.add_container(container, self.owner.token)
                return containers
            except sqlite3.IntegrityError as error:
                if self.graph.image(image.id) is None:
                    raise NotFound(f"image {image.id[:12]} was removed meanwhile") from error
                self.reap()
                taken = ", ".join(own for own in names if self.graph.name_is_taken(own))
                if name is not None and taken:
                    raise NameInUse(
                        f"the container name {taken} is in use: remove or rename that"
                        " container, or take another name"
                    ) from error
        raise NameInUse("no free name was found: give one with --name")

    def rename(self, container: Container, name: str) -> None:
        """Raises NameInUse, NotFound."""
        check(name)
        if self.graph.name_is_taken(name):
            self.reap()
        try:
            with self.graph.writing():
                if not self.graph.rename_container(container.id, name):
                    raise NotFound(f"container {container.name} was removed meanwhile")
        except sqlite3.IntegrityError as error:
            raise NameInUse(f"the container name {name} is in use") from error
        records.describe_container(self.graph, self.backend, container.id)

    def remove_container(
        self, container: Container, *, force: bool = False, volumes: bool = False
    ) -> list[str]:
        """Remove the container and its volume; `force` unmounts it first.

        `force` also destroys the snapshots that others have made of the volume: their names are
        returned. `volumes`: its anonymous data volumes go with it, unless another container has
        them. Raises Conflict, naming the snapshots, or the mount or process that uses it; the
        container then stays.
        """
        return departure.remove_container(self, container, force=force, with_volumes=volumes)

    # Trees

    def volume(self, thing: Image | Container) -> Volume:
        """The volume that holds the tree of an image or a container."""
        if isinstance(thing, Container):
            return Volume(CONTAINERS, thing.id)
        return Volume(LAYERS, thing.layer)

    def open_tree(self, thing: Image | Container) -> contextlib.AbstractContextManager[str]:
        """The path of the tree while the context lasts; an image's is read-only."""
        return self.backend.open(self.volume(thing))

    def frozen_tree(self, thing: Image | Container) -> contextlib.AbstractContextManager[str]:
        """The path of the tree as it is now, for reading while the container is in use."""
        return self.backend.frozen(self.volume(thing))

    def diff(self, thing: Image | Container, base: Image | None = None) -> Iterator[Change]:
        """The changes from `base` to the image or container, in byte order of paths.

        Without `base`: from the image that the container was cloned from, or from the image's
        parent layer (an empty tree if it has none). Mount points made for a container to run are
        no addition (see mount_points).
        """
        if isinstance(thing, Container) and self.graph.mount_points(thing.id):
            return _changes(self.compared(thing, base))
        return self.backend.changes(self.volume(thing), self._below(thing, base))

    def compared(
        self, thing: Image | Container, base: Image | None = None
    ) -> contextlib.AbstractContextManager[Compared]:
        """The trees that `diff` compares, as they are now, and their changes."""
        compared = self.backend.compared(self.volume(thing), self._below(thing, base))
        if isinstance(thing, Container):
            from imagegraph import mount_points

            return mount_points.left_out(self, thing, compared)
        return compared

    def _below(self, thing: Image | Container, base: Image | None) -> Volume | None:
        if base is not None:
            return Volume(LAYERS, base.layer)
        if isinstance(thing, Container):
            image = self.graph.image(thing.image)
            if image is None:
                raise NotFound(f"container {thing.name} was removed meanwhile")
            return Volume(LAYERS, image.layer)
        chain = self.graph.chain(thing.layer)
        return Volume(LAYERS, chain[1].id) if len(chain) > 1 else None

    # What failed, and what a crash left

    def undo(self, table: str, ids: list[str]) -> None:
        """End what this process began and did not finish; `table` is that of its rows.

        Where the disk or the graph refuses, the rows stay for `reap`. What is `ready` stays: an
        interruption may come between its publication and the end of the operation.
        """
        undoing.undo(self, table, ids)

    def reap(self) -> list[Removed]:
        """End what dead processes left half-done, which nobody sees.

        What cannot be removed yet stays, and is `check`'s to tell.
        """
        return undoing.reap(self)


def _require_backend(root: str, name: str, wanted: str | None) -> None:
    """Raises StoreError if there is no backend `name`, or it is not the one that is wanted."""
    if wanted not in (None, name):
        raise StoreError(f"the store at {root} is a {name} store, not a {wanted} one")
    if name not in detect.NAMES:
        raise StoreError(f"there is no backend {name}: take {', '.join(detect.NAMES)}")


def _changes(compared: contextlib.AbstractContextManager[Compared]) -> Iterator[Change]:
    with compared as both:
        yield from both.changes


def _name(stem: str | None, count: int, number: int, attempt: int) -> str:
    if stem is None:
        # Later attempts, and many at once, need more room than the words have.
        crowded = attempt or count > 1
        return random_name() + (f"_{os.urandom(3).hex()}" if crowded else "")
    return stem if count == 1 else f"{stem}-{number}"
