"""How far a long piece of work is, on stderr: a bar on a terminal, lines if they are asked for."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import typer

from cli import output

Progress = Callable[[int], None]
"""Told how many bytes have gone by since it was last called."""

KINDS = ("auto", "plain", "none")
_SECONDS_BETWEEN_LINES = 1.0


def check(kind: str) -> None:
    """Raises BadParameter for what is no kind of progress."""
    if kind not in KINDS:
        raise typer.BadParameter(f"take {', '.join(KINDS)}", param_hint="--progress")


@contextlib.contextmanager
def shown(kind: str, title: str, total: int | None) -> Iterator[Progress | None]:
    """What is to be told of each piece, or None where nobody wants to know. `total`: bytes."""
    if kind == "plain":
        yield _lines(title, total)
    elif kind == "auto" and sys.stderr.isatty():
        with _bar(title, total) as tell:
            yield tell
    else:
        yield None


def _lines(title: str, total: int | None) -> Progress:
    from imagegraph.sizes import human_size

    done, last = 0, time.monotonic()
    of = f" of {human_size(total)}" if total else ""

    def tell(more: int) -> None:
        nonlocal done, last
        done += more
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES or done == total:
            last = now
            output.note(f"{title}: {human_size(done)}{of}")

    return tell


@contextlib.contextmanager
def _bar(title: str, total: int | None) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(output.printable(title), total=total)
        yield lambda more: bar.advance(task, more)
