"""The command logs."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from cli import completion, output
from cli.session import opened, option

if TYPE_CHECKING:
    from imagegraph.model import Container
    from imagegraph.store import Store

_PAUSE = 0.1


def logs(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", autocompletion=completion.containers)],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as more comes, until it ends.")
    ] = False,
    tail: Annotated[
        str, typer.Option("-n", "--tail", metavar="NUMBER|all", help="The last lines only.")
    ] = "all",
    timestamps: Annotated[
        bool, typer.Option("-t", "--timestamps", help="Begin each line with its time.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME|AGE", help="What came later, e.g. 10m."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME|AGE", help="What came before, e.g. 10m."),
    ] = None,
) -> None:
    """Show what the process of a container printed.

    To stdout and stderr, as it did; of its last run and those before it, the oldest first.
    """
    from imagegraph.times import parse_time, stated
    from runtime.logs import read

    if tail != "all" and not tail.isdigit():
        raise typer.BadParameter(f"{tail!r} is neither a number nor all", param_hint="--tail")
    now = time.time_ns()
    with option("--since"):
        first = parse_time(since, now) if since is not None else None
    with option("--until"):
        last = parse_time(until, now) if until is not None else None
    with opened(ctx) as store:
        container = store.container(name)
        begins = True
        for record in read(
            store.root,
            container.id,
            tail=None if tail == "all" else int(tail),
            follow=_follower(store, container) if follow else None,
        ):
            came = stated(record.time) or 0
            if (first is not None and came < first) or (last is not None and came > last):
                continue
            stamp = f"{record.time} ".encode() if timestamps and begins else b""
            begins = record.data.endswith(b"\n")
            _print(record.stream, stamp + record.data)


def _print(stream: str, data: bytes) -> None:
    if stream == "stdout":
        output.write_bytes(data)
    else:
        output.flush()
        sys.stderr.buffer.write(data)
        sys.stderr.flush()


def _follower(store: "Store", container: "Container") -> Callable[[], bool]:
    """What waits for a moment, and says whether the process may print more."""
    from imagegraph.running import bundle
    from runtime.monitor import wait

    def follow() -> bool:
        output.flush()
        return not wait(bundle(container.id), container.id, _PAUSE)

    return follow
