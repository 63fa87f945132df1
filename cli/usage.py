"""The command df."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from cli import formats, output
from cli.formats import NONE, Format, size_text
from cli.session import opened

if TYPE_CHECKING:
    from imagegraph.listing import Line
    from imagegraph.model import ContainerSummary, Image, Layer
    from imagegraph.store import Store

_HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_IMAGE_HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "Size": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}
_CONTAINER_HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Names": "NAMES",
}
_VOLUME_HEADINGS = {"Name": "VOLUME NAME", "Links": "LINKS", "Size": "SIZE"}


def df(
    ctx: typer.Context,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="A line for each image, container and volume.")
    ] = False,
    form: Format = "table",
) -> None:
    """Show what takes how much room.

    Images count the files of each layer once; containers and volumes what quotas count, N/A
    without.
    Warnings about the pool go to stderr.

    --format json is one object: Usage (Type, TotalCount, Active, Size, Reclaimable, in bytes), Pool
    (Total and Free, bytes; Pending, removed volumes still being freed) and with -v Images,
    Containers and Volumes. Templates have the fields of Usage, and no -v.
    """
    from imagegraph import listing, volumes

    formats.check(form, _HEADINGS)
    if verbose and form not in ("table", "json"):
        raise typer.BadParameter("a template has no lines of --verbose", param_hint="--format")
    with opened(ctx) as store:
        usage = [*listing.disk_usage(store), volumes.disk_usage(store)]
        space = store.backend.space()
        details = _Details.of(store) if verbose else None
        warnings = store.backend.warnings()
    if form == "json":
        document: dict[str, Any] = {
            "Usage": [_usage_document(line) for line in usage],
            "Pool": {"Total": space.total, "Free": space.free, "Pending": space.pending},
        }
        if details:
            document |= {name.capitalize(): rows for name, rows in details._asdict().items()}
        output.line(output.json_text(document, indent=4))
    elif details and form == "table":
        _tell_details(details)
    else:
        formats.rows(form, tuple(_HEADINGS), _HEADINGS, map(_usage_row, usage), ())
    if form == "table":
        free, total = size_text(space.free), size_text(space.total)
        pending = f", {_volumes(space.pending)} still being freed" if space.pending else ""
        output.line(f"\nPool: {free} free of {total}{pending}")
    for warning in warnings:
        output.warn(warning)


def _volumes(count: int) -> str:
    return f"{count} removed volume{'' if count == 1 else 's'}"


def _usage_document(line: "Line") -> dict[str, Any]:
    return {
        "Type": line.kind,
        "TotalCount": line.total,
        "Active": line.active,
        "Size": line.size,
        "Reclaimable": line.reclaimable,
    }


def _usage_row(line: "Line") -> formats.Row:
    reclaimable = size_text(line.reclaimable)
    if line.size and line.reclaimable is not None:
        reclaimable += f" ({100 * line.reclaimable // line.size}%)"
    return {
        "Type": line.kind,
        "TotalCount": str(line.total),
        "Active": str(line.active),
        "Size": size_text(line.size),
        "Reclaimable": reclaimable,
    }


class _Details(NamedTuple):
    """What -v adds, as it is in JSON."""

    images: list[dict[str, Any]]
    containers: list[dict[str, Any]]
    volumes: list[dict[str, Any]]

    @classmethod
    def of(cls, store: "Store") -> "_Details":
        from imagegraph import listing

        layers = {layer.id: layer for layer in store.graph.layers()}
        chains = {
            row.image.id: _chain(layers, row.image) for row in listing.images(store, every=True)
        }
        users = Counter(layer for chain in chains.values() for layer in chain)
        sizes = {id: listing.layer_size(store, layer) or 0 for id, layer in layers.items()}
        images = []
        for row in listing.images(store, every=True):
            chain = chains.get(row.image.id, [])
            shared = sum(sizes[layer] for layer in chain if users[layer] > 1)
            images.append(
                {
                    "Id": f"sha256:{row.image.id}",
                    "RepoTags": [str(tag) for tag in row.tags],
                    "Created": row.image.created,
                    "Size": row.size,
                    "SharedSize": shared,
                    "UniqueSize": (row.size or 0) - shared,
                    "Containers": row.containers,
                }
            )
        rows = listing.containers(store, every=True)
        containers = [_container_document(store, row) for row in rows]
        return cls(images, containers, _volume_documents(store))


def _chain(layers: "dict[str, Layer]", image: "Image") -> list[str]:
    chain = []
    step: str | None = image.layer
    while step is not None and step in layers:
        chain.append(step)
        step = layers[step].parent
    return chain


def _container_document(store: "Store", row: "ContainerSummary") -> dict[str, Any]:
    container = row.container
    return {
        "Id": container.id,
        "Name": container.name,
        "Image": row.image,
        "State": row.status,
        "Size": store.backend.usage(store.volume(container)).exclusive,
    }


def _volume_documents(store: "Store") -> list[dict[str, Any]]:
    from imagegraph import volumes

    links = volumes.in_use(store)
    return [
        {"Name": volume.name, "Links": links.get(volume.id, 0), "Size": volumes.size(store, volume)}
        for volume in volumes.listed(store)
    ]


def _tell_details(details: _Details) -> None:
    output.line("Images space usage:\n")
    _tell(_IMAGE_HEADINGS, _image_rows(details.images))
    output.line("\nContainers space usage:\n")
    _tell(_CONTAINER_HEADINGS, map(_container_row, details.containers))
    output.line("\nLocal Volumes space usage:\n")
    _tell(_VOLUME_HEADINGS, map(_volume_row, details.volumes))


def _tell(headings: dict[str, str], rows: Iterable[formats.Row]) -> None:
    formats.rows("table", tuple(headings), headings, rows, ())


def _image_rows(images: Iterable[dict[str, Any]]) -> Iterable[formats.Row]:
    import time

    from imagegraph.times import human_age

    now = time.time_ns()
    for image in images:
        for name in image["RepoTags"] or [f"{NONE}:{NONE}"]:
            repository, _, tag = name.rpartition(":")
            yield {
                "Repository": repository,
                "Tag": tag,
                "ID": image["Id"].removeprefix("sha256:")[:12],
                "CreatedSince": human_age(image["Created"], now),
                "Size": size_text(image["Size"]),
                "SharedSize": size_text(image["SharedSize"]),
                "UniqueSize": size_text(image["UniqueSize"]),
                "Containers": str(image["Containers"]),
            }


def _container_row(container: dict[str, Any]) -> formats.Row:
    return {
        "ID": container["Id"][:12],
        "Image": container["Image"],
        "Status": container["State"].capitalize(),
        "Size": size_text(container["Size"]),
        "Names": container["Name"],
    }


def _volume_row(volume: dict[str, Any]) -> formats.Row:
    return volume | {"Links": str(volume["Links"]), "Size": size_text(volume["Size"])}
