"""The commands below volume: create, ls, inspect, rm and prune."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completion, formats, output
from cli.formats import Format
from cli.lazy import Entry, LazyGroup
from cli.session import each, opened, utf8

if TYPE_CHECKING:
    from imagegraph.model import DataVolume
    from imagegraph.store import Store

_DRIVER = "local"
_HEADINGS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Label": "LABEL",
}
_COLUMNS = ("Driver", "Name")

Names = Annotated[list[str], typer.Argument(metavar="VOLUME...", autocompletion=completion.volumes)]


class Volumes(LazyGroup):
    """Manage what outlives containers."""

    families = {  # noqa: RUF012 - declared ClassVar in the base
        "Commands": {
            "create": Entry("cli.volumes:create", "Make a volume."),
            "ls": Entry("cli.volumes:ls", "List volumes."),
            "list": Entry("cli.volumes:ls", "List volumes.", hidden=True),
            "inspect": Entry("cli.volumes:inspect", "Show all about volumes."),
            "rm": Entry("cli.volumes:rm", "Remove volumes."),
            "remove": Entry("cli.volumes:rm", "Remove volumes.", hidden=True),
            "prune": Entry("cli.volumes:prune", "Remove the volumes that no container has."),
        },
    }
    elsewhere = {}  # noqa: RUF012


def create(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="NAME[=VALUE]", help="A label.")
    ] = None,
    driver: Annotated[
        str, typer.Option("-d", "--driver", metavar="local", help="The only one there is.")
    ] = _DRIVER,
) -> None:
    """Make a volume.

    Prints its name: the one given, or a random one. A volume that has the name already is left as
    it is.
    """
    from imagegraph import volumes

    if driver != _DRIVER:
        reason = f"there is no driver {driver!r}: take {_DRIVER}"
        raise typer.BadParameter(reason, param_hint="--driver")
    pairs = [utf8("--label", text).partition("=") for text in label or ()]
    if any(not key for key, _, _ in pairs):
        raise typer.BadParameter("a label needs a name", param_hint="--label")
    labels = {key: value for key, _, value in pairs}
    with opened(ctx) as store:
        made = volumes.create(store, name, labels)
    output.line(made.name)


def ls(
    ctx: typer.Context,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print names only.")] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--filter",
            metavar="KEY=VALUE",
            help="name=PATTERN, label=NAME[=VALUE], dangling=true|false: of no container,"
            " driver=local.",
        ),
    ] = None,
    form: Format = "table",
) -> None:
    """List volumes.

    In order of their names. --format json is one array with an object for each: Name, Driver,
    Scope, Mountpoint, Labels, CreatedAt, Anonymous, Links (containers that have it) and Size
    (bytes, null where no quotas count them). Templates have the fields Name, Driver, Scope,
    Mountpoint, Labels, Links and Size, and {{.Label "name"}}.
    """
    from cli import filters as choice
    from imagegraph import volumes

    formats.check(form, _HEADINGS)
    wanted = choice.parse(filters, ("name", "label", "dangling", "driver"))
    with opened(ctx) as store:
        links = volumes.in_use(store)
        chosen = _filter(wanted, links)
        found = [volume for volume in volumes.listed(store) if chosen(volume)]
        if quiet:
            for volume in found:
                output.line(volume.name)
            return
        formats.rows(
            form,
            _COLUMNS,
            _HEADINGS,
            (_row(store, volume, links, form) for volume in found),
            (_document(store, volume, links) for volume in found),
        )


def _filter(
    filters: Mapping[str, list[str]], links: Mapping[str, int]
) -> Callable[["DataVolume"], bool]:
    """Whether a volume stays under the filters. Raises BadParameter."""
    from cli import filters as choice

    try:
        names = [re.compile(text) for text in filters.get("name", ())]
    except re.error as error:
        raise choice.bad_filter(f"name is not a pattern: {error}") from None
    dangling = [choice.truth(text) for text in filters.get("dangling", ())]
    drivers, has_labels = filters.get("driver", []), labelled(filters)

    def chosen(volume: "DataVolume") -> bool:
        return (
            (not names or any(pattern.search(volume.name) for pattern in names))
            and (not drivers or _DRIVER in drivers)
            and all((volume.id not in links) == wanted for wanted in dangling)
            and has_labels(volume)
        )

    return chosen


def labelled(filters: Mapping[str, list[str]]) -> Callable[["DataVolume"], bool]:
    """Whether a volume stays under label= and label!=."""
    from cli import filters as choice

    wanted, unwanted = filters.get("label", []), filters.get("label!", [])

    def chosen(volume: "DataVolume") -> bool:
        return all(choice.labelled(volume.labels, label) for label in wanted) and not any(
            choice.labelled(volume.labels, label) for label in unwanted
        )

    return chosen


def _row(
    store: "Store", volume: "DataVolume", links: Mapping[str, int], form: str
) -> Mapping[str, Any]:
    from imagegraph import volumes

    return {
        "Driver": _DRIVER,
        "Name": volume.name,
        "Scope": "local",
        "Mountpoint": store.backend.location(volumes.kept(volume)),
        "Labels": ",".join(f"{name}={value}" for name, value in volume.labels.items()),
        "Links": str(links.get(volume.id, 0)),
        # Docker has it in `df` only, for it takes a while.
        "Size": formats.size_text(volumes.size(store, volume)) if "Size" in form else "",
        "Label": volume.labels,
    }


def _document(store: "Store", volume: "DataVolume", links: Mapping[str, int]) -> dict[str, Any]:
    from imagegraph import volumes

    shown = _shown(store, volume)
    del shown["Options"]
    return shown | {
        "Anonymous": volume.anonymous,
        "Links": links.get(volume.id, 0),
        "Size": volumes.size(store, volume),
    }


def _shown(store: "Store", volume: "DataVolume") -> dict[str, Any]:
    """As `docker volume inspect` prints it."""
    from imagegraph import volumes
    from imagegraph.times import rfc3339

    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": _DRIVER,
        "Labels": volume.labels,
        "Mountpoint": store.backend.location(volumes.kept(volume)),
        "Name": volume.name,
        "Options": {},
        "Scope": "local",
    }


def inspect(
    ctx: typer.Context,
    names: Names,
    form: Annotated[
        str,
        typer.Option("-f", "--format", metavar="FORMAT", help="json, or a template: '{{.Name}}'."),
    ] = "json",
) -> None:
    """Show all about volumes.

    The answer is a JSON array with Docker's fields: CreatedAt, Driver, Labels, Mountpoint (where
    the files are: a path, or a dataset), Name, Options and Scope. A template prints a line for
    each.
    """
    from cli.inspect import show
    from imagegraph import volumes

    with opened(ctx) as store:
        show(names, lambda name: _shown(store, volumes.find(store, name)), form)


def rm(
    ctx: typer.Context,
    names: Names,
    force: Annotated[
        bool,
        typer.Option(
            "-f",
            "--force",
            help="A volume that is not there is no error. Also one that others have made ZFS"
            " snapshots of: they are destroyed.",
        ),
    ] = False,
) -> None:
    """Remove volumes.

    What is in them is gone. One that a container has is refused, also with -f.
    """
    from imagegraph import volumes
    from imagegraph.errors import NotFound

    with opened(ctx) as store:

        def remove(name: str) -> None:
            try:
                destroyed = volumes.remove(store, volumes.find(store, name), force=force)
            except NotFound:
                if not force:
                    raise
                destroyed = []
            for snapshot in destroyed:
                output.warn(f"destroyed {snapshot}, a snapshot that cowshed had not made")
            output.line(name)

        each(names, remove)


def prune(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("-a", "--all", help="Also those that have a name.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="KEY=VALUE", help="label=NAME[=VALUE], label!=NAME[=VALUE]."
        ),
    ] = None,
) -> None:
    """Remove the volumes that no container has.

    Anonymous ones, and with -a those that have a name. What is in them is gone. Who answers no gets
    exit status 1.
    """
    from cli import filters as choice
    from cli.system import confirm, reclaimed, tell
    from imagegraph import volumes

    wanted = choice.parse(filters, ("label", "label!"))
    with opened(ctx) as store:
        if not force:
            kind = "volumes" if every else "anonymous volumes"
            going = f"all {kind} not used by at least one container"
            confirm("volume prune", [going], filters or ())
        pruned = volumes.prune(store, every=every, wanted=labelled(wanted))
    tell("Deleted Volumes:", (gone.name for gone in pruned.removed if gone.kind == "volume"))
    output.line(f"Total reclaimed space: {reclaimed(pruned.sizes)}")
    for gone in pruned.removed:
        if gone.kind == "busy":
            output.warn(gone.name)
