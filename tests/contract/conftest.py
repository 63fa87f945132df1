"""The backends that the contract holds for, and what its tests make with them.

A new backend is one line in BACKENDS: how to make one on a fresh pool, and what it claims.
"""

import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from backends.base import CONTAINERS, LAYERS, STAGING, Backend, Volume
from tests.trees import fill

CLONES = "a clone takes no space"
NESTED = "a volume may hold nested subvolumes"
QUOTA = "a volume can be limited"


class Pool(NamedTuple):
    """A pool for one test: where it is, and how any process opens it."""

    base: Path
    open: Callable[[str], Backend]
    imported: str
    """What another process executes to have `backend`, given the base as `base`."""


def _vfs(request: pytest.FixtureRequest) -> Iterator[Pool]:
    from backends import vfs

    base = request.getfixturevalue("tmp_path") / "pool"
    vfs.prepare(str(base))
    yield Pool(base, vfs.VfsBackend, "from backends.vfs import VfsBackend as Backend")


def _btrfs(request: pytest.FixtureRequest) -> Iterator[Pool]:
    mount = request.getfixturevalue("btrfs_mount")
    from backends import btrfs

    with tempfile.TemporaryDirectory(dir=mount, ignore_cleanup_errors=True) as directory:
        base = Path(directory, "pool")
        btrfs.prepare(str(base))
        yield Pool(base, btrfs.BtrfsBackend, "from backends.btrfs import BtrfsBackend as Backend")
        subprocess.run(["btrfs", "subvolume", "delete", base], capture_output=True)


BACKENDS: dict[str, tuple[Callable[[pytest.FixtureRequest], Iterator[Pool]], frozenset[str]]] = {
    "vfs": (_vfs, frozenset()),
    "btrfs": (_btrfs, frozenset({CLONES, NESTED, QUOTA})),
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ability(name): only for backends that claim it")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once for each backend that claims every ability that the test is marked with."""
    if "pool" in metafunc.fixturenames:
        needed = {mark.args[0] for mark in metafunc.definition.iter_markers("ability")}
        claiming = [name for name, (_, abilities) in BACKENDS.items() if needed <= abilities]
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
