"""cp as its users have it: files in, files out, tars through pipes, and what is refused."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cli.conftest import ON_ZFS, Cowshed
from tests.trees import entries, fill


@pytest.fixture
def web(cowshed: Cowshed) -> Cowshed:
    """A store with the container web, of base:1."""
    cowshed.ok("create", "--name", "web", "base:1")
    return cowshed


def read(shed: Cowshed, path: str, container: str = "web") -> bytes:
    """A file of the container."""
    point = Path(shed.ok("mount", container).strip())
    content = Path(f"{point}{path}").read_bytes()
    shed.ok("umount", container)
    return content


def test_a_file_goes_in_and_comes_out_again(web: Cowshed, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("moo\n")
    done = web("cp", str(tmp_path / "note"), "web:/etc")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("Successfully copied ") and done.stderr.endswith(" to web:/etc\n")
    assert done.stderr.count("\n") == 1
    assert web.lines("diff", "web") == ["C /etc", "A /etc/note"]
    web.ok("cp", "-q", "web:etc/note", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "moo\n"


@pytest.mark.parametrize("shed", ["on_btrfs", ON_ZFS])
def test_a_tree_goes_in_and_out_as_it_is(shed: str, request: pytest.FixtureRequest) -> None:
    on: Cowshed = request.getfixturevalue(shed)
    on.ok("create", "--name", "here", "base:1")
    # A filesystem that can hold all of it.
    here = Path(on.ok("mount", "here").strip())
    (here / "tree").mkdir()
    fill(here / "tree")
    os.unlink(here / "tree/var/socket")
    os.utime(here / "tree/var", ns=(5, 5))
    on.ok("create", "--name", "web", "base:1")
    on.ok("cp", "-aq", str(here / "tree"), "web:/usr/opt")
    on.ok("cp", "-aq", "web:/usr/opt", str(here / "back"))
    assert entries(here / "back") == entries(here / "tree")
    on.ok("cp", "-aq", "web:usr/opt/.", str(here / "again"))
    assert entries(here / "again") == entries(here / "tree")


def test_owners_are_those_who_are_root_there_and_with_a_those_that_they_were(
    web: Cowshed, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/file").write_text("x")
    for path in ("d", "d/file"):
        os.chown(tmp_path / path, 1000, 100)

    def owners(*options: str) -> list[tuple[int, int, int, int]]:
        web.ok("cp", "-q", *options, str(tmp_path / "d"), "web:/in")
        listed = web.raw("cp", "web:/in", "-").stdout
        with tarfile.open(fileobj=io.BytesIO(listed)) as archive:
            found = archive.getmembers()
        web.ok("cp", "-q", *options, "web:/in", str(tmp_path / "out"))
        here = [os.stat(tmp_path / "out" / name) for name in (".", "file")]
        subprocess.run(["rm", "-r", tmp_path / "out"], check=True)
        return [
            (member.uid, member.gid, status.st_uid, status.st_gid)
            for member, status in zip(found, here, strict=True)
        ]

    assert owners() == [(0, 0, 0, 0)] * 2
    subprocess.run(["rm", "-r", web.ok("mount", "web").strip() + "/in"], check=True)
    web.ok("umount", "web")
    assert owners("-a") == [(1000, 100, 1000, 100)] * 2


def test_streams_are_tars(web: Cowshed, tmp_path: Path) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        entry = tarfile.TarInfo("a/b")
        entry.size, entry.uid, entry.mtime = 3, 1000, 77
        archive.addfile(entry, io.BytesIO(b"moo"))
    done = web("cp", "-q", "-", "web:/tmp", input=made.getvalue(), text=False)
    assert (done.returncode, done.stderr) == (0, "")
    out = web.raw("cp", "web:/tmp/a", "-")
    assert (out.returncode, out.stderr) == (0, b"")
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        found = {member.name: (member.uid, member.mtime) for member in archive.getmembers()}
    assert found.keys() == {"a", "a/b"} and found["a/b"] == (1000, 77)


def test_a_colon_in_a_path_of_this_machine_is_no_container(web: Cowshed, tmp_path: Path) -> None:
    (tmp_path / "a:b").write_text("odd")
    web.ok("cp", "-q", "./a:b", "web:/etc/c:d", cwd=tmp_path)
    web.ok("cp", "-q", f"{tmp_path}/a:b", "web:/etc/e")
    web.ok("cp", "-q", "web:/etc/c:d", "./g:h", cwd=tmp_path)
    assert read(web, "/etc/e") == b"odd" == (tmp_path / "g:h").read_bytes()


def test_links_are_copied_and_with_l_what_they_lead_to(web: Cowshed, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("content")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "out").mkdir()
    web.ok("cp", "-q", str(tmp_path / "link"), "web:/tmp")
    web.ok("cp", "-qL", str(tmp_path / "link"), "web:/tmp/followed")
    web.ok("cp", "-q", "web:/tmp/link", str(tmp_path / "out"))
    web.ok("cp", "-q", "web:/tmp/followed", str(tmp_path / "out"))
    assert os.readlink(tmp_path / "out/link") == "real"
    assert (tmp_path / "out/followed").read_text() == "content"


REFUSED = {
    "neither": (["a", "b"], 2, "none is"),
    "both": (["web:/a", "web:/b"], 2, "both are"),
    "no path": (["web:", "b"], 2, "give a path"),
    "no container": (["nope:/a", "b"], 1, "nope"),
    "no source": (["web:/nope", "b"], 1, "cannot copy web:/nope: no such file"),
    "no local source": (["nope", "web:/"], 1, "cannot copy nope: no such file"),
    "no directory above": (["web:/etc", "no/such/b"], 1, "cannot copy to no/such/b: there is no"),
    "no directory there": (["web:/etc/motd", "no/"], 1, "no/: there is no such directory"),
    "directory on file": (["web:/etc", "file"], 1, "cannot copy a directory to file"),
    "file as directory": (["web:/etc/motd/", "b"], 1, "web:/etc/motd/: not a directory"),
    "into a fifo": (["web:/etc/motd", "fifo"], 1, "neither a directory nor a regular file"),
    "tar into a file": (["-", "web:/etc/motd"], 1, "not a directory"),
    "no tar": (["-", "web:/etc"], 1, "not a tar archive"),
}


@pytest.mark.parametrize(("words", "status", "why"), REFUSED.values(), ids=list(REFUSED))
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(
    web: Cowshed, tmp_path: Path, words: list[str], status: int, why: str
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "file").write_text("old")
    os.mkfifo(here / "fifo")
    assert why in web.refused("cp", *words, status=status, cwd=here)
    assert sorted(os.listdir(here)) == ["fifo", "file"]
    assert (here / "file").read_text() == "old"
    assert web.lines("diff", "web") == []


def test_a_socket_is_left_out_and_said(web: Cowshed, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    fill(tmp_path / "tree")
    done = web("cp", "-q", str(tmp_path / "tree"), "web:/usr/opt")
    assert done.returncode == 0
    assert "opt/var/socket is a socket" in done.stderr and done.stderr.count("\n") == 1


def test_a_container_is_not_copied_into_itself(web: Cowshed) -> None:
    point = web.ok("mount", "web").strip()
    assert "into itself" in web.refused("cp", "web:/", f"{point}/tmp/copy")
    assert "into itself" in web.refused("cp", f"{point}/.", "web:/etc")
    web.ok("umount", "web")
    assert web.lines("diff", "web") == []
