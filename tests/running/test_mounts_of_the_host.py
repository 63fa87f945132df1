"""What the host has mounted beside is not held by containers that run."""

from pathlib import Path

from imagegraph import running
from runtime.monitor import MONITOR
from tests.conftest import mounted
from tests.running.conftest import Box


def _seen(box: Box, name: str) -> str:
    """What the container's monitor has mounted."""
    monitor = Path(running.bundle(box.id(name)), MONITOR).read_text()
    return Path(f"/proc/{monitor}/mountinfo").read_text()


def test_a_filesystem_of_the_host_is_not_held(box: Box, tmp_path: Path):
    with (
        mounted("tmpfs", Path("none"), tmp_path / "beside", "size=1m") as beside,
        mounted("tmpfs", Path("none"), tmp_path / "bound", "size=1m") as bound,
    ):
        (bound / "file").write_text("moo")
        box.ok("create", "--name", "other", "box")
        place = box.ok("mount", "other").strip()
        box.ok("run", "-d", "--name", "web", "-v", f"{bound}:/data", "box", "sleep", "1000")
        seen = _seen(box, "web")
        assert str(bound) in seen
        assert str(beside) not in seen and place not in seen
        assert box.ok("exec", "web", "cat", "/data/file") == "moo"
        box.ok("umount", "other")
        box.ok("rm", "other")
        box.ok("rm", "-f", "web")
    box.require_clean()
