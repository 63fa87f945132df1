"""The commands import and export."""

import os
import sys
from typing import Annotated

import typer

from backends.errors import CowshedError
from cli import completion, output, progress
from cli.files import written
from cli.session import find, opened, utf8

Kind = Annotated[
    str,
    typer.Option(
        "--progress",
        metavar="auto|plain|none",
        help="A bar on a terminal, a line now and then, or nothing.",
    ),
]


def import_(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DIRECTORY|-",
            help="A tar (plain, gzip, zstd, xz or bzip2), a directory, or - for a tar on stdin.",
        ),
    ],
    reference: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "-c",
            "--change",
            metavar="INSTRUCTION",
            help="Apply a Dockerfile instruction to the image's config, e.g. 'CMD [\"sh\"]'.",
        ),
    ] = None,
    message: Annotated[
        str, typer.Option("-m", "--message", metavar="TEXT", help="The comment in the history.")
    ] = "",
    architecture: Annotated[
        str, typer.Option("--arch", metavar="NAME", help="amd64, arm64, ...; by default this one.")
    ] = "",
    operating_system: Annotated[
        str, typer.Option("--os", metavar="NAME", help="What it runs on.", show_default=False)
    ] = "linux",
    variant: Annotated[
        str, typer.Option("--variant", metavar="NAME", help="Of the architecture: v7, v8, ...")
    ] = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="As --progress none.")] = False,
    kind: Kind = "auto",
) -> None:
    """Make an image of a root filesystem.

    Prints the image's id. Owners, modes, times, links, devices and extended attributes are kept.
    """
    from imagegraph.reference import parse_tag_target
    from oci.rootfs import STDIN, archive_size, import_rootfs

    progress.check(kind)
    target = parse_tag_target(reference) if reference is not None else None
    if source == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise CowshedError("import - reads an archive, and stdin is a terminal: redirect it")
    with (
        opened(ctx) as store,
        progress.shown("none" if quiet else kind, "Importing", archive_size(source)) as tell,
    ):
        image = import_rootfs(
            store,
            source,
            target,
            message=utf8("--message", message),
            changes=changes or (),
            architecture=utf8("--arch", architecture),
            operating_system=utf8("--os", operating_system),
            variant=utf8("--variant", variant),
            progress=tell,
        )
    output.line(f"sha256:{image.id}")


def export(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(metavar="CONTAINER|IMAGE", autocompletion=completion.anything)
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write here; it is there when it is whole."
        ),
    ] = None,
    kind: Kind = "auto",
) -> None:
    """Write the files of a container or image.

    As a tar, to stdout, if that is not a terminal, or to a file.
    """
    from oci.rootfs import export_rootfs

    progress.check(kind)
    if target is None and sys.stdout.isatty():
        raise CowshedError("export writes a tar, not for a terminal: give -o FILE, or redirect it")
    with opened(ctx) as store:
        thing = find(store, name)
        with (
            written(target) as out,
            progress.shown(kind if target is not None else "none", "Exporting", None) as tell,
        ):
            sockets = export_rootfs(store, thing, out, progress=tell)
    for socket in sockets:
        path = os.fsdecode(socket)
        output.warn(f"/{path} is a socket, which a tar cannot hold: it is left out")
