"""The commands import and export."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Annotated, BinaryIO

import typer

from backends.errors import CowshedError
from cli import completion, output, progress
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
            _written(target) as out,
            progress.shown(kind if target is not None else "none", "Exporting", None) as tell,
        ):
            sockets = export_rootfs(store, thing, out, progress=tell)
    for socket in sockets:
        path = os.fsdecode(socket)
        output.warn(f"/{path} is a socket, which a tar cannot hold: it is left out")


@contextlib.contextmanager
def _written(target: str | None) -> Iterator[BinaryIO]:
    """A stream to stdout or to the file, which appears under its name when all is written."""
    if target is None:
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except OSError as error:
            raise output.failed(error) from error
        return
    try:
        with _replaced(target) if _is_replaced(target) else _opened(target) as out:
            yield out
    except OSError as error:
        raise CowshedError(f"cannot write {target}: {error.strerror}") from error


def _is_replaced(target: str) -> bool:
    """Whether the file is made anew; a device or a fifo is written to."""
    return not os.path.exists(target) or os.path.isfile(target)


def _opened(target: str) -> BinaryIO:
    return open(os.open(target, os.O_WRONLY | os.O_CLOEXEC), "wb")


@contextlib.contextmanager
def _replaced(target: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of `target`, or of what it links to, once it is whole.

    Its temporary name cannot be guessed, and what has that name is never opened. Until the end
    only the user can read it; then it has the mode of the file that it replaces, or that of any
    new file.
    """
    final = os.path.realpath(target)
    fresh = os.path.join(os.path.dirname(final), f"cowshed-export-{os.urandom(8).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(fresh, flags, 0o600)
    try:
        with open(fd, "wb") as out:
            yield out
            out.flush()
            os.fsync(fd)
        os.rename(fresh, final)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)
        raise
