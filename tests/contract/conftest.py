"""The backends that the contract holds for, and what its tests make with them.

A new backend is one line in BACKENDS: how to make one on a fresh pool, and what it claims.
"""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Backend, Volume
from tests.trees import fill

CLONES = "a clone takes no space"
FILES = "a volume is a directory among others, which anyone may put there"
NO_QUOTA = "quotas are to be turned on first, or cannot be"
NESTED = "a volume may hold nested subvolumes"


class Pool(NamedTuple):
    """A pool for one test: where it is, and how any process opens it."""

    base: Path
    open: Callable[[str], Backend]
    imported: str
    """What another process executes to have `backend`, given the base as `base`."""
    lose_record: Callable[[Volume], None]
    away: Callable[[], AbstractContextManager[str]]
    """Have it vanish while the context lasts; gives the name by which it is missed."""
    tree: Callable[[str], AbstractContextManager[str]]
    """The path of the tree that is kept at a location."""


def _plain(base: Path, open: Callable[[str], Backend], imported: str) -> Pool:
    """A pool that is a directory."""

    def lose_record(volume: Volume) -> None:
        (base / "records" / f"{volume.kind}-{volume.id}").unlink()

    @contextmanager
    def away() -> Iterator[str]:
        base.rename(base.with_name("away"))
        try:
            yield str(base)
        finally:
            base.with_name("away").rename(base)

    return Pool(base, open, imported, lose_record, away, nullcontext)


def _vfs(request: pytest.FixtureRequest) -> Iterator[Pool]:
    from backends import vfs

    base = request.getfixturevalue("tmp_path") / "pool"
    vfs.prepare(str(base))
    yield _plain(base, vfs.VfsBackend, "from backends.vfs import VfsBackend as Backend")


def _btrfs(request: pytest.FixtureRequest) -> Iterator[Pool]:
    mount = request.getfixturevalue("btrfs_mount")
    from backends import btrfs

    with tempfile.TemporaryDirectory(dir=mount, ignore_cleanup_errors=True) as directory:
        base = Path(directory, "pool")
        btrfs.prepare(str(base))
        yield _plain(base, btrfs.BtrfsBackend, "from backends.btrfs import BtrfsBackend as Backend")
        subprocess.run(["btrfs", "subvolume", "delete", base], capture_output=True)


def _zfs(request: pytest.FixtureRequest) -> Iterator[Pool]:
    zpool, root = request.getfixturevalue("zpool"), request.getfixturevalue("tmp_path")
    from backends import detached, zfs, zfs_dataset

    dataset = f"{zpool}/{secrets.token_hex(4)}"
    zfs_dataset.prepare(str(root), dataset)

    def lose_record(volume: Volume) -> None:
        name = f"{dataset}/{volume.kind}/{volume.id}"
        subprocess.run(["zfs", "inherit", "cowshed:record", name], check=True)

    @contextmanager
    def away() -> Iterator[str]:
        subprocess.run(["zfs", "rename", dataset, f"{dataset}-away"], check=True)
        try:
            yield dataset
        finally:
            subprocess.run(["zfs", "rename", f"{dataset}-away", dataset], check=True)

    @contextmanager
    def tree(location: str) -> Iterator[str]:
        with zfs_dataset.view(location, read_only=True, doing="look") as mounted:
            yield detached.path_of(mounted)

    imported = "from backends.zfs import ZfsBackend as Backend"
    yield Pool(root, zfs.ZfsBackend, imported, lose_record, away, tree)
    subprocess.run(["zfs", "destroy", "-R", dataset], check=True)


BACKENDS: dict[str, tuple[Callable[[pytest.FixtureRequest], Iterator[Pool]], frozenset[str]]] = {
    "vfs": (_vfs, frozenset({FILES, NO_QUOTA})),
    "btrfs": (_btrfs, frozenset({CLONES, FILES, NESTED, NO_QUOTA})),
    "zfs": (_zfs, frozenset({CLONES})),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ability(name): only for backends that claim it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each backend that claims every ability that the test is marked with."""
    if "pool" in metafunc.fixturenames:
        needed = {mark.args[0] for mark in metafunc.definition.iter_markers("ability")}
        claiming = [
            pytest.param(name, marks=pytest.mark.zfs if name == "zfs" else ())
            for name, (_, abilities) in BACKENDS.items()
            if needed <= abilities
        ]
        metafunc.parametrize("pool", claiming, indirect=True)


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    make, _ = BACKENDS[request.param]
    yield from make(request)


@pytest.fixture
def backend(pool: Pool) -> Backend:
    return pool.open(str(pool.base))


def new(kind: str) -> Volume:
    """A volume name that nothing has."""
    return Volume(kind, secrets.token_hex(32))


def layer(backend: Backend, write: Callable[[Path], None] = fill, record: bytes = b"") -> Volume:
    """A sealed layer, filled by `write`, by default with one of everything."""
    staging, sealed = new(STAGING), new(LAYERS)
    backend.create(staging)
    with backend.open(staging) as tree:
        write(Path(tree))
    backend.seal(staging, sealed, record)
    return sealed


def container(backend: Backend, parent: Volume | None = None, record: bytes = b"") -> Volume:
    """A container, cloned from `parent`."""
    volume = new(CONTAINERS)
    backend.create(volume, parent, record)
    return volume


def write(backend: Backend, volume: Volume, name: str, text: str) -> None:
    with backend.open(volume) as tree:
        Path(tree, name).write_text(text)


def read(backend: Backend, volume: Volume, name: str) -> str:
    with backend.open(volume) as tree:
        return Path(tree, name).read_text()


def present(backend: Backend, volume: Volume) -> bool:
    return volume in [found.volume for found in backend.volumes()]


@contextmanager
def process(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process that has printed its first line; killed at the end."""
    argv = [sys.executable, "-c", program, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(argv, text=True, **pipes) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline()
            yield child
        finally:
            child.kill()
