"""Docker, Podman and umoci, each with a store of its own that nothing else on the machine sees.

What the tests ask of them is the same: take an archive, write one, make an image step by step,
and show the tree that they make of an image.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from oci.digest import chain_ids
from tests.trees import Entry

Step = Callable[[Path], None]
Tree = dict[bytes, Entry]

PATIENCE = 60.0
"""Seconds that the daemon has to come up, and to end."""
_CREATED = "/none"
"""The command of a container that is never started."""


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> str:
    """What a program that must succeed prints on stdout."""
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, env=env)
    assert done.returncode == 0, (arguments, done.stderr[-2000:])
    return done.stdout.strip()


class Peer(ABC):
    """A program that has images."""

    form: str
    """What `cowshed save --format` is to write for it."""
    links_below = True
    """Whether a hard link in a layer may lead to what only lower layers have."""

    @abstractmethod
    def load(self, archive: Path, name: str) -> None:
        """Take the image `name`, which has a tag, from an archive or a layout."""

    @abstractmethod
    def save(self, archive: Path, *names: str) -> None:
        """Write the images as one archive."""

    @abstractmethod
    def identity(self, name: str) -> tuple[str, list[str]]:
        """The digest of the image's config, and its diff IDs."""

    @abstractmethod
    def tree(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """The root filesystem that it makes of the image."""

    @abstractmethod
    def build(self, name: str, rootfs: Path, steps: Sequence[Step]) -> None:
        """Make an image as its users do: a tar for the first layer, then a layer for each step."""

    @abstractmethod
    def remove(self, *names: str) -> None:
        """Forget the images."""

    @staticmethod
    def kept(tree: Tree) -> Tree:
        """The tree without what this program does not take from a layer."""
        return tree


class Docker(Peer):
    """A daemon on a socket of its own, with its btrfs driver."""

    form = "docker-archive"

    def __init__(self, home: Path) -> None:
        self._data = home / "data"
        self._client = ["docker", f"--config={home}/client", f"--host=unix://{home}/socket"]

    @classmethod
    @contextlib.contextmanager
    def running(cls, home: Path) -> Iterator["Docker"]:
        """The daemon, and its containerd, live as long as the context."""
        home.mkdir()
        (home / "daemon.json").write_text("{}")
        # Whatever ends the tests ends the daemon, which ends its containerd.
        command = ["setpriv", "--pdeathsig=TERM", "dockerd", "--storage-driver=btrfs"]
        command += ["--bridge=none", "--iptables=false", f"--host=unix://{home}/socket"]
        command += [f"--data-root={home}/data", f"--exec-root={home}/exec"]
        command += [f"--pidfile={home}/pid", f"--config-file={home}/daemon.json"]
        with (home / "log").open("w") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            docker = cls(home)
            docker._await(daemon)
            containerd = Path("/proc", (home / "exec/containerd/containerd.pid").read_text())
            yield docker
        finally:
            daemon.terminate()
            daemon.wait(PATIENCE)
        assert not containerd.exists()

    def _await(self, daemon: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + PATIENCE
        while subprocess.run([*self._client, "version"], capture_output=True).returncode:
            assert daemon.poll() is None, "dockerd has ended"
            assert time.monotonic() < end, "dockerd does not answer"
            time.sleep(0.1)

    def __call__(self, *arguments: str | Path) -> str:
        return run(*self._client, *arguments)

    def load(self, archive: Path, name: str) -> None:
        assert f"Loaded image: {name}" in self("load", "-i", archive).splitlines()

    def save(self, archive: Path, *names: str) -> None:
        self("save", "-o", archive, *names)

    def identity(self, name: str) -> tuple[str, list[str]]:
        [image] = json.loads(self("inspect", name))
        return image["Id"], image["RootFS"]["Layers"]

    @contextlib.contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        top = chain_ids(self.identity(name)[1])[-1].removeprefix("sha256:")
        cache = (self._data / "image/btrfs/layerdb/sha256" / top / "cache-id").read_text()
        yield self._data / "btrfs/subvolumes" / cache

    def build(self, name: str, rootfs: Path, steps: Sequence[Step]) -> None:
        self("import", "-c", "LABEL by=docker", rootfs, name)
        for step in steps:
            with self.container(name) as (container, tree):
                step(tree)
                self("commit", "-m", step.__name__, container, name)

    @contextlib.contextmanager
    def container(self, name: str) -> Iterator[tuple[str, Path]]:
        """A container of the image, and its tree, to be changed."""
        container = self("create", name, _CREATED)
        layer = self._data / "image/btrfs/layerdb/mounts" / container / "mount-id"
        yield container, self._data / "btrfs/subvolumes" / layer.read_text()
        self("rm", container)

    def remove(self, *names: str) -> None:
        self("rmi", "--force", *(self.identity(name)[0] for name in names))

    def push(self, name: str, target: str) -> None:
        self("tag", name, target)
        self("push", target)

    def pull(self, name: str) -> None:
        self("pull", name)

    @staticmethod
    def kept(tree: Tree) -> Tree:
        """Docker makes the root itself, and gives it no time."""
        return {**tree, b"": tree[b""]._replace(mtime=0)}


class Podman(Peer):
    """Podman, with its overlay driver, which unpacks a layer where nothing lies below it."""

    form = "docker-archive"
    links_below = False

    def __init__(self, home: Path, state: Path) -> None:
        """`state` is a directory whose path has at most 50 characters."""
        home.mkdir()
        (home / "tmp").mkdir()
        settings = ["[engine]", 'lock_type = "file"', 'events_logger = "none"']
        settings += ['cgroup_manager = "cgroupfs"', f'tmp_dir = "{home}/engine"']
        settings += [f'volume_path = "{home}/volumes"', "[network]"]
        settings += [f'network_config_dir = "{home}/networks"']
        (home / "containers.conf").write_text("\n".join(settings) + "\n")
        changed = {"CONTAINERS_CONF": f"{home}/containers.conf", "TMPDIR": f"{home}/tmp"}
        self._env = {**os.environ, **changed}
        self._command = ["podman", f"--root={home}/root", f"--runroot={state}"]
        self._command += ["--storage-driver=overlay"]

    def __call__(self, *arguments: str | Path) -> str:
        return run(*self._command, *arguments, env=self._env)

    def load(self, archive: Path, name: str) -> None:
        # Unlike Docker it takes a name without a host for one of docker.io.
        assert name.rpartition("/")[2] in self("load", "-i", archive)

    def save(self, archive: Path, *names: str) -> None:
        self("save", "--multi-image-archive", "-o", archive, *names)

    def identity(self, name: str) -> tuple[str, list[str]]:
        [image] = json.loads(self("image", "inspect", name))
        return f"sha256:{image['Id']}", image["RootFS"]["Layers"]

    @contextlib.contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        yield Path(self("image", "mount", name))
        self("image", "unmount", name)

    def build(self, name: str, rootfs: Path, steps: Sequence[Step]) -> None:
        self("import", "-c", "LABEL by=podman", rootfs, name)
        for step in steps:
            with self.container(name) as (container, tree):
                step(tree)
                self("commit", "--author", step.__name__, container, name)

    @contextlib.contextmanager
    def container(self, name: str) -> Iterator[tuple[str, Path]]:
        """A container of the image, and its tree, to be changed."""
        container = self("create", "--network=none", name, _CREATED)
        yield container, Path(self("mount", container))
        self("umount", container)
        self("rm", container)

    def remove(self, *names: str) -> None:
        self("rmi", "--force", *names)

    def push(self, name: str, target: str) -> None:
        self("push", "--tls-verify=false", name, target)

    def pull(self, name: str) -> None:
        self("pull", "--tls-verify=false", name)

    @staticmethod
    def kept(tree: Tree) -> Tree:
        """Podman makes the root itself, and takes nothing of it from a layer."""
        return {**tree, b"": tree[b""]._replace(mode=0, mtime=0)}


class Umoci(Peer):
    """umoci; the images are in one layout, each with a tag of its own."""

    form = "oci"

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self._home = home
        self._layouts: dict[str, Path] = {}

    def load(self, archive: Path, name: str) -> None:
        layout = self._layouts[name] = Path(tempfile.mkdtemp(dir=self._home))
        run("cp", "-rT", archive, layout)
        assert _tag(name) in run("umoci", "list", "--layout", layout).splitlines()

    def save(self, archive: Path, *names: str) -> None:
        run("cp", "-r", self._layouts[names[0]], archive)

    def identity(self, name: str) -> tuple[str, list[str]]:
        config = self._blob(name, self._manifest(name)["config"])
        return self._manifest(name)["config"]["digest"], config["rootfs"]["diff_ids"]

    def _manifest(self, name: str) -> Any:
        index = json.loads((self._layouts[name] / "index.json").read_text())
        key = "org.opencontainers.image.ref.name"
        [found] = [each for each in index["manifests"] if each["annotations"][key] == _tag(name)]
        return self._blob(name, found)

    def _blob(self, name: str, descriptor: Any) -> Any:
        path = self._layouts[name] / "blobs" / descriptor["digest"].replace(":", "/")
        return json.loads(path.read_bytes())

    @contextlib.contextmanager
    def tree(self, name: str) -> Iterator[Path]:
        yield self.unpack(name) / "rootfs"

    def unpack(self, name: str) -> Path:
        """A new bundle; umoci verifies every digest on the way."""
        bundle = Path(tempfile.mkdtemp(dir=self._home), "bundle")
        run("umoci", "unpack", "--image", self._image(name), bundle)
        return bundle

    def repack(self, name: str, bundle: Path, message: str = "repacked") -> None:
        """The image, with what was changed in the bundle since it was unpacked as a layer."""
        run(
            "umoci", "repack", "--image", self._image(name), "--refresh-bundle",
            "--history.comment", message, bundle,
        )  # fmt: skip

    def _image(self, name: str) -> str:
        return f"{self._layouts[name]}:{_tag(name)}"

    def build(self, name: str, rootfs: Path, steps: Sequence[Step]) -> None:
        layout = self._layouts[name] = Path(tempfile.mkdtemp(dir=self._home), "layout")
        run("umoci", "init", "--layout", layout)
        run("umoci", "new", "--image", self._image(name))
        run("umoci", "raw", "add-layer", "--image", self._image(name), rootfs)
        run("umoci", "config", "--image", self._image(name), "--config.label", "by=umoci")
        bundle = self.unpack(name)
        for step in steps:
            step(bundle / "rootfs")
            self.repack(name, bundle, step.__name__)
        run("umoci", "gc", "--layout", layout)

    def remove(self, *names: str) -> None:
        for name in names:
            del self._layouts[name]


def _tag(name: str) -> str:
    return name.rpartition(":")[2]
