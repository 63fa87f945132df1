"""The commands version and help, which other programs have, beside --version and --help."""

from typing import Annotated

import typer

from cli import output


def version() -> None:
    """Print the version."""
    from cli.version import version as found

    output.line(f"cowshed {found()}")


def help(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[COMMAND]")] = None,
) -> None:
    """Show this list, or the help of a command."""
    above = ctx.find_root()
    if name is None:
        output.line(above.get_help())
        return
    from cli.main import Commands

    group = above.command
    assert isinstance(group, Commands)
    _, command, _ = group.resolve_command(above, [name])
    assert command is not None
    output.line(command.get_help(typer.Context(command, info_name=name, parent=above)))
