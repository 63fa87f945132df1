"""What the tests stand on: a real btrfs, and the rule for what this machine lacks.

A test that cannot run here is skipped, unless the environment variable COWSHED_REQUIRE names what
is missing (comma separated: root, btrfs, zfs, ...; or "all"): then it fails.
"""

import contextlib
import functools
import importlib.util
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

POOL_SIZE = 4 << 30
ZPOOL_SIZE = 1 << 30


def require(what: str) -> None:
    """Skip the test, or fail it if COWSHED_REQUIRE says so, where `what` is not there.

    `what` is root, btrfs, zfs, or the name of a program.
    """
    missing = _missing(what)
    if missing is None:
        return
    demanded = os.environ.get("COWSHED_REQUIRE", "").split(",")
    if what in demanded or "all" in demanded:
        pytest.fail(f"COWSHED_REQUIRE demands {what}: {missing}")
    pytest.skip(missing)


def _missing(what: str) -> str | None:
    if what == "zfs":
        return _missing_zfs()
    if what == "root":
        return "needs root" if os.geteuid() != 0 else None
    if what == "btrfs":
        if os.geteuid() != 0:
            return "btrfs needs root"
        if importlib.util.find_spec("btrfsutil") is None:
            return "the Python package btrfsutil is not installed"
        what = "mkfs.btrfs"
    return None if shutil.which(what) else f"the program {what} is not installed"


@functools.cache
def _missing_zfs() -> str | None:
    if os.geteuid() != 0:
        return "ZFS needs root"
    try:
        done = subprocess.run(["zpool", "list"], capture_output=True, text=True)
    except FileNotFoundError:
        return "the program zpool is not installed"
    return f"ZFS does not work here: {done.stderr.strip()}" if done.returncode else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself, for whatever reason, fails where all is demanded."""
    report = yield
    if report.skipped and "all" in os.environ.get("COWSHED_REQUIRE", "").split(","):
        report.outcome = "failed"
        report.longrepr = f"COWSHED_REQUIRE demands all, but: {report.longrepr}"
    return report


@contextlib.contextmanager
def mounted(kind: str, image: Path, point: Path, options: str) -> Iterator[Path]:
    """Mount, and unmount whatever happens; a mount that is in use is detached."""
    point.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, image, point], check=True)
    try:
        yield point
    finally:
        if subprocess.run(["umount", point], capture_output=True).returncode != 0:
            subprocess.run(["umount", "--lazy", point], check=True)


@contextlib.contextmanager
def new_btrfs(directory: Path, size: int = POOL_SIZE) -> Iterator[Path]:
    """A fresh btrfs in a sparse file, mounted while the context lasts."""
    image = directory / "btrfs.img"
    with image.open("wb") as file:
        file.truncate(size)
    try:
        subprocess.run(["mkfs.btrfs", "-q", image], check=True)
        with mounted("btrfs", image, directory / "btrfs", "loop,noatime") as point:
            yield point
    finally:
        image.unlink()


class SharedBtrfs:
    """A btrfs for many tests, each of which may leave there what it made."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._context = contextlib.ExitStack()
        self._point: Path | None = None

    def point(self) -> Path:
        """Where it is mounted; a new one takes its place before it is full."""
        if self._point is not None and shutil.disk_usage(self._point).free < POOL_SIZE // 2:
            self.close()
        if self._point is None:
            self._point = self._context.enter_context(new_btrfs(self._directory))
        return self._point

    def close(self) -> None:
        self._point = None
        self._context.close()


@pytest.fixture(scope="session")
def shared_btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedBtrfs]:
    shared = SharedBtrfs(tmp_path_factory.mktemp("filesystem"))
    yield shared
    shared.close()


@pytest.fixture
def btrfs_mount(shared_btrfs: SharedBtrfs) -> Path:
    """A btrfs that the test shares: take a directory or subvolume of your own in it."""
    require("btrfs")
    return shared_btrfs.point()


@pytest.fixture
def fresh_btrfs(tmp_path: Path) -> Iterator[Path]:
    """A btrfs for one test that changes the whole of it, by turning quotas on or filling it."""
    require("btrfs")
    with new_btrfs(tmp_path) as point:
        yield point


@contextlib.contextmanager
def new_zpool(directory: Path, size: int = ZPOOL_SIZE) -> Iterator[str]:
    """The name of a fresh pool on a sparse file, with nothing mounted, while the context lasts."""
    disk = directory / "zpool.img"
    with disk.open("wb") as file:
        file.truncate(size)
    name = f"cowshed-{secrets.token_hex(4)}"
    subprocess.run(["zpool", "create", "-O", "mountpoint=none", name, disk], check=True)
    try:
        yield name
    finally:
        subprocess.run(["zpool", "destroy", "-f", name], check=True)
        disk.unlink()


@pytest.fixture(scope="session")
def zpool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A pool that the whole session shares: take a dataset of your own in it."""
    require("zfs")
    with new_zpool(tmp_path_factory.mktemp("zpool")) as name:
        yield name


@pytest.fixture(scope="session")
def zfs_mount(zpool: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file system of that pool: a store in it has a dataset below that of the pool."""
    point = tmp_path_factory.mktemp("zfs")
    subprocess.run(["zfs", "set", f"mountpoint={point}", zpool], check=True)
    yield point
    subprocess.run(["zfs", "set", "mountpoint=none", zpool], check=True)


@pytest.fixture
def needs() -> Callable[[str], None]:
    """`require`, for tests that need a thing only in some of their cases."""
    return require
