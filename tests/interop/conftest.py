"""Peers and stores for the whole session, on a btrfs of their own."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import Cowshed
from tests.conftest import new_btrfs, require
from tests.interop.images import STEPS, base
from tests.interop.peers import Docker, Peer, Podman, Step, Tree, Umoci
from tests.trees import entries

PEERS = ("docker", "podman", "umoci")


class Shed(Cowshed):
    """The command line, with what the tests here ask of it."""

    def identity(self, name: str) -> tuple[str, list[str]]:
        """The digest of the image's config, and its diff IDs, as `inspect` has them."""
        [image] = self.json("inspect", "--digests", name)
        return image["Digest"] or image["Id"], image["RootFS"]["Layers"]

    @contextlib.contextmanager
    def mounted(self, container: str) -> Iterator[Path]:
        yield Path(self.ok("mount", container).rstrip("\n"))
        self.ok("umount", container)

    def tree(self, image: str) -> Tree:
        """All that is in a new container of the image."""
        container = self.ok("create", image).strip()
        with self.mounted(container) as tree:
            return entries(tree)

    def grow(self, name: str, *steps: Step) -> None:
        """Commit a layer for each step to the image, which moves on."""
        for step in steps:
            container = self.ok("create", name).strip()
            with self.mounted(container) as tree:
                step(tree)
            self.ok("commit", "-m", step.__name__, container, name)


class Grown(NamedTuple):
    """An image of six layers that cowshed made, and how it is in the container it is of."""

    shed: Shed
    name: str
    tree: Tree


@pytest.fixture(scope="session")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A btrfs on which nothing stays mounted."""
    require("btrfs")
    with new_btrfs(tmp_path_factory.mktemp("interop"), 16 << 30) as point:
        yield point
        unmount_below(point)


def unmount_below(point: Path) -> None:
    """Podman and Docker mount their stores on themselves."""
    with open("/proc/self/mountinfo", "rb") as file:
        points = [os.fsdecode(line.split()[4]) for line in file]
    for path in reversed(points):
        if path.startswith(f"{point}/"):
            subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="session")
def docker(disk: Path) -> Iterator[Docker]:
    for program in ("dockerd", "docker", "containerd"):
        require(program)
    with Docker.running(disk / "docker") as docker:
        yield docker


@pytest.fixture(scope="session")
def podman(disk: Path) -> Iterator[Podman]:
    require("podman")
    with tempfile.TemporaryDirectory(prefix="podman-") as state:
        yield Podman(disk / "podman", Path(state))


@pytest.fixture(scope="session")
def umoci(disk: Path) -> Umoci:
    require("umoci")
    return Umoci(disk / "umoci")


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Peer:
    """Each of the peers in turn."""
    peer: Peer = request.getfixturevalue(request.param)
    return peer


@pytest.fixture(scope="session")
def grown(disk: Path) -> Grown:
    """grown:1 of one layer, and grown:6 of six."""
    source = disk / "grown"
    source.mkdir()
    base(source)
    shed = Shed(disk / "grown-store")
    shed.ok(
        "import", "-m", "as it was", "-c", "ENV A=b", "-c", "LABEL by=cowshed", "-c", 'CMD ["sh"]',
        str(source), "grown:1",
    )  # fmt: skip
    shed.ok("tag", "grown:1", "grown:6")
    shed.grow("grown:6", *STEPS[:-1])
    # What the last container has is what the image has to have wherever it goes.
    container = shed.ok("create", "grown:6").strip()
    with shed.mounted(container) as tree:
        STEPS[-1](tree)
        kept = entries(tree)
    shed.ok("commit", container, "grown:6")
    return Grown(shed, "grown:6", kept)


@pytest.fixture
def there(disk: Path, tmp_path: Path) -> Shed:
    """A store without anything in it."""
    return Shed(disk / f"there-{tmp_path.name}")


@pytest.fixture
def elsewhere(disk: Path, tmp_path: Path) -> Shed:
    """Another one."""
    return Shed(disk / f"elsewhere-{tmp_path.name}")


def save(shed: Shed, target: Path, *names: str, form: str = "docker-archive") -> Path:
    """Where `cowshed save` wrote the images."""
    shed.ok("save", "--format", form, "-o", str(target), *names)
    return target
