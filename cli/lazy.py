"""Commands that are imported when they are typed, and options that cost no start-up time."""

import difflib
import functools
import importlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from cli import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer._click import Command, Context, HelpFormatter, Parameter
    from typer._click.parser import _OptionParser, _ParsingState


class Entry(NamedTuple):
    """Where a command is (module:function), and the line that the list of commands has for it.

    A group of commands is a class made of LazyGroup. `leading_options`: what follows the first
    argument is not cowshed's to read.
    """

    where: str
    help: str
    leading_options: bool = False
    hidden: bool = False


class _AsTyped:
    """Takes parameters as the shell gave them, but for whole numbers.

    What typer (from 0.26 on) does instead is to import pydantic and make a validator for each
    parameter, which takes longer than all that `create` does.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if param.type_descriptor.annotation in (int, int | None) and isinstance(value, str):
            try:
                return int(value)
            except ValueError:
                reason = f"{value!r} is not a whole number"
                raise typer.BadParameter(reason, ctx=ctx, param=param) from None
        return value


_SEAM = "get_runtime_param"
_AS_TYPED = _AsTyped()


def _take_as_typed(params: "list[Parameter]") -> "list[Parameter]":
    for param in params:
        setattr(param, _SEAM, lambda: _AS_TYPED)
    return params


_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}
"""As Go's strconv.ParseBool reads it."""

_FOR_A_SHELL = ("--install-completion", "--show-completion")


def _show_help(ctx: "Context", param: "Parameter", wanted: bool) -> None:
    """As typer's own, but a failure to write is told as for all other output."""
    if wanted and not ctx.resilient_parsing:
        output.line(ctx.get_help())
        ctx.exit()


def _reads_switches(parser: "_OptionParser") -> "_OptionParser":
    """Let the parser take --switch=true and --switch=false, -h, and the shell for a completion."""
    if "-h" not in parser._short_opt and "--help" in parser._long_opt:
        parser._short_opt["-h"] = parser._long_opt["--help"]
    setattr(parser, _LONG, functools.partial(_long_option, parser, parser._match_long_opt))
    return parser


_LONG = "_match_long_opt"


def _long_option(
    parser: "_OptionParser",
    usual: "Callable[[str, str | None, _ParsingState], None]",
    name: str,
    value: str | None,
    state: "_ParsingState",
) -> None:
    option = parser._long_opt.get(name)
    dest = option.dest if option is not None else None
    if option is None or dest is None:
        usual(name, value, state)
    elif name in _FOR_A_SHELL:
        from cli.completion import shell

        if value is None and state.rargs and not state.rargs[0].startswith("-"):
            value = state.rargs.pop(0)
        state.opts[dest] = shell(value)
        state.order.append(option.obj)
    elif value is not None and option.action == "store_const":
        if value not in _TRUTH:
            reason = f"{value!r} is neither true nor false"
            raise typer.BadParameter(reason, ctx=parser.ctx, param_hint=name)
        state.opts[dest] = option.const if _TRUTH[value] else not option.const
        state.order.append(option.obj)
    else:
        usual(name, value, state)


class PlainCommand(TyperCommand):
    """A command whose parameters are text, lists of text, whole numbers and switches.

    Its arguments appear in the help by their metavars, which say what is optional or repeated.
    """

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        return _take_as_typed(super().get_params(ctx))

    def get_help_option(self, ctx: "Context") -> "TyperOption | None":
        found = super().get_help_option(ctx)
        if found is not None:
            found.callback = _show_help
        return found

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        return _reads_switches(super().make_parser(ctx))

    def _arguments(self) -> "list[TyperArgument]":
        return [param for param in self.params if isinstance(param, TyperArgument)]

    def collect_usage_pieces(self, ctx: "Context") -> list[str]:
        return ["[OPTIONS]", *(argument.metavar or "" for argument in self._arguments())]

    def format_options(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        explained = [(arg.metavar or "", arg.help) for arg in self._arguments() if arg.help]
        if explained:
            with formatter.section("Arguments"):
                formatter.write_dl(explained)
        options = [param for param in self.get_params(ctx) if not isinstance(param, TyperArgument)]
        records = [record for param in options if (record := param.get_help_record(ctx))]
        with formatter.section("Options"):
            formatter.write_dl(records)


_NOT_YET = "build pause port restart stats top unpause update"
_RENAMED = {
    "system df": "df",
    "system prune": "prune",
    "system info": "info",
    "image ls": "images",
    "image list": "images",
    "image rm": "rmi",
    "container ls": "ps",
    "container list": "ps",
    "container ps": "ps",
    "ls": "ps",
    "list": "ps",
    "delete": "rm",
    "remove": "rm",
    "container prune": "prune",
    "image prune": "prune",
    **{
        f"image {name}": name
        for name in (
            "export history import inspect load mount pull push save search tag umount"
        ).split()
    },
    **{
        f"container {name}": name
        for name in (
            "attach commit cp create diff exec export inspect kill logs mount rename rm run start"
            " stop umount wait"
        ).split()
    },
}
_ELSEWHERE = {
    **{name: f"cowshed has no `{name}` yet" for name in _NOT_YET.split()},
    **{old: f"there is no command {old!r}; it is cowshed {new}" for old, new in _RENAMED.items()},
    **{
        name: f"there is no command {name!r}; cowshed --help lists those there are"
        for name in ("system", "container", "image", "network")
    },
}
"""What is said of commands that people know from Docker or Podman and cowshed lacks."""


class LazyGroup(TyperGroup):
    """The group of all commands; `families` lists them without importing any."""

    families: ClassVar[Mapping[str, Mapping[str, Entry]]] = {}
    elsewhere: ClassVar[Mapping[str, str]] = _ELSEWHERE

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        return _take_as_typed(super().get_params(ctx))

    def get_help_option(self, ctx: "Context") -> "TyperOption | None":
        found = super().get_help_option(ctx)
        if found is not None:
            found.callback = _show_help
        return found

    def make_parser(self, ctx: "Context") -> "_OptionParser":
        return _reads_switches(super().make_parser(ctx))

    def list_commands(self, ctx: "Context") -> list[str]:
        return [
            name
            for family in self.families.values()
            for name, entry in family.items()
            if not entry.hidden
        ]

    def get_command(self, ctx: "Context", cmd_name: str) -> "Command | None":
        for family in self.families.values():
            if cmd_name in family:
                return _command(cmd_name, family[cmd_name])
        return None

    def resolve_command(
        self, ctx: "Context", args: list[str]
    ) -> "tuple[str | None, Command | None, list[str]]":
        command = self.get_command(ctx, args[0])
        if command is None and not ctx.resilient_parsing:
            if hint := self.elsewhere.get(" ".join(args[:2])) or self.elsewhere.get(args[0]):
                ctx.fail(hint)
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            ctx.fail(f"there is no command {args[0]!r}{hint}")
        return args[0], command, args[1:]

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        for family, commands in self.families.items():
            with formatter.section(family):
                shown = {name: entry for name, entry in commands.items() if not entry.hidden}
                formatter.write_dl([(name, entry.help) for name, entry in shown.items()])


def _command(name: str, entry: Entry) -> "Command":
    module, _, function = entry.where.partition(":")
    found = getattr(importlib.import_module(module), function)
    if isinstance(found, type):
        return _group(name, found)
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"allow_interspersed_args": not entry.leading_options}
    declare = app.command(name, cls=PlainCommand, context_settings=settings, hidden=entry.hidden)
    declare(found)
    return typer.main.get_command(app)


def _group(name: str, group: type[LazyGroup]) -> "Command":
    """The commands of a group; alone it is wrong usage, as `cowshed` is."""
    app = typer.Typer(
        name=name,
        cls=group,
        help=group.__doc__,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        invoke_without_command=True,
    )

    def alone(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            print(ctx.get_help(), file=sys.stderr)
            raise typer.Exit(2)

    app.callback()(alone)
    return typer.main.get_command(app)
