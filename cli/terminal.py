"""What the commands that run processes share: the terminal, its keys, Docker's exit statuses."""

import contextlib
import os
from collections.abc import Iterator
from typing import Annotated

import typer

from backends.errors import CowshedError
from cli import output

Keys = Annotated[
    str, typer.Option("--detach-keys", metavar="KEYS", help="What leaves it running, with -t.")
]
KEYS = "ctrl-p,ctrl-q"


def terminal() -> int | None:
    """A descriptor of the terminal that we are on, if we are on one."""
    return next((fd for fd in (0, 1, 2) if os.isatty(fd)), None)


def size() -> tuple[int, int] | None:
    """Columns and lines of the terminal that we are on."""
    here = terminal()
    if here is None:
        return None
    columns, lines = os.get_terminal_size(here)
    return columns, lines


def require_terminal(wanted: bool) -> None:
    if wanted and not os.isatty(0):
        raise CowshedError("-t and -i together need a terminal for stdin: leave one of them out")


@contextlib.contextmanager
def docker_status(default: int = output.REFUSED) -> Iterator[None]:
    """End with Docker's exit status for what could not be run."""
    try:
        yield
    except CowshedError as error:
        output.fail(str(error))
        status = getattr(error, "status", default)
        raise typer.Exit(default if status == output.REFUSED else status) from None
