"""The command inspect."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from backends.errors import CowshedError
from cli import completion, output
from cli.session import find, opened

if TYPE_CHECKING:
    from imagegraph.store import Store


def inspect(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="CONTAINER|IMAGE...", autocompletion=completion.anything),
    ],
    form: Annotated[
        str,
        typer.Option(
            "-f", "--format", metavar="FORMAT", help="json, or a template: '{{.Config.Env}}'."
        ),
    ] = "json",
    size: Annotated[
        bool, typer.Option("-s", "--size", help="Count the files that containers added.")
    ] = False,
    digests: Annotated[
        bool, typer.Option("--digests", help="Make the digests of images that have none yet.")
    ] = False,
    kind: Annotated[
        str | None,
        typer.Option("-t", "--type", metavar="TYPE", help="Look for container or image only."),
    ] = None,
) -> None:
    """Show all about images and containers.

    A name is that of a container if there is one, else that of an image. The answer is a JSON array
    with Docker's fields, and Backend and Volume: where the files are. A template prints a line for
    each: plain text, {{.Field}}, {{json .Field}}, {{join .List ", "}}, {{index .Map "key"}}.
    """

    if kind not in (None, "container", "image"):
        raise typer.BadParameter("take container or image", param_hint="--type")
    with opened(ctx) as store:
        show(names, lambda name: _known(store, name, kind, size, digests), form)


def show(names: Iterable[str], known: Callable[[str], dict[str, Any]], form: str) -> None:
    """Print all that is `known` of each, as a JSON array or by the template `form`.

    One that fails is said, and the rest is shown; ends the command with 1 then.
    """
    from cli import formats
    from cli.template import Template

    template = None if form == "json" else Template(form)
    found, failed = [], False
    for name in names:
        try:
            found.append(known(name))
        except CowshedError as error:
            output.fail(str(error))
            failed = True
    if template is None:
        output.line(output.json_text(found, indent=4))
    else:
        for thing in found:
            formats.one(template, thing)
    if failed:
        raise typer.Exit(1)


def _known(
    store: "Store", name: str, kind: str | None, size: bool, digests: bool
) -> dict[str, Any]:
    from imagegraph import inspection
    from imagegraph.model import Container, Image

    if kind == "image":
        thing: Container | Image = store.image(name)
    else:
        thing = store.container(name) if kind else find(store, name)
    if isinstance(thing, Container):
        return inspection.container(store, thing, size=size)
    if digests:
        from oci.identity import identify

        thing = identify(store, thing)
    return inspection.image(store, thing)
