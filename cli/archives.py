"""The commands load and save."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from backends.errors import CowshedError
from cli import completion, output, progress
from cli.files import written
from cli.session import opened
from cli.transfer import Kind

if TYPE_CHECKING:
    from imagegraph.reference import Reference
    from imagegraph.store import Store
    from oci.saving import Named, Out


def load(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Option(
            "-i",
            "--input",
            metavar="FILE|DIRECTORY",
            help="Read this file or OCI layout instead of stdin.",
        ),
    ] = "-",
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform", metavar="OS/ARCH[/VARIANT]", help="Of images for several; else this one."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="As --progress none.")] = False,
    kind: Kind = "auto",
) -> None:
    """Bring in the images of an archive.

    One that docker save, podman save, skopeo, umoci or cowshed wrote: a docker-archive, an OCI
    archive or an OCI layout, compressed or not. Layers that are here already are not read. Prints
    a line for each name.
    """
    from oci.loading import load as bring
    from oci.platforms import parse_platform
    from oci.rootfs import STDIN, archive_size

    progress.check(kind)
    wanted = parse_platform(platform) if platform is not None else None
    if source == STDIN and sys.stdin is not None and sys.stdin.isatty():
        raise CowshedError("load reads an archive, and stdin is a terminal: give -i FILE")
    total = archive_size(source) if source == STDIN or not os.path.isdir(source) else None
    with (
        opened(ctx) as store,
        progress.shown("none" if quiet else kind, "Loading", total) as tell,
    ):
        loaded = bring(store, source, platform=wanted, progress=tell)
    for image, names in loaded:
        for name in names:
            output.line(f"Loaded image: {name}")
        if not names:
            output.line(f"Loaded image ID: sha256:{image.id}")


def save(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", autocompletion=completion.images)
    ],
    target: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE|DIRECTORY", help="Write here; it is there when whole."
        ),
    ] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="docker-archive, oci-archive or oci.")
    ] = "docker-archive",
    packed: Annotated[
        str, typer.Option("--compress", metavar="KIND", help="Layers: none, gzip or zstd.")
    ] = "none",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="As --progress none.")] = False,
    kind: Kind = "auto",
) -> None:
    """Write images as an archive.

    With all their layers and names: to stdout, if that is not a terminal, to a file, or, with
    --format oci, to a new directory. A repository without a tag stands for all its tags.
    """
    from oci.saving import COMPRESSIONS, DOCKER_ARCHIVE, FORMATS, OCI_LAYOUT
    from oci.saving import save as write

    progress.check(kind)
    if form not in FORMATS:
        raise typer.BadParameter(f"take {', '.join(FORMATS)}", param_hint="--format")
    if packed not in COMPRESSIONS:
        raise typer.BadParameter(f"take {', '.join(COMPRESSIONS)}", param_hint="--compress")
    if form == OCI_LAYOUT and target is None:
        raise typer.BadParameter(
            "a layout is a directory: give -o DIRECTORY", param_hint="--format"
        )
    if target is None and sys.stdout.isatty():
        raise CowshedError(
            "save writes an archive, not for a terminal: give -o FILE, or redirect it"
        )
    shown = "none" if quiet or target is None else kind
    with opened(ctx) as store:
        images = _named(store, names)
        with _out(target, form == OCI_LAYOUT) as out, progress.shown(shown, "Saving", None) as tell:
            write(store, images, out, docker=form == DOCKER_ARCHIVE, packed=packed, progress=tell)


def _named(store: "Store", names: list[str]) -> list["Named"]:
    """The images that are meant, each once, with the tags by which they were meant."""
    from imagegraph.errors import InvalidReference
    from imagegraph.lookup import find_image_and_tag
    from imagegraph.reference import parse
    from oci.saving import Named

    found: dict[str, list[Reference]] = {}
    for name in names:
        tags: list[Reference] = []
        with contextlib.suppress(InvalidReference):
            reference = parse(name)
            if reference.tag is None and reference.digest is None:
                tags = [
                    tag
                    for own in store.graph.all_tags().values()
                    for tag in own
                    if tag.repository == reference.repository
                ]
        for tag in tags:
            found.setdefault(store.image(str(tag)).id, []).append(tag)
        if not tags:
            image, one = find_image_and_tag(store.graph, name)
            own = found.setdefault(image.id, [])
            if one is not None and one not in own:
                own.append(one)
    return [Named(store.image(id), tuple(tags)) for id, tags in found.items()]


@contextlib.contextmanager
def _out(target: str | None, is_directory: bool) -> Iterator["Out"]:
    from oci.saving import DirectoryOut, TarOut

    if not is_directory:
        with written(target) as file:
            tar = TarOut(file.write)
            yield tar
            tar.end()
        return
    assert target is not None
    if os.path.lexists(target) and not (os.path.isdir(target) and not os.listdir(target)):
        raise CowshedError(f"{target} is there already: give a new or an empty directory")
    final = os.path.realpath(target)
    fresh = f"{final}.{os.urandom(8).hex()}.part"
    try:
        os.mkdir(fresh)
        try:
            yield DirectoryOut(fresh)
            os.rename(fresh, final)
        except BaseException:
            import shutil

            shutil.rmtree(fresh)
            raise
    except OSError as error:
        raise CowshedError(f"cannot write {target}: {error.strerror}") from error
