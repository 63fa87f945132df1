"""The command create."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from backends.errors import CowshedError
from cli import completion, output
from cli.options import bad, options
from cli.session import opened, option

if TYPE_CHECKING:
    from imagegraph.model import Container
    from imagegraph.store import Store

Texts = list[str] | None
Interactive = Annotated[bool, typer.Option("-i", "--interactive", help="Keep stdin open.")]
Tty = Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")]
Env = Annotated[
    Texts,
    typer.Option(
        "-e", "--env", metavar="NAME[=VALUE]", help="Without a value: the one here, or unset."
    ),
]
EnvFile = Annotated[
    Texts, typer.Option("--env-file", metavar="FILE", help="Lines of NAME[=VALUE].")
]
Workdir = Annotated[
    str | None, typer.Option("-w", "--workdir", metavar="PATH", help="Where to start in.")
]


def create(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(metavar="IMAGE", autocompletion=completion.images)],
    command: Annotated[
        Texts,
        typer.Argument(metavar="[COMMAND...]", help="Instead of the image's own."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="A name of your choice.")
    ] = None,
    count: Annotated[
        int,
        typer.Option(
            "-n",
            "--count",
            metavar="COUNT",
            help="Make so many; with --name: NAME-1, NAME-2, ...",
            show_default=False,
        ),
    ] = 1,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="SIZE", help="Bound what each may add to the image, e.g. 10g."
        ),
    ] = None,
    storage_opt: Annotated[
        Texts,
        typer.Option("--storage-opt", metavar="size=SIZE", help="As --size."),
    ] = None,
    cidfile: Annotated[
        str | None,
        typer.Option("--cidfile", metavar="FILE", help="Write the ids to a new file too."),
    ] = None,
    interactive: Interactive = False,
    tty: Tty = False,
    remove: Annotated[
        bool, typer.Option("--rm", help="Remove it when its process has ended.")
    ] = False,
    env: Env = None,
    env_file: EnvFile = None,
    user: Annotated[
        str | None,
        typer.Option("-u", "--user", metavar="NAME|UID[:GROUP|GID]", help="Who its process is."),
    ] = None,
    workdir: Workdir = None,
    entrypoint: Annotated[
        str | None,
        typer.Option(
            "--entrypoint",
            metavar="PROGRAM",
            help="Instead of the image's own; '' for none, or a JSON array with arguments.",
        ),
    ] = None,
    label: Annotated[
        Texts, typer.Option("-l", "--label", metavar="NAME[=VALUE]", help="A label of its own.")
    ] = None,
    label_file: Annotated[
        Texts, typer.Option("--label-file", metavar="FILE", help="Lines of NAME[=VALUE].")
    ] = None,
    hostname: Annotated[
        str | None, typer.Option("-h", "--hostname", metavar="NAME", help="Its host name.")
    ] = None,
    volume: Annotated[
        Texts,
        typer.Option(
            "-v",
            "--volume",
            metavar="[SOURCE:]PATH[:OPTIONS]",
            help="Mount a directory of the host, or a volume by its name.",
        ),
    ] = None,
    mount: Annotated[
        Texts,
        typer.Option(
            "--mount",
            metavar="type=TYPE,source=SOURCE,target=PATH[,...]",
            help="As --volume, in full.",
        ),
    ] = None,
    tmpfs: Annotated[
        Texts,
        typer.Option(
            "--tmpfs", metavar="PATH[:OPTIONS]", help="Mount an empty tmpfs, e.g. /run:size=64m."
        ),
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Its process cannot write to its files.")
    ] = False,
    network: Annotated[
        str | None,
        typer.Option(
            "--network", "--net", metavar="host|none", help="The host's network, or none."
        ),
    ] = None,
    expose: Annotated[
        Texts,
        typer.Option(
            "--expose", metavar="PORT[-PORT][/PROTOCOL]", help="Note a port that it serves."
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("-m", "--memory", metavar="SIZE", help="Bound its memory, e.g. 512m."),
    ] = None,
    cpus: Annotated[
        str | None,
        typer.Option("--cpus", metavar="NUMBER", help="Bound its share of the CPUs, e.g. 1.5."),
    ] = None,
    pids_limit: Annotated[
        int,
        typer.Option(
            "--pids-limit",
            metavar="NUMBER",
            help="Bound its processes; -1 for no bound.",
            show_default=False,
        ),
    ] = 0,
    cap_add: Annotated[
        Texts, typer.Option("--cap-add", metavar="CAPABILITY|ALL", help="Give it, e.g. NET_ADMIN.")
    ] = None,
    cap_drop: Annotated[
        Texts, typer.Option("--cap-drop", metavar="CAPABILITY|ALL", help="Take it away.")
    ] = None,
    privileged: Annotated[
        bool, typer.Option("--privileged", help="All capabilities and devices.")
    ] = False,
    security_opt: Annotated[
        Texts,
        typer.Option(
            "--security-opt", metavar="OPTION", help="no-new-privileges, seccomp=FILE, ..."
        ),
    ] = None,
    init: Annotated[
        bool, typer.Option("--init", help="Run an init that forwards signals and reaps.")
    ] = False,
    stop_signal: Annotated[
        str | None, typer.Option("--stop-signal", metavar="SIGNAL", help="What asks it to end.")
    ] = None,
    stop_timeout: Annotated[
        int | None,
        typer.Option("--stop-timeout", metavar="SECONDS", help="From that signal to SIGKILL."),
    ] = None,
    publish: Annotated[
        Texts,
        typer.Option(
            "-p",
            "--publish",
            metavar="[[IP:]HOSTPORT:]PORT[/PROTOCOL]",
            help="Publish a port of it.",
        ),
    ] = None,
    restart: Annotated[
        str | None,
        typer.Option(
            "--restart", metavar="POLICY", help="no, always, unless-stopped or on-failure[:TIMES]."
        ),
    ] = None,
    device: Annotated[
        Texts, typer.Option("--device", metavar="/DEVICE[:/PATH][:rwm]", help="Give it a device.")
    ] = None,
    add_host: Annotated[
        Texts, typer.Option("--add-host", metavar="NAME:IP", help="A line of its /etc/hosts.")
    ] = None,
    dns: Annotated[Texts, typer.Option("--dns", metavar="IP", help="A name server.")] = None,
    shm_size: Annotated[
        str | None, typer.Option("--shm-size", metavar="SIZE", help="The size of its /dev/shm.")
    ] = None,
    ulimit: Annotated[
        Texts,
        typer.Option(
            "--ulimit", metavar="NAME=SOFT[:HARD]", help="Bound a resource, e.g. nofile=1024."
        ),
    ] = None,
    group_add: Annotated[
        Texts, typer.Option("--group-add", metavar="GROUP", help="One more group of its process.")
    ] = None,
    pid: Annotated[
        str | None, typer.Option("--pid", metavar="host", help="Share the host's processes.")
    ] = None,
    ipc: Annotated[
        str | None,
        typer.Option(
            "--ipc", metavar="host|none|private|shareable", help="Whose shared memory it uses."
        ),
    ] = None,
    platform: Annotated[
        str | None,
        typer.Option(
            "--platform", metavar="OS/ARCHITECTURE[/VARIANT]", help="What the image must be for."
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime", metavar="crun|runc", help="What runs it; by default what is here."
        ),
    ] = None,
    attach: Annotated[
        Texts,
        typer.Option(
            "-a", "--attach", metavar="stdin|stdout|stderr", help="What run will attach to."
        ),
    ] = None,
) -> None:
    """Make containers of an image.

    Prints the id of each. Options come before IMAGE; what follows it is the command. All that a
    process will run with is checked and kept with the container.
    """
    if count < 1:
        raise bad("--count", f"{count} is less than 1")
    with opened(ctx) as store, created(ctx, store, count) as made:
        made.keep()
        for container in made.containers:
            output.line(container.id)


class Created:
    """Containers that are taken back unless they are kept."""

    def __init__(self, containers: "list[Container]") -> None:
        self.containers = containers
        self.is_kept = False

    def keep(self) -> None:
        self.is_kept = True


@contextlib.contextmanager
def created(ctx: typer.Context, store: "Store", count: int) -> Iterator[Created]:
    """The containers that the command's parameters say; gone again if the body does not keep them.

    The file of --cidfile is written, or is not there.
    """
    given = ctx.params
    asked = options(given)
    wanted = _size(given["size"], given["storage_opt"])
    found = store.image(given["image"])
    if given["platform"] is not None:
        from cli.host import require_platform
        from imagegraph.config import load

        require_platform(given["platform"], load(found.config))
    path = given["cidfile"]
    written = _reserved(path)
    made = Created([])
    try:
        made.containers = store.create(
            found, name=given["name"], count=count, size=wanted, options=asked
        )
        _write(written, made.containers)
        yield made
    finally:
        if not made.is_kept:
            if path is not None:
                os.unlink(path)
            for container in made.containers:
                from imagegraph.errors import NotFound
                from runtime.stopping import remove

                # With --rm it may have gone already.
                with contextlib.suppress(NotFound):
                    remove(store, container, with_volumes=True)


def _size(size: str | None, storage: Sequence[str] | None) -> int | None:
    from imagegraph.sizes import parse_size

    for text in storage or ():
        key, _, value = text.partition("=")
        if key != "size":
            raise bad("--storage-opt", f"{text!r} is not size=SIZE")
        size = value
    if size is None:
        return None
    with option("--size"):
        wanted = parse_size(size)
    if wanted == 0:
        raise bad("--size", "0 bytes is no room at all; leave it out for no bound")
    return wanted


def _reserved(path: str | None) -> int | None:
    """A descriptor of the new file, so that nothing is made whose id could not be written."""
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise CowshedError(f"the file {path} is there already: remove it first") from None
    except OSError as error:
        raise CowshedError(f"cannot write {path}: {error.strerror}") from error


def _write(descriptor: int | None, made: "list[Container]") -> None:
    if descriptor is not None:
        with open(descriptor, "w") as file:
            file.write("\n".join(container.id for container in made))
