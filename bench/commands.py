"""What a user waits for: whole commands on a Debian image, in absolute terms."""

import itertools
from collections.abc import Iterator

from measuring import Figure, cowshed, in_turns, seconds

from imagegraph.store import Store

CHANGES = 20


def medians(root: str) -> Iterator[Figure]:
    """create, diff, commit and rm of one container, and a hundred created at once."""
    names = (f"turn-{number}" for number in itertools.count())
    current = ""

    def create() -> float:
        nonlocal current
        current = next(names)
        taken = seconds(lambda: cowshed(root, "create", "--name", current, "debian:12"))
        with Store.open(root) as store, store.open_tree(store.container(current)) as tree:
            for number in range(CHANGES):
                with open(f"{tree}/etc/changed-{number}", "w") as file:
                    file.write("moo\n")
        return taken

    def hundred() -> float:
        return seconds(lambda: cowshed(root, "create", "-n", "100", "debian:12"))

    def turn(*arguments: str) -> float:
        return seconds(lambda: cowshed(root, *arguments, current))

    taken = in_turns(
        11,
        create,
        lambda: turn("diff"),
        lambda: turn("commit"),
        lambda: turn("rm"),
        hundred,
    )
    whole = ("create", "diff", "commit", "rm", "create -n 100")
    for name, median in zip(whole, taken, strict=True):
        yield Figure(name, median * 1000, None, "ms", "whole process, 450 MB image")
