"""The commands init, info, prune and check."""

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import output
from cli.formats import Format, size_text
from cli.session import known_backend, opened, option, root_of, session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagegraph.model import Problem, Removed
    from imagegraph.store import Store
    from imagegraph.volumes import Pruned


def init(
    ctx: typer.Context,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="btrfs, zfs, loopback (a btrfs pool in a file) or vfs (plain directories).",
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="POOL/NAME",
            help="The ZFS dataset for the volumes, which is made; by default one below that of the"
            " root. Implies --backend zfs.",
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="SIZE", help="What a loopback pool may grow to, e.g. 20G."),
    ] = None,
    quota: Annotated[
        bool,
        typer.Option(
            "--quota",
            help="Turn on btrfs's simple quotas, for create --size. Kernels before 6.7 and old"
            " btrfs-progs cannot use the filesystem from then on.",
        ),
    ] = False,
) -> None:
    """Make a store, or change its size and quota.

    Every other command makes a store with the defaults if there is none: on btrfs and ZFS as they
    are, else in a btrfs pool in a file, or in plain directories where the user is not root.
    """
    from imagegraph.sizes import parse_size
    from imagegraph.store import Store

    options = session(ctx)
    with option("--size"):
        wanted = parse_size(size) if size is not None else None
    name = backend or options.backend
    known_backend(name)
    made = Store.init(root_of(options), backend=name, size=wanted, quota=quota, dataset=dataset)
    with made as store:
        output.line(f"Initialized {store.root} ({store.graph.setting('backend')})")


def info(ctx: typer.Context, form: Format = "table") -> None:
    """Show what the store is and what it stands on.

    Warnings go to stderr. --format json is one object: Version, Root, Backend, Images, Layers,
    Containers, Mounted, Schema, Pool (an object of texts), Space (Total and Free, bytes), Warnings.
    A template has the same fields: {{.Backend}}, {{.Space.Free}}.
    """
    from cli import formats

    formats.check(form)
    with opened(ctx) as store:
        document = _known(store)
    if form == "json":
        output.line(output.json_text(document, indent=4))
    elif form == "table":
        for label, value in _labelled(document):
            output.line(f"{label}: {output.printable(value)}")
    else:
        from cli.template import Template

        formats.one(Template(form), document)
    for warning in document["Warnings"]:
        output.warn(warning)


def _known(store: "Store") -> dict[str, Any]:
    from cli.version import version
    from imagegraph import listing
    from imagegraph.schema import MIGRATIONS

    rows = listing.containers(store, every=True)
    space = store.backend.space()
    return {
        "Version": version(),
        "Root": store.root,
        "Backend": store.graph.setting("backend"),
        "Images": len(store.graph.images()),
        "Layers": len(store.graph.layers()),
        "Containers": len(rows),
        "Running": sum(1 for row in rows if row.state.lives),
        "Mounted": sum(1 for row in rows if row.mounts),
        "Schema": len(MIGRATIONS),
        "Pool": store.backend.info(),
        "Space": {"Total": space.total, "Free": space.free},
        "Warnings": store.backend.warnings(),
    }


def _labelled(document: dict[str, Any]) -> Iterable[tuple[str, str]]:
    for label, value in document.items():
        if label == "Pool":
            yield from value.items()
        elif label == "Space":
            yield label, f"{size_text(value['Free'])} free of {size_text(value['Total'])}"
        elif label != "Warnings":
            yield label, str(value)


def prune(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("-a", "--all", help="Also named images that have no containers.")
    ] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    volumes: Annotated[
        bool,
        typer.Option("--volumes", help="Also anonymous volumes that no container has any more."),
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="KEY=VALUE",
            help="label=NAME[=VALUE], label!=NAME[=VALUE], until=TIME: made before it.",
        ),
    ] = None,
) -> None:
    """Remove what nobody uses.

    Containers that neither run nor are mounted, then images without a name from which nothing was
    made, and what processes that died have left. What was changed in the containers is gone. Who
    answers no gets exit status 1.
    """
    from functools import partial

    from cli import filters as choice
    from cli.containers import remove_container
    from imagegraph import removal

    wanted = choice.parse(filters, ("label", "label!", "until"))
    if volumes and "until" in wanted:
        raise choice.bad_filter("until is not for volumes: leave out --volumes")
    with opened(ctx) as store:
        may_go = choice.prune_filter(store, wanted)
        if not force:
            confirm("prune", _going(every, volumes), filters or ())
        counted = _Reclaimed(store)
        removed = removal.prune(
            store, unused=every, wanted=may_go, remove=partial(remove_container, store)
        )
        pruned = _pruned(store, wanted) if volumes else None
    tell("Deleted Containers:", (gone.name for gone in removed if gone.kind == "container"))
    tell("Deleted Images:", map(_image_line, (r for r in removed if r.kind in _IMAGE_KINDS)))
    if pruned:
        removed += pruned.removed
        tell("Deleted Volumes:", (gone.name for gone in removed if gone.kind == "volume"))
    output.line(f"Total reclaimed space: {counted.of(removed, pruned.sizes if pruned else ())}")
    for gone in removed:
        if gone.kind == "busy":
            output.warn(gone.name)


def _going(every: bool, volumes: bool) -> Iterable[str]:
    yield "all containers that neither run nor are mounted"
    yield f"all {'images without at least one container' if every else 'dangling images'}"
    if volumes:
        yield "all anonymous volumes not used by at least one container"


def _pruned(store: "Store", wanted: "Mapping[str, list[str]]") -> "Pruned":
    from cli.volumes import labelled
    from imagegraph import volumes

    return volumes.prune(store, wanted=labelled(wanted))


_IMAGE_KINDS = ("untagged", "image")


def _image_line(gone: "Removed") -> str:
    return f"untagged: {gone.name}" if gone.kind == "untagged" else f"deleted: sha256:{gone.name}"


def tell(heading: str, lines: Iterable[str]) -> None:
    shown = list(lines)
    if shown:
        output.line("\n".join([heading, *shown, ""]))


def confirm(command: str, going: Iterable[str], filters: Iterable[str]) -> None:
    """Ask whether all that may go. Raises Exit if not, StoreError where nobody can be asked."""
    from imagegraph.errors import StoreError

    if sys.stdin is None or not sys.stdin.isatty():
        said = f"{command} asks before it removes, and there is no terminal: give --force"
        raise StoreError(said)
    output.note("WARNING! This will remove:")
    for what in going:
        output.note(f"  - {what}")
    if filters:
        output.note(f"  Items to be removed are filtered with: {', '.join(filters)}")
    print("Are you sure you want to continue? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        output.note("Nothing was removed.")
        raise typer.Exit(1)


class _Reclaimed:
    """What a prune frees, as counted before it: files of layers, and containers under quotas."""

    def __init__(self, store: "Store") -> None:
        self._sizes = {layer.id: layer.size for layer in store.graph.layers()}
        for container in store.graph.containers():
            self._sizes[container.id] = store.backend.usage(store.volume(container)).exclusive

    def of(self, removed: "Iterable[Removed]", more: "Iterable[int | None]") -> str:
        """What went, with `more` sizes of other things."""
        gone = [
            self._sizes[thing.name]
            for thing in removed
            if thing.kind in ("layer", "container") and thing.name in self._sizes
        ]
        return reclaimed([*gone, *more])


def reclaimed(sizes: "Sequence[int | None]") -> str:
    """The sum as text."""
    known = sum(size for size in sizes if size is not None)
    if None not in sizes:
        return size_text(known)
    # Without quotas nobody knows what a volume held until it is walked.
    return f"at least {size_text(known)}" if known else "not known, for there are no quotas"


def check(
    ctx: typer.Context,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended; no data is deleted.")
    ] = False,
    form: Format = "table",
) -> None:
    """Compare the store with the disk, and repair it.

    A line for each problem: where, what, and the remedy. Ends with 1 if any is left.

    --format json is one array of objects: Where, What, Remedy, Repaired. Templates
    have the same fields.
    """
    from cli import formats
    from imagegraph import check as checks
    from imagegraph.model import Problem
    from runtime.leftovers import leftovers

    formats.check(form, [name.capitalize() for name in Problem._fields])
    with opened(ctx) as store:
        # Runs first: what they leave is in the way of what comes after.
        problems = [*leftovers(store, repair=repair), *checks.check(store, repair=repair)]
    if form == "table":
        for problem in problems:
            output.line(output.printable(_problem_line(problem)))
        if not problems:
            output.line("No problems found.")
    else:
        documents = [
            {name.capitalize(): value for name, value in problem._asdict().items()}
            for problem in problems
        ]
        formats.rows(form, (), {}, documents, documents)
    if not all(problem.repaired for problem in problems):
        raise typer.Exit(1)


def _problem_line(problem: "Problem") -> str:
    mended = "repaired" if problem.repaired else "remedy"
    return f"{problem.where}: {problem.what} ({mended}: {problem.remedy})"
