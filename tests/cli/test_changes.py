"""diff and commit."""

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import ON_ZFS, Cowshed


@pytest.fixture
def cow(cowshed: Cowshed) -> Path:
    """The mounted tree of the container `cow`."""
    cowshed.ok("create", "--name", "cow", "base:1")
    return Path(cowshed.ok("mount", "cow").strip())


def test_diff_prints_a_line_for_each_change(cowshed: Cowshed, cow: Path):
    (cow / "etc/motd").write_text("new")
    (cow / "etc/hostname").unlink()
    (cow / "new").mkdir()
    (cow / "new/file").touch()
    assert cowshed.lines("diff", "cow") == [
        "C /",
        "C /etc",
        "D /etc/hostname",
        "C /etc/motd",
        "A /new",
        "A /new/file",
    ]


def test_hostile_names_stay_on_one_line_and_paint_nothing(cowshed: Cowshed, cow: Path):
    top = os.fsencode(cow) + b"/etc/"
    for name in (
        b"a\nb",
        b"\x1b[31m",
        b"\x7f",
        b"\xff",
        b"\xc2\x9b1m",
        b"back\\slash",
        "ü".encode(),
    ):
        open(top + name, "wb").close()
    assert cowshed.raw("diff", "cow").stdout.split(b"\n") == [
        b"C /etc",
        rb"A /etc/\033[31m",
        rb"A /etc/a\012b",
        rb"A /etc/back\slash",
        rb"A /etc/\177",
        rb"A /etc/\302\2331m",
        "A /etc/ü".encode(),
        b"A /etc/\xff",
        b"",
    ]


def test_json_keeps_every_byte_of_a_name(cowshed: Cowshed, cow: Path):
    open(os.fsencode(cow) + b"/etc/a\n\xff", "wb").close()
    directory, file = cowshed.json("diff", "--format", "json", "cow")
    assert directory == {"Kind": "modified", "Path": "/etc"}
    assert file["Kind"] == "added"
    assert base64.b64decode(file["PathBytes"]) == b"/etc/a\n\xff"
    assert "--format" in cowshed.refused("diff", "--format", "xml", "cow", status=2)


def test_no_changes_are_an_empty_answer(cowshed: Cowshed, cow: Path):
    assert cowshed.ok("diff", "cow") == ""
    assert cowshed.json("diff", "--format", "json", "cow") == []


def test_images_are_compared_with_their_parent_or_with_another(cowshed: Cowshed, cow: Path):
    (cow / "etc/motd").write_text("one")
    cowshed.ok("commit", "cow", "one")
    (cow / "etc/extra").touch()
    cowshed.ok("commit", "cow", "two")
    assert cowshed.lines("diff", "one") == ["C /etc/motd"]
    assert cowshed.lines("diff", "two", "one") == ["C /etc", "A /etc/extra"]
    assert cowshed.lines("diff", "one", "two") == ["C /etc", "D /etc/extra"]
    assert "A /usr/bin" in cowshed.lines("diff", "base:1")
    assert "no container and no image is called x" in cowshed.refused("diff", "x")


def test_a_reader_that_goes_away_ends_a_listing_quietly(cowshed: Cowshed, cow: Path):
    for number in range(5000):
        (cow / f"tmp/{number:0100}").touch()
    running = cowshed.start("diff", "cow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.read(10)
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() != 0


@pytest.mark.parametrize("where", ["cowshed", "on_btrfs", ON_ZFS])
def test_commit_of_a_mounted_container_prints_the_id(request: pytest.FixtureRequest, where: str):
    store: Cowshed = request.getfixturevalue(where)
    store.ok("create", "--name", "cow", "base:1")
    point = Path(store.ok("mount", "cow").strip())
    with open(point / "etc/busy", "w") as busy:
        busy.write("moo")
        busy.flush()
        id = store.ok("commit", "cow", "top").strip()
    [image] = store.json("inspect", "top")
    assert image["Id"] == id
    assert image["Parent"] == store.json("inspect", "base:1")[0]["Id"]
    assert "A /etc/busy" in store.lines("diff", "top")


def test_commit_keeps_what_it_is_told(cowshed: Cowshed, cow: Path, tmp_path: Path):
    laid_over = tmp_path / "config.json"
    laid_over.write_text('{"User": "daemon", "Env": ["B=file"]}')
    cowshed.ok(
        "commit", "-a", "Jo Doe <jo@example.org>", "-m", "a comment", "-c", "ENV A=b", "-c",
        "LABEL x=y", "--config", str(laid_over), "--no-pause", "--format", "oci", "cow", "top:2",
    )  # fmt: skip
    [image] = cowshed.json("inspect", "top:2")
    assert (image["Author"], image["Comment"]) == ("Jo Doe <jo@example.org>", "a comment")
    assert image["Config"] == {
        "Cmd": ["sh"],
        "User": "daemon",
        "Env": ["B=file", "A=b"],
        "Labels": {"x": "y"},
    }


def test_squash_makes_a_single_layer(cowshed: Cowshed, cow: Path):
    (cow / "etc/motd").write_text("changed")
    cowshed.ok("commit", "--squash", "cow", "flat")
    assert len(cowshed.lines("history", "-q", "flat")) == 1
    assert cowshed.json("inspect", "flat")[0]["Parent"] == ""


def test_the_id_goes_to_a_file_too(cowshed: Cowshed, cow: Path, tmp_path: Path):
    id = cowshed.ok("commit", "--iidfile", str(tmp_path / "id"), "cow").strip()
    assert (tmp_path / "id").read_text() == id


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("cow", "Upper"), 1, "lowercase"),
        (("nothing",), 1, "no container is called nothing"),
        (("-c", "RUN true", "cow"), 1, "RUN"),
        (("-c", "ENV", "cow"), 1, "ENV"),
        (("--format", "tar", "cow"), 2, "--format"),
        (("--config", "/nowhere", "cow"), 2, "/nowhere"),
        (("--config", "/etc/passwd", "cow"), 2, "JSON"),
    ],
)
def test_a_bad_commit_makes_nothing(
    cowshed: Cowshed, cow: Path, arguments: tuple[str, ...], status: int, said: str
):
    assert said in cowshed.refused("commit", *arguments, status=status)
    assert len(cowshed.lines("images", "-aq")) == 1
    assert cowshed.ok("check") == "No problems found.\n"


@pytest.mark.parametrize("text", ["[]", '{"Env": "A=b"}', '{"Labels": []}', '{"User": 7}'])
def test_a_config_of_another_shape_is_refused(
    cowshed: Cowshed, cow: Path, tmp_path: Path, text: str
):
    json.loads(text)
    (tmp_path / "config").write_text(text)
    cowshed.refused("commit", "--config", str(tmp_path / "config"), "cow", status=2)


def test_nested_subvolumes_are_copied_in_and_said(on_btrfs: Cowshed):
    on_btrfs.ok("create", "--name", "cow", "base:1")
    point = on_btrfs.ok("mount", "cow").strip()
    subprocess.run(["btrfs", "-q", "subvolume", "create", f"{point}/usr/nested"], check=True)
    Path(point, "usr/nested/file").write_text("moo")
    done = on_btrfs("commit", "cow", "top")
    assert done.returncode == 0
    assert "/usr/nested" in done.stderr
    assert "A /usr/nested/file" in on_btrfs.lines("diff", "top")
    assert on_btrfs("commit", "-q", "cow").stderr == ""


def test_no_image_is_made_whose_id_cannot_be_written(cowshed: Cowshed, tmp_path: Path):
    cowshed.ok("create", "--name", "cow", "base:1")
    said = cowshed.refused("commit", "--iidfile", "/nonexistent/f", "cow", "new:1")
    assert said == "cannot write /nonexistent/f: No such file or directory"
    assert len(cowshed.lines("images", "-q")) == 1
    file = tmp_path / "id"
    assert cowshed.refused("commit", "--iidfile", str(file), "nobody")
    assert not file.exists()
    file.write_text("x" * 100)
    assert cowshed.refused("commit", "--iidfile", str(file), "nobody")
    assert file.read_text() == "x" * 100
    id = cowshed.ok("commit", "--iidfile", str(file), "--pause=false", "cow").strip()
    assert file.read_text() == id
