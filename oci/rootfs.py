"""Root filesystems in and out of a store: a tar or a directory becomes an image, a tree a tar."""

import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO

from backends.copy import copy_tree
from imagegraph import config as configs
from imagegraph import mount_points
from imagegraph.instructions import apply_all
from imagegraph.model import Container, Image
from imagegraph.reference import Reference
from imagegraph.store import Store
from oci.errors import ArchiveError

STDIN = "-"

Progress = Callable[[int], None]
"""Told how many bytes have gone by since it was last called."""


def import_rootfs(
    store: Store,
    source: str,
    reference: Reference | None = None,
    *,
    message: str = "",
    changes: Iterable[str] = (),
    architecture: str = "",
    operating_system: str = "linux",
    variant: str = "",
    progress: Progress | None = None,
) -> Image:
    """Make an image of one layer of `source`: a tar, compressed or not, a directory, or STDIN.

    `changes` are Dockerfile instructions for its config; architecture and variant are by default
    this machine's, the message Docker's. `progress` hears of the bytes read from an archive.
    Raises InvalidInstruction, ArchiveError and BackendError; nothing is left behind then.
    """
    config = apply_all({}, changes)
    if not architecture:
        architecture, own = configs.host_platform()
        variant = variant or own
    document = configs.new(
        created=time.time_ns(),
        comment=message or f"Imported from {os.fsencode(source).decode(errors='replace')}",
        architecture=architecture,
        os=operating_system,
        variant=variant,
        config=config,
    )

    def fill(tree: str) -> int:
        if source != STDIN and os.path.isdir(source):
            return _copy(source, tree, store.root)
        return _unpack(source, tree, progress)

    _must_exist(source)
    return store.add_image(fill, document, reference)


def _must_exist(source: str) -> None:
    if source != STDIN and not os.path.exists(source):
        hint = "; download it, and pipe it to import -" if "://" in source else ""
        raise ArchiveError(f"cannot read {source}: there is no such file or directory{hint}")


def _copy(source: str, tree: str, root: str) -> int:
    inside = os.path.realpath(root)
    if os.path.commonpath((inside, os.path.realpath(source))) == os.path.realpath(source):
        raise ArchiveError(f"{source} holds the store {root} itself: import a tree without it")
    return copy_tree(source, tree).bytes


def _unpack(source: str, tree: str, progress: Progress | None) -> int:
    from oci.layer import apply

    try:
        with open(0 if source == STDIN else source, "rb", closefd=source != STDIN) as archive:
            return apply(archive, tree, progress=progress).size
    except OSError as error:
        raise ArchiveError(f"cannot read {source}: {error.strerror}") from error


def archive_size(source: str) -> int | None:
    """Bytes that an import of `source` will read; None where that is not known."""
    try:
        status = os.fstat(0) if source == STDIN else os.stat(source)
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def export_rootfs(
    store: Store,
    thing: Image | Container,
    out: BinaryIO,
    *,
    progress: Progress | None = None,
) -> list[bytes]:
    """Write the files of an image or container to `out` as one tar.

    Mount points that were made for a container to run are not among them. Returns the paths of
    sockets, which no tar can hold. Raises BackendError, TreeChanged; an OSError is that of `out`.
    """
    from oci.layer import make

    with store.open_tree(thing) as tree:
        return make(tree, out, without=_mount_points(store, thing, tree), progress=progress)


def _mount_points(store: Store, thing: Image | Container, tree: str) -> set[bytes]:
    if isinstance(thing, Image):
        return set()
    return mount_points.hidden(tree, store.graph.mount_points(thing.id))
