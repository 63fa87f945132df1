"""What README.md and docs/ show is so: the example runs, and no command or option is left out."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text()
COMMANDS = (CHECKOUT / "docs" / "commands.md").read_text()


@pytest.fixture(params=["vfs", "btrfs"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A directory with room for a store, on btrfs or not."""
    if request.param == "vfs":
        yield tmp_path
        return
    mount: Path = request.getfixturevalue("btrfs_mount")
    import btrfsutil

    btrfsutil.create_subvolume(mount / "readme")
    yield mount / "readme"
    btrfsutil.delete_subvolume(mount / "readme", recursive=True)


def test_the_example_of_the_python_api_runs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [example] = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert '"/var/lib/cowshed"' in example
    tree = directory / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc" / "motd").write_text("Debian\n")
    subprocess.run(["tar", "-C", tree, "-cf", directory / "rootfs.tar", "."], check=True)
    monkeypatch.chdir(directory)
    if directory.name != "readme":
        from imagegraph.store import Store

        Store.init(str(directory / "store"), backend="vfs").close()
    exec(example.replace('"/var/lib/cowshed"', '"store"'), {})
    assert capsys.readouterr().out == "modified /etc/motd\n"


def options_of(command: str) -> set[str]:
    """The long and short options that a command of the real parser has."""
    import typer
    import typer.main

    from cli.main import app

    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="cowshed")
    found = group if command == "cowshed" else group.get_command(context, command)  # type: ignore[attr-defined]
    assert found is not None
    names = {
        name
        for parameter in found.get_params(context)
        for name in (*parameter.opts, *parameter.secondary_opts)
        if name.startswith("-")
    }
    return names - {"--help", "--install-completion", "--show-completion"}


def commands() -> list[str]:
    import typer
    import typer.main

    from cli.main import app

    group = typer.main.get_command(app)
    return group.list_commands(typer.Context(group))  # type: ignore[attr-defined,no-any-return]


def sections() -> dict[str, str]:
    """Command -> what docs/commands.md says under its heading."""
    pieces = re.split(r"^#{2,3} (.*)$", COMMANDS, flags=re.MULTILINE)
    return {
        name: text
        for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)
        for name in re.findall(r"[a-z]+", heading)
    }


def test_every_command_is_documented() -> None:
    assert set(commands()) <= set(sections())


@pytest.mark.parametrize("command", ["cowshed", *commands()])
def test_the_options_documented_are_the_options_there_are(command: str) -> None:
    text = sections()[command]
    if command == "run":
        # It has those of create, and says so.
        text += sections()["create"]
    written = {
        option
        for quoted in re.findall(r"`([^`]+)`", text)
        for option in re.findall(r"(?<![\w-])--?[A-Za-z][a-z-]*", quoted)
    }
    assert options_of(command) <= written
