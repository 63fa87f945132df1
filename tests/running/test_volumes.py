"""Data volumes at run: filled from the image once, shared, kept, and in no image."""

import io
import tarfile
import time
from pathlib import Path

import pytest

from tests.running.conftest import Box, busybox_tar

MODES = "stat -c '%n %u %g %a'"


@pytest.fixture(scope="session")
def with_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox with /data: a directory of web's, a file, a link, and an empty /data/sub."""
    path = tmp_path_factory.mktemp("data") / "data.tar"
    path.write_bytes(busybox_tar())
    with tarfile.open(path, "a") as archive:
        for name, kind, mode, content in (
            ("data", tarfile.DIRTYPE, 0o2750, ""),
            ("data/sub", tarfile.DIRTYPE, 0o711, ""),
            ("data/file", tarfile.REGTYPE, 0o4640, "of the image\n"),
            ("data/link", tarfile.SYMTYPE, 0o777, "file"),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = kind, mode, 1000, 2000
            entry.mtime = 1600000000
            if kind == tarfile.SYMTYPE:
                entry.linkname = content
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return path


@pytest.fixture
def shed(anywhere: Box, with_data: Path) -> Box:
    """A store with the image data, and with declared, which has a VOLUME."""
    anywhere.ok("import", str(with_data), "data")
    anywhere.ok("import", "-c", "VOLUME /data", str(with_data), "declared")
    return anywhere


def sh(box: Box, *arguments: str) -> str:
    """What a script prints, the last of the arguments, in a container that is removed."""
    return box.run(*arguments[:-1], "sh", "-c", arguments[-1])


def names(box: Box) -> list[str]:
    return box.lines("volume", "ls", "-q")


ON_BTRFS = pytest.mark.parametrize("anywhere", ["btrfs_mount"], indirect=True)
"""For a test whose answer is the same on ZFS, where each takes ten seconds."""

COPIED = [
    "/data 1000 2000 2750",
    "/data/file 1000 2000 4640",
    "/data/link 1000 2000 777",
    "/data/sub 1000 2000 711",
]


@ON_BTRFS
@pytest.mark.parametrize(
    "option", [["-v", "herd:/data"], ["--mount", "type=volume,src=herd,dst=/data"], ["-v", "/data"]]
)
def test_a_volume_gets_what_the_image_has_there(shed: Box, option: list[str]):
    script = f"{MODES} /data /data/*; cat /data/link; stat -c %Y /data/file"
    assert sh(shed, *option, "data", script).splitlines() == [*COPIED, "of the image", "1600000000"]
    assert names(shed) == (["herd"] if "herd" in option[1] else [])


@ON_BTRFS
def test_a_volume_where_the_image_has_nothing_is_roots_and_empty(shed: Box):
    assert sh(shed, "-v", "herd:/new/place", "data", f"{MODES} /new/place; ls -A /new/place") == (
        "/new/place 0 0 755\n"
    )


@ON_BTRFS
def test_a_volume_is_filled_once(shed: Box):
    sh(shed, "-v", "herd:/data", "data", "rm -r /data/* && echo mine > /data/file")
    assert sh(shed, "-v", "herd:/data", "data", "ls /data; cat /data/file") == "file\nmine\n"
    sh(shed, "-v", "herd:/data", "data", "rm /data/file")
    assert sh(shed, "-v", "herd:/data", "data", "ls -A /data") == ""


@ON_BTRFS
def test_a_volume_that_somebody_filled_is_left_as_it_is(shed: Box):
    sh(shed, "-v", "herd:/other", "box", "echo first > /other/file")
    assert sh(shed, "-v", "herd:/data", "data", "ls /data; cat /data/file") == "file\nfirst\n"


@ON_BTRFS
@pytest.mark.parametrize(
    "option", [["-v", "herd:/data:nocopy"], ["--mount", "src=herd,dst=/data,volume-nocopy"]]
)
def test_with_nocopy_nothing_is_copied(shed: Box, option: list[str]):
    assert sh(shed, *option, "data", f"{MODES} /data; ls -A /data") == "/data 0 0 755\n"


@ON_BTRFS
@pytest.mark.parametrize(
    "option", [["-v", "herd:/data:ro"], ["--mount", "src=herd,dst=/data,readonly"]]
)
def test_a_read_only_volume_is_filled_and_not_written(shed: Box, option: list[str]):
    script = "cat /data/file; echo x > /data/new || echo no"
    done = shed("run", "--rm", *option, "data", "sh", "-c", script)
    assert done.stdout == "of the image\nno\n"
    assert "Read-only file system" in done.stderr
    assert sh(shed, "-v", "herd:/data", "data", "echo x > /data/new; ls /data") == (
        "file\nlink\nnew\nsub\n"
    )


def test_two_containers_share_a_volume_while_they_run(shed: Box):
    shed.ok("run", "-d", "--name", "cow", "-v", "herd:/data", "data", "sleep", "1000")
    shed.ok("run", "-d", "--name", "calf", "-v", "herd:/else", "box", "sleep", "1000")
    shed.ok("exec", "cow", "sh", "-c", "echo from a > /data/a")
    assert shed.ok("exec", "calf", "cat", "/else/a") == "from a\n"
    assert "herd" in shed.refused("volume", "rm", "herd")
    shed.ok("rm", "-f", "cow")
    shed.ok("exec", "calf", "sh", "-c", "echo from b > /else/b")
    assert sh(shed, "-v", "herd:/x", "box", "cat /x/a /x/b") == "from a\nfrom b\n"
    shed.require_sound()


@ON_BTRFS
def test_a_named_volume_outlives_whoever_had_it(shed: Box):
    shed.ok("run", "--name", "cow", "-v", "herd:/data", "box", "sh", "-c", "echo x > /data/x")
    shed.ok("rm", "-v", "cow")
    shed.run("-v", "herd:/data", "box", "true")
    assert names(shed) == ["herd"]
    assert sh(shed, "-v", "herd:/data", "box", "cat /data/x") == "x\n"
    shed.ok("volume", "rm", "herd")
    assert names(shed) == []
    shed.require_clean()


@ON_BTRFS
@pytest.mark.parametrize(("options", "left"), [([], 2), (["-v"], 0)])
def test_anonymous_volumes_go_with_rm_v_only(shed: Box, options: list[str], left: int):
    shed.ok("run", "--name", "cow", "-v", "/one", "--mount", "dst=/two", "data", "true")
    assert len(names(shed)) == 2
    shed.ok("rm", *options, "cow")
    assert len(names(shed)) == left
    shed.ok("volume", "prune", "-f", "-a") if left else None
    assert names(shed) == []
    shed.require_clean()


@ON_BTRFS
@pytest.mark.parametrize("how", [[], ["-d"]])
def test_with_rm_the_anonymous_ones_go_and_the_named_stay(shed: Box, how: list[str]):
    id = shed.ok("run", "--rm", *how, "-v", "/one", "-v", "herd:/two", "declared", "true").strip()
    if how:
        shed("wait", id)
        end = time.monotonic() + 20
        # The volumes go after the container that had them.
        while shed.lines("ps", "-aq") or names(shed) != ["herd"]:
            assert time.monotonic() < end
            time.sleep(0.05)
    assert names(shed) == ["herd"]
    shed.require_clean()


@ON_BTRFS
def test_a_volume_is_the_containers_own_from_start_to_start(shed: Box):
    shed.ok("create", "--name", "cow", "-v", "/data", "box", "sh", "-c", "echo x >> /data/n; wc -l"
            " < /data/n")  # fmt: skip
    assert [shed.ok("start", "-a", "cow") for _ in range(3)] == ["1\n", "2\n", "3\n"]
    assert len(names(shed)) == 1


def test_what_is_in_a_volume_is_in_no_diff_commit_or_export(shed: Box, tmp_path: Path):
    script = "echo x > /data/new; echo x > /new/n; echo x > /root/own; rm /data/file"
    shed.ok("run", "--name", "cow", "-v", "herd:/new", "declared", "sh", "-c", script)
    assert shed.lines("diff", "cow") == ["C /root", "A /root/own"]
    shed.ok("commit", "cow", "grown")
    assert shed.lines("diff", "grown") == ["C /root", "A /root/own"]
    assert sh(shed, "grown", "cat /data/file; ls -A /data; ls / | grep new; true").split("\n") == [
        "of the image", "file", "link", "sub", ""
    ]  # fmt: skip
    shed.ok("export", "-o", str(tmp_path / "tree.tar"), "cow")
    with tarfile.open(tmp_path / "tree.tar") as tree:
        found = {name.removeprefix("./") for name in tree.getnames()}
    assert {name for name in found if name.startswith("data")} == {
        "data", "data/sub", "data/file", "data/link"
    }  # fmt: skip
    assert not {"new", "new/n", "data/new"} & found


@ON_BTRFS
def test_a_commit_of_a_running_container_has_nothing_of_its_volumes(shed: Box):
    shed.ok("run", "-d", "--name", "cow", "-v", "herd:/data/sub", "declared", "sleep", "1000")
    shed.ok("exec", "cow", "sh", "-c", "echo x > /data/new; echo x > /data/sub/new; echo x > /own")
    shed.ok("commit", "cow", "grown")
    assert shed.lines("diff", "grown") == ["C /", "A /own"]


@ON_BTRFS
def test_a_volume_of_the_image_is_made_for_each_container(shed: Box):
    script = "cat /data/file; grep -c ' /data ' /proc/mounts; echo mine > /data/file"
    for name in ("cow", "calf"):
        shed.ok("create", "--name", name, "declared", "sh", "-c", script)
        assert shed.ok("start", "-a", name) == "of the image\n1\n"
    assert len(names(shed)) == 2
    assert sh(shed, "-v", "herd:/data", "declared", "cat /data/file") == "of the image\n"
    assert len(names(shed)) == 3


@ON_BTRFS
def test_a_bind_or_tmpfs_takes_the_place_of_a_volume_of_the_image(shed: Box, tmp_path: Path):
    for option in (["-v", f"{tmp_path}:/data"], ["--tmpfs", "/data"]):
        assert sh(shed, *option, "declared", "ls -A /data") == ""
    assert names(shed) == []


@ON_BTRFS
@pytest.mark.parametrize("options", [["-v", "a1:/data", "-v", "b1:/data/sub"],
                                     ["-v", "b1:/data/sub", "-v", "a1:/data"]])  # fmt: skip
def test_a_volume_lies_in_another(shed: Box, options: list[str]):
    script = "echo o > /data/outer; echo i > /data/sub/inner; ls /data /data/sub"
    assert sh(shed, *options, "data", script).split() == (
        "/data: file link outer sub /data/sub: inner".split()
    )
    assert sh(shed, "-v", "a1:/a", "-v", "b1:/b", "box", "ls -A /a/sub; ls /b") == "inner\n"
    shed.require_clean()


def test_a_volume_lies_where_another_has_nothing_yet(shed: Box):
    options = ("-v", "a1:/srv", "-v", "b1:/srv/deep/er")
    assert sh(shed, *options, "box", "echo x > /srv/deep/er/x; find /srv") == (
        "/srv\n/srv/deep\n/srv/deep/er\n/srv/deep/er/x\n"
    )
    shed.require_clean()


@ON_BTRFS
def test_a_read_only_root_has_writable_volumes(shed: Box):
    assert sh(shed, "--read-only", "-v", "herd:/data", "data", "echo x > /data/x; cat /data/x") == (
        "x\n"
    )


def test_a_volume_whose_container_is_killed_is_free_again(shed: Box):
    shed.ok("run", "-d", "--name", "cow", "-v", "herd:/data", "data", "sleep", "1000")
    shed.ok("kill", "cow")
    shed.ok("wait", "cow")
    shed.ok("rm", "cow")
    shed.ok("volume", "rm", "herd")
    assert names(shed) == []
    shed.require_clean()


@ON_BTRFS
def test_a_run_that_fails_leaves_no_anonymous_volume(shed: Box):
    shed.refused("run", "-v", "/data", "data", "nosuch", status=127)
    assert names(shed) == []
    shed.require_clean()


@ON_BTRFS
def test_cp_reaches_a_volume_of_a_running_container_only(shed: Box, tmp_path: Path):
    (tmp_path / "new").write_text("moo")
    shed.ok("create", "--name", "web", "-v", "herd:/data", "data", "sleep", "1000")
    assert "cowshed start web" in shed.refused("cp", str(tmp_path / "new"), "web:/data/new")
    shed.ok("start", "web")
    shed.ok("cp", "-q", str(tmp_path / "new"), "web:/data/new")
    assert shed.ok("exec", "web", "cat", "/data/new") == "moo"
    shed.ok("rm", "-f", "web")
    assert sh(shed, "-v", "herd:/data", "data", "cat /data/new") == "moo"
