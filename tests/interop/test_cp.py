"""cp puts things where `docker cp` puts them, and refuses what it refuses."""

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.conftest import COMMAND
from tests.interop.conftest import Shed
from tests.interop.peers import Docker
from tests.trees import Entry, entries

SOURCES = ("file", "dir", "dir/.")
MORE_SOURCES = (
    "dir/", "lfile", "ldir", "ldir/", "ldir/.", "lgone", "none", "file/", "dir/sub/../hard", ".",
)  # fmt: skip
LINKS = ("lfile", "ldir", "ldir/.", "lgone")
TARGETS = ("d", "f", "new", "new/", "ld", "has", "taken")
MORE_TARGETS = ("d/", "d/.", "f/", "no/new", "lf", "lnew", "lno")
CASES = [
    *itertools.product(SOURCES, TARGETS + MORE_TARGETS),
    *itertools.product(MORE_SOURCES, TARGETS),
]
FOLLOWED = [*itertools.product(LINKS, TARGETS)]
TIME = 1_600_000_000_000_000_000


class Sides(NamedTuple):
    """A container and its tree, and a directory of this machine."""

    container: str
    tree: Path
    host: Path


def make_source(top: Path) -> None:
    (top / "dir/sub").mkdir(parents=True)
    (top / "file").write_text("a file")
    (top / "dir/one").write_text("one")
    (top / "dir/hard").write_text("hard")
    os.link(top / "dir/hard", top / "dir/sub/hard")
    # Docker refuses links that lead out of the directory that is copied into.
    (top / "dir/sub/link").symlink_to("hard")
    (top / "dir/one").chmod(0o4750)
    (top / "dir/sub").chmod(0o2711)
    (top / "lfile").symlink_to("file")
    (top / "ldir").symlink_to("dir/sub")
    (top / "lgone").symlink_to("gone")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(TIME, TIME), follow_symlinks=False)


def make_target(top: Path) -> None:
    (top / "d").mkdir()
    (top / "d/old").write_text("old")
    (top / "f").write_text("old")
    (top / "has/dir").mkdir(parents=True)
    (top / "has/dir").chmod(0o700)
    (top / "has/dir/one").write_text("old")
    (top / "has/file").write_text("old")
    (top / "taken/file").mkdir(parents=True)
    (top / "taken/dir").write_text("no directory")
    for link, target in (("ld", "d"), ("lf", "f"), ("lnew", "d/made"), ("lno", "no/made")):
        (top / link).symlink_to(target)


def empty(top: Path) -> None:
    for entry in top.iterdir():
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def seen(top: Path) -> dict[bytes, Entry]:
    """Docker cuts times to seconds and changes those of the directories that it writes into."""
    return {
        path: entry._replace(mtime=entry.mtime if entry.mtime == TIME else 0)
        for path, entry in entries(top).items()
    }


@pytest.fixture(scope="module")
def docker_sides(docker: Docker, disk: Path) -> Iterator[Sides]:
    rootfs = disk / "cp-rootfs.tar"
    subprocess.run(["tar", "-C", disk, "-cf", rootfs, "--files-from=/dev/null"], check=True)
    docker("import", rootfs, "cp:1")
    with docker.container("cp:1") as (container, tree):
        yield Sides(container, tree, disk / "cp-docker")


@pytest.fixture(scope="module")
def our_sides(disk: Path) -> Iterator[tuple[Shed, Sides]]:
    shed = Shed(disk / "cp-store")
    source = disk / "cp-empty"
    source.mkdir()
    shed.ok("import", str(source), "cp:1")
    shed.ok("create", "--name", "web", "cp:1")
    with shed.mounted("web") as tree:
        yield shed, Sides("web", tree, disk / "cp-ours")


@pytest.fixture
def both(
    docker: Docker, docker_sides: Sides, our_sides: tuple[Shed, Sides]
) -> list[tuple[list[str], Sides]]:
    shed, ours = our_sides
    docker_command = [*docker._client, "cp"]
    our_command = [*COMMAND, "--root", str(shed.root), "cp", "-q"]
    return [(docker_command, docker_sides), (our_command, ours)]


@pytest.mark.parametrize(("options", "cases"), [([], CASES), (["-L"], FOLLOWED)], ids=["", "L"])
@pytest.mark.parametrize("into", [True, False], ids=["into", "out"])
def test_everything_goes_where_docker_has_it(
    both: list[tuple[list[str], Sides]],
    our_sides: tuple[Shed, Sides],
    into: bool,
    options: list[str],
    cases: list[tuple[str, str]],
) -> None:
    differing = []
    for source, target in cases:
        outcomes = []
        for command, sides in both:
            shutil.rmtree(sides.host, ignore_errors=True)
            sides.host.mkdir()
            empty(sides.tree)
            from_, to = (sides.host, sides.tree) if into else (sides.tree, sides.host)
            make_source(from_)
            make_target(to)
            inside = f"{sides.container}:"
            words = [source, inside + target] if into else [inside + source, target]
            done = subprocess.run(
                [*command, *options, *words],
                cwd=sides.host,
                capture_output=True,
                text=True,
                env=our_sides[0].env,
            )
            outcomes.append((done.returncode != 0, seen(to), done.stderr))
        failed, _, said = outcomes[1]
        assert said.startswith("Error: ") and said.count("\n") == 1 if failed else not said, said
        if outcomes[0][:2] != outcomes[1][:2]:
            differing.append(describe(source, target, outcomes))
    assert differing == [], "\n".join(differing)


def describe(source: str, target: str, outcomes: list[tuple[bool, dict[bytes, Entry], str]]) -> str:
    (_, docker, said), (_, ours, we_said) = outcomes
    changed = sorted(path for path in {*docker, *ours} if docker.get(path) != ours.get(path))
    lines = [f"{path!r}: {docker.get(path)} | {ours.get(path)}" for path in changed[:3]]
    return f"{source} -> {target}: {said!r} | {we_said!r} {lines}"
