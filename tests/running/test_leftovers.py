"""What a SIGKILL of cowshed, conmon or the runtime leaves: found by check, ended by its repair."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagegraph import running
from runtime.monitor import MONITOR
from tests.running.conftest import Box


def _monitor(box: Box, name: str) -> int:
    return int(Path(running.bundle(box.id(name)), MONITOR).read_text())


def _await(condition, what: str) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_a_container_goes_on_when_cowshed_is_killed(box: Box):
    attached = box.start("run", "--name", "web", "box", "sleep", "1000")
    _await(lambda: box.lines("ps", "-q"), "it runs")
    attached.kill()
    attached.wait()
    assert box.state("web")["Running"]
    box.require_sound()
    box.ok("stop", "-t", "0", "web")
    _await(lambda: not os.path.exists(running.bundle(box.id("web"))), "its run is cleared away")


def test_a_container_with_rm_goes_though_cowshed_was_killed(box: Box):
    attached = box.start("run", "--rm", "--name", "web", "box", "sleep", "1")
    _await(lambda: box.lines("ps", "-q"), "it runs")
    attached.kill()
    attached.wait()
    _await(lambda: not box.lines("ps", "-aq"), "it is removed")
    box.require_clean()


def test_the_death_of_the_monitor_is_found_and_ended(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    os.kill(_monitor(box, "web"), signal.SIGKILL)
    _await(lambda: box.raw("check").returncode == 1, "check finds it")
    assert b"monitor died" in box.raw("check").stdout
    box.ok("check", "--repair")
    assert box.state("web")["Status"] == "exited"
    box.require_clean()
    box.ok("start", "web")
    assert box.state("web")["Running"]


def test_the_death_of_both_is_an_end_that_nobody_saw(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    pid = box.state("web")["Pid"]
    os.kill(_monitor(box, "web"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    _await(lambda: not box.state("web")["Running"], "it ended")
    assert box.state("web")["ExitCode"] == running.LOST
    assert b"left by a run" in box.raw("check").stdout
    box.ok("check", "--repair")
    box.require_clean()


def test_after_a_reboot_it_has_ended_and_is_started_again(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    id, pid = box.id("web"), box.state("web")["Pid"]
    os.kill(_monitor(box, "web"), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    _await(lambda: not box.state("web")["Running"], "it ended")
    # What a reboot empties.
    shutil.rmtree(running.bundle(id))
    shutil.rmtree(f"{running.VOLATILE}/{box.runtime}/{id}")
    assert box.state("web")["Status"] == "exited"
    box.require_sound()
    box.ok("start", "web")
    assert box.state("web")["Running"]


def test_a_container_is_thawed_though_who_commits_it_is_killed(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    script = """if True:
        import os, signal, sys
        from imagegraph.store import Store
        from runtime.stopping import paused
        with Store.open(sys.argv[1]) as store:
            container = store.container("web")
            with paused(container):
                from imagegraph.running import state
                assert state(store.root, container.id).status == "paused"
                os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", script, str(box.root)], env=box.env)
    assert done.returncode == -signal.SIGKILL
    _await(lambda: box.state("web")["Status"] == "running", "it goes on")
    box.require_sound()


def test_a_frozen_container_is_thawed(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    from runtime.starting import made_by

    id = box.id("web")
    engine = made_by(id)
    assert engine is not None
    engine("pause", id)
    assert box.state("web")["Status"] == "paused"
    assert "paused" in box.refused("exec", "web", "true")
    assert b"frozen" in box.raw("check").stdout
    box.ok("check", "--repair")
    assert box.state("web")["Status"] == "running"


@pytest.mark.parametrize("delay", [0.02 * step for step in range(1, 11)])
def test_a_start_that_is_killed_at_any_time_is_ended(box: Box, delay: float):
    box.ok("create", "--name", "web", "box", "sleep", "1000")
    starting = box.start("start", "web")
    time.sleep(delay)
    starting.kill()
    starting.wait()
    time.sleep(0.3)
    box("check", "--repair")
    box.require_sound()
    box("rm", "-f", "web")
    assert box.lines("ps", "-aq") == []
    box.require_clean()
