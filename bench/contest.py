"""Commands of ours and of others that do the same, measured in turns."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pool
from measuring import Figure, in_turns, ratio, run, seconds

ROUNDS = 5

Command = list[str]


class Contender(NamedTuple):
    """Commands that are measured, those that go before each round, and those that undo it."""

    name: str
    measured: list[Command]
    before: list[Command]
    after: list[Command]


def against_the_quicker(
    root: str,
    name: str,
    bound: float | None,
    ours: Contender,
    theirs: Callable[[ExitStack], Iterator[Contender]],
) -> Iterator[Figure]:
    """One figure, if there is a peer; the others' medians stand beside it."""
    with ExitStack() as stack:
        all_of_them = [ours, *theirs(stack)]
        medians = in_turns(ROUNDS, *(_rounds(root, contender) for contender in all_of_them))
    mine, *others = zip((contender.name for contender in all_of_them), medians, strict=True)
    if others:
        quickest = min(others, key=lambda other: other[1])
        figure = ratio(f"{name} / {quickest[0]}", bound, mine, quickest)
        slower = [f"{other} {taken:.2f} s" for other, taken in others if other != quickest[0]]
        yield figure._replace(details="; ".join([figure.details, *slower]))


def _rounds(root: str, contender: Contender) -> Callable[[], float]:
    def measured() -> float:
        for command in contender.before:
            run(*command)
        pool.settle(root)
        taken = seconds(lambda: [run(*command) for command in contender.measured])
        for command in contender.after:
            run(*command)
        return taken

    return measured
