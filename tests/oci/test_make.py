"""The archive that make writes: complete, in order, deterministic, and never led astray."""

import io
import os
import socket
import stat
import tarfile
import threading

import pytest

from backends.errors import BackendError
from backends.tree import TreeChanged
from oci import layer
from tests.conftest import require
from tests.oci.archives import apply, gnu_tar, make
from tests.trees import fill


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_entries_come_in_byte_order_of_full_paths(tree):
    for name in ("a", "a-b", "a.b", "a0"):
        (tree / name / "x").mkdir(parents=True)
        (tree / name / "f").touch()
    (tree / "a!").touch()
    (tree / "Z").touch()
    names = gnu_tar("-tf", "-", data=make(tree)).splitlines()
    assert names[0] == b"./"
    assert names[1:] == sorted(names[1:])
    assert len(names) == 15


def test_the_root_comes_first_and_directories_end_in_a_slash(tree):
    (tree / "d").mkdir()
    lines = gnu_tar("-tf", "-", data=make(tree)).splitlines()
    assert lines == [b"./", b"d/"]


def test_equal_trees_give_equal_bytes(tree, tmp_path):
    fill(tree)
    archive = make(tree)
    apply(archive, tmp_path / "copy")
    assert make(tmp_path / "copy") == archive


def test_a_file_with_several_names_has_one_body_and_a_link_has_links(tree):
    (tree / "b").write_bytes(b"body" * 1000)
    os.link(tree / "b", tree / "a")
    os.link(tree / "b", tree / "c")
    (tree / "s").symlink_to("x")
    os.link(tree / "s", tree / "t", follow_symlinks=False)
    with tarfile.open(fileobj=io.BytesIO(make(tree))) as tar:
        kinds = [(member.name, member.type, member.linkname) for member in tar][1:]
    assert kinds == [
        ("a", b"0", ""),
        ("b", b"1", "a"),
        ("c", b"1", "a"),
        ("s", b"2", "x"),
        ("t", b"1", "s"),
    ]


def test_sockets_are_left_out_and_reported(tree):
    with socket.socket(socket.AF_UNIX) as listener:
        (tree / "d").mkdir()
        listener.bind(str(tree / "d/s"))
        assert layer.make(str(tree), io.BytesIO()) == [b"d/s"]


def test_fifos_devices_and_links_are_never_opened(tree, tmp_path):
    require("root")
    (tmp_path / "secret").write_bytes(b"secret")
    (tree / "link").symlink_to(tmp_path / "secret")
    (tree / "dir").symlink_to(tmp_path)
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "tty", stat.S_IFCHR | 0o600, os.makedev(5, 0))
    assert b"secret\0" not in make(tree).replace(str(tmp_path / "secret").encode(), b"")


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1 << 20, (1 << 20) + 1])
def test_bodies_are_filled_up_to_whole_blocks(tree, size):
    (tree / "f").write_bytes(os.urandom(size))
    (tree / "g").write_bytes(b"next")
    archive = make(tree)
    assert len(archive) % 512 == 0
    assert gnu_tar("-xOf", "-", "f", data=archive) == (tree / "f").read_bytes()
    assert gnu_tar("-xOf", "-", "g", data=archive) == b"next"


def test_what_does_not_fit_into_a_header_goes_before_it(tree, tmp_path):
    require("root")
    name = os.fsdecode(b"\xff" * 120)
    (tree / name).touch()
    (tree / ("l" * 150)).symlink_to("t" * 4000)
    os.chown(tree / name, 4_000_000_000, 3_000_000)
    os.utime(tree / name, ns=(0, -1_500_000_001))
    archive = make(tree)
    (tmp_path / "other").mkdir()
    gnu_tar("-C", tmp_path / "other", "--numeric-owner", "-xpf", "-", data=archive)
    for path in ("tree", "other"):
        status = (tmp_path / path / name).stat()
        assert (status.st_uid, status.st_gid) == (4_000_000_000, 3_000_000)
        assert status.st_mtime_ns == -1_500_000_001
    assert os.readlink(tmp_path / "other" / ("l" * 150)) == "t" * 4000


def test_a_file_of_more_than_8_gib_says_so_in_its_extended_header(tree):
    with (tree / "big").open("wb") as file:
        file.truncate((8 << 30) + 1)

    class Enough(Exception):
        pass

    class Head(io.RawIOBase):
        seen = b""

        def write(self, data):
            self.seen += bytes(data[:4096])
            if len(self.seen) > 4096:
                raise Enough
            return len(data)

    out = Head()
    with pytest.raises(Enough):
        layer.make(str(tree), out)
    assert b" size=8589934593\n" in out.seen


def test_progress_hears_of_every_byte(tree):
    (tree / "f").write_bytes(b"x" * 3_000_000)
    heard = []
    out = io.BytesIO()
    layer.make(str(tree), out, progress=heard.append)
    assert sum(heard) == len(out.getvalue())


def test_a_file_that_grows_or_shrinks_while_it_is_read_is_an_error(tree):
    for change in (4 << 20, 1 << 20):
        with (tree / "f").open("wb") as file:
            file.truncate(3 << 20)

        def meddle(count, change=change):
            if count >= 1 << 20:
                os.truncate(tree / "f", change)

        with pytest.raises(TreeChanged, match="'f' changed its size"):
            layer.make(str(tree), io.BytesIO(), progress=meddle)


def test_a_directory_that_is_swapped_for_a_link_is_not_followed(tree, tmp_path):
    """A container that runs meanwhile turns directories into links to the host's."""
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_bytes(b"the host's own")
    (tree / "d").mkdir()
    stop = threading.Event()

    def swap():
        while not stop.is_set():
            os.rename(tree / "d", tree / "e")
            os.symlink(tmp_path / "host", tree / "d")
            os.unlink(tree / "d")
            os.rename(tree / "e", tree / "d")

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        for _ in range(300):
            out = io.BytesIO()
            try:
                layer.make(str(tree), out)
            except TreeChanged as error:
                assert str(error).isprintable()
            assert b"the host's own" not in out.getvalue()
    finally:
        stop.set()
        swapper.join()


def test_a_missing_tree_is_an_error_of_one_line(tmp_path):
    with pytest.raises(BackendError):
        layer.make(str(tmp_path / "absent"), io.BytesIO())


def test_an_error_of_the_output_goes_through_as_it_is(tree):
    (tree / "f").write_bytes(b"x" * 100_000)
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space"):
        layer.make(str(tree), full)
