"""What listings share: their options, and how they are printed.

--format is table, json, or a Go template for each row, perhaps after `table `.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer

from cli import output
from cli.template import Template, bad_format

NONE = "<none>"
UNKNOWN = "N/A"

Row = Mapping[str, Any]

Format = Annotated[
    str, typer.Option("--format", metavar="FORMAT", help="table, json, or a template: '{{.ID}}'.")
]
NoTrunc = Annotated[bool, typer.Option("--no-trunc", help="Print everything in full length.")]


def check(form: str, fields: Iterable[str] | None = None) -> frozenset[str]:
    """Refuse what is no format, before any work is done; returns the fields that a template has.

    `fields` are those that there are, if it is known. Raises BadParameter.
    """
    if form in ("table", "json"):
        return frozenset()
    used = _template(form).fields()
    known = list(fields) if fields is not None else list(used)
    for name in used.difference(known, [""]):
        raise bad_format(f"there is no field {name}: there are {', '.join(known)}")
    # The whole is all of them.
    return frozenset(known if "" in used else used)


def _template(form: str) -> Template:
    if "{{" not in form:
        raise bad_format(f"{form!r} is neither table, json nor a template such as '{{{{.ID}}}}'")
    text = form.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    return Template(text)


def rows(
    form: str,
    columns: Sequence[str],
    headings: Mapping[str, str],
    found: Iterable[Row],
    documents: Iterable[Any],
    *,
    heading: bool = True,
) -> None:
    """Print a list: `found` as a table of `columns` or by a template, or `documents` as JSON."""
    if form == "json":
        output.json_array(documents)
    elif form == "table":
        cells = ([row[column] for column in columns] for row in found)
        output.table([headings[column] for column in columns], cells, heading=heading)
    else:
        _by_template(form, headings, found, heading)


def _by_template(
    form: str, headings: Mapping[str, str], found: Iterable[Row], heading: bool
) -> None:
    template = _template(form)
    if form.startswith("table "):
        names = template.headings(headings).split("\t")
        cells = (template.render(row).split("\t") for row in found)
        output.table(names, cells, heading=heading)
        return
    for row in found:
        one(template, row)


def one(template: Template, data: Row) -> None:
    """Print one thing by a template; control characters reach a pipe, but no terminal."""
    output.line(template.render(data, output.printable if sys.stdout.isatty() else str))


def size_text(size: int | None) -> str:
    from imagegraph.sizes import human_size

    return UNKNOWN if size is None else human_size(size)
