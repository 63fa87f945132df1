"""The command `cowshed`: its commands, the options before them, and how it ends.

Exit status: 0 done; 1 refused or failed, with one line `Error: ...` on stderr; 2 wrong usage; 128
and the number of the signal that ended it; run and exec end as their process does. A traceback is
shown with -vv only.
"""

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Annotated, NoReturn

import typer
import typer.main

from backends.errors import CowshedError
from cli import completion, output
from cli.lazy import Entry, LazyGroup
from cli.session import Session, session


class Commands(LazyGroup):
    """Every command; the line of help is the first of the command's own."""

    families = {  # noqa: RUF012 - declared ClassVar in the base
        "Images": {
            "images": Entry("cli.images:images", "List images."),
            "history": Entry("cli.images:history", "Show the steps that made an image."),
            "inspect": Entry("cli.inspect:inspect", "Show all about images and containers."),
            "tag": Entry("cli.images:tag", "Give an image one more name."),
            "rmi": Entry("cli.images:rmi", "Remove names of images, and unneeded images."),
            "load": Entry("cli.archives:load", "Bring in the images of an archive."),
            "save": Entry("cli.archives:save", "Write images as an archive."),
            "pull": Entry("cli.registries:pull", "Bring in an image from a registry."),
            "push": Entry("cli.registries:push", "Put an image into a registry."),
            "search": Entry("cli.registries:search", "Search a registry for repositories."),
            "login": Entry("cli.registries:login", "Keep credentials for a registry."),
            "logout": Entry("cli.registries:logout", "Forget the credentials for a registry."),
            "import": Entry("cli.transfer:import_", "Make an image of a root filesystem."),
            "export": Entry("cli.transfer:export", "Write the files of a container or image."),
        },
        "Containers": {
            "create": Entry("cli.create:create", "Make containers of an image.", True),
            "run": Entry("cli.running:run", "Make a container and run its process.", True),
            "start": Entry("cli.running:start", "Start the processes of containers."),
            "exec": Entry("cli.processes:execute", "Run one more process in a container.", True),
            "attach": Entry("cli.running:attach", "Join the streams of a running container."),
            "stop": Entry("cli.processes:stop", "Ask processes of containers to end."),
            "kill": Entry("cli.processes:kill", "Send a signal to processes of containers."),
            "wait": Entry("cli.processes:wait", "Wait until processes of containers have ended."),
            "logs": Entry("cli.logs:logs", "Show what the process of a container printed."),
            "cp": Entry("cli.copying:cp", "Copy files between a container and this machine."),
            "ended": Entry(
                "cli.processes:ended", "Do what follows when a process has ended.", hidden=True
            ),
            "ps": Entry("cli.containers:ps", "List containers."),
            "rm": Entry("cli.containers:rm", "Remove containers."),
            "rename": Entry("cli.containers:rename", "Give a container another name."),
            "mount": Entry("cli.containers:mount", "Mount containers and print where."),
            "umount": Entry("cli.containers:umount", "Undo mount."),
            "unmount": Entry("cli.containers:umount", "Undo mount.", hidden=True),
            "diff": Entry("cli.changes:diff", "List what was changed in a container or image."),
            "commit": Entry("cli.changes:commit", "Make an image of a container as it is now."),
        },
        "Volumes": {
            "volume": Entry("cli.volumes:Volumes", "Manage what outlives containers."),
        },
        "System": {
            "init": Entry("cli.system:init", "Make a store, or change its size and quota."),
            "info": Entry("cli.system:info", "Show what the store is and what it stands on."),
            "df": Entry("cli.usage:df", "Show what takes how much room."),
            "prune": Entry("cli.system:prune", "Remove what nobody uses."),
            "check": Entry("cli.system:check", "Compare the store with the disk, and repair it."),
            "version": Entry("cli.about:version", "Print the version.", hidden=True),
            "help": Entry(
                "cli.about:help", "Show this list, or the help of a command.", hidden=True
            ),
        },
    }


RUNNING = ("run", "exec")
"""The commands that end as their process does, and with Docker's status for what is refused."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception, so that what was begun is undone on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _version(wanted: bool) -> None:
    if wanted:
        from cli.about import version

        version()
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
)


@app.callback()
def cowshed(
    ctx: typer.Context,
    root: Annotated[
        str | None,
        typer.Option(
            "--root",
            envvar="COWSHED_ROOT",
            metavar="DIRECTORY",
            help="Where the store is; /var/lib/cowshed if not given.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="What the store must be: btrfs, zfs, loopback or vfs.",
        ),
    ] = None,
    verbose: Annotated[
        int,
        typer.Option(
            "-v",
            "--verbose",
            count=True,
            show_default=False,
            help="Tell each operation on the disk and its time; -vv: tracebacks too.",
        ),
    ] = 0,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Container images as snapshots: an image manager for btrfs and ZFS.

    Options for all commands come before the command: cowshed --root DIRECTORY images.
    """
    options = session(ctx)
    options.root, options.backend, options.verbose = root, backend, verbose
    if root == "":
        ctx.fail("--root is empty")
    if verbose > 1:
        output.show_tracebacks()
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def run() -> NoReturn:
    """The console entry point."""
    status = main(sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    # Python would take modules and objects apart one by one, which takes longer than many a
    # command. Everything that matters is written and closed by now.
    os._exit(status)


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit status."""
    output.prepare()
    status = _ended(arguments)
    try:
        output.flush()
    except output.OutputError as error:
        return status or _failed(str(error))
    except output.ReaderGone:
        return status or 128 + signal.SIGPIPE
    return status


def _ended(arguments: list[str]) -> int:
    """Run one command, and tell what went wrong."""
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            # Who ignores a signal on our behalf, as nohup(1) does, means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _terminate)
        with completion.whole_words():
            return _invoke(arguments)
    except CowshedError as error:
        return _failed(str(error))
    except typer.TyperException as error:
        usage = getattr(error, "ctx", None)
        hint = f" (see {usage.command_path} --help)" if usage else ""
        status = output.REFUSED if usage and usage.info_name in RUNNING else error.exit_code
        return _failed(error.format_message().rstrip(".") + hint, status)
    except output.ReaderGone:
        return 128 + signal.SIGPIPE
    except SystemExit as end:
        # How typer ends where it writes itself, as for completions.
        broken = isinstance(end.__context__, BrokenPipeError)
        return 128 + signal.SIGPIPE if broken else int(end.code or 0)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as terminated:
        return 128 + terminated.number
    except Exception as error:  # noqa: BLE001 - the one place that ends every other mistake
        text = f"{type(error).__name__}: {error}"
        return _failed(f"internal error: {text}; run again with cowshed -vv to see where")


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    # Not standalone: errors come here, and the status of typer.Exit is returned.
    status = command.main(arguments, prog_name="cowshed", standalone_mode=False, obj=Session())
    return status or 0


def _failed(text: str, status: int = 1) -> int:
    output.fail(text)
    return status


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number)
