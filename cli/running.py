"""The commands run, start and attach."""

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import completion, output
from cli.create import Created, create, created
from cli.session import each, opened
from cli.terminal import KEYS, Keys, docker_status, require_terminal, size, terminal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagegraph.model import Container
    from imagegraph.store import Store
    from runtime.attach import Attachment

Name = Annotated[str, typer.Argument(metavar="CONTAINER", autocompletion=completion.containers)]
Names = Annotated[
    list[str], typer.Argument(metavar="CONTAINER...", autocompletion=completion.containers)
]
Proxy = Annotated[
    bool, typer.Option("--sig-proxy", help="With =false: signals are not passed on to it.")
]


def _with_options_of_create(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `create` beside its own; it finds them in ctx.params."""
    own = inspect.signature(command).parameters.values()
    parameters = dict(inspect.signature(create).parameters)
    del parameters["count"]
    parameters |= {each.name: each for each in own if each.kind is not each.VAR_KEYWORD}
    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    return command


@_with_options_of_create
def run(
    ctx: typer.Context,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Leave it running, and print its id.")
    ] = False,
    detach_keys: Keys = KEYS,
    sig_proxy: Proxy = True,
    **_: Any,
) -> None:
    """Make a container and run its process.

    Options come before IMAGE; what follows it is the command. Ends with the exit status of the
    process: 125 if it could not be run, 126 and 127 if the command is not executable or not there,
    128 and the number of the signal that ended it.
    """
    from runtime.attach import keys_of

    with docker_status(), opened(ctx) as store:
        keys = keys_of(detach_keys)
        require_terminal(ctx.params["tty"] and ctx.params["interactive"] and not detach)
        with created(ctx, store, 1) as made:
            _run(store, made, detach, keys, sig_proxy)


def _run(store: "Store", made: Created, detach: bool, keys: list[bytes], proxy: bool) -> None:
    from runtime.starting import start

    [container] = made.containers
    if detach:
        _warn(container)
        start(store, container, afterwards=_afterwards(store, container))
        made.keep()
        output.line(container.id)
        return
    _foreground(store, container, stdin=True, keys=keys, proxy=proxy, started=made.keep)


def start(
    ctx: typer.Context,
    names: Names,
    attach: Annotated[
        bool, typer.Option("-a", "--attach", help="Show its output, and end as it ends.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Give it stdin, too.")
    ] = False,
    detach_keys: Keys = KEYS,
    sig_proxy: Proxy = True,
) -> None:
    """Start the processes of containers.

    Prints what was started. With -a or -i, of one only: ends with the exit status of its process.
    """
    from runtime import starting
    from runtime.attach import keys_of

    keys = keys_of(detach_keys)
    with opened(ctx) as store:
        if attach or interactive:
            if len(names) > 1:
                raise typer.BadParameter("attach to one container only", param_hint="CONTAINER")
            container = store.container(names[0])
            is_terminal = bool(starting.merged(store, container).get("Tty"))
            require_terminal(is_terminal and interactive)
            _foreground(store, container, stdin=interactive, keys=keys, proxy=sig_proxy)
            return

        def one(name: str) -> None:
            container = store.container(name)
            _warn(container)
            starting.start(store, container, afterwards=_afterwards(store, container))
            output.line(name)

        each(names, one)


def _foreground(
    store: "Store",
    container: "Container",
    *,
    stdin: bool,
    keys: list[bytes],
    proxy: bool,
    started: Callable[[], None] = lambda: None,
) -> None:
    """Start it, stay with it, and end as it ends. Raises typer.Exit."""
    from runtime import starting, stopping

    config = starting.merged(store, container)
    host = container.options.get("HostConfig", {})
    is_terminal = bool(config.get("Tty"))
    _warn(container)
    with starting.attended(store, container):
        attachment = starting.start(
            store,
            container,
            attach=True,
            once=True,
            size=size() if is_terminal else None,
            afterwards=_afterwards(store, container),
        )
        assert attachment is not None
        started()
        reads = stdin and bool(config.get("OpenStdin")) and _is_attached(config, "Stdin")
        if not _relayed(store, container, attachment, reads, is_terminal, keys, proxy):
            return
        status = stopping.wait(store, container)
        if host.get("AutoRemove"):
            stopping.remove(store, container, with_volumes=True)
        else:
            stopping.finish(container)
    raise typer.Exit(status or 0)


def _warn(container: "Container") -> None:
    """Say what is not done though it was asked for."""
    from runtime.spec import warnings

    for text in warnings(container.options.get("HostConfig", {})):
        output.warn(text)


def _relayed(
    store: "Store",
    container: "Container",
    attachment: "Attachment",
    reads: bool,
    is_terminal: bool,
    keys: list[bytes],
    proxy: bool,
) -> bool:
    """Whether its streams came to their end, and were not left."""
    from runtime.attach import STDERR, STDOUT
    from runtime.stopping import send

    def pass_on(number: int) -> None:
        if proxy:
            send(container.id, number)

    own = container.options.get("Config", {})
    streams = {STDOUT: "Stdout", STDERR: "Stderr"}
    output.flush()
    with attachment:
        is_over = attachment.relay(
            0 if reads else None,
            terminal=terminal() if is_terminal else None,
            keys=keys if is_terminal else (),
            send=pass_on,
            shown=[number for number, name in streams.items() if _is_attached(own, name)],
        )
    if not is_over:
        output.note(f"\nIt runs on: cowshed attach {container.name} joins it again.")
    return is_over


def _is_attached(config: "Mapping[str, Any]", stream: str) -> bool:
    """Whether the stream is to be joined: all are, unless --attach names some."""
    named = any(config.get(f"Attach{name}") for name in ("Stdin", "Stdout", "Stderr"))
    return bool(config.get(f"Attach{stream}")) or not named


def _afterwards(store: "Store", container: "Container") -> list[str]:
    """What is to be done when the process has ended and nobody attends to that."""
    from imagegraph.running import kept

    attended = f"{kept(store.root, container.id)}/attended"
    ourselves = [sys.executable, "-P", "-m", "cli", "--root", store.root, "ended", container.id]
    # flock ends at once, well, where somebody has the lock; it must not give it to its command.
    flock = ["/usr/bin/flock", "--nonblock", "--close", "--conflict-exit-code", "0", attended]
    return [*flock, *ourselves]


def attach(
    ctx: typer.Context,
    name: Name,
    no_stdin: Annotated[bool, typer.Option("--no-stdin", help="Only show its output.")] = False,
    detach_keys: Keys = KEYS,
    sig_proxy: Proxy = True,
) -> None:
    """Join the streams of a running container.

    Ends as it ends.
    """
    from runtime import starting, stopping
    from runtime.attach import Attachment, keys_of

    keys = keys_of(detach_keys)
    with opened(ctx) as store:
        container = store.container(name)
        config = starting.merged(store, container)
        is_terminal = bool(config.get("Tty"))
        reads = bool(config.get("OpenStdin")) and not no_stdin
        require_terminal(is_terminal and reads)
        with starting.attended(store, container):
            attachment = Attachment(stopping.running_bundle(store, container))
            if not _relayed(store, container, attachment, reads, is_terminal, keys, sig_proxy):
                return
            status = stopping.wait(store, container)
            stopping.ended(store, container)
    raise typer.Exit(status or 0)
