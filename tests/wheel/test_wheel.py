"""The installed wheel works from anywhere, not only from the checkout.

No network: the wheel is built by the setuptools that is here, and the fresh virtual environment
sees the dependencies that are installed here through path entries. Its own site-packages come
first, and the checkout is not on its path at all.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "backends", "imagegraph", "oci", "cli")


def run(*command: str | Path, cwd: Path, root: Path | None = None) -> str:
    """Standard output of a command that must succeed, run as from a user's own shell."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    if root is not None:
        environment["COWSHED_ROOT"] = str(root)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` directory of a fresh virtual environment that has the wheel."""
    directory = tmp_path_factory.mktemp("wheel")
    sources = directory / "sources"
    sources.mkdir()
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, sources / name, ignore=ignored)
        else:
            shutil.copy(CHECKOUT / name, sources / name)
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps")
    run(
        *pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", directory, sources,
        cwd=directory,
    )  # fmt: skip
    [wheel] = directory.glob("cowshed-*.whl")
    shutil.rmtree(sources)

    environment = directory / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    run(*pip, "--python", python, "install", *offline, wheel, cwd=directory)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=directory)
    names = [re.split(r"[^\w-]", wanted)[0] for wanted in PROJECT["dependencies"]]
    shared = {str(distribution(name).locate_file("")) for name in names}
    Path(own, "dependencies.pth").write_text("\n".join(sorted(shared)))
    return environment / "bin"


def test_the_packages_come_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    names = "backends", "imagegraph", "oci", "cli"
    code = f"import {', '.join(names)}; print(*(m.__file__ for m in ({', '.join(names)})))"
    for file in run(installed / "python", "-c", code, cwd=tmp_path).split():
        assert Path(file).is_relative_to(installed.parent)


def test_it_tells_its_version(installed: Path, tmp_path: Path) -> None:
    assert PROJECT["version"] in run(installed / "cowshed", "--version", cwd=tmp_path)


def works(cowshed: Path, root: Path, directory: Path, *init: str) -> None:
    """A tree goes in and comes out as a container, by commands run in `directory`."""
    (directory / "tree" / "etc").mkdir(parents=True)
    (directory / "tree" / "etc" / "motd").write_text("moo\n")
    run("tar", "-C", "tree", "-cf", "rootfs.tar", ".", cwd=directory)
    run(cowshed, "init", *init, cwd=directory, root=root)
    image = run(cowshed, "import", "rootfs.tar", "small:1", cwd=directory, root=root)
    container = run(cowshed, "create", "small:1", cwd=directory, root=root)
    assert image.removeprefix("sha256:")[:12] in run(cowshed, "images", cwd=directory, root=root)
    assert container[:12] in run(cowshed, "ps", "-a", cwd=directory, root=root)
    exported = subprocess.run(
        [cowshed, "--root", root, "export", container], stdout=subprocess.PIPE, check=True
    ).stdout
    listed = subprocess.run(["tar", "-t"], input=exported, stdout=subprocess.PIPE, check=True)
    assert b"etc/motd" in listed.stdout
    run(cowshed, "rm", container, cwd=directory, root=root)
    run(cowshed, "rmi", "small:1", cwd=directory, root=root)


def test_it_works_on_plain_directories(installed: Path, tmp_path: Path) -> None:
    works(installed / "cowshed", tmp_path / "store", tmp_path, "--backend", "vfs")


def test_it_works_on_btrfs(installed: Path, btrfs_mount: Path, tmp_path: Path) -> None:
    import btrfsutil

    parent = btrfs_mount / "wheel"
    btrfsutil.create_subvolume(parent)
    try:
        works(installed / "cowshed", parent / "store", tmp_path)
    finally:
        btrfsutil.delete_subvolume(parent, recursive=True)
