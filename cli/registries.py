"""The commands pull, push, search, login and logout."""

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from backends.errors import CowshedError
from cli import completion, output, progress
from cli.formats import Format
from cli.session import opened
from cli.transfer import Kind

if TYPE_CHECKING:
    from oci.credentials import Credentials
    from oci.fetching import Progress as FetchProgress
    from oci.pushing import Progress as SendProgress
    from oci.registry.client import Registry

    Bars = Callable[[str, int | None], progress.Progress]

DEFAULT = "docker.io"

Verify = Annotated[
    bool,
    typer.Option("--tls-verify", help="With =false: any certificate will do, and plain HTTP."),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print the digest only.")]
Where = Annotated[str, typer.Argument(metavar="[REGISTRY]", show_default=False)]


def pull(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[:TAG|@DIGEST]")],
    every: Annotated[
        bool, typer.Option("-a", "--all-tags", help="Every tag of the repository.")
    ] = False,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform", metavar="OS/ARCH[/VARIANT]", help="Of images for several; else this one."
        ),
    ] = None,
    quiet: Quiet = False,
    verify: Verify = True,
    kind: Kind = "auto",
) -> None:
    """Bring in an image from a registry.

    Layers that are here already are not fetched. What came is held against its digests before
    anyone sees the image.
    """
    from imagegraph.reference import parse
    from oci.platforms import parse_platform
    from oci.pulling import pull as bring

    progress.check(kind)
    own = parse_platform(platform) if platform is not None else None
    reference = parse(name)
    if every and (reference.tag or reference.digest):
        raise typer.BadParameter("give the repository without a tag", param_hint="--all-tags")
    with opened(ctx) as store, _registry(reference.domain, verify) as registry:
        wanted = [reference.with_default_tag()]
        if every:
            # Parsed, as the registry may call anything a tag.
            wanted = [parse(f"{reference}:{tag}") for tag in registry.tags(reference.path)]
        for one in wanted:
            with progress.several("none" if quiet else kind, f"Pulling {one}") as bars:
                tell = _fetched(bars)
                pulled = bring(store, registry, one, platform=own, progress=tell)
            if quiet:
                output.line(pulled.digest)
                continue
            what = "Downloaded newer image for" if pulled.new else "Image is up to date for"
            output.line(f"Digest: {pulled.digest}")
            output.line(f"Status: {what} {one}")


def push(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME[:TAG]", autocompletion=completion.images)],
    every: Annotated[
        bool, typer.Option("-a", "--all-tags", help="Every tag that the repository has here.")
    ] = False,
    packed: Annotated[
        str, typer.Option("--compress", metavar="KIND", help="New layers: gzip or zstd.")
    ] = "gzip",
    level: Annotated[
        int | None,
        typer.Option(
            "--level", metavar="NUMBER", help="gzip 0 to 3, by default 2; zstd 1 to 22, 3."
        ),
    ] = None,
    quiet: Quiet = False,
    verify: Verify = True,
    kind: Kind = "auto",
) -> None:
    """Put an image into a registry.

    Under the name that it has here: tag it first. Only what the registry lacks is sent.
    """
    from imagegraph.lookup import find_image_and_tag
    from imagegraph.reference import parse
    from oci.compression import LEVELS
    from oci.pushing import Packed
    from oci.pushing import push as send

    progress.check(kind)
    if packed not in LEVELS:
        raise typer.BadParameter(f"take {' or '.join(LEVELS)}", param_hint="--compress")
    least, most, _ = LEVELS[packed]
    if level is not None and not least <= level <= most:
        raise typer.BadParameter(f"{packed} has {least} to {most}", param_hint="--level")
    reference = parse(name)
    if reference.digest or (every and reference.tag):
        raise typer.BadParameter("an image is pushed by NAME[:TAG]", param_hint="NAME")
    with opened(ctx) as store, _registry(reference.domain, verify) as registry:
        own = [tag for tags in store.graph.all_tags().values() for tag in tags]
        names = [tag for tag in own if tag.repository == reference.repository]
        if not every:
            names = [reference.with_default_tag()]
        if not names:
            raise CowshedError(
                f"no image is called {reference}: cowshed images lists those there are"
            )
        for one in names:
            image, _ = find_image_and_tag(store.graph, str(one))
            with progress.several("none" if quiet else kind, f"Pushing {one}") as bars:
                tell = _sent(bars)
                packing = Packed(packed, level)
                digest = send(store, registry, image, one, packed=packing, progress=tell)
            output.line(digest if quiet else f"{one.tag}: digest: {digest}")


def search(
    term: Annotated[str, typer.Argument(metavar="[REGISTRY/]TERM")],
    limit: Annotated[int, typer.Option("--limit", metavar="COUNT", help="At most so many.")] = 25,
    form: Format = "table",
    no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Whole descriptions.")] = False,
    verify: Verify = True,
) -> None:
    """Search a registry for repositories.

    Docker Hub, unless TERM begins with a registry. Others are asked for a search, or for all that
    they have.
    """
    from cli import formats

    if limit < 1:
        raise typer.BadParameter("it is at least 1", param_hint="--limit")
    first, slash, rest = term.partition("/")
    is_named = slash and ("." in first or ":" in first or first == "localhost")
    domain, wanted = (first, rest) if is_named else (DEFAULT, term)
    with _registry(domain, verify) as registry:
        found = list(registry.search(wanted, limit))
    rows = [
        {
            "Name": each.name,
            "Description": each.description if no_trunc else _shortened(each.description),
            "Stars": str(each.stars),
            "Official": "[OK]" if each.official else "",
        }
        for each in found
    ]
    documents = [
        {
            "Name": each.name,
            "Description": each.description,
            "Stars": each.stars,
            "Official": each.official,
        }
        for each in found
    ]
    headings = {
        "Name": "NAME",
        "Description": "DESCRIPTION",
        "Stars": "STARS",
        "Official": "OFFICIAL",
    }
    formats.rows(form, list(headings), headings, iter(rows), iter(documents), heading=True)


def login(
    where: Where = DEFAULT,
    username: Annotated[str | None, typer.Option("-u", "--username", metavar="NAME")] = None,
    from_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin.")
    ] = False,
    verify: Verify = True,
) -> None:
    """Keep credentials for a registry.

    In Docker's configuration, or with the helper that it names, once the registry has let them in.
    """
    from oci import credentials

    if from_stdin and username is None:
        raise typer.BadParameter("give --username too", param_hint="--password-stdin")
    if not from_stdin and not sys.stdin.isatty():
        raise CowshedError("stdin is no terminal to ask at: give -u NAME --password-stdin")
    if username is None:
        username = typer.prompt("Username", err=True)
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, err=True)
    if not username or not password:
        raise CowshedError("the name or the password is empty")
    known = credentials.Credentials(username, password)
    with _registry(where, verify, lambda registry, repository: known) as registry:
        registry.ping()
    credentials.store(where, known)
    output.line("Login Succeeded")


def logout(where: Where = DEFAULT) -> None:
    """Forget the credentials for a registry."""
    from oci import credentials

    if credentials.erase(where):
        output.line(f"Removed login credentials for {where}")
    else:
        output.line(f"Not logged in to {where}")
    if credentials.find(where) is not None:
        output.warn(
            f"another file still has credentials for {where}: {', '.join(credentials.files())}"
        )


def _fetched(bars: "Bars | None") -> "FetchProgress | None":
    return None if bars is None else lambda layer: bars(layer.digest[7:19], layer.size)


def _sent(bars: "Bars | None") -> "SendProgress | None":
    return None if bars is None else lambda layer, size: bars(layer.id[:12], size)


def _registry(
    name: str,
    verify: bool,
    find: "Callable[[str, str], Credentials | None] | None" = None,
) -> "Registry":
    from cli.configuration import registries
    from imagegraph.errors import InvalidReference
    from imagegraph.reference import parse
    from oci import credentials
    from oci.registry.client import Registry

    domain = None
    with contextlib.suppress(InvalidReference):
        domain = parse(f"{name}/any").domain
    if domain != name:
        raise CowshedError(f"{name} is no registry: write HOST[:PORT], e.g. localhost:5000")
    known = registries()
    if not verify:
        known = known.allowing(name)
    return Registry(name, registries=known, credentials=find or credentials.find)


def _shortened(text: str) -> str:
    return text if len(text) <= 45 else f"{text[:44]}…"
