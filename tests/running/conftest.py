"""Containers that run: a busybox on a real btrfs or ZFS, with each of the runtimes."""

import contextlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagegraph import running
from tests.cli.conftest import Cowshed
from tests.conftest import SharedBtrfs, require

RUNTIMES = ("crun", "runc")

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n"
GROUP = "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n"


class Box(Cowshed):
    """The command line, with one runtime for all containers that it makes."""

    def __init__(self, root: Path, runtime: str) -> None:
        super().__init__(root)
        self.runtime = runtime

    def command(self, *arguments: str) -> list[str]:
        if arguments[0] in ("run", "create"):
            arguments = (arguments[0], "--runtime", self.runtime, *arguments[1:])
        return super().command(*arguments)

    def run(self, *arguments: str, **options: Any) -> str:
        """What `run --rm` prints, which must end well."""
        return self.ok("run", "--rm", *arguments, **options)

    def id(self, name: str) -> str:
        [found] = self.json("inspect", name)
        return str(found["Id"])

    def state(self, name: str) -> dict[str, Any]:
        [found] = self.json("inspect", name)
        state = found["State"]
        assert isinstance(state, dict)
        return state

    def require_sound(self) -> None:
        """Nothing is wrong with any container, whether it runs or not."""
        assert self.ok("check") == "No problems found.\n"

    def require_clean(self) -> None:
        """Nothing is left of any run."""
        self.require_sound()
        for id in os.listdir(self.root / "runs") if (self.root / "runs").exists() else ():
            assert not os.path.exists(running.bundle(id))


def busybox_tar() -> bytes:
    """A root filesystem with busybox under every name that it has."""
    made = io.BytesIO()
    program = shutil.which("busybox")
    assert program is not None
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, mode, 1700000000
            archive.addfile(entry)
        archive.add(program, "bin/busybox")
        for name in os.popen(f"{program} --list").read().split():
            if name != "busybox":
                entry = tarfile.TarInfo(f"bin/{name}")
                entry.type, entry.linkname, entry.mtime = tarfile.SYMTYPE, "busybox", 1700000000
                archive.addfile(entry)
        for name, content in (("etc/passwd", PASSWD), ("etc/group", GROUP)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1700000000
            archive.addfile(entry, io.BytesIO(content.encode()))
    return made.getvalue()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("busybox")
    path = tmp_path_factory.mktemp("busybox") / "busybox.tar"
    path.write_bytes(busybox_tar())
    return path


@pytest.fixture(params=RUNTIMES)
def box(
    request: pytest.FixtureRequest, btrfs_mount: Path, tmp_path: Path, busybox: Path
) -> Iterator[Box]:
    """A store on btrfs with the image box."""
    yield from stocked(Box(btrfs_mount / f"box-{tmp_path.name}", request.param), busybox)


@pytest.fixture(params=["btrfs_mount", pytest.param("zfs_mount", marks=pytest.mark.zfs)])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, busybox: Path) -> Iterator[Box]:
    """The same on btrfs and on ZFS, with one runtime."""
    home: Path = request.getfixturevalue(request.param)
    yield from stocked(Box(home / f"box-{tmp_path.name}", RUNTIMES[0]), busybox)


def stocked(made: Box, busybox: Path) -> Iterator[Box]:
    """With the image box; its containers are gone at the end."""
    for program in (made.runtime, "conmon"):
        require(program)
    made.ok("import", "-c", 'CMD ["sh"]', str(busybox), "box")
    yield made
    left = made.ok("ps", "-aq").split()
    if left:
        made("rm", "-f", "-v", *left)


@contextlib.contextmanager
def shared_by_module(
    request: pytest.FixtureRequest, shared_btrfs: SharedBtrfs, directory: Path, busybox: Path
) -> Iterator[Box]:
    """One store for all tests of a module, with the runtime that the fixture's parameter names."""
    require("btrfs")
    root = shared_btrfs.point() / f"{directory.name}-{request.param}"
    yield from stocked(Box(root, request.param), busybox)
