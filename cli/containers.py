"""The commands ps, rm, rename, mount and umount."""

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completion, formats, output
from cli.formats import Format, NoTrunc, size_text
from cli.session import each, opened

if TYPE_CHECKING:
    from imagegraph.model import Container, ContainerSummary, DataVolume
    from imagegraph.store import Store

_FILTERS = ("name", "id", "ancestor", "label", "status", "before", "since")
_HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Names": "NAMES",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mountpoint": "MOUNTED AT",
    "Ports": "PORTS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Label": "LABEL",
}
_COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Names")
_COMMAND_WIDTH = 20

Names = Annotated[
    list[str], typer.Argument(metavar="CONTAINER...", autocompletion=completion.containers)
]
SomeNames = Annotated[
    list[str] | None, typer.Argument(metavar="[CONTAINER...]", autocompletion=completion.containers)
]
Every = Annotated[bool, typer.Option("-a", "--all", help="All containers there are.")]


def ps(
    ctx: typer.Context,
    every: Annotated[
        bool, typer.Option("-a", "--all", help="Also those that neither run nor are mounted.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print ids only.")] = False,
    size: Annotated[
        bool, typer.Option("-s", "--size", help="Count the files that each added to its image.")
    ] = False,
    no_trunc: NoTrunc = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "-f",
            "--filter",
            metavar="KEY=VALUE",
            help="name=PATTERN, id=PREFIX, ancestor=IMAGE, label=NAME[=VALUE], status=STATUS,"
            " before=CONTAINER, since=CONTAINER.",
        ),
    ] = None,
    latest: Annotated[
        bool, typer.Option("-l", "--latest", help="The one made last, in any state.")
    ] = False,
    last: Annotated[
        int,
        typer.Option(
            "-n", "--last", metavar="NUMBER", help="As many made last.", show_default=False
        ),
    ] = -1,
    noheading: Annotated[bool, typer.Option("--noheading", help="Leave the headings out.")] = False,
    form: Format = "table",
) -> None:
    """List containers.

    The newest come first. Without -a, those that run or are mounted. STATUS is Created, Mounted,
    Up with how long, or Exited with the exit status and how long ago.

    --format json is one array with an object for each: Id, Name, Image, ImageId, Command (a list),
    Created, State, Status, Mountpoints, Labels, SizeLimit and with -s Size (bytes). Templates have
    the fields ID, Image, Command, RunningFor, CreatedAt, Status, State, Names, Labels, Mountpoint,
    Size, Ports, Mounts, Networks and LocalVolumes, and {{.Label "name"}}.
    """
    from cli import filters as choice
    from imagegraph import listing

    size = "Size" in formats.check(form, _HEADINGS) or size
    wanted = choice.parse(filters, _FILTERS)
    number = 1 if latest else last
    every = every or number >= 0 or "status" in wanted
    with opened(ctx) as store:
        chosen = choice.container_filter(store, wanted)
        found = [row for row in listing.containers(store, every=every) if chosen(row)]
        if number >= 0:
            found = found[:number]
        if quiet:
            for row in found:
                output.line(row.container.id if no_trunc else row.container.id[:12])
            return
        columns = [*_COLUMNS, *(["Size"] if size else [])]
        seen = _Seen(store, size)
        seen.read(found)
        formats.rows(
            form,
            columns,
            _HEADINGS,
            (seen.row(row, no_trunc) for row in found),
            map(seen.document, found),
            heading=not noheading,
        )


class _Seen:
    """Containers as `ps` shows them; each image's config is read once."""

    def __init__(self, store: "Store", size: bool) -> None:
        from cli.configs import Configs

        self._store = store
        self._size = size
        self._configs = Configs(store)
        self._volumes = store.graph.all_attached()
        self._now = time.time_ns()

    def read(self, found: "list[ContainerSummary]") -> None:
        """Read at once what is to be shown of all of them."""
        self._configs.read(summary.container.image for summary in found)

    def row(self, summary: "ContainerSummary", no_trunc: bool) -> formats.Row:
        from imagegraph.times import human_age, rfc3339

        container = summary.container
        command = " ".join(self._configs.command(container))
        state = summary.status
        return {
            "ID": container.id if no_trunc else container.id[:12],
            "Image": summary.image,
            "Command": _quoted(command if no_trunc else output.shorten(command, _COMMAND_WIDTH)),
            "RunningFor": human_age(container.created, self._now),
            "CreatedAt": rfc3339(container.created),
            "Status": _status(summary, self._now),
            "State": state,
            "Names": container.name,
            "Labels": ",".join(
                f"{name}={value}" for name, value in self._configs.labels(container).items()
            ),
            "Mountpoint": ",".join(summary.mounts),
            "Size": self._size_text(container),
            "Label": self._configs.labels(container),
            **_host_fields(container, self._volumes.get(container.id, []), no_trunc),
        }

    def document(self, summary: "ContainerSummary") -> dict[str, Any]:
        from imagegraph.times import rfc3339

        container = summary.container
        document = {
            "Id": container.id,
            "Name": container.name,
            "Image": summary.image,
            "ImageId": f"sha256:{container.image}",
            "Command": self._configs.command(container),
            "Created": rfc3339(container.created),
            "State": summary.status,
            "Status": _status(summary, self._now),
            "Mountpoints": list(summary.mounts),
            "Labels": self._configs.labels(container),
            "SizeLimit": container.size,
        }
        if self._size:
            document["Size"] = self._bytes(container)[0]
        return document

    def _size_text(self, container: "Container") -> str:
        if not self._size:
            return ""
        own, virtual = self._bytes(container)
        return f"{size_text(own)} (virtual {size_text(virtual)})"

    def _bytes(self, container: "Container") -> tuple[int, int]:
        """Bytes that the container added, and those together with its image's."""
        from imagegraph.listing import container_size, image_size

        own = container_size(self._store, container)
        image = self._store.graph.image(container.image)
        return own, own + (image_size(self._store, image) if image else 0)


def _host_fields(
    container: "Container", volumes: "list[DataVolume]", no_trunc: bool
) -> dict[str, str]:
    host = container.options.get("HostConfig", {})
    named = [str(mount.get("Source", "")) for mount in host.get("Mounts", ())]
    sources = [bind.partition(":")[0] for bind in host.get("Binds", ())] + named
    mounted = [source for source in sources if source.startswith("/")]
    for volume in volumes:
        mounted.append(volume.id[:12] if volume.anonymous and not no_trunc else volume.name)
    return {
        # Nothing is published: there is no bridge.
        "Ports": "",
        "Mounts": ",".join(mounted),
        "Networks": host.get("NetworkMode", ""),
        "LocalVolumes": str(len(volumes)),
    }


def _status(summary: "ContainerSummary", now: int) -> str:
    """In the words of `docker ps`."""
    from imagegraph.times import human_age

    state = summary.state
    if state.lives and state.started is not None:
        since = human_age(state.started, now).removesuffix(" ago")
        return f"Up {since} (Paused)" if state.status == "paused" else f"Up {since}"
    if summary.status == "exited":
        ended = f" {human_age(state.finished, now)}" if state.finished is not None else ""
        return f"Exited ({state.exit_code}){ended}"
    return summary.status.capitalize()


def _quoted(text: str) -> str:
    """As Go's strconv.Quote."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{output.printable(escaped)}"'


def rm(
    ctx: typer.Context,
    names: SomeNames = None,
    force: Annotated[
        bool,
        typer.Option(
            "-f",
            "--force",
            help="Also one that runs or is mounted: it is killed and unmounted first. Also one that"
            " others have made ZFS snapshots of: they are destroyed.",
        ),
    ] = False,
    every: Every = False,
    ignore: Annotated[
        bool, typer.Option("-i", "--ignore", help="A container that is not there is no error.")
    ] = False,
    volumes: Annotated[
        bool,
        typer.Option(
            "-v", "--volumes", help="Also its anonymous volumes that no other container has."
        ),
    ] = False,
) -> None:
    """Remove containers.

    What was changed in them is gone, unless it was committed.
    """
    from imagegraph.errors import NotFound

    with opened(ctx) as store:

        def remove(name: str) -> None:
            try:
                found = store.container(name)
                destroyed = remove_container(store, found, force=force, volumes=volumes)
            except NotFound as error:
                if force and not ignore:
                    # Docker tells, and is content.
                    output.fail(str(error))
                if force or ignore:
                    return
                raise
            for snapshot in destroyed:
                output.warn(f"destroyed {snapshot}, a snapshot that cowshed had not made")
            output.line(name)

        each(_chosen(store, names, every), remove)


def remove_container(
    store: "Store", container: "Container", *, force: bool = False, volumes: bool = False
) -> list[str]:
    """Store.remove_container, and before it the end of the container's run if it has had one."""
    from imagegraph.running import was_started

    if not was_started(container.id):
        return store.remove_container(container, force=force, volumes=volumes)
    from runtime.stopping import remove

    return remove(store, container, force=force, with_volumes=volumes)


def _chosen(store: "Store", names: list[str] | None, every: bool) -> list[str]:
    if bool(names) == every:
        raise typer.BadParameter("name containers, or give --all", param_hint="CONTAINER...")
    return [container.name for container in store.graph.containers()] if every else names or []


def rename(
    ctx: typer.Context,
    old: Annotated[str, typer.Argument(metavar="CONTAINER", autocompletion=completion.containers)],
    new: Annotated[str, typer.Argument(metavar="NAME")],
) -> None:
    """Give a container another name."""
    with opened(ctx) as store:
        store.rename(store.container(old), new)


def mount(
    ctx: typer.Context,
    names: SomeNames = None,
    every: Every = False,
    no_trunc: NoTrunc = False,
    form: Format = "table",
) -> None:
    """Mount containers and print where.

    Without a container, list those that are mounted: id and path. --format json is one array with
    an object for each: Id, Name, Mountpoint. Templates have the fields ID, Names, Mountpoint.
    """
    from imagegraph import mounting

    formats.check(form, ("ID", "Names", "Mountpoint"))
    with opened(ctx) as store:
        if not (names or every):
            _mounted(store, no_trunc, form)
            return

        def one(name: str) -> None:
            output.line(mounting.mount(store, store.container(name)))

        each(_chosen(store, names, every), one)


def _mounted(store: "Store", no_trunc: bool, form: str) -> None:
    from imagegraph import listing

    pairs = [(row.container, place) for row in listing.containers(store) for place in row.mounts]
    rows = (
        {"ID": found.id if no_trunc else found.id[:12], "Names": found.name, "Mountpoint": place}
        for found, place in pairs
    )
    documents = (
        {"Id": found.id, "Name": found.name, "Mountpoint": place} for found, place in pairs
    )
    formats.rows(form, ("ID", "Mountpoint"), _HEADINGS, rows, documents, heading=False)


def umount(ctx: typer.Context, names: SomeNames = None, every: Every = False) -> None:
    """Undo mount.

    Prints what was unmounted. With --all, every container that is mounted.
    """
    from imagegraph import listing, mounting

    with opened(ctx) as store:

        def one(name: str) -> None:
            mounting.unmount(store, store.container(name))
            output.line(name)

        if every and not names:
            names = [row.container.name for row in listing.containers(store)]
            each(names, one)
        else:
            each(_chosen(store, names, every), one)
