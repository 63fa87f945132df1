"""Hosts that have no control groups: what can be done without them is, and the rest is said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.running.conftest import Box, stocked

WITHOUT = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-c"),
    'umount -R /sys/fs/cgroup && exec "$@"',
    "sh",
)


class Bare(Box):
    """Every command sees a host without control groups."""

    def command(self, *arguments: str) -> list[str]:
        return [*WITHOUT, *super().command(*arguments)]


@pytest.fixture
def bare(btrfs_mount: Path, tmp_path: Path, busybox: Path) -> Iterator[Box]:
    require("unshare")
    yield from stocked(Bare(btrfs_mount / f"box-{tmp_path.name}", "crun"), busybox)


def test_a_container_runs_without_control_groups(bare: Box):
    assert bare.run("box", "sh", "-c", "echo moo; ls /sys/fs/cgroup") == "moo\n"
    bare.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert bare.ok("exec", "web", "echo", "beside") == "beside\n"
    bare.ok("stop", "-t", "0", "web")
    bare.require_clean()


def test_what_needs_them_is_refused(bare: Box):
    assert "no cgroups" in bare.refused("run", "--cpus", "1", "box", "true", status=125)
    bare.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert "--no-pause" in bare.refused("commit", "web", "moment")
    bare.ok("commit", "--no-pause", "web", "moment")
    done = bare("run", "--runtime", "runc", "box", "true")
    assert done.returncode == 125 and "runc needs control groups" in done.stderr
