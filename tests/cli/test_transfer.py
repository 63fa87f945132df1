"""import and export, and what is left when they are interrupted."""

import io
import os
import signal
import stat
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from backends.errors import CowshedError
from cli.files import written
from imagegraph.store import Store
from tests.cli.conftest import COMMAND, ON_ZFS, Cowshed, rootfs_tar


def members(archive: bytes) -> dict[str, bytes | None]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            entry.name: opened.extractfile(entry).read() if entry.isfile() else None
            for entry in opened
        }


def test_import_prints_the_id_of_the_image(empty: Cowshed, rootfs: Path):
    printed = empty.ok("import", str(rootfs), "x:1").strip()
    assert empty.json("inspect", "x:1")[0]["Id"] == printed


def test_import_takes_a_directory_and_stdin(empty: Cowshed, tmp_path: Path):
    (tmp_path / "tree/etc").mkdir(parents=True)
    (tmp_path / "tree/etc/motd").write_text("moo")
    empty.ok("import", str(tmp_path / "tree"), "tree")
    empty.ok("import", "-", "stdin", input=rootfs_tar())
    assert empty.json("inspect", "tree")[0]["Comment"] == f"Imported from {tmp_path}/tree"
    assert empty.json("inspect", "stdin")[0]["Comment"] == "Imported from -"
    assert members(empty.raw("export", "tree").stdout)["etc/motd"] == b"moo"


def test_what_import_is_told_is_in_the_image(empty: Cowshed, rootfs: Path):
    empty.ok(
        "import", "-m", "my words", "--arch", "arm", "--variant", "v7", "--os", "linux",
        "-c", "ENV A=b", "-c", 'ENTRYPOINT ["/x"]', str(rootfs), "x",
    )  # fmt: skip
    [image] = empty.json("inspect", "x")
    assert (image["Comment"], image["Architecture"], image["Variant"]) == ("my words", "arm", "v7")
    assert image["Config"] == {"Env": ["A=b"], "Entrypoint": ["/x"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("/nowhere.tar",), "no such file"),
        (("https://example.org/x.tar",), "download it"),
        (("ROOTFS", "Upper"), "lowercase"),
        (("-c", "FROM x", "ROOTFS", "x"), "FROM"),
        (("/etc/passwd", "x"), "tar"),
    ],
)
def test_a_bad_import_says_why_and_leaves_nothing(
    empty: Cowshed, rootfs: Path, arguments: tuple[str, ...], said: str
):
    real = [str(rootfs) if word == "ROOTFS" else word for word in arguments]
    assert said in empty.refused("import", *real)
    assert empty.lines("images", "-aq") == []
    assert empty.ok("check") == "No problems found.\n"


def test_a_directory_that_holds_the_store_is_refused(empty: Cowshed):
    assert "the store" in empty.refused("import", str(empty.root.parent), "x")


def test_progress_is_told_in_lines_or_not_at_all(empty: Cowshed, rootfs: Path):
    done = empty("import", "--progress", "plain", str(rootfs))
    assert done.stderr == f"Importing: {rootfs.stat().st_size / 1000:.3g}kB of 10.2kB\n"
    assert empty("import", str(rootfs)).stderr == ""
    assert empty("import", "-q", "--progress", "plain", str(rootfs)).stderr == ""
    assert "--progress" in empty.refused("import", "--progress", "x", str(rootfs), status=2)


def test_export_gives_back_what_was_imported(cowshed: Cowshed, tmp_path: Path):
    exported = cowshed.raw("export", "base:1").stdout
    assert members(exported)["etc/motd"] == b"moo\n"
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.write("cow", "/etc/motd", "changed")
    target = tmp_path / "out.tar"
    cowshed.ok("export", "-o", str(target), "cow")
    assert members(target.read_bytes())["etc/motd"] == b"changed"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o600), (0o077, 0o600)])
def test_an_export_has_the_mode_of_any_new_file(
    cowshed: Cowshed, tmp_path: Path, umask: int, mode: int
):
    target = tmp_path / "out.tar"
    cowshed.ok("export", "-o", str(target), "base:1", umask=umask)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_an_export_leaves_the_mode_of_the_file_that_it_replaces(cowshed: Cowshed, tmp_path: Path):
    target = tmp_path / "out.tar"
    target.touch(0o600)
    cowshed.ok("export", "-o", str(target), "base:1", umask=0o022)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "etc/motd" in members(target.read_bytes())


def test_an_export_is_its_users_alone_until_it_is_whole(tmp_path: Path):
    with written(str(tmp_path / "out.tar")) as out:
        out.write(b"x")
        [part] = tmp_path.iterdir()
        assert stat.S_IMODE(part.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["out.tar"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, CowshedError])
def test_an_export_that_fails_leaves_nothing(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), written(str(tmp_path / "out.tar")) as out:
        out.write(b"x")
        raise error("stop")
    assert os.listdir(tmp_path) == []


def test_an_export_writes_through_no_link_that_waits_for_it(cowshed: Cowshed, tmp_path: Path):
    """As one who may write to the directory, and knows or tries process ids, would lay it."""
    victim, target = tmp_path / "victim", tmp_path / "out.tar"
    victim.write_text("precious")
    trap = f'ln -s "{victim}" "{target}.$$.part" && exec "$@"'
    command = [*COMMAND, "--root", str(cowshed.root), "export", "-o", str(target), "base:1"]
    subprocess.run(["sh", "-c", trap, "sh", *command], env=cowshed.env, check=True)
    assert victim.read_text() == "precious"
    assert "etc/motd" in members(target.read_bytes())


def test_a_temporary_name_that_is_taken_is_neither_written_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(os, "urandom", bytes)
    taken = tmp_path / f"cowshed-{'00' * 8}.part"
    taken.write_text("precious")
    with (
        pytest.raises(CowshedError, match="File exists"),
        written(str(tmp_path / "out.tar")) as out,
    ):
        out.write(b"x")
    assert taken.read_text() == "precious"
    assert os.listdir(tmp_path) == [taken.name]


def test_export_replaces_a_file_only_when_it_is_whole(cowshed: Cowshed, tmp_path: Path):
    target = tmp_path / "out.tar"
    target.write_text("before")
    assert "no container" in cowshed.refused("export", "-o", str(target), "nothing")
    assert target.read_text() == "before"
    assert "No such file" in cowshed.refused("export", "-o", str(tmp_path / "no/out"), "base:1")
    assert list(tmp_path.glob("*.part")) == []


def test_export_writes_to_a_fifo_and_keeps_it_one(cowshed: Cowshed, tmp_path: Path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    running = cowshed.start("export", "-o", str(fifo), "base:1")
    assert "etc/motd" in members(fifo.read_bytes())
    assert running.wait() == 0
    assert fifo.is_fifo()


def test_export_refuses_a_terminal(cowshed: Cowshed):
    ours, theirs = os.openpty()
    running = cowshed.start("export", "base:1", stdout=theirs, stderr=subprocess.PIPE)
    _, said = running.communicate()
    os.close(ours)
    os.close(theirs)
    assert running.returncode == 1
    assert b"terminal" in said


def test_a_full_disk_below_stdout_is_one_line(cowshed: Cowshed):
    with open("/dev/full", "wb") as full:
        for command in (("export", "base:1"), ("images",), ("inspect", "base:1")):
            running = cowshed.start(*command, stdout=full, stderr=subprocess.PIPE)
            _, said = running.communicate()
            assert running.returncode == 1
            assert said == b"Error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("where", ["empty", "on_btrfs", ON_ZFS])
def test_an_interrupted_import_leaves_nothing(
    request: pytest.FixtureRequest, where: str, number: signal.Signals, status: int
):
    cowshed: Cowshed = request.getfixturevalue(where)
    before = cowshed.lines("images", "-aq")
    running = cowshed.start(
        "import", "-", "x", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running.stdin.write(rootfs_tar()[:3000])
    running.stdin.flush()
    # What is written to a dataset that is mounted nowhere cannot be seen: it is given time.
    deadline = time.monotonic() + (3 if where == "on_zfs" else 20)
    while not list(cowshed.root.glob("pool/staging/*/etc")) and time.monotonic() < deadline:
        time.sleep(0.02)
        assert running.poll() is None
    running.send_signal(number)
    printed, said = running.communicate()
    assert (running.returncode, printed, said) == (status, b"", b"")
    with Store.open(str(cowshed.root)) as store:
        assert store.graph.undone() == []
        assert store.backend.leftovers() == []
    assert cowshed.lines("images", "-aq") == before
    assert cowshed.ok("check") == "No problems found.\n"
