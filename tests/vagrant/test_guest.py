"""vagrant/guest runs a command in a machine of its own, passes on how it ended, and leaves nothing.

A start takes some seconds, so each guest answers several questions.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
GUEST = (sys.executable, str(CHECKOUT / "vagrant/guest"))


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """The guest, which takes minutes to build, so that no test has to wait for it."""
    subprocess.run([*GUEST, "--build"], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, nothing stays where its guests had their files, and no qemu."""
    directory = tmp_path / "of guests"
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    yield
    assert list(directory.iterdir()) == []
    assert processes_naming(directory) == []


def processes_naming(path: Path) -> list[str]:
    """The programs of processes in whose command line the path is."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(path) in words:
            found.append(os.fsdecode(words.split(b"\0")[0]))
    return found


def guest(*words: str, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*GUEST, *words], capture_output=True, text=True, cwd=cwd, timeout=120)


def test_output_and_errors_stay_apart_and_the_environment_is_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSED_ON", "from here")
    monkeypatch.setenv("KEPT_BACK", "secret")
    script = 'echo "$1|$GIVEN|$PASSED_ON|$KEPT_BACK|$PWD"; printf "no newline" >&2'
    options = ("-e", "GIVEN=two words", "-e", "PASSED_ON", "-e", "NOT_SET_HERE")
    done = guest(*options, "sh", "-c", script, "name", "it's *", cwd=tmp_path)
    assert done.stdout == f"it's *|two words|from here||{tmp_path}\n"
    assert done.stderr == "no newline"
    assert done.returncode == 0


def test_zfs_works_and_the_status_is_passed_on() -> None:
    done = guest("sh", "-c", "zpool list && grep -q btrfs /proc/filesystems && exit 3")
    assert (done.stdout, done.stderr, done.returncode) == ("no pools available\n", "", 3)


def test_writes_stay_where_they_may_and_vanish_elsewhere(tmp_path: Path) -> None:
    kept, elsewhere = tmp_path / "kept, it's", tmp_path / "elsewhere"
    kept.mkdir()
    elsewhere.mkdir()
    script = 'for name; do echo written > "$name/file" && cat "$name/file"; done; kill -KILL $$'
    done = guest("-w", str(kept), "sh", "-c", script, "sh", str(kept), str(elsewhere))
    assert done.stdout == "written\nwritten\n"
    assert (kept / "file").read_text() == "written\n"
    assert list(elsewhere.iterdir()) == []
    assert done.returncode == 128 + signal.SIGKILL


def test_two_guests_at_once_know_nothing_of_each_other() -> None:
    script = "set -C; echo {0} > /tmp/cowshed-guest-mark && sleep 2 && cat /tmp/cowshed-guest-mark"
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda n: guest("sh", "-c", script.format(n)), ("one", "two")))
    assert [(done.stdout, done.returncode) for done in both] == [("one\n", 0), ("two\n", 0)]


def test_a_command_that_is_not_there_is_status_127() -> None:
    assert guest("no-such-command").returncode == 127


def test_time_over_is_status_124() -> None:
    done = guest("--timeout", "1", "sleep", "1000")
    assert (done.stdout, done.returncode) == ("", 124)
    assert "ended after 1 s" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_guest(number: signal.Signals, tmp_path: Path) -> None:
    command = [*GUEST, "sh", "-c", "echo begun; sleep 1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        assert "qemu-system-x86_64" in processes_naming(tmp_path / "of guests")
        process.send_signal(number)
        assert process.wait(timeout=30) == 128 + number


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--no-such-option", "true"), "--no-such-option"),
        ((), "no command given"),
        (("-w", "/no/such/directory", "true"), "-w /no/such/directory: not a directory"),
        (("-e", "1=2", "true"), "no name of an environment variable"),
    ],
)
def test_what_is_asked_for_wrongly_is_status_125(words: tuple[str, ...], message: str) -> None:
    done = guest(*words)
    assert (done.stdout, done.returncode) == ("", 125)
    assert message in done.stderr.splitlines()[-1]
