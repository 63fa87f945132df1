"""init, info, df, prune and check."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cowshed
from tests.conftest import require


def test_init_says_where_and_on_what(tmp_path: Path, btrfs_mount: Path):
    plain = Cowshed(tmp_path / "root")
    assert plain.ok("init", "--backend", "vfs") == f"Initialized {tmp_path}/root (vfs)\n"
    root = btrfs_mount / f"init-{tmp_path.name}"
    assert Cowshed(root).ok("init") == f"Initialized {root} (btrfs)\n"
    assert Cowshed(root).ok("init") == f"Initialized {root} (btrfs)\n"


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("init", "--backend", "zebra"), 2, "btrfs, zfs, loopback, vfs"),
        (("--backend", "zebra", "ps"), 2, "btrfs, zfs, loopback, vfs"),
        (("init", "--size", "big"), 2, "--size"),
        (("init", "--backend", "vfs", "--size", "1g"), 1, "--size"),
        (("init", "--backend", "vfs", "--quota"), 1, "quota"),
        (("--backend", "btrfs", "images"), 1, "btrfs"),
    ],
)
def test_a_store_that_cannot_be_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], status: int, said: str
):
    require("root")
    if os.path.realpath(tmp_path).startswith("/proc"):
        pytest.skip("needs an ordinary filesystem")
    assert said in Cowshed(tmp_path / "root").refused(*arguments, status=status)


def test_a_store_of_another_backend_is_named(cowshed: Cowshed):
    said = cowshed.refused("--backend", "btrfs", "images")
    assert "is a vfs store, not a btrfs one" in said


def test_the_root_comes_from_the_environment(cowshed: Cowshed):
    env = {**cowshed.env, "COWSHED_ROOT": str(cowshed.root)}
    done = subprocess.run([*COMMAND, "images", "-q"], env=env, capture_output=True, check=True)
    assert done.stdout.decode().split() == cowshed.lines("images", "-q")


def test_info_tells_what_the_store_is(cowshed: Cowshed):
    cowshed.ok("create", "-n", "2", "base:1")
    done = cowshed("info")
    assert done.returncode == 0
    shown = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert shown["Root"] == str(cowshed.root)
    assert (shown["Backend"], shown["Images"], shown["Containers"]) == ("vfs", "1", "2")
    assert " free of " in shown["Space"]
    assert cowshed("info", "--format", "{{.Backend}} {{.Mounted}}").stdout == "vfs 0\n"


def test_df_has_the_columns_of_docker_system_df(cowshed: Cowshed):
    lines = cowshed("df").stdout.splitlines()
    assert lines[0] == "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE"
    assert lines[1] == "Images          1         0         9B        9B (100%)"
    assert lines[2].startswith("Containers      0         0         0B")
    assert lines[3].startswith("Local Volumes   0         0         0B")
    assert lines[5].startswith("Pool: ")


def test_df_tells_shared_and_own_bytes_of_each_image(cowshed: Cowshed):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.write("cow", "/etc/motd", "seven!\n")
    cowshed.ok("commit", "cow", "top")
    shown = cowshed("df", "-v").stdout
    assert "SHARED SIZE   UNIQUE SIZE   CONTAINERS" in shown
    [top] = [line.split() for line in shown.splitlines() if line.startswith("top ")]
    assert top[-4:] == ["16B", "9B", "7B", "0"]
    document = cowshed.json("df", "-v", "--format", "json")
    assert [image["UniqueSize"] for image in document["Images"]] == [7, 0]
    assert document["Usage"][0]["Size"] == 16


def test_prune_needs_force_where_nobody_can_be_asked(cowshed: Cowshed):
    cowshed.ok("create", "base:1")
    assert "--force" in cowshed.refused("prune")
    assert len(cowshed.lines("ps", "-aq")) == 1


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_prune_asks_on_a_terminal(cowshed: Cowshed, answer: bytes, left: int):
    cowshed.ok("create", "base:1")
    ours, theirs = os.openpty()
    running = cowshed.start(
        "prune", stdin=theirs, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    os.write(ours, answer)
    _, asked = running.communicate()
    os.close(ours)
    os.close(theirs)
    assert b"Are you sure you want to continue? [y/N]" in asked
    assert running.returncode == left
    assert (b"Nothing was removed." in asked) == bool(left)
    assert len(cowshed.lines("ps", "-aq")) == left


def test_prune_removes_containers_and_dangling_images(cowshed: Cowshed, rootfs: Path):
    kept, gone = cowshed.lines("create", "-n", "2", "base:1")
    dangling = cowshed.ok("import", str(rootfs)).strip()
    cowshed.ok("mount", kept)
    lines = cowshed.lines("prune", "-f")
    assert lines[:2] == ["Deleted Containers:", gone]
    assert lines[3:5] == ["Deleted Images:", f"deleted: {dangling}"]
    assert lines[-1].startswith("Total reclaimed space: ")
    assert cowshed.lines("ps", "-aq", "--no-trunc") == [kept]
    assert cowshed.lines("images", "--format", "{{.Repository}}") == ["base"]


def test_prune_all_removes_named_images_without_containers(cowshed: Cowshed):
    lines = cowshed.lines("prune", "-a", "-f")
    assert lines[:2] == ["Deleted Images:", "untagged: base:1"]
    assert lines[-1] == "Total reclaimed space: 9B"
    assert cowshed.lines("images", "-aq") == []


def test_prune_filters_say_what_may_go(cowshed: Cowshed):
    cowshed.ok("create", "--name", "old", "-l", "keep", "base:1")
    cowshed.ok("create", "--name", "new", "base:1")
    cowshed.ok("prune", "-f", "--filter", "until=1h")
    assert len(cowshed.lines("ps", "-aq")) == 2
    cowshed.ok("prune", "-f", "--filter", "label!=keep")
    assert cowshed.lines("ps", "-a", "--format", "{{.Names}}") == ["old"]
    cowshed.ok("prune", "-f", "--filter", "label=keep")
    assert cowshed.lines("ps", "-aq") == []
    assert "--filter" in cowshed.refused("prune", "-f", "--filter", "name=x", status=2)
    assert "--filter" in cowshed.refused("prune", "-f", "--filter", "until=x", status=2)


def test_check_tells_problems_and_repairs_them(cowshed: Cowshed):
    assert cowshed.ok("check") == "No problems found.\n"
    [id] = cowshed.lines("create", "base:1")
    volume = cowshed.root / "pool/containers" / id
    shutil.copytree(volume, volume.with_name("f" * 64))
    done = cowshed("check")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.startswith(f"containers/{'f' * 64}: ")
    assert done.stdout.count("\n") == 1
    [problem] = cowshed.json_of(cowshed("check", "--format", "json"))
    assert list(problem) == ["Where", "What", "Remedy", "Repaired"]
    assert cowshed("check", "--repair").returncode == 0
    assert cowshed.ok("check") == "No problems found.\n"


def test_check_ends_with_1_while_something_cannot_be_repaired(cowshed: Cowshed):
    [id] = cowshed.lines("create", "base:1")
    shutil.rmtree(cowshed.root / "pool/containers" / id)
    done = cowshed("check", "--repair")
    assert done.returncode == 1
    assert id in done.stdout
