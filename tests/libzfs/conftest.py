"""What the tests of libzfs stand on: a real pool on files, made by the commands themselves.

Tests that need no pool run anywhere; those that do carry the marker `zfs`.
"""

import logging
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends import libzfs
from backends.libzfs import run
from tests.conftest import require

# Sessions run side by side.
POOL = f"cowtest{os.getpid()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses the fixture `zfs`, however indirectly, needs a pool."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and "zfs" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.zfs)


@pytest.fixture(scope="session")
def zfs() -> libzfs.ZFS:
    require("zfs")
    return libzfs.ZFS()


def command(*argv: str) -> str:
    """What the command itself says: the oracle of these tests."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(argv, check=True, capture_output=True, env=environment)
    return os.fsdecode(done.stdout)


@pytest.fixture(scope="session")
def disks(zfs: libzfs.ZFS, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """Makes files of 128 MiB to be vdevs of; a space is in every path."""
    directory = tmp_path_factory.mktemp("vdevs of ZFS")

    def make(count: int) -> list[str]:
        paths = [directory / f"disk {uuid.uuid4().hex[:8]}" for _ in range(count)]
        for path in paths:
            with path.open("wb") as file:
                file.truncate(128 << 20)
        return [str(path) for path in paths]

    return make


def vdev(zfs: libzfs.ZFS, kind: str, *parts: str) -> libzfs.ZFSVdev:
    """A vdev to make a pool of, of files at these paths."""
    made = libzfs.ZFSVdev(zfs, kind)
    if kind == "file":
        made.path = parts[0]
    else:
        made.children = [vdev(zfs, "file", path) for path in parts]
    return made


@pytest.fixture
def names() -> Iterator[Callable[[], str]]:
    """Gives names of pools that are destroyed at the end."""
    given: list[str] = []

    def give() -> str:
        given.append(f"cow test {uuid.uuid4().hex[:6]}")
        return given[-1]

    yield give
    for name in given:
        subprocess.run(["zpool", "destroy", "-f", name], capture_output=True)


@pytest.fixture(scope="session")
def pool(
    disks: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The name of a pool that the session shares: take a dataset of your own in it."""
    mountpoint = tmp_path_factory.mktemp("mounted")
    command("zpool", "create", "-m", str(mountpoint), POOL, *disks(1))
    try:
        yield POOL
    finally:
        command("zpool", "destroy", "-f", POOL)


@pytest.fixture
def dataset(zfs: libzfs.ZFS, pool: str) -> Iterator[libzfs.ZFSDataset]:
    """A mounted filesystem of the test's own, with a space in its name."""
    name = f"{pool}/data set {uuid.uuid4().hex[:8]}"
    command("zfs", "create", name)
    try:
        yield zfs.get_dataset(name)
    finally:
        subprocess.run(["zfs", "destroy", "-Rf", name], capture_output=True)


@pytest.fixture
def tree(dataset: libzfs.ZFSDataset) -> Path:
    """Where that filesystem is mounted."""
    assert dataset.mountpoint
    return Path(dataset.mountpoint)


@pytest.fixture
def commands() -> Iterator[list[str]]:
    """The commands that the package has started, as text, since the test cleared the list."""
    seen: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    handler = Note()
    run.log.addHandler(handler)
    level = run.log.level
    run.log.setLevel(logging.DEBUG)
    try:
        yield seen
    finally:
        run.log.removeHandler(handler)
        run.log.setLevel(level)
