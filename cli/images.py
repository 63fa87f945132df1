"""The commands images, history, tag and rmi."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completion, formats, output
from cli.formats import NONE, UNKNOWN, Format, NoTrunc, size_text
from cli.session import each, opened

if TYPE_CHECKING:
    from imagegraph.model import HistoryEntry, ImageSummary
    from imagegraph.reference import Reference
    from imagegraph.store import Store

MISSING = "<missing>"

_FILTERS = ("dangling", "label", "reference", "before", "since", "until")
_SORTS = ("created", "id", "repository", "size", "tag")
_HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "History": "HISTORY",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "VIRTUAL SIZE",
}
_STEP_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_COMMAND_WIDTH = 45

Pair = tuple["ImageSummary", "Reference | None"]


def image_id(id: str, no_trunc: bool) -> str:
    return f"sha256:{id}" if no_trunc else id[:12]


def images(
    ctx: typer.Context,
    repository: Annotated[
        str | None,
        typer.Argument(
            metavar="[REPOSITORY[:TAG]]",
            help="List what is called so only; *, ? and [] stand for other characters.",
            autocompletion=completion.images,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("-a", "--all", help="Also the untagged images below others.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--filter",
            metavar="KEY=VALUE",
            help="dangling=true|false, label=NAME[=VALUE], reference=PATTERN, before=IMAGE, "
            "since=IMAGE, until=TIME.",
        ),
    ] = None,
    form: Format = "table",
    digests: Annotated[
        bool, typer.Option("--digests", help="Also what its registry knows it by.")
    ] = False,
    no_trunc: NoTrunc = False,
    sort: Annotated[
        str, typer.Option("--sort", metavar="KEY", help="By created, id, repository, size or tag.")
    ] = "created",
    noheading: Annotated[
        bool, typer.Option("-n", "--noheading", help="Leave the headings out.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Also every name that an image ever had.")
    ] = False,
    tree: Annotated[
        bool,
        typer.Option("--tree", help="Draw the forest: ids, sizes of single layers, tags."),
    ] = False,
) -> None:
    """List images.

    The newest come first. SIZE counts the files of all layers of an image.

    --format json is one array with an object for each image: Id, ParentId, RepoTags, Created,
    Size (bytes), Containers (how many were cloned from it), Dangling, Digest, Labels. Templates
    have the fields ID, Repository, Tag, Digest, CreatedSince, CreatedAt, Size, Containers,
    VirtualSize, SharedSize and UniqueSize (N/A: df -v counts them), with --history History.
    """
    from cli import filters as choice
    from imagegraph import listing

    known = [name for name in _HEADINGS if history or name != "History"]
    formats.check(form, known)
    if sort not in _SORTS:
        raise typer.BadParameter(f"take one of {', '.join(_SORTS)}", param_hint="--sort")
    if tree:
        given = {
            "REPOSITORY": repository is not None,
            "--filter": bool(filters),
            "--quiet": quiet,
            "--format": form != "table",
            "--no-trunc": no_trunc,
            "--digests": digests,
            "--history": history,
            "--sort": sort != "created",
        }
        clash = [name for name, there in given.items() if there]
        if clash:
            reason = f"it draws everything, and does not go with {' and '.join(clash)}"
            raise typer.BadParameter(reason, param_hint="--tree")
    wanted = choice.parse(filters, _FILTERS)
    if repository is not None:
        wanted.setdefault("reference", []).append(repository)
    with opened(ctx) as store:
        if tree:
            from cli.tree import draw

            draw(store)
            return
        chosen = choice.image_filter(store, wanted)
        summaries = [left for row in listing.images(store, every=every) if (left := chosen(row))]
        pairs = _sorted([(row, tag) for row in summaries for tag in row.tags or (None,)], sort)
        if quiet:
            for row, _ in pairs:
                output.line(image_id(row.image.id, no_trunc))
            return
        columns = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
        columns[2:2] = ["Digest"] * digests
        columns += ["History"] * history
        formats.rows(
            form,
            columns,
            _HEADINGS,
            _image_rows(store, pairs, no_trunc, history, digests or "{{" in form),
            _image_documents(store, pairs, history),
            heading=not noheading,
        )


def _sorted(pairs: list[Pair], key: str) -> list[Pair]:
    if key == "created":
        return pairs
    keys: dict[str, Any] = {
        "id": lambda pair: pair[0].image.id,
        "size": lambda pair: pair[0].size or 0,
        "repository": lambda pair: str(pair[1] or NONE),
        "tag": lambda pair: (pair[1].tag if pair[1] else NONE, str(pair[1])),
    }
    return sorted(pairs, key=keys[key])


def _image_rows(
    store: "Store", pairs: Iterable[Pair], no_trunc: bool, history: bool, digests: bool
) -> Iterator[formats.Row]:
    from imagegraph.times import human_age

    now, known = time.time_ns(), store.graph.repository_digests() if digests else {}
    for summary, tag in pairs:
        image = summary.image
        yield {
            "ID": image_id(image.id, no_trunc),
            "Repository": tag.familiar if tag else NONE,
            "Tag": tag.tag if tag else NONE,
            "Digest": known.get((image.id, tag.repository), NONE) if tag else NONE,
            "CreatedSince": human_age(image.created, now),
            "CreatedAt": _as_go(image.created),
            "Size": size_text(summary.size),
            "Containers": str(summary.containers),
            # Counted by df -v; Docker leaves them out of its list as well.
            "SharedSize": UNKNOWN,
            "UniqueSize": UNKNOWN,
            "VirtualSize": size_text(summary.size),
            **({"History": ", ".join(store.graph.former_names(image.id))} if history else {}),
        }


def _as_go(moment: int) -> str:
    """As Go prints a time, and Docker's CreatedAt is: 2026-11-21 03:24:27 +0000 UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(moment // 1_000_000_000))


def _image_documents(
    store: "Store", pairs: Iterable[Pair], history: bool
) -> Iterator[dict[str, Any]]:
    from cli.configs import inner, labels
    from imagegraph.times import rfc3339

    for summary in {row.image.id: row for row, _ in pairs}.values():
        image = summary.image
        document = {
            "Id": image_id(image.id, True),
            "ParentId": image_id(image.parent, True) if image.parent else "",
            "RepoTags": [str(tag) for tag in summary.tags],
            "Created": rfc3339(image.created),
            "Size": summary.size,
            "Containers": summary.containers,
            "Dangling": summary.dangling,
            "Digest": image.digest,
            "Labels": labels(inner(image.config)),
        }
        if history:
            document["History"] = store.graph.former_names(image.id)
        yield document


def history(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", autocompletion=completion.images)],
    form: Format = "table",
    human: Annotated[
        bool,
        typer.Option(
            "-H/ ",
            "--human/--no-human",
            show_default=False,
            help="Sizes and dates as people say them, which is the default, or exactly.",
        ),
    ] = True,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")] = False,
    no_trunc: NoTrunc = False,
) -> None:
    """Show the steps that made an image.

    The last comes first. A step whose image is not here, or that has none, shows <missing>.

    --format json is one array with an object for each step: Id, Created, CreatedBy, Author, Size
    (bytes), Comment, Tags. Templates have the fields ID, CreatedSince, CreatedAt, CreatedBy, Size,
    Comment.
    """
    from imagegraph import listing

    formats.check(form, _STEP_HEADINGS)
    with opened(ctx) as store:
        entries = listing.history(store, store.image(image))
    if quiet:
        for entry in entries:
            output.line(_step_id(entry, no_trunc))
        return
    columns = ["ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment"]
    rows = [_step_row(entry, human, no_trunc) for entry in entries]
    formats.rows(form, columns, _STEP_HEADINGS, rows, map(_step_document, entries))


def _step_id(entry: "HistoryEntry", no_trunc: bool) -> str:
    return image_id(entry.image, no_trunc) if entry.image else MISSING


def _step_row(entry: "HistoryEntry", human: bool, no_trunc: bool) -> formats.Row:
    from imagegraph.times import human_age, rfc3339

    command = output.printable(entry.created_by.replace("\t", " "))
    made = entry.created
    return {
        "ID": _step_id(entry, no_trunc),
        "CreatedSince": UNKNOWN if made is None else human_age(made, time.time_ns()),
        "CreatedAt": UNKNOWN if made is None else rfc3339(made),
        "CreatedBy": command if no_trunc else output.shorten(command, _COMMAND_WIDTH),
        "Size": size_text(entry.size) if human else str(entry.size),
        "Comment": entry.comment,
    }


def _step_document(entry: "HistoryEntry") -> dict[str, Any]:
    from imagegraph.times import rfc3339

    return {
        "Id": _step_id(entry, True),
        "Created": None if entry.created is None else rfc3339(entry.created),
        "CreatedBy": entry.created_by,
        "Author": entry.author,
        "Size": entry.size,
        "Comment": entry.comment,
        "Tags": [str(tag) for tag in entry.tags],
    }


def tag(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="IMAGE", autocompletion=completion.images)],
    target: Annotated[str, typer.Argument(metavar="NAME[:TAG]")],
) -> None:
    """Give an image one more name.

    A name that another image has moves to this one.
    """
    from imagegraph.reference import parse_tag_target

    reference = parse_tag_target(target)
    with opened(ctx) as store:
        store.tag(store.image(source), reference)


def rmi(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE...]", autocompletion=completion.images)
    ] = None,
    every: Annotated[bool, typer.Option("-a", "--all", help="All images there are.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "-f",
            "--force",
            help="Also where containers were made of it (it stays then, without a name), and all"
            " tags of an id. Destroys ZFS snapshots that others have made of it.",
        ),
    ] = False,
    ignore: Annotated[
        bool, typer.Option("-i", "--ignore", help="An image that is not there is no error.")
    ] = False,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Keep untagged images below it.")
    ] = False,
) -> None:
    """Remove names of images, and unneeded images.

    The image goes with its last name, unless other images or containers were made of it.
    """
    from imagegraph.errors import NotFound

    if bool(names) == every:
        raise typer.BadParameter("name images, or give --all", param_hint="IMAGE...")
    with opened(ctx) as store:

        def remove(name: str) -> None:
            try:
                removed = store.remove_image(name, force=force, prune=not no_prune)
            except NotFound as error:
                # Of all images, some go with those above them.
                if ignore or every:
                    return
                if force:
                    output.fail(str(error))
                    return
                raise
            for gone in removed:
                if gone.kind == "busy":
                    output.warn(gone.name)
                elif gone.kind == "snapshot":
                    output.warn(f"destroyed {gone.name}, a snapshot that cowshed had not made")
                elif gone.kind == "untagged":
                    output.line(f"Untagged: {gone.name}")
                elif gone.kind == "image":
                    output.line(f"Deleted: {image_id(gone.name, True)}")

        each(_all_names(store) if every else names or [], remove)


def _all_names(store: "Store") -> Sequence[str]:
    """Every tag, and the id of every image that has none; what was made of another comes first."""
    tags = store.graph.all_tags()
    found: list[str] = []
    for image in store.graph.images():
        found += [str(tag) for tag in tags.get(image.id, ())] or [image.id]
    return found
