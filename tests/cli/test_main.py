"""How a command starts and ends: help, usage, errors, exit statuses, and what it may import."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli import output
from cli.main import Commands
from tests.cli.conftest import CHECKOUT, COMMAND, Cowshed

ENTRIES = {name: entry for family in Commands.families.values() for name, entry in family.items()}


@pytest.fixture
def nowhere(tmp_path: Path) -> Cowshed:
    """A root in which nothing must be made."""
    return Cowshed(tmp_path / "nowhere")


def test_the_commands_are_those_of_the_list():
    wanted = (
        "init info import export load save pull push search login logout images history inspect "
        "tag rmi create run start exec attach stop kill wait logs cp ps rm rename mount umount "
        "diff commit volume df prune check"
    )
    assert {name for name, entry in ENTRIES.items() if not entry.hidden} == set(wanted.split())


@pytest.mark.parametrize("name", ENTRIES)
def test_the_help_of_a_command_begins_as_the_list_has_it(name: str):
    module, _, function = ENTRIES[name].where.partition(":")
    text = getattr(importlib.import_module(module), function).__doc__
    assert text.splitlines()[0] == ENTRIES[name].help


@pytest.mark.parametrize("name", ENTRIES)
def test_every_command_has_help_without_a_store(nowhere: Cowshed, name: str):
    assert nowhere.ok(name, "--help").startswith(f"Usage: cowshed {name} [OPTIONS]")
    assert not nowhere.root.exists()


def test_no_command_is_wrong_usage_and_shows_the_list(nowhere: Cowshed):
    done = nowhere()
    assert (done.returncode, done.stdout) == (2, "")
    assert "  commit  Make an image of a container as it is now." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("creat",), "there is no command 'creat'; did you mean create? (see cowshed --help)"),
        (("create",), "Missing argument 'IMAGE' (see cowshed create --help)"),
        (("ps", "--colour"), "No such option: --colour (see cowshed ps --help)"),
        (("tag", "a", "b", "c"), "Got unexpected extra argument(s) (c) (see cowshed tag --help)"),
        (("rename", "a"), "Missing argument 'NAME' (see cowshed rename --help)"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    nowhere: Cowshed, arguments: tuple[str, ...], said: str
):
    assert nowhere.refused(*arguments, status=2) == said
    assert not nowhere.root.exists()


def test_the_version_needs_no_store(nowhere: Cowshed):
    assert nowhere.ok("--version").startswith("cowshed ")
    assert not nowhere.root.exists()


def test_a_traceback_is_shown_only_with_vv(cowshed: Cowshed):
    for command in (("tag", "nothing", "x"), ("rm", "nobody")):
        assert "Traceback" not in cowshed("-v", *command).stderr
        assert "Traceback" in cowshed("-vv", *command).stderr


def test_a_mistake_of_ours_is_one_line_too(cowshed: Cowshed):
    code = "import imagegraph.listing as l; l.images = None; from cli.main import run; run()"
    command = [sys.executable, "-c", code, "--root", str(cowshed.root)]
    done = subprocess.run([*command, "images"], env=cowshed.env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: internal error: TypeError: ")
    assert done.stderr.count("\n") == 1
    assert "-vv" in done.stderr


def test_verbose_tells_each_operation_and_its_time(on_btrfs: Cowshed):
    done = on_btrfs("-v", "create", "--name", "cow", "base:1")
    [line] = done.stderr.splitlines()
    assert line.startswith("btrfs create containers/")
    assert line.endswith(" ms")
    done = on_btrfs("-v", "diff", "cow")
    assert "0 items" in done.stderr
    assert "failed after" in on_btrfs("-v", "create", "--size", "1g", "base:1").stderr


def test_an_error_keeps_control_characters_off_the_terminal(cowshed: Cowshed):
    said = cowshed.refused("import", "/nowhere\x1b[31m\nx")
    assert r"\x1b[31m\nx" in said


def test_a_name_that_is_not_utf8_is_no_crash(cowshed: Cowshed):
    done = cowshed.raw("inspect", b"\xff\xfe")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: no container and no image is called \xff\xfe")
    for command in (("create", "base:1", b"\xff"), ("import", "-m", b"\xff", "/"), ("rm", b"\xff")):
        done = cowshed.raw(*command)
        assert done.returncode in (1, 2)
        assert b"internal" not in done.stderr


def test_closed_streams_are_no_crash(cowshed: Cowshed):
    command = " ".join([*COMMAND, "--root", str(cowshed.root), "images"])
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        done = subprocess.run(f"{command} {closed}", shell=True, env=cowshed.env, check=True)
        assert done.returncode == 0


def test_two_inits_at_once_make_one_store(tmp_path: Path):
    cowshed = Cowshed(tmp_path / "root")
    running = [cowshed.start("init", "--backend", "vfs", stdout=subprocess.PIPE) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert cowshed.ok("check") == "No problems found.\n"


HEAVY = ("rich", "pydantic", "oci", "isal", "zstandard", "httpx", "msgspec", "click")


@pytest.mark.parametrize(
    ("arguments", "more"),
    [
        (["create", "--help"], ["imagegraph", "sqlite3", "backends.btrfs", "csv"]),
        (["--help"], ["imagegraph", "sqlite3", "cli.create", "cli.images"]),
        (["create", "base:1"], ["cli.images", "imagegraph.instructions", "random", "csv"]),
        (["ps"], ["cli.create", "cli.transfer"]),
        (["images"], ["cli.create", "cli.transfer"]),
    ],
    ids=" ".join,
)
def test_a_command_imports_nothing_that_it_does_not_use(
    cowshed: Cowshed, arguments: list[str], more: list[str]
):
    code = (
        "import json, sys; from cli.main import main; main(sys.argv[1:]);"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "--root", str(cowshed.root), *arguments]
    done = subprocess.run(command, env=cowshed.env, capture_output=True, cwd=CHECKOUT, check=True)
    loaded = json.loads(done.stderr)
    names = {*loaded, *(name.partition(".")[0] for name in loaded)}
    assert names.isdisjoint([*HEAVY, *more])


def test_columns_are_as_wide_as_their_widest_cell(capsys: pytest.CaptureFixture[str]):
    output.table(["A", "LONG HEADING", "Z"], [["1", "2", "3"], ["wide" * 4, "", "last"]])
    assert capsys.readouterr().out.splitlines() == [
        "A                  LONG HEADING   Z",
        "1                  2              3",
        "widewidewidewide                  last",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü …", "plain ü …"),
        ("\x1b[0m", r"\x1b[0m"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x7f\x9b", r"\x7f\x9b"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str):
    assert output.printable(text) == shown


def test_json_has_no_control_characters_and_says_the_same():
    text = output.json_text({"a": "\x1b\x7f\x9b\udcff ü"})
    assert text == '{"a": "\\u001b\\u007f\\u009b\\udcff ü"}'
    assert json.loads(text) == {"a": "\x1b\x7f\x9b\udcff ü"}


def test_an_empty_root_is_wrong_usage_and_an_empty_variable_is_none(cowshed: Cowshed):
    done = subprocess.run(
        [*COMMAND, "--root", "", "images"], env=cowshed.env, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (2, "Error: --root is empty (see cowshed --help)\n")
    env = {**cowshed.env, "COWSHED_ROOT": ""}
    done = subprocess.run([*COMMAND, "--help"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("ps", "--help"), ("diff", "cow"), ("images",), ("export", "cow")]
)
def test_a_reader_that_goes_away_is_141_and_nothing_is_said(
    cowshed: Cowshed, arguments: tuple[str, ...]
):
    cowshed.ok("create", "--name", "cow", "base:1")
    cowshed.write("cow", "/new", "x")
    reading, writing = os.pipe()
    os.close(reading)
    running = cowshed.start(*arguments, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    _, said = running.communicate()
    assert (running.returncode, said) == (141, b"")


@pytest.mark.parametrize("arguments", [("--help",), ("images",), ("version",)])
def test_a_full_device_is_one_clear_line(cowshed: Cowshed, arguments: tuple[str, ...]):
    with open("/dev/full", "wb") as full:
        running = cowshed.start(*arguments, stdout=full, stderr=subprocess.PIPE)
        _, said = running.communicate()
    assert running.returncode == 1
    assert said == b"Error: cannot write the output: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "-t", "x"), "cowshed has no `build` yet"),
        (("system", "df"), "it is cowshed df"),
        (("container", "ls"), "it is cowshed ps"),
        (("image", "prune"), "it is cowshed prune"),
        (("system",), "there is no command 'system'"),
    ],
)
def test_commands_of_docker_are_known_by_name(
    nowhere: Cowshed, arguments: tuple[str, ...], said: str
):
    assert said in nowhere.refused(*arguments, status=2)


def test_help_and_version_have_their_other_spellings(nowhere: Cowshed):
    assert nowhere.ok("version") == nowhere.ok("--version")
    assert nowhere.ok("help") == nowhere.ok("-h") == nowhere.ok("--help")
    assert nowhere.ok("help", "ps") == nowhere.ok("ps", "-h") == nowhere.ok("ps", "--help")
    assert "did you mean" in nowhere.refused("help", "creat", status=2)


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]):
    output.table(["A", "B"], [["牛牛牛牛牛", "x"], ["e\u0301", "y"]])
    assert capsys.readouterr().out.splitlines() == [
        "A            B",
        "牛牛牛牛牛   x",
        f"e\u0301{' ' * 12}y",
    ]
    assert output.shorten("牛牛牛", 5) == "牛牛…"


def test_programs_of_the_system_are_found_with_the_path_of_cron(monkeypatch: pytest.MonkeyPatch):
    from backends.run import run

    monkeypatch.setenv("PATH", "/nowhere")
    assert "losetup" in run(["losetup", "--version"], "look")
