"""What the store's tests are made of: roots on each backend, small images, their contents."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from backends import mounts, zfs_dataset
from imagegraph import config as configs
from imagegraph.check import check
from imagegraph.model import Container, Image
from imagegraph.reference import parse
from imagegraph.store import Store

Files = dict[str, bytes]


def document(**config: object) -> dict[str, object]:
    """The config document of an imported image."""
    return configs.new(
        created=time.time_ns(),
        comment="imported",
        architecture="amd64",
        os="linux",
        variant="",
        config=config,
    )


def add_image(
    store: Store, files: Mapping[str, bytes], name: str | None = None, **config: object
) -> Image:
    """An image of one layer that holds the files, called `name`."""

    def fill(tree: str) -> int:
        write_files(tree, files)
        return sum(map(len, files.values()))

    reference = parse(name).with_default_tag() if name else None
    return store.add_image(fill, document(**config), reference)


def write_files(tree: str | Path, files: Mapping[str, bytes]) -> None:
    """Write the files, and the directories above them."""
    for path, content in files.items():
        file = Path(tree, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def write(store: Store, container: Container, files: Mapping[str, bytes]) -> None:
    with store.open_tree(container) as tree:
        write_files(tree, files)


def commit(store: Store, container: Container, name: str | None = None) -> Image:
    return store.commit(container, parse(name).with_default_tag() if name else None)[0]


def contents(store: Store, thing: Image | Container) -> Files:
    """Path -> content of every regular file."""
    with store.open_tree(thing) as tree:
        return files_in(tree)


def files_in(tree: str | Path) -> Files:
    top = Path(tree)
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in top.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def tags(store: Store) -> dict[str, str]:
    """Tag -> image id."""
    return {str(tag): image for image, listed in store.graph.all_tags().items() for tag in listed}


def names(store: Store) -> set[str]:
    return {container.name for container in store.graph.containers()}


def assert_sound(store: Store) -> None:
    """Nothing is wrong, and nothing is left half-made or half-removed."""
    assert check(store) == []
    assert store.graph.undone() == []
    if store.backend.name == "zfs":
        assert_nothing_left_in(zfs_dataset.read(store.root))
        return
    pool = f"{store.root}/pool"
    assert os.listdir(f"{pool}/staging") == []
    assert os.listdir(f"{pool}/removing") == []
    kinds = ("layers", "containers", "volumes")
    volumes = [f"{kind}-{id}" for kind in kinds for id in os.listdir(f"{pool}/{kind}")]
    assert sorted(os.listdir(f"{pool}/records")) == sorted(volumes)


def assert_nothing_left_in(home: zfs_dataset.Home | None) -> None:
    """No datasets but volumes; no snapshots but the layers' own and those that clones need yet."""
    assert home is not None
    command = ["zfs", "list", "-Hrt", "all", "-o", "name,defer_destroy", home.dataset]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        name, deferred = line.removeprefix(home.dataset).removeprefix("/").split("\t")
        dataset, _, snapshot = name.partition("@")
        kind, _, id = dataset.partition("/")
        assert not id or kind in ("layers", "containers", "volumes"), name
        assert not snapshot or deferred == "on" or (kind, id) == ("layers", snapshot), name


def lose(store: Store, thing: Image | Container) -> None:
    """Have the volume of an image or a container vanish behind the store's back."""
    location = store.backend.location(store.volume(thing))
    commands = {
        "btrfs": ["btrfs", "-q", "subvolume", "delete", location],
        "zfs": ["zfs", "destroy", "-r", location],
        "vfs": ["mv", location, f"{location}-gone"],
    }
    subprocess.run(commands[store.backend.name], check=True)


@contextlib.contextmanager
def loopback_root(directory: Path) -> Iterator[Path]:
    """A root for a loopback store; its pool is unmounted at the end and its loop device freed."""
    root = directory / "loopback"
    try:
        yield root
    finally:
        release(root)


def release(root: Path) -> None:
    """Unmount the pool of `root` as often as it is mounted, and detach its loop devices."""
    while mounts.mount_at(f"{root}/pool"):
        if subprocess.run(["umount", root / "pool"], capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", root / "pool"], check=True)
    for device in loop_devices(root):
        # An unmount that is still under way detaches it too.
        done = subprocess.run(["losetup", "--detach", device], capture_output=True)
        assert done.returncode == 0 or device not in loop_devices(root), done.stderr


def loop_devices(root: Path) -> list[str]:
    """The loop devices whose file is the pool of `root`."""
    command = ["losetup", "--noheadings", "--output", "NAME", "--associated", root / "pool.btrfs"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
