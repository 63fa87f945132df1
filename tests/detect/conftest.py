"""Hosts to keep a pool on: an ext4 of our own, whatever the machine's disk is."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import mounted, require
from tests.store.scenes import loopback_root

MakeHost = Callable[[int], Path]


@pytest.fixture
def make_host(tmp_path: Path) -> Iterator[MakeHost]:
    """A function that makes an ext4 of a size in bytes and gives a root on it, not there yet."""
    require("btrfs")
    require("mkfs.ext4")
    with ExitStack() as stack:

        def make(size: int) -> Path:
            image = tmp_path / "ext4.img"
            with image.open("wb") as file:
                file.truncate(size)
            subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
            point = stack.enter_context(mounted("ext4", image, tmp_path / "ext4", "loop"))
            return stack.enter_context(loopback_root(point))

        yield make


@pytest.fixture
def root(make_host: MakeHost) -> Path:
    """A root on an ext4 with 4 GiB, most of them free."""
    return make_host(4 << 30)
