"""What a benchmark is made of: interleaved measurements, their medians, and the table of figures.

A ratio compares medians of one run on one machine. The things compared take turns (A B A B),
so that what else the machine does falls on all of them alike.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from types import FrameType
from typing import IO, NamedTuple

# A program that was installed has its bytecode, whatever this shell says of programs under test.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

PYTHON = sys.executable
COWSHED = f"{os.path.dirname(sys.executable)}/cowshed"


class Figure(NamedTuple):
    """One line of the table; `value` must not exceed `bound`, if there is one."""

    name: str
    value: float
    bound: float | None
    unit: str
    details: str

    @property
    def missed(self) -> bool:
        return self.bound is not None and self.value > self.bound

    def line(self) -> tuple[str, str, str, str]:
        """Figure, measured, bound and details as text."""
        bound = "" if self.bound is None else f"<= {self.bound:g} {self.unit}".rstrip()
        mark = "  MISSED" if self.missed else ""
        value = f"{self.value:.2f}" if self.value >= 0.1 else f"{self.value:.4f}"
        return self.name, f"{value} {self.unit}".rstrip(), bound + mark, self.details


def seconds(action: Callable[[], object]) -> float:
    """How long the action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turns(rounds: int, *actions: Callable[[], float]) -> list[float]:
    """The median in seconds of each action; each returns the seconds that it measured."""
    taken: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for times, action in zip(taken, actions, strict=True):
            times.append(action())
    return [statistics.median(times) for times in taken]


def ratio(
    name: str, bound: float | None, over: tuple[str, float], under: tuple[str, float]
) -> Figure:
    """The figure that compares two medians in seconds, each given with what it is of."""
    details = f"{over[0]} {shown(over[1])}, {under[0]} {shown(under[1])}"
    return Figure(name, over[1] / under[1], bound, "", details)


def shown(duration: float) -> str:
    """Seconds as a person reads them."""
    return f"{duration:.2f} s" if duration >= 1 else f"{duration * 1000:.2f} ms"


def run(*command: str, stdin: int | IO[bytes] = subprocess.DEVNULL) -> str:
    """The standard output of a command that must succeed."""
    done = subprocess.run(command, stdin=stdin, stdout=subprocess.PIPE, check=True)
    return os.fsdecode(done.stdout)


def cowshed(root: str, *arguments: str) -> str:
    """Run cowshed as a whole process on the store at `root`; its output, stripped."""
    return run(COWSHED, "--root", root, *arguments).strip()


def timed(*command: str) -> Callable[[], float]:
    """An action for `in_turns`: the command as a whole process."""
    return lambda: seconds(lambda: run(*command))


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns."""
    rows = [("figure", "measured", "bound", "medians"), *(figure.line() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        lines.append("  ".join([*cells, row[3]]).rstrip())
    return "\n".join(lines)


def command_line(what: str, families: Collection[str]) -> argparse.Namespace:
    """The options of a benchmark: `names` of families of figures, and `json`, a file or None.

    What it mounts is unmounted on SIGTERM too.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"of {', '.join(families)}")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(families)
    if unknown:
        parser.error(f"no figure is called {', '.join(sorted(unknown))}")
    if os.geteuid():
        parser.error("only root can mount a filesystem: run as root")
    signal.signal(signal.SIGTERM, _interrupted)
    return arguments


def _interrupted(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def report(figures: Sequence[Figure], file: str | None) -> int:
    """Print the table, and write it to the file as JSON; 1 if a bound was missed."""
    print(table(figures))
    if file:
        with open(file, "w") as opened:
            json.dump([figure._asdict() for figure in figures], opened, indent=2)
    missed = [figure.name for figure in figures if figure.missed]
    if missed:
        print(f"missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0
