"""Going through a tree by descriptors, and erasing it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.errors import BackendError, VolumeBusy
from backends.tree import Cursor, erase, open_directory
from tests.conftest import mounted, require
from tests.trees import fill


def test_erasing_removes_all_there_is(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    fill(tmp_path / "tree")
    erase(str(tmp_path / "tree"))
    assert list(tmp_path.iterdir()) == []


def test_erasing_what_is_gone_is_success(tmp_path: Path) -> None:
    erase(str(tmp_path / "tree"))


def test_erasing_a_plain_file_removes_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    erase(str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


def test_erasing_goes_deeper_than_path_max(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("deeper", dir_fd=here)
        here, above = os.open("deeper", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    erase(str(tmp_path / "deeper"))
    assert list(tmp_path.iterdir()) == []


def test_erasing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to(tmp_path / "outside")
    erase(str(tmp_path / "tree"))
    assert (tmp_path / "outside/kept").exists()


def test_an_owner_erases_directories_that_he_may_not_write_to(tmp_path: Path) -> None:
    require("root")
    tree = tmp_path / "pool/tree"
    (tree / "closed/inner").mkdir(parents=True)
    (tree / "closed/inner/file").touch()
    for path in (tmp_path / "pool", tree, *tree.rglob("*")):
        os.chown(path, 12345, 12345)
    (tree / "closed/inner").chmod(0)
    (tree / "closed").chmod(0o500)
    program = (
        "import os, sys\n"
        "from backends.tree import erase\n"
        "os.chdir(sys.argv[1])\n"
        "os.setgroups([])\n"
        "os.setresgid(12345, 12345, 12345)\n"
        "os.setresuid(12345, 12345, 12345)\n"
        "erase('./tree')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "pool"], check=True)
    assert not tree.exists()


def test_nothing_mounted_in_a_tree_is_erased(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "tree/a").mkdir(parents=True)
    with mounted("tmpfs", Path("none"), tmp_path / "tree/a/inner", "size=1m") as inner:
        (inner / "kept").touch()
        with pytest.raises(VolumeBusy, match=r"'tree/a/inner' in .* is a mount point"):
            erase(str(tmp_path / "tree"))
        assert (inner / "kept").exists()


def test_nothing_bound_from_the_same_filesystem_is_erased(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/kept").touch()
    (tmp_path / "tree/inner").mkdir(parents=True)
    subprocess.run(["mount", "--bind", tmp_path / "home", tmp_path / "tree/inner"], check=True)
    try:
        with pytest.raises(VolumeBusy):
            erase(str(tmp_path / "tree"))
        assert (tmp_path / "home/kept").exists()
    finally:
        subprocess.run(["umount", tmp_path / "tree/inner"], check=True)


def test_an_immutable_file_is_named(tmp_path: Path) -> None:
    require("root")
    require("chattr")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/stays").touch()
    subprocess.run(["chattr", "+i", tmp_path / "tree/stays"], check=True)
    try:
        with pytest.raises(BackendError, match=r"'tree/stays'.*chattr -i"):
            erase(str(tmp_path / "tree"))
    finally:
        subprocess.run(["chattr", "-i", tmp_path / "tree/stays"], check=True)


def test_a_cursor_holds_a_bounded_number_of_descriptors(tmp_path: Path) -> None:
    path = tmp_path
    for _ in range(250):
        path = path / "d"
        path.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    with Cursor(str(tmp_path)) as cursor:
        for _ in range(250):
            cursor.enter(b"d")
        assert len(os.listdir("/proc/self/fd")) - before <= 100
        for _ in range(250):
            cursor.leave()
        assert os.fstat(cursor.fd).st_ino == tmp_path.stat().st_ino
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_is_opened_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    os.close(open_directory(str(tmp_path), "a/b"))
    with pytest.raises(OSError, match="link"):
        open_directory(str(tmp_path), "link/b")
