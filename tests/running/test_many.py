"""Many containers at once."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

from tests.running.conftest import Box

COUNT = 50


def test_fifty_containers_at_once(box: Box):
    def one(number: int) -> tuple[int, str, str]:
        done = box("run", "--rm", "box", "sh", "-c", f"echo {number}; sleep 0.2; exit {number}")
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(COUNT) as pool:
        found = list(pool.map(one, range(COUNT)))
    assert found == [(number, f"{number}\n", "") for number in range(COUNT)]
    assert box.lines("ps", "-aq") == []
    box.require_clean()


def test_fifty_run_together_and_are_stopped_together(box: Box):
    ids = box.lines("create", "-n", str(COUNT), "box", "sleep", "1000")
    box.ok("start", *ids)
    assert len(box.lines("ps", "-q")) == COUNT
    box.ok("stop", "-t", "0", *ids)
    assert box.lines("ps", "-q") == []
    box.ok("rm", *ids)
    box.require_clean()


def test_of_several_only_one_starts_it(box: Box):
    box.ok("create", "--name", "web", "box", "sleep", "1000")
    starts = [
        box.start("start", "web", stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)
    ]
    said = [start.communicate(timeout=60) for start in starts]
    assert sorted(start.returncode for start in starts) == [0, 1, 1, 1, 1, 1]
    assert sum(b"running already" in err for _, err in said) == 5
