"""What is ZFS's own in the command line: where the volumes are, and the snapshots of others."""

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cowshed, unmount_all

pytestmark = pytest.mark.zfs


@pytest.fixture
def dataset(zpool: str) -> str:
    return f"{zpool}/{secrets.token_hex(4)}"


@pytest.fixture
def elsewhere(tmp_path: Path, dataset: str) -> Iterator[Cowshed]:
    """A store whose root is not on ZFS."""
    cowshed = Cowshed(tmp_path / "root")
    said = cowshed.ok("init", "--dataset", dataset)
    assert said == f"Initialized {tmp_path}/root (zfs)\n"
    yield cowshed
    unmount_all(cowshed)


def zfs(*arguments: str) -> str:
    return subprocess.run(["zfs", *arguments], check=True, capture_output=True, text=True).stdout


def test_the_main_job_on_a_dataset_elsewhere(elsewhere: Cowshed, rootfs: Path, dataset: str):
    run = elsewhere
    run.ok("import", "-c", 'CMD ["sh"]', str(rootfs), "base:1")
    run.ok("create", "--name", "cow", "--size", "16m", "base:1")
    run.write("cow", "/etc/motd", "changed\n")
    assert run.lines("diff", "cow") == ["C /etc/motd"]
    run.ok("commit", "-m", "a comment", "cow", "top:1")
    run.ok("create", "--name", "calf", "top:1")
    point = run.ok("mount", "calf").strip()
    assert Path(point, "etc/motd").read_text() == "changed\n"
    assert "calf" in run.ok("ps")
    assert "is mounted at" in run.refused("rm", "calf")
    [container] = run.json("inspect", "calf")
    assert (container["Backend"], container["Volume"]) == (
        "zfs",
        f"{dataset}/containers/{container['Id']}",
    )
    assert f"Dataset: {dataset}\n" in run.ok("info")
    assert run.lines("rm", "-f", "calf", "cow") == ["calf", "cow"]
    assert run.lines("rmi", "base:1", "top:1")[0] == "Untagged: base:1"
    assert run.ok("check") == "No problems found.\n"
    kinds = ("", "/containers", "/layers", "/quarantine", "/staging", "/volumes")
    left = zfs("list", "-Hro", "name", "-t", "all", dataset).splitlines()
    assert left == [f"{dataset}{kind}" for kind in kinds]


def test_a_snapshot_of_somebody_is_named_and_destroyed_by_force_only(on_zfs: Cowshed):
    on_zfs.ok("create", "--name", "cow", "base:1")
    on_zfs.ok("commit", "cow", "top:1")
    [container], [image] = on_zfs.json("inspect", "cow"), on_zfs.json("inspect", "top:1")
    for taken, command, name in ((container, "rm", "cow"), (image, "rmi", "top:1")):
        snapshot = f"{taken['Volume']}@daily"
        zfs("snapshot", snapshot)
        assert snapshot in on_zfs.refused(command, name)
        assert on_zfs.ok("inspect", name)
        done = on_zfs(command, "-f", name)
        assert done.returncode == 0
        assert done.stderr == (
            f"Warning: destroyed {snapshot}, a snapshot that cowshed had not made\n"
        )
    assert on_zfs.ok("check") == "No problems found.\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--dataset", "{zpool}/nobody/there"), "zfs create -p {zpool}/nobody"),
        (("--dataset", "no-such-pool/x"), "there is no pool no-such-pool"),
        (("--dataset", "{zpool}/" + "x" * 120), "too long"),
        (("--dataset", "{zpool}/a@b"), "give another with --dataset"),
        (("--dataset", "{zpool}/x", "--backend", "vfs"), "--dataset is for a zfs store"),
        (("--backend", "zfs"), "is not on ZFS"),
    ],
)
def test_a_dataset_that_cannot_be_is_refused(
    tmp_path: Path, zpool: str, arguments: tuple[str, ...], said: str
):
    given = [argument.format(zpool=zpool) for argument in arguments]
    before = zfs("list", "-Hro", "name", zpool)
    said = said.format(zpool=zpool)
    assert said in Cowshed(tmp_path / "root").refused("init", *given)
    assert zfs("list", "-Hro", "name", zpool) == before
    assert not (tmp_path / "root").exists()
