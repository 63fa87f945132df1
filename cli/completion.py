"""What the shell is offered for an argument: names of images and containers, of the store there is.

A completion never makes a store and never fails: where nothing can be read, nothing is offered.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from imagegraph.graph import Graph

Found = tuple[list[str], list[str]]
"""Names and ids."""

_SHORTEST_ID = 2
_SHELL = "_COWSHED_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")


def shell(name: str | None) -> str:
    """The shell of that name, or else the one that we were started from.

    Raises CowshedError where there is no completion for it.
    """
    from backends.errors import CowshedError

    if name is None:
        from typer._completion_shared import _get_shell_name

        name = _get_shell_name()
    if name not in SHELLS:
        which = "this shell is not known" if name is None else f"there is none for {name}"
        raise CowshedError(f"no completion, for {which}: name one of {', '.join(SHELLS)}")
    return name


def images(ctx: typer.Context, incomplete: str) -> list[str]:
    """Tags of images; ids where that much of one was typed."""
    return _offered(ctx, incomplete, _images)


def containers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of containers; ids likewise."""
    return _offered(ctx, incomplete, _containers)


def volumes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of volumes; ids of anonymous ones likewise."""
    return _offered(ctx, incomplete, _volumes)


def anything(ctx: typer.Context, incomplete: str) -> list[str]:
    """Both."""
    return containers(ctx, incomplete) + images(ctx, incomplete)


def _images(graph: "Graph") -> Found:
    tags = [str(tag) for own in graph.all_tags().values() for tag in own]
    return tags, [image.id for image in graph.images()]


def _containers(graph: "Graph") -> Found:
    found = graph.containers()
    return [container.name for container in found], [container.id for container in found]


def _volumes(graph: "Graph") -> Found:
    found = graph.data_volumes()
    names = [volume.name for volume in found if not volume.anonymous]
    return names, [volume.id for volume in found if volume.anonymous]


def _offered(ctx: typer.Context, incomplete: str, source: Callable[["Graph"], Found]) -> list[str]:
    from backends.errors import CowshedError
    from imagegraph.graph import Graph
    from imagegraph.store import DATABASE, DEFAULT_ROOT

    root = ctx.find_root().params.get("root")
    if root is None:
        root = DEFAULT_ROOT
    try:
        graph = Graph(f"{root}/{DATABASE}", read_only=True)
        try:
            names, ids = source(graph)
        finally:
            graph.close()
    except CowshedError:
        return []
    found = [name for name in sorted(names) if name.startswith(incomplete)]
    if len(incomplete) >= _SHORTEST_ID:
        found += [id[:12] for id in ids if id[:12].startswith(incomplete)]
    return found


@contextlib.contextmanager
def whole_words() -> Iterator[None]:
    """While bash asks for completions: repository:tag and --option=value are single words.

    bash breaks words at ":" and "=" (COMP_WORDBREAKS), and takes an answer for what comes after.
    """
    if os.environ.get(_SHELL) != "complete_bash":
        yield
        return
    position = int(os.environ.get("COMP_CWORD", "0"))
    whole = _joined(os.environ.get("COMP_WORDS", "").split("\n")[: position + 1])
    os.environ["COMP_WORDS"] = "\n".join(whole)
    os.environ["COMP_CWORD"] = str(len(whole) - 1)
    typed = re.match(".*[:=]", whole[-1])
    answers = io.StringIO()
    try:
        with contextlib.redirect_stdout(answers):
            yield
    finally:
        for answer in answers.getvalue().splitlines():
            print(answer.removeprefix(typed[0]) if typed else answer)


def _joined(words: list[str]) -> list[str]:
    whole: list[str] = []
    open_end = False
    for word in words:
        separator = re.fullmatch("[:=]+", word) is not None
        if whole and (separator or open_end):
            whole[-1] += word
        else:
            whole.append(word)
        open_end = separator
    return whole
