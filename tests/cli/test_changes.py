"""diff and commit."""

import base64
import json
import os
import subprocess
import sys
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
    assert (directory["Kind"], directory["Path"]) == ("modified", "/etc")
    assert file["Kind"] == "added"
    assert base64.b64decode(file["PathBytes"]) == b"/etc/a\n\xff"
    assert "--format" in cowshed.refused("diff", "--format", "xml", "cow", status=2)


def test_no_changes_are_an_empty_answer(cowshed: Cowshed, cow: Path):
    assert cowshed.ok("diff", "cow") == ""
    assert cowshed.json("diff", "--format", "json", "cow") == []
    none = {"Entries": 0, "Files": 0, "Bytes": 0}
    assert cowshed.json("diff", "--stat", "--format", "json", "cow") == {
        "Added": none,
        "Modified": none,
        "Deleted": none,
    }


@pytest.fixture
def before(cowshed: Cowshed, cow: Path) -> Path:
    """The tree of a container of an image that has one of each in /x."""
    (cow / "x").mkdir()
    for name in ("content", "touched", "mode", "owner", "labelled", "linked", "turned", "gone"):
        (cow / "x" / name).write_bytes(b"12345")
    (cow / "x/pointer").symlink_to("here")
    (cow / "x/tree/below").mkdir(parents=True)
    (cow / "x/tree/below/file").write_bytes(bytes(1000))
    cowshed.ok("commit", "cow", "before:1")
    cowshed.ok("create", "--name", "after", "before:1")
    return Path(cowshed.ok("mount", "after").strip()) / "x"


def test_json_tells_what_each_change_is(cowshed: Cowshed, before: Path):
    kept = (before / "content").stat()
    (before / "content").write_bytes(b"54321")
    os.utime(before / "content", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    os.utime(before / "touched", ns=(1, 1))
    (before / "mode").chmod(0o4700)
    os.chown(before / "owner", 7, 8)
    os.setxattr(before / "labelled", "user.cow", b"moo")
    os.link(before / "linked", before / "another")
    (before / "turned").unlink()
    os.mkfifo(before / "turned")
    (before / "pointer").unlink()
    (before / "pointer").symlink_to("there")
    (before / "gone").unlink()
    subprocess.run(["rm", "-r", before / "tree"], check=True)
    (before / "added").write_bytes(bytes(30))
    found = {
        Path(each.pop("Path")).name: each
        for each in cowshed.json("diff", "--format", "json", "after")
    }
    assert {name: each["Changed"] for name, each in found.items() if "Changed" in each} == {
        "x": ["mtime"],
        "content": ["content"],
        "touched": ["mtime"],
        "mode": ["mode"],
        "owner": ["owner"],
        "labelled": ["xattrs"],
        "linked": ["links"],
        "turned": ["type", "mtime"],
        "pointer": ["mtime", "target"],
    }
    assert found["added"] == {"Kind": "added", "Type": "file", "Size": 30}
    assert found["another"] == {"Kind": "added", "Type": "file", "Size": 5}
    assert found["gone"] == {"Kind": "deleted", "Type": "file", "Size": 5}
    assert found["tree"] == {"Kind": "deleted", "Type": "directory", "Size": None}
    turned = {"Kind": "modified", "Type": "fifo", "OldType": "file", "Size": None, "OldSize": 5}
    assert found["turned"] == {**turned, "Changed": ["type", "mtime"]}


def test_what_has_no_common_origin_is_read_and_verbose_says_so(on_btrfs: Cowshed, tmp_path: Path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/new").touch()
    on_btrfs.ok("import", tmp_path / "tree", "other:1")
    said = on_btrfs("-v", "diff", "other:1", "base:1").stderr
    assert "no common origin: both are read" in said
    on_btrfs.ok("create", "--name", "ours", "other:1")
    assert "both are read" not in on_btrfs("-v", "diff", "ours").stderr


def test_a_kernel_that_does_not_tell_what_was_written_is_warned_of_in_one_line(
    on_btrfs: Cowshed,
):
    on_btrfs.ok("create", "--name", "ours", "base:1")
    script = (
        "import sys\n"
        "from backends import btrfs_ioctl\n"
        "def refuse(*_): raise PermissionError(1, 'Operation not permitted')\n"
        "btrfs_ioctl.inodes_since = refuse\n"
        "from cli.main import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", script, "--root", on_btrfs.root, "diff", "ours"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "Warning: the kernel does not say what was changed (Operation not permitted): both trees"
        " are read\n"
    )


def test_stat_totals_files_and_bytes(cowshed: Cowshed, before: Path):
    (before / "content").write_bytes(bytes(2000))
    (before / "added").write_bytes(bytes(30))
    os.link(before / "added", before / "also")
    (before / "gone").unlink()
    subprocess.run(["rm", "-r", before / "tree"], check=True)
    assert cowshed.lines("diff", "--stat", "after") == [
        "CHANGE    ENTRIES   FILES     SIZE",
        "Added     2         2         30B",
        "Changed   2         1         2kB",
        "Deleted   2         2         1kB",
    ]
    assert cowshed.json("diff", "--stat", "--format", "json", "after") == {
        "Added": {"Entries": 2, "Files": 2, "Bytes": 30},
        "Modified": {"Entries": 2, "Files": 1, "Bytes": 2000},
        "Deleted": {"Entries": 2, "Files": 2, "Bytes": 1005},
    }
    whole = cowshed.json("diff", "--stat", "--format", "json", "base:1")
    assert whole["Added"]["Files"] and not whole["Deleted"]["Entries"]


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
