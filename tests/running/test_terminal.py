"""A person at a terminal: run -it, exec -it, attach."""

import signal
import time

import pytest

from tests.running.conftest import Box
from tests.running.terminal import terminal


def test_a_shell_has_a_terminal_of_the_same_size(box: Box):
    with terminal(box.command("run", "--rm", "-it", "box", "sh"), box.env) as seen:
        seen.expect("# ")
        seen.type("stty size; tty; echo $TERM\n")
        seen.expect("24 80\n/dev/pts/0\nxterm\n")
        assert not seen.is_restored
        seen.resize(100, 30)
        seen.type("sleep 0.3; stty size\n")
        seen.expect("30 100\n")
        seen.type("exit 5\n")
        assert seen.ended() == 5
        assert seen.is_restored
    box.require_clean()


def test_ctrl_c_is_for_the_process(box: Box):
    with terminal(box.command("run", "--rm", "-it", "box", "sh"), box.env) as seen:
        seen.expect("# ")
        seen.type("sleep 100; echo ended $?\n")
        seen.expect("$?\n")
        time.sleep(0.5)
        seen.type("\x03")
        seen.expect("# ")
        seen.type("echo after $?\n")
        seen.expect("after 130\n")
        seen.expect("# ")
        seen.type("\x04")
        assert seen.ended() == 0


def test_it_is_left_with_the_keys_and_joined_again(box: Box):
    with terminal(box.command("run", "-it", "--name", "web", "box", "sh"), box.env) as seen:
        seen.expect("# ")
        seen.type("X=kept\n\x10\x11")
        assert seen.ended() == 0
        assert seen.is_restored
    assert box.state("web")["Running"]
    with terminal(box.command("attach", "web"), box.env) as seen:
        seen.type("echo $X; exit 3\n")
        seen.expect("kept\n")
        assert seen.ended() == 3
    assert box.state("web")["ExitCode"] == 3


def test_a_lone_ctrl_p_reaches_the_process(box: Box):
    command = box.command(
        "run", "--rm", "-it", "box", "sh", "-c", "stty raw -echo; head -c 2 | od -An -c"
    )
    with terminal(command, box.env) as seen:
        time.sleep(1)
        seen.type("\x10a")
        seen.expect("020   a")
        assert seen.ended() == 0


def test_other_keys_leave_it(box: Box):
    command = box.command("run", "-it", "--detach-keys", "ctrl-a,x", "--name", "web", "box", "sh")
    with terminal(command, box.env) as seen:
        seen.expect("# ")
        seen.type("\x01x")
        assert seen.ended() == 0
    assert box.state("web")["Running"]
    assert "not a key" in box.refused("run", "--detach-keys", "ctrl-", "box", status=125)


def test_exec_has_a_terminal(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    with terminal(box.command("exec", "-it", "web", "sh"), box.env) as seen:
        seen.expect("# ")
        seen.resize(90, 20)
        seen.type("sleep 0.3; stty size; exit 4\n")
        seen.expect("20 90\n")
        assert seen.ended() == 4
        assert seen.is_restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_restored_when_a_signal_ends_it(box: Box, number: int):
    with terminal(box.command("run", "--rm", "-it", "box", "sleep", "1000"), box.env) as seen:
        end = time.monotonic() + 10
        while seen.is_restored and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.3)
        # It is passed on, but the first process of a container takes none that it did not ask for.
        seen.process.send_signal(number)
        time.sleep(0.3)
        assert not seen.is_restored
        [id] = box.lines("ps", "-q")
        box.ok("kill", id)
        assert seen.ended() == 137
        assert seen.is_restored


def test_t_and_i_need_a_terminal(box: Box):
    assert "terminal" in box.refused("run", "-it", "box", status=125)
    assert box.lines("ps", "-aq") == []
