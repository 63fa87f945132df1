"""Completion in the shell."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Cowshed


def offered(cowshed: Cowshed, *words: str) -> list[str]:
    """What bash is told for the last word, as its completion script asks."""
    asked = {
        "_COWSHED_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(("cowshed", *words)),
        "COMP_CWORD": str(len(words)),
        "COWSHED_ROOT": str(cowshed.root),
    }
    done = subprocess.run(COMMAND, env=cowshed.env | asked, capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split()


@pytest.fixture
def herd(cowshed: Cowshed) -> Cowshed:
    cowshed.ok("tag", "base:1", "base:2")
    cowshed.ok("tag", "base:1", "localhost:5000/base:3")
    cowshed.ok("create", "--name", "bessie", "base:1")
    cowshed.ok("create", "--name", "daisy", "base:1")
    return cowshed


def test_commands_are_completed(herd: Cowshed):
    assert offered(herd, "r") == ["rmi", "run", "rm", "rename"]
    assert "--no-trunc" in offered(herd, "ps", "--")


def test_names_are_completed_where_they_belong(herd: Cowshed):
    assert offered(herd, "create", "") == ["base:1", "base:2", "localhost:5000/base:3"]
    assert offered(herd, "rm", "") == ["bessie", "daisy"]
    assert offered(herd, "rm", "bessie", "d") == ["daisy"]
    assert offered(herd, "inspect", "b") == ["bessie", "base:1", "base:2"]
    assert offered(herd, "tag", "loc") == ["localhost:5000/base:3"]


def test_ids_are_completed_once_some_of_one_is_typed(herd: Cowshed):
    [id] = herd.lines("ps", "-lq")
    assert id in offered(herd, "rm", id[:3])


def test_names_with_colons_are_completed_though_bash_breaks_them(herd: Cowshed):
    assert offered(herd, "create", "base", ":") == ["1", "2"]
    assert offered(herd, "create", "base", ":", "2") == ["2"]
    assert offered(herd, "create", "localhost", ":", "5000/b") == ["5000/base:3"]


def test_the_root_is_that_of_the_command_line(herd: Cowshed):
    elsewhere = Cowshed(herd.root.parent / "elsewhere")
    assert offered(elsewhere, "--root", str(herd.root), "rm", "") == ["bessie", "daisy"]
    assert offered(elsewhere, "--root", "=", str(herd.root), "rm", "") == ["bessie", "daisy"]


def test_without_a_store_nothing_is_offered_and_nothing_made(herd: Cowshed, tmp_path: Path):
    nowhere = Cowshed(tmp_path / "nowhere")
    assert offered(nowhere, "rm", "") == []
    assert not nowhere.root.exists()
    broken = Cowshed(tmp_path / "broken")
    broken.root.mkdir()
    (broken.root / "graph.sqlite3").write_text("this is no database")
    assert offered(broken, "rm", "") == []


def test_bash_itself_completes_a_tag(herd: Cowshed, tmp_path: Path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/cowshed"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    env = herd.env | {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "COWSHED_ROOT": str(herd.root),
        "_COWSHED_COMPLETE": "source_bash",
    }
    script = subprocess.run([program], env=env, capture_output=True, check=True, text=True).stdout
    del env["_COWSHED_COMPLETE"]
    ask = (
        f"{script}\nCOMP_WORDS=(cowshed create base : 2); COMP_CWORD=4;"
        ' _cowshed_completion cowshed; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", ask], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "2\n"


def test_the_shell_may_be_named(herd: Cowshed):
    assert herd.ok("--show-completion", "zsh").startswith("#compdef")
    assert "complete --command cowshed" in herd.ok("--show-completion=fish")
    assert "there is none for tcsh" in herd.refused("--show-completion", "tcsh")
