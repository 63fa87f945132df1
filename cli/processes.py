"""The commands exec, stop, kill and wait."""

import contextlib
import os
from typing import Annotated

import typer

from backends.errors import CowshedError
from cli import completion, output
from cli.create import Env, EnvFile, Interactive, Tty, Workdir
from cli.session import each, opened
from cli.terminal import KEYS, Keys, docker_status, require_terminal, size, terminal

Names = Annotated[
    list[str], typer.Argument(metavar="CONTAINER...", autocompletion=completion.containers)
]


def execute(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="CONTAINER", autocompletion=completion.containers)],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...")],
    interactive: Interactive = False,
    tty: Tty = False,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Leave it running.")] = False,
    env: Env = None,
    env_file: EnvFile = None,
    user: Annotated[
        str | None,
        typer.Option("-u", "--user", metavar="NAME|UID[:GROUP|GID]", help="Who it is."),
    ] = None,
    workdir: Workdir = None,
    privileged: Annotated[
        bool, typer.Option("--privileged", help="All capabilities for it.")
    ] = False,
    detach_keys: Keys = KEYS,
) -> None:
    """Run one more process in a container.

    Options come before CONTAINER. Ends with the exit status of the process.
    """
    from cli.options import environment
    from runtime.attach import keys_of
    from runtime.execution import Wanted
    from runtime.execution import execute as run_in

    keys = keys_of(detach_keys)
    require_terminal(tty and interactive and not detach)
    wanted = Wanted(
        command,
        env=environment(env, env_file),
        user=user,
        workdir=workdir,
        terminal=tty,
        stdin=interactive and not detach,
        privileged=privileged,
        size=size() if tty else None,
    )
    with docker_status(default=1), opened(ctx) as store, contextlib.ExitStack() as stack:
        container = store.container(name)
        executed = stack.enter_context(run_in(store, container, wanted))
        pid = executed.go()
        if detach:
            return

        def pass_on(number: int) -> None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

        output.flush()
        over = executed.attachment.relay(
            0 if interactive else None,
            terminal=terminal() if tty else None,
            keys=keys if tty else (),
            send=pass_on,
        )
        status = executed.status() if over else 0
    if status is None:
        raise CowshedError("the process's monitor died before it: its exit status is lost")
    raise typer.Exit(status)


def stop(
    ctx: typer.Context,
    names: Names,
    grace: Annotated[
        int | None,
        typer.Option(
            "-t", "--time", metavar="SECONDS", help="Until it is killed; -1 for never. 10."
        ),
    ] = None,
) -> None:
    """Ask processes of containers to end.

    Those that do not are killed.
    """
    from runtime import stopping

    if grace is not None and grace < -1:
        raise typer.BadParameter(f"{grace} is less than -1", param_hint="--time")
    with opened(ctx) as store:

        def one(name: str) -> None:
            stopping.stop(store, store.container(name), grace)
            output.line(name)

        each(names, one)


def kill(
    ctx: typer.Context,
    names: Names,
    signal: Annotated[
        str, typer.Option("-s", "--signal", metavar="SIGNAL", help="What to send.")
    ] = "KILL",
) -> None:
    """Send a signal to processes of containers."""
    from runtime import stopping

    number = stopping.number_of(signal)
    with opened(ctx) as store:

        def one(name: str) -> None:
            stopping.kill(store, store.container(name), number)
            output.line(name)

        each(names, one)


def wait(ctx: typer.Context, names: Names) -> None:
    """Wait until processes of containers have ended.

    Prints their exit statuses.
    """
    from runtime import stopping

    with opened(ctx) as store:

        def one(name: str) -> None:
            output.line(str(stopping.wait(store, store.container(name))))
            output.flush()

        each(names, one)


def ended(ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="CONTAINER")]) -> None:
    """Do what follows when a process has ended.

    conmon calls it, in its own mount namespace.
    """
    from imagegraph.errors import NotFound
    from runtime import stopping

    with contextlib.suppress(NotFound), opened(ctx) as store:
        container = store.container(name)
        if stopping.leave(container):
            stopping.ended(store, container)
