"""The command line as its users have it: one process for each command, on a store of its own."""

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import require

CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "cli"]


class Cowshed:
    """Runs `cowshed --root ROOT ...`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {
            **{name: value for name, value in os.environ.items() if name != "COWSHED_ROOT"},
            "PYTHONPATH": str(CHECKOUT),
        }

    def command(self, *arguments: str) -> list[str]:
        return [*COMMAND, "--root", str(self.root), *arguments]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command(*arguments), env=self.env, **options)

    def raw(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options = {"stdin": subprocess.DEVNULL, **options} if "input" not in options else options
        command = self.command(*arguments)
        return subprocess.run(command, env=self.env, capture_output=True, **options)

    def __call__(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """The outcome, whatever it is, as text."""
        done = self.raw(*arguments, **options)
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def ok(self, *arguments: str, **options: Any) -> str:
        """What a command that must succeed, and be quiet, prints on stdout."""
        done = self(*arguments, **options)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def lines(self, *arguments: str) -> list[str]:
        return self.ok(*arguments).splitlines()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments))

    @staticmethod
    def json_of(done: subprocess.CompletedProcess[str]) -> Any:
        return json.loads(done.stdout)

    def refused(self, *arguments: str, status: int = 1, **options: Any) -> str:
        """The one line that a command that must fail says, without "Error: "."""
        done = self(*arguments, **options)
        assert done.returncode == status, (done.stdout, done.stderr)
        assert done.stdout == ""
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.stderr.removeprefix("Error: ").rstrip("\n")

    def write(self, container: str, path: str, text: str) -> None:
        """A file in a container, through its mount."""
        point = self.ok("mount", container).strip()
        Path(point + path).write_text(text)
        self.ok("umount", container)


def rootfs_tar() -> bytes:
    """A root filesystem of a few entries, 9 bytes of files in all."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in ("etc", "tmp", "usr", "usr/bin"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, 1700000000
            archive.addfile(entry)
        for name, content in (("etc/motd", b"moo\n"), ("etc/hostname", b"barn\n")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1700000000
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rootfs") / "rootfs.tar"
    path.write_bytes(rootfs_tar())
    return path


def unmount_all(cowshed: Cowshed) -> None:
    if any((cowshed.root / "mnt").glob("*")):
        cowshed("umount", "--all")


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Path:
    """A directory with two stores on plain directories: `empty`, and `base` with base:1 in it."""
    require("root")
    made = tmp_path_factory.mktemp("stores")
    for name in ("empty", "base"):
        Cowshed(made / name).ok("init", "--backend", "vfs")
    Cowshed(made / "base").ok("import", "-c", 'CMD ["sh"]', str(rootfs), "base:1")
    return made


@pytest.fixture
def empty(stores: Path, tmp_path: Path) -> Iterator[Cowshed]:
    """A store without anything in it, on plain directories."""
    yield from _copied(stores / "empty", tmp_path / "root")


@pytest.fixture
def cowshed(stores: Path, tmp_path: Path) -> Iterator[Cowshed]:
    """A store with the image base:1."""
    yield from _copied(stores / "base", tmp_path / "root")


def _copied(store: Path, root: Path) -> Iterator[Cowshed]:
    # Quicker than the two commands that made it.
    subprocess.run(["cp", "-a", store, root], check=True)
    cowshed = Cowshed(root)
    yield cowshed
    unmount_all(cowshed)


@pytest.fixture
def on_btrfs(btrfs_mount: Path, tmp_path: Path, rootfs: Path) -> Iterator[Cowshed]:
    """The same on btrfs."""
    yield from _with_base(Cowshed(btrfs_mount / f"cli-{tmp_path.name}"), rootfs)


@pytest.fixture
def on_zfs(zfs_mount: Path, tmp_path: Path, rootfs: Path) -> Iterator[Cowshed]:
    """The same on ZFS."""
    yield from _with_base(Cowshed(zfs_mount / f"cli-{tmp_path.name}"), rootfs)


ON_ZFS = pytest.param("on_zfs", marks=pytest.mark.zfs)


def _with_base(cowshed: Cowshed, rootfs: Path) -> Iterator[Cowshed]:
    cowshed.ok("import", "-c", 'CMD ["sh"]', str(rootfs), "base:1")
    yield cowshed
    unmount_all(cowshed)
