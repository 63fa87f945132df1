"""What the tests of the ZFS backend are made of."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from backends import zfs_dataset
from backends.base import LAYERS, STAGING, Volume
from backends.zfs import ZfsBackend
from tests.conftest import new_zpool
from tests.contract.conftest import new, present, write

MIB = 1 << 20


def zfs(*argv: str) -> str:
    """What the command printed: the oracle of these tests."""
    return subprocess.run(["zfs", *argv], check=True, capture_output=True, text=True).stdout


def home(backend: ZfsBackend) -> str:
    """The store's dataset."""
    return backend.location(Volume(LAYERS, "")).removesuffix(f"/{LAYERS}/")


def root_of(backend: ZfsBackend) -> str:
    return zfs("get", "-Hpo", "value", zfs_dataset.ROOT, home(backend)).removesuffix("\n")


def everything(backend: ZfsBackend) -> set[str]:
    """Every dataset and snapshot in the store's dataset."""
    return set(zfs("list", "-Hrt", "all", "-o", "name", home(backend)).splitlines())


def one(tree: Path) -> None:
    (tree / "a").write_text("1")


def commit(backend: ZfsBackend, source: Volume, text: str | None = None) -> Volume:
    """A layer of the container, in whose file `a` the text is first."""
    if text is not None:
        write(backend, source, "a", text)
    made = new(LAYERS)
    backend.snapshot(source, made)
    return made


def problems(backend: ZfsBackend) -> dict[Volume, str]:
    return {found.volume: found.problem for found in backend.volumes() if found.problem}


@contextlib.contextmanager
def pool_of_its_own(directory: Path, size: int = 160 * MIB) -> Iterator[tuple[ZfsBackend, str]]:
    """A backend on a small pool, in which nothing is compressed; half of the pool can be used."""
    with new_zpool(directory, size) as pool:
        zfs("set", "compression=off", pool)
        root = directory / "root"
        root.mkdir()
        zfs_dataset.prepare(str(root), f"{pool}/store")
        yield ZfsBackend(str(root)), pool


def layer_of(backend: ZfsBackend, id: str) -> Volume:
    """A layer of that id, made if it is not there."""
    volume = Volume(LAYERS, id)
    if not present(backend, volume):
        staging = new(STAGING)
        backend.create(staging)
        backend.seal(staging, volume)
    return volume


def edit(tree: str) -> None:
    Path(tree, "b").write_text("edited")
