"""run, start, stop, kill, wait, logs and exec: what they print and how they end."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.running.conftest import Box


def test_a_process_prints_and_its_container_goes(anywhere: Box):
    assert anywhere.run("box", "echo", "moo") == "moo\n"
    assert anywhere.lines("ps", "-aq") == []
    anywhere.require_clean()


def test_output_and_errors_are_kept_apart(box: Box):
    done = box("run", "--rm", "box", "sh", "-c", "echo out; echo err >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_run_ends_as_the_process_does(box: Box, status: int):
    assert box("run", "--rm", "box", "sh", "-c", f"exit {status}").returncode == status


def test_a_signal_that_ended_it_is_128_and_its_number(box: Box):
    done = box("run", "--rm", "box", "sh", "-c", "sh -c 'kill -9 $$'; exit $?")
    assert done.returncode == 137


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [("nosuch", 127, "nosuch"), ("/etc/nosuch", 127, "nosuch"), ("/etc/passwd", 126, "denied")],
)
def test_a_command_that_cannot_be_run_leaves_nothing(
    box: Box, command: str, status: int, said: str
):
    assert said in box.refused("run", "box", command, status=status)
    assert box.lines("ps", "-aq") == []
    box.require_clean()


def test_what_is_wrong_before_any_process_is_125(box: Box):
    for arguments, said in (
        (("nosuch",), "nosuch"),
        (("-v", "/nosuch:/x", "box"), "/nosuch is not there"),
        (("-u", "nosuch", "box"), "nosuch"),
        (("--restart", "always", "box"), "restart"),
    ):
        assert said in box.refused("run", *arguments, status=125)
    assert box.lines("ps", "-aq") == []
    box.require_clean()


def test_an_image_without_a_command_is_refused(box: Box, busybox: Path):
    box.ok("import", str(busybox), "bare")
    assert "command" in box.refused("run", "bare", status=125)


def test_a_name_that_is_in_use_is_refused_and_stays(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "100")
    assert "web is in use" in box.refused("run", "--name", "web", "box", status=125)
    assert box.state("web")["Running"]


def test_stdin_comes_to_the_process_and_ends(box: Box):
    data = bytes(range(256)) * 5000
    done = box.raw("run", "--rm", "-i", "box", "cat", input=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data


def test_without_i_the_process_has_no_stdin(box: Box):
    assert box.run("box", "cat", input=b"not for it") == ""


def test_much_output_comes_whole(box: Box):
    done = box.raw("run", "--rm", "box", "sh", "-c", "seq 1 200000; seq 1 3 >&2")
    assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 200001))
    assert done.stderr == b"1\n2\n3\n"


def test_a_detached_container_goes_on_and_can_be_stopped(anywhere: Box):
    id = anywhere.ok(
        "run", "-d", "--name", "web", "box", "sh", "-c", "echo up; exec sleep 1000"
    ).strip()
    assert re.fullmatch("[0-9a-f]{64}", id)
    assert anywhere.state("web")["Running"] and anywhere.state("web")["Pid"] > 0
    [row] = anywhere.json("ps", "--format", "json")
    assert row["State"] == "running" and row["Status"].startswith("Up ")
    assert anywhere.ok("stop", "-t", "0", "web") == "web\n"
    assert anywhere.state("web")["Status"] == "exited" and anywhere.state("web")["ExitCode"] == 137
    [row] = anywhere.json("ps", "-a", "--format", "json")
    assert row["Status"].startswith("Exited (137) ")
    assert anywhere.ok("logs", "web") == "up\n"
    assert anywhere.ok("stop", "web") == "web\n"
    anywhere.require_clean()


def test_stop_asks_with_the_containers_own_signal(box: Box):
    script = "trap 'echo asked; exit 5' USR1; while true; do sleep 0.05; done"
    box.ok("run", "-d", "--stop-signal", "USR1", "--name", "web", "box", "sh", "-c", script)
    time.sleep(0.3)
    begun = time.monotonic()
    box.ok("stop", "web")
    assert time.monotonic() - begun < 5
    assert box.state("web")["ExitCode"] == 5
    assert box.ok("logs", "web") == "asked\n"


def test_kill_sends_a_signal(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert box.ok("kill", "web") == "web\n"
    assert box.ok("wait", "web") == "137\n"
    assert "not running" in box.refused("kill", "web")
    assert "NOSUCH" in box.refused("kill", "-s", "NOSUCH", "web")


def test_wait_prints_the_status_when_it_ends(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sh", "-c", "sleep 0.5; exit 9")
    assert box.ok("wait", "web") == "9\n"
    assert box.ok("wait", "web") == "9\n"


def test_a_container_is_started_again_with_what_it_wrote(anywhere: Box):
    anywhere.ok("create", "--name", "web", "box", "sh", "-c", "echo x >> /n; wc -l < /n")
    assert anywhere.ok("wait", "web") == "0\n"
    assert anywhere.ok("start", "-a", "web") == "1\n"
    assert anywhere.ok("start", "web") == "web\n"
    anywhere.ok("wait", "web")
    assert anywhere.ok("logs", "web") == "1\n2\n"
    assert anywhere.lines("diff", "web") == ["C /", "A /n"]


def test_what_runs_is_not_started_or_removed(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert "running already" in box.refused("start", "web")
    assert "running" in box.refused("rm", "web")
    assert box.state("web")["Running"]
    assert box.ok("rm", "-f", "web") == "web\n"
    assert box.lines("ps", "-aq") == []
    box.require_clean()


def test_prune_leaves_what_runs(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    box.ok("create", "--name", "idle", "box")
    box.ok("prune", "-f")
    assert [row["Name"] for row in box.json("ps", "-a", "--format", "json")] == ["web"]


def test_a_detached_container_with_rm_goes_when_it_ends(box: Box):
    box.ok("run", "-d", "--rm", "--name", "web", "box", "sleep", "0.3")
    end = time.monotonic() + 20
    while box.lines("ps", "-aq"):
        assert time.monotonic() < end
        time.sleep(0.1)
    box.require_clean()


def test_signals_are_passed_on(box: Box):
    script = "trap 'echo got; exit 3' TERM; echo ready; while true; do sleep 0.05; done"
    running = box.start("run", "--rm", "box", "sh", "-c", script, stdout=subprocess.PIPE)
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    time.sleep(0.3)
    running.send_signal(signal.SIGTERM)
    assert running.communicate(timeout=20)[0] == b"got\n"
    assert running.returncode == 3


def test_exec_runs_beside_it_and_ends_as_it_ends(anywhere: Box):
    anywhere.ok("run", "-d", "--name", "web", "-e", "A=1", "box", "sleep", "1000")
    assert anywhere.ok("exec", "-e", "B=2", "web", "sh", "-c", "echo $A$B") == "12\n"
    assert anywhere("exec", "web", "sh", "-c", "exit 7").returncode == 7
    assert anywhere.raw("exec", "-i", "web", "cat", input=b"in").stdout == b"in"
    assert anywhere.ok("exec", "-u", "web", "-w", "/tmp", "web", "sh", "-c", "id -u; pwd") == (
        "1000\n/tmp\n"
    )
    assert anywhere.ok("exec", "-d", "web", "sh", "-c", "echo later > /later; sleep 0.2") == ""
    time.sleep(0.5)
    assert anywhere.ok("exec", "web", "cat", "/later") == "later\n"


def test_exec_says_what_it_cannot(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    assert "nosuch" in box.refused("exec", "web", "nosuch", status=127)
    assert "denied" in box.refused("exec", "web", "/etc/passwd", status=126)
    assert "nosuch" in box.refused("exec", "-u", "nosuch", "web", "true")
    box.ok("stop", "-t", "0", "web")
    assert "not running" in box.refused("exec", "web", "true")


def test_logs_show_the_tail_and_follow(box: Box):
    script = "for n in 1 2 3; do echo $n; done; echo e >&2; sleep 1; echo last"
    box.ok("run", "-d", "--name", "web", "box", "sh", "-c", script)
    time.sleep(0.3)
    assert box("logs", "web").stdout == "1\n2\n3\n"
    assert box("logs", "web").stderr == "e\n"
    assert box("logs", "-f", "--tail", "2", "web").stdout == "3\nlast\n"
    assert box("logs", "--tail", "0", "web").stdout == ""
    stamped = box("logs", "-t", "--tail", "1", "web").stdout
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+ last\n", stamped)


def test_mount_points_are_in_no_diff_and_no_commit(anywhere: Box):
    before = {row["Id"] for row in anywhere.json("images", "-a", "--format", "json")}
    anywhere.ok(
        "run", "--name", "web", "box", "sh", "-c", "echo hi > /root/new; ls /proc /dev >/dev/null"
    )
    assert anywhere.lines("diff", "web") == ["C /root", "A /root/new"]
    anywhere.ok("commit", "web", "grown")
    assert anywhere.lines("diff", "grown") == ["C /root", "A /root/new"]
    assert (
        len({row["Id"] for row in anywhere.json("images", "-a", "--format", "json")} - before) == 1
    )
    assert anywhere.run("grown", "cat", "/root/new") == "hi\n"


def test_a_reader_that_goes_ends_the_command_and_not_the_process(box: Box):
    script = "while true; do echo moo; done"
    running = box.start(
        *("run", "--rm", "--name", "web", "box", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None and running.stderr is not None
    assert running.stdout.readline() == b"moo\n"
    running.stdout.close()
    assert (running.wait(20), running.stderr.read()) == (141, b"")
    running.stderr.close()
    assert box.state("web")["Running"]
    assert box.ok("rm", "-f", "web") == "web\n"
    box.require_clean()
