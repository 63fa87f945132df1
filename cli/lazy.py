"""Commands that are imported when they are typed, and options that cost no start-up time."""

import difflib
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import typer
import typer.main
from typer.core import TyperArgument, TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Command, Context, HelpFormatter, Parameter


class Entry(NamedTuple):
    """Where a command is (module:function), and the line that the list of commands has for it.

    `leading_options`: what follows the first argument is not cowshed's to read.
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


class PlainCommand(TyperCommand):
    """A command whose parameters are text, lists of text, whole numbers and switches.

    Its arguments appear in the help by their metavars, which say what is optional or repeated.
    """

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        return _take_as_typed(super().get_params(ctx))

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


class LazyGroup(TyperGroup):
    """The group of all commands; `families` lists them without importing any."""

    families: ClassVar[Mapping[str, Mapping[str, Entry]]] = {}

    def get_params(self, ctx: "Context") -> "list[Parameter]":
        return _take_as_typed(super().get_params(ctx))

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
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    settings = {"allow_interspersed_args": not entry.leading_options}
    declare = app.command(name, cls=PlainCommand, context_settings=settings, hidden=entry.hidden)
    declare(getattr(importlib.import_module(module), function))
    return typer.main.get_command(app)
