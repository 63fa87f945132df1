"""How far a long piece of work is, on stderr: a bar on a terminal, lines if they are asked for."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

from cli import output

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

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


@contextlib.contextmanager
def several(kind: str, title: str) -> Iterator[Callable[[str, int | None], Progress] | None]:
    """What gives, for each of several parts, what is to be told of its pieces; as `shown` does.

    A part has a name and bytes in all, None where that is not known.
    """
    if kind == "plain":
        tell = _lines(title, None)
        yield lambda name, total: tell
    elif kind == "auto" and sys.stderr.isatty():
        with _bars() as bars:
            whole = bars.add_task(output.printable(title), total=None)
            sum_of_all = 0

            def part(name: str, total: int | None) -> Progress:
                nonlocal sum_of_all
                sum_of_all += total or 0
                bars.update(whole, total=sum_of_all or None)
                task = bars.add_task(f"  {name}", total=total)

                def tell(more: int) -> None:
                    bars.advance(task, more)
                    bars.advance(whole, more)

                return tell

            yield part
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
    with _bars() as bars:
        task = bars.add_task(output.printable(title), total=total)
        yield lambda more: bars.advance(task, more)


def _bars() -> "Bars":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Bars(*columns, console=Console(stderr=True), transient=True)
