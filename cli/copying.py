"""The command cp."""

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from backends.errors import CowshedError
from cli import output
from cli.files import written
from cli.session import opened

if TYPE_CHECKING:
    from imagegraph.model import Container
    from imagegraph.store import Store
    from oci.copying import Owner, Path

STREAM = "-"


def cp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|FILE|DIRECTORY|-")],
    target: Annotated[str, typer.Argument(metavar="CONTAINER:PATH|FILE|DIRECTORY|-")],
    archive: Annotated[
        bool, typer.Option("-a", "--archive", help="Keep user and group ids.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("-L", "--follow-link", help="Copy what the source links to.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Do not say how much was copied.")
    ] = False,
) -> None:
    """Copy files between a container and this machine.

    One of the two is CONTAINER:PATH, from the container's root directory; a path of this machine
    with a colon in it is given as ./PATH. The copy of a file goes into the directory at the other
    path, or takes the place of the file there, or is new. A directory goes into the directory at
    the other path, or becomes it; if the source ends in /. only what is in it is copied.

    What is written belongs to root in the container, and to the user on this machine; with -a to
    whom it belonged. - is a tar: on stdin to be unpacked into a directory of the container, with
    the owners that it says, or on stdout.
    """
    (from_name, from_path), (to_name, to_path) = _split(source), _split(target)
    if bool(from_name) == bool(to_name):
        number = "both are" if from_name else "none is"
        raise typer.BadParameter(f"one of the two has to be CONTAINER:PATH, and {number}")
    if not from_path or not to_path:
        raise typer.BadParameter("give a path, as in CONTAINER:/etc/hosts")
    if from_name and to_path == STREAM and sys.stdout.isatty():
        raise CowshedError("cp writes a tar to -, not for a terminal: redirect it")
    if to_name and from_path == STREAM and sys.stdin is not None and sys.stdin.isatty():
        raise CowshedError("cp - reads a tar, and stdin is a terminal: redirect it")
    from oci.copying import Path, root_of

    with opened(ctx) as store:
        container = store.container(from_name or to_name)
        _require_seen(store, container, from_path if from_name else to_path)
        with root_of(store, container) as root:
            if from_name:
                inside = Path(from_path, root, f"{from_name}:")
                owner = None if archive else (os.geteuid(), os.getegid())
                _copy(inside, Path(to_path), follow, owner, quiet)
            else:
                inside = Path(to_path, root, f"{to_name}:")
                _copy(Path(from_path), inside, follow, None if archive else (0, 0), quiet)


def _split(text: str) -> tuple[str, str]:
    """The container, or nothing, and the path. A container's name has no slash or dot before it."""
    name, colon, path = text.partition(":")
    if not colon or "/" in name or name.startswith("."):
        return "", text
    return name, path


def _require_seen(store: "Store", container: "Container", path: str) -> None:
    """Refuse a path in a volume that is not mounted: the directory below it is another."""
    import posixpath

    from imagegraph import volumes
    from imagegraph.errors import Conflict
    from imagegraph.running import process

    wanted = posixpath.normpath(f"/{path}").rstrip("/") + "/"
    attached = volumes.attached(store, container)
    if attached and process(container.id) is None:
        for each in attached:
            if wanted.lstrip("/").startswith(f"{each.target.strip('/')}/"):
                raise Conflict(
                    f"{path} is in a volume, which only a running container has: cowshed start"
                    f" {container.name} first"
                )


def _copy(source: "Path", target: "Path", follow: bool, owner: "Owner | None", quiet: bool) -> None:
    from oci.copying import copy, copy_from_stream, copy_to_stream

    copied = 0

    def tell(count: int) -> None:
        nonlocal copied
        copied += count

    sockets: list[bytes] = []
    if target.root is None and target.text == STREAM:
        with written(None) as out:
            sockets = copy_to_stream(source, out, follow=follow)
    elif source.root is None and source.text == STREAM:
        copy_from_stream(sys.stdin.buffer, target, progress=tell)
    else:
        sockets = copy(source, target, follow=follow, owner=owner, progress=tell)
    for socket in sockets:
        output.warn(f"{os.fsdecode(socket)} is a socket, which a tar cannot hold: it is left out")
    if not quiet and target.text != STREAM:
        from cli.formats import size_text

        output.note(f"Successfully copied {size_text(copied)} to {target}")
