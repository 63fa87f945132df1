"""Copying in and out of trees that are hostile, or change meanwhile, and what a failure leaves."""

import contextlib
import io
import os
import stat
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import CowshedError, NoSpace
from oci.copying import Path as Typed
from oci.copying import copy, copy_from_stream, copy_to_stream
from tests.conftest import mounted, require
from tests.edits import STEPS
from tests.trees import entries, fill


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The tree of a container, beside which is what it must not reach."""
    require("root")
    made = tmp_path / "containers/web"
    made.mkdir(parents=True)
    (made / "etc").mkdir()
    (made / "etc/motd").write_text("inside")
    return made


@pytest.fixture
def host(tmp_path: Path) -> Path:
    made = tmp_path / "host"
    made.mkdir()
    (made / "secret").write_text("outside")
    return made


@contextlib.contextmanager
def inside(tree: Path, text: str) -> Iterator[Typed]:
    root = os.open(tree, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Typed(text, root, "web:")
    finally:
        os.close(root)


def copy_in(source: Path | str, tree: Path, text: str) -> None:
    with inside(tree, text) as target:
        copy(Typed(str(source)), target, owner=(0, 0))


def copy_out(tree: Path, text: str, target: Path, *, follow: bool = False) -> None:
    with inside(tree, text) as source:
        copy(source, Typed(str(target)), follow=follow, owner=(0, 0))


WAYS_OUT = ["{host}", "../../../../../../../../../../../../..{host}", "/proc/self/root{host}"]


@pytest.mark.parametrize("way", WAYS_OUT, ids=["absolute", "climbing", "proc"])
def test_nothing_goes_into_a_container_through_a_link_that_leads_out(
    tree: Path, host: Path, tmp_path: Path, way: str
) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/new").write_text("new")
    for name, target in (("directory", way), ("file", way + "/secret"), ("gone", way + "/made")):
        (tree / name).symlink_to(target.format(host=host))
    before = entries(host)
    for source in ("new", "dir", "dir/."):
        for name in ("directory", "directory/x", "file", "gone", "directory/", "directory/."):
            with contextlib.suppress(CowshedError), inside(tree, name) as place:
                copy(Typed(f"{tmp_path}/{source}"), place)
            assert entries(host) == before
    for name in ("directory", "."):
        with contextlib.suppress(CowshedError), inside(tree, name) as place:
            copy_from_stream(io.BytesIO(archive("directory/x", "made", "../made")), place)
        assert entries(host) == before


def archive(*names: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as out:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 3
            out.addfile(entry, io.BytesIO(b"new"))
    return made.getvalue()


@pytest.mark.parametrize("way", WAYS_OUT, ids=["absolute", "climbing", "proc"])
@pytest.mark.parametrize("follow", [True, False], ids=["L", ""])
def test_nothing_comes_out_of_a_container_through_a_link_that_leads_out(
    tree: Path, host: Path, tmp_path: Path, way: str, follow: bool
) -> None:
    (tree / "directory").symlink_to(way.format(host=host))
    (tree / "file").symlink_to(way.format(host=host) + "/secret")
    (tmp_path / "out").mkdir()
    texts = ("directory", "directory/", "directory/.", "directory/secret", "file", ".")
    for number, text in enumerate(texts):
        with contextlib.suppress(CowshedError):
            copy_out(tree, text, tmp_path / f"out/{number}", follow=follow)
        out = io.BytesIO()
        with contextlib.suppress(CowshedError), inside(tree, text) as source:
            copy_to_stream(source, out, follow=follow)
        assert b"outside" not in out.getvalue()
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_symlink() or not path.is_file() or path.read_text() != "outside"


def test_a_link_on_this_machine_is_not_written_through(
    tree: Path, host: Path, tmp_path: Path
) -> None:
    (tree / "etc/sub").mkdir()
    (tree / "etc/sub/secret").write_text("changed")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/sub").symlink_to(host)
    with pytest.raises(CowshedError, match="no directory there"):
        copy_out(tree, "etc", tmp_path)
    assert (host / "secret").read_text() == "outside"


def test_a_directory_that_is_moved_away_all_the_time_lets_nothing_out(
    tree: Path, host: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    (tmp_path / "out").mkdir()
    for number in range(30):
        (source / f"a/{number}").mkdir(parents=True)
        (source / f"a/{number}/secret").write_text("changed")
    (tree / "x/a").mkdir(parents=True)
    (tree / "y").symlink_to(host)
    (tree / "a").symlink_to("../" * 20 + str(host))
    before, over = entries(host), threading.Event()

    def move() -> None:
        while not over.is_set():
            STEPS["exchange"](bytes(tree / "x"), bytes(tree / "y"))
            with contextlib.suppress(OSError):
                STEPS["exchange"](bytes(tree / "x/a"), bytes(tree / "a"))

    thread = threading.Thread(target=move)
    thread.start()
    try:
        for number in range(40):
            with contextlib.suppress(CowshedError):
                copy_in(f"{source}/.", tree, "x")
            with contextlib.suppress(CowshedError):
                copy_out(tree, "x", tmp_path / f"out/{number}")
    finally:
        over.set()
        thread.join()
    assert entries(host) == before
    assert all(
        path.is_symlink() or not path.is_file() or path.read_text() != "outside"
        for path in (tmp_path / "out").rglob("*")
    )


def test_what_a_process_has_mounted_is_reached_through_its_root(tmp_path: Path) -> None:
    require("root")
    (tmp_path / "point").mkdir()
    script = f"mount -t tmpfs none {tmp_path}/point && echo moo > {tmp_path}/point/f && echo; cat"
    argv = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        text = f"{tmp_path}/point/f"
        copy_out(Path(f"/proc/{process.pid}/root"), text, tmp_path / "out")
        copy_in(tmp_path / "out", Path(f"/proc/{process.pid}/root"), f"{text}2")
        assert Path(f"/proc/{process.pid}/root{text}2").read_text() == "moo\n"
        process.communicate()
    assert (tmp_path / "out").read_text() == "moo\n"
    assert list((tmp_path / "point").iterdir()) == []


def test_a_new_directory_is_there_when_it_is_whole_or_not_at_all(
    tree: Path, tmp_path: Path
) -> None:
    require("mkfs.ext4")
    image = tmp_path / "small.img"
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    (tree / "big").mkdir()
    for number in range(4):
        (tree / f"big/{number}").write_bytes(os.urandom(4 << 20))
    with mounted("ext4", image, tmp_path / "small", "loop") as small:
        (small / "0").write_text("old")
        before = entries(small)
        with pytest.raises(NoSpace, match=r"'new/[0-9]': the disk is full"):
            copy_out(tree, "big", small / "new")
        with pytest.raises(NoSpace):
            copy_out(tree, "big", small)
        (tree / "large").write_bytes(os.urandom(16 << 20))
        with pytest.raises(NoSpace):
            copy_out(tree, "large", small / "0")
        assert {path: entry._replace(mtime=0) for path, entry in entries(small).items()} == {
            path: entry._replace(mtime=0) for path, entry in before.items()
        }


def test_a_copy_that_is_interrupted_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    fill(tmp_path / "source")
    before = entries(tree)

    def interrupt(count: int) -> None:
        raise KeyboardInterrupt

    for text in ("new", "etc", "/"):
        with inside(tree, text) as target, pytest.raises(KeyboardInterrupt):
            copy(Typed(str(tmp_path / "source")), target, progress=interrupt)
    assert {path: entry._replace(mtime=0) for path, entry in entries(tree).items()} == {
        path: entry._replace(mtime=0) for path, entry in before.items()
    }


def test_a_file_is_replaced_and_its_other_names_keep_what_they_had(
    tree: Path, tmp_path: Path
) -> None:
    os.link(tree / "etc/motd", tree / "etc/other")
    (tmp_path / "new").write_text("new")
    (tmp_path / "new").chmod(0o4711)
    copy_in(tmp_path / "new", tree, "etc/motd")
    assert (tree / "etc/other").read_text() == "inside"
    status = os.stat(tree / "etc/motd")
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o4711, 1)


def test_what_is_in_a_directory_already_stays_beside_what_comes(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/new").write_text("new")
    (tree / "etc").chmod(0o711)
    os.utime(tree / "etc", ns=(1, 1))
    copy_in(f"{tmp_path}/etc/.", tree, "etc")
    assert sorted(os.listdir(tree / "etc")) == ["motd", "new"]
    assert stat.S_IMODE(os.stat(tree / "etc").st_mode) == 0o711
    (tmp_path / "etc").chmod(0o750)
    copy_in(tmp_path / "etc", tree, "/")
    assert stat.S_IMODE(os.stat(tree / "etc").st_mode) == 0o750
    assert sorted(os.listdir(tree / "etc")) == ["motd", "new"]


def test_no_directory_takes_the_place_of_a_file_nor_the_other_way_round(
    tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "source/motd").mkdir(parents=True)
    (tmp_path / "source/etc").write_text("file")
    for source, target in (("source/motd", "etc"), ("source/.", "etc"), ("source/etc", "/")):
        with pytest.raises(CowshedError):
            with inside(tree, target) as place:
                copy(Typed(f"{tmp_path}/{source}"), place)
    assert (tree / "etc/motd").read_text() == "inside"
    with pytest.raises(CowshedError), inside(tree, "/") as place:
        copy_from_stream(io.BytesIO(archive("etc")), place)
    assert (tree / "etc/motd").read_text() == "inside"
