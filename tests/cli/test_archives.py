"""load and save, as a user has them."""

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ON_ZFS, Cowshed
from tests.trees import difference, entries


def make_web(cowshed: Cowshed) -> None:
    """A container, changed and committed as web:1."""
    cowshed.ok("create", "--name", "web", "base:1")
    tree = Path(cowshed.ok("mount", "web").strip())
    (tree / "etc/new").write_text("new")
    os.setxattr(tree / "etc/new", "user.x", b"\xff")
    os.link(tree / "etc/new", tree / "etc/linked")
    (tree / "etc/motd").unlink()
    os.utime(tree / "etc", ns=(5, 123456789))
    cowshed.ok("commit", "-m", "a step", "-c", "ENV A=b", "web", "web:1")


def documents(archive: bytes) -> dict[str, Any]:
    """Every JSON document in an archive, by its path."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {each.name: opened.extractfile(each) for each in opened if each.isfile()}
        found = {}
        for name, file in files.items():
            data = file.read()
            if data.startswith((b"{", b"[")):
                found[name] = json.loads(data)
    return found


def another(directory: Path) -> Cowshed:
    other = Cowshed(directory / "other")
    other.ok("init", "--backend", "vfs")
    return other


@pytest.fixture
def other(tmp_path: Path) -> Cowshed:
    """Another store."""
    return another(tmp_path)


@pytest.mark.parametrize("where", ["cowshed", "on_btrfs", ON_ZFS])
def test_a_commit_travels_whole(request: pytest.FixtureRequest, where: str):
    here: Cowshed = request.getfixturevalue(where)
    # Beside it, since not every filesystem that /tmp may be on has all attributes.
    other = another(here.root.parent)
    make_web(here)
    archive = here.raw("save", "web:1", "base:1").stdout
    told = other.ok("load", input=archive)
    assert told == "Loaded image: web:1\nLoaded image: base:1\n"
    other.ok("create", "--name", "again", "web:1")
    one, two = here.ok("mount", "web").strip(), other.ok("mount", "again").strip()
    try:
        assert difference(entries(one), entries(two)) == []
    finally:
        other.ok("umount", "again")
    [image] = other.json("inspect", "web:1")
    assert (image["Comment"], image["Config"]["Env"]) == ("a step", ["A=b"])
    assert len(image["RootFS"]["Layers"]) == 2
    assert other.raw("save", "web:1", "base:1").stdout == archive
    assert other.ok("check") == here.ok("check") == "No problems found.\n"
    unmounted = here("umount", "web")
    assert unmounted.returncode == 0


def test_saved_again_it_is_the_same_to_the_byte(cowshed: Cowshed):
    make_web(cowshed)
    cowshed.ok("umount", "web")
    first = cowshed.raw("save", "web:1").stdout
    assert cowshed.raw("save", "web:1").stdout == first
    [image] = cowshed.json("inspect", "web:1")
    [entry] = documents(first)["manifest.json"]
    assert [f"sha256:{path[-64:]}" for path in entry["Layers"]] == image["RootFS"]["Layers"]


def test_inspect_makes_the_digests_that_save_has(cowshed: Cowshed):
    make_web(cowshed)
    cowshed.ok("umount", "web")
    [before] = cowshed.json("inspect", "web:1")
    assert (before["Digest"], before["RootFS"]["Layers"]) == ("", [])
    [after] = cowshed.json("inspect", "--digests", "web:1")
    assert after["Id"] == before["Id"]
    assert len(after["RootFS"]["Layers"]) == 2
    [entry] = documents(cowshed.raw("save", "web:1").stdout)["manifest.json"]
    assert f"sha256:{entry['Config'][-64:]}" == after["Digest"]
    assert cowshed.json("inspect", after["Digest"]) == [after]
    assert cowshed.json("inspect", "web:1") == [after]


def test_what_is_here_is_not_brought_again(cowshed: Cowshed, other: Cowshed):
    archive = cowshed.raw("save", "base:1").stdout
    other.ok("load", input=archive)
    before = sorted(os.listdir(other.root / "pool/layers"))
    other.ok("tag", "base:1", "kept:1")
    assert other.ok("load", input=archive) == "Loaded image: base:1\n"
    assert sorted(os.listdir(other.root / "pool/layers")) == before
    assert cowshed.ok("load", input=archive) == "Loaded image: base:1\n"
    assert len(cowshed.lines("images", "-q")) == 1


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci"])
@pytest.mark.parametrize("packed", ["none", "gzip", "zstd"])
def test_every_form_comes_back(
    cowshed: Cowshed, other: Cowshed, tmp_path: Path, form: str, packed: str
):
    cowshed.ok("save", "--format", form, "--compress", packed, "-o", str(tmp_path / "x"), "base:1")
    assert (tmp_path / "x").is_dir() == (form == "oci")
    assert other.ok("load", "-i", str(tmp_path / "x")) == "Loaded image: base:1\n"
    assert other.raw("export", "base:1").stdout == cowshed.raw("export", "base:1").stdout
    assert sorted(os.listdir(tmp_path)) == ["other", "root", "x"]


@pytest.mark.parametrize(
    "program", [["gzip", "-c"], ["zstd", "-qc"], ["xz", "-c"], ["bzip2", "-c"]]
)
def test_an_archive_may_be_compressed_as_a_whole(
    cowshed: Cowshed, other: Cowshed, tmp_path: Path, program: list[str]
):
    archive = cowshed.raw("save", "base:1").stdout
    packed = subprocess.run(program, input=archive, capture_output=True, check=True).stdout
    (tmp_path / "packed").write_bytes(packed)
    assert other.ok("load", "-i", str(tmp_path / "packed")) == "Loaded image: base:1\n"
    assert other.ok("load", input=packed) == "Loaded image: base:1\n"


def test_names_are_those_that_were_asked_for(cowshed: Cowshed):
    cowshed.ok("tag", "base:1", "base:2")
    cowshed.ok("tag", "base:1", "else:1")

    def tags(*names: str) -> list[list[str] | None]:
        found = documents(cowshed.raw("save", *names).stdout)["manifest.json"]
        return [entry["RepoTags"] for entry in found]

    [id] = set(cowshed.lines("images", "-q", "--no-trunc"))
    assert tags("base") == [["base:1", "base:2"]]
    assert tags("base:2", "else:1", "base:2") == [["base:2", "else:1"]]
    assert tags(id) == [None]
    assert cowshed.raw("save", "base:1").stdout != cowshed.raw("save", id).stdout


def test_an_image_without_a_name_is_told_by_its_id(cowshed: Cowshed, other: Cowshed):
    [id] = cowshed.lines("images", "-q", "--no-trunc")
    told = other.ok("load", input=cowshed.raw("save", id).stdout)
    [loaded] = other.lines("images", "-q", "--no-trunc")
    assert told == f"Loaded image ID: {loaded}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("load", "-i", "/nowhere.tar"), "no such file"),
        (("load", "-i", "/etc/passwd"), "not an archive of images"),
        (("load", "-i", "/etc"), "no archive of images"),
        (("load", "--platform", "x", "-i", "/etc"), "OS/ARCHITECTURE"),
        (("save", "nothing:1"), "no image is called nothing:1"),
        (("save", "base:1", "nothing:1"), "no image is called nothing:1"),
        (("save", "-o", "/nowhere/x", "base:1"), "cannot write /nowhere/x"),
        (("save", "--format", "oci", "-o", "/etc", "base:1"), "/etc is there already"),
    ],
)
def test_a_mistake_is_told_in_one_line_and_leaves_nothing(
    cowshed: Cowshed, arguments: tuple[str, ...], said: str
):
    assert said.lower() in cowshed.refused(*arguments).lower()
    assert cowshed.lines("images", "-q") == cowshed.lines("images", "-aq")
    assert cowshed.ok("check") == "No problems found.\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("save", "--format", "zip", "base:1"),
        ("save", "--compress", "xz", "base:1"),
        ("save", "--format", "oci", "base:1"),
        ("save",),
        ("load", "--progress", "loud"),
    ],
)
def test_wrong_usage_is_told_as_that(cowshed: Cowshed, arguments: tuple[str, ...]):
    done = cowshed(*arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_name_that_no_layer_can_hold_stops_it(cowshed: Cowshed, tmp_path: Path):
    cowshed.ok("create", "--name", "web", "base:1")
    tree = Path(cowshed.ok("mount", "web").strip())
    (tree / "etc/.wh.x").touch()
    cowshed.ok("umount", "web")
    cowshed.ok("commit", "web", "web:1")
    assert "etc/.wh.x" in cowshed.refused("save", "-o", str(tmp_path / "x"), "web:1")
    assert not (tmp_path / "x").exists()
    assert not [name for name in os.listdir(cowshed.root / "splits") if name.endswith(".part")]
    assert cowshed.ok("check") == "No problems found.\n"


def test_a_layer_that_was_changed_is_told_and_not_written(cowshed: Cowshed, tmp_path: Path):
    cowshed.raw("save", "base:1")
    [layer] = (cowshed.root / "pool/layers").iterdir()
    (layer / "etc/motd").write_bytes(b"X" * (layer / "etc/motd").stat().st_size)
    said = cowshed.refused("save", "-o", str(tmp_path / "x"), "base:1")
    assert "changed" in said or "CRC" in said or "motd" in said
    assert not (tmp_path / "x").exists()


def test_sockets_are_left_out_aloud(cowshed: Cowshed):
    cowshed.ok("create", "--name", "web", "base:1")
    tree = Path(cowshed.ok("mount", "web").strip())
    os.mknod(tree / "etc/socket", 0o140600)
    cowshed.ok("umount", "web")
    cowshed.ok("commit", "web", "web:1")
    done = cowshed.raw("save", "web:1")
    assert done.returncode == 0
    assert b"etc/socket" in done.stderr and done.stderr.count(b"\n") == 1


def test_an_interrupted_load_leaves_nothing(cowshed: Cowshed, other: Cowshed, tmp_path: Path):
    archive = cowshed.raw("save", "base:1").stdout
    process = other.start("load", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(archive[:2000])
    process.stdin.flush()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert other.lines("images", "-aq") == []
    assert other.ok("check") == "No problems found.\n"
