"""Properties and names of datasets, one command for any number of them.

A user property's value may hold tabs and newlines, so in a listing as text a hostile one could
look like rows of its neighbours. OpenZFS 2.3 prints JSON, which cannot be misread. Where there is
none, or where a value is not UTF-8, which the JSON printer cannot print, the text is read: every
group of rows begins with `type`, holds each property once and comes once, and its names are those
that a listing without values has. What is not so is refused, never guessed.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from backends.libzfs import run
from backends.libzfs.enums import DatasetType, Error, PropertySource
from backends.libzfs.errors import ZFSException

TYPE_NAMES = {
    "filesystem": DatasetType.FILESYSTEM,
    "volume": DatasetType.VOLUME,
    "snapshot": DatasetType.SNAPSHOT,
    "bookmark": DatasetType.BOOKMARK,
}

FILESYSTEMS = "filesystem,volume"
_INHERITED = "inherited from "
# libzfs prints the source into a buffer of this many bytes.
_SOURCE_LIMIT = 127
# A dataset that is destroyed while it is listed looks like one that was never there.
_TRIES = 3

_SOURCES = {
    "-": PropertySource.NONE,
    "default": PropertySource.DEFAULT,
    "temporary": PropertySource.TEMPORARY,
    "local": PropertySource.LOCAL,
    "received": PropertySource.RECEIVED,
}


class Row(NamedTuple):
    """One property: the value that `zfs get -p` prints, where it is set, and by whom if inherited.

    `source_info` names the dataset that an INHERITED value comes from, else it is empty.
    """

    raw: str
    source: PropertySource
    source_info: str


Rows = dict[str, Row]


class MisreadableError(Exception):
    """Rows of a listing are not what `zfs get` prints, so a value must look like rows."""


def _source(name: str, text: str) -> tuple[PropertySource, str]:
    if not text.startswith(_INHERITED):
        return _SOURCES.get(text, PropertySource.NONE), ""
    ancestor = text.removeprefix(_INHERITED)
    if len(text) >= _SOURCE_LIMIT:
        ancestor = _untruncated(name, ancestor)
    return PropertySource.INHERITED, ancestor


def _untruncated(name: str, start: str) -> str:
    """The ancestor of `name` that begins with `start`; `start` itself if that is not certain."""
    dataset, at, _ = name.partition("@")
    parts = dataset.split("/")
    ancestors = ["/".join(parts[:count]) for count in range(1, len(parts) + bool(at))]
    matching = [ancestor for ancestor in ancestors if ancestor.startswith(start)]
    return matching[0] if len(matching) == 1 else start


def parse(output: str, lead: str = "type") -> dict[str, Rows]:
    """The rows that `zfs get -H -o name,property,source,value type,...` printed, by dataset.

    `lead` is the property that begins each group of rows. Raises MisreadableError where a value
    looks like rows.
    """
    found: dict[str, Rows] = {}
    current = ""
    rows: Rows = {}
    last = ""
    for line in output.removesuffix("\n").split("\n") if output else ():
        fields = line.split("\t", 3)
        if len(fields) < 4 or not _is_row(fields):
            if not last:
                raise MisreadableError(line)
            rows[last] = rows[last]._replace(raw=f"{rows[last].raw}\n{line}")
            continue
        name, key, source, value = fields
        if key == lead:
            if name in found or (lead == "type" and value not in TYPE_NAMES):
                raise MisreadableError(line)
            current, rows = name, {}
            found[name] = rows
        elif name != current or key in rows:
            raise MisreadableError(line)
        rows[key] = Row(value, *_source(name, source))
        last = key
    return found


def _is_row(fields: Sequence[str]) -> bool:
    return fields[2] in _SOURCES or fields[2].startswith(_INHERITED)


def parse_json(output: str) -> dict[str, Rows]:
    """What `zfs get -j` printed, by dataset."""
    found: dict[str, Rows] = {}
    for name, entry in json.loads(output).get("datasets", {}).items():
        rows = {
            key: Row(
                value["value"],
                PropertySource[value["source"]["type"]],
                value["source"]["data"] if value["source"]["type"] == "INHERITED" else "",
            )
            for key, value in entry["properties"].items()
        }
        found[name] = {"type": rows.pop("type"), **rows}
    return found


def get(
    names: Iterable[str] | None,
    properties: str = "all",
    *,
    types: str = "",
    depth: int | None = 0,
    absent_ok: bool = False,
) -> dict[str, Rows]:
    """The `properties` (comma separated) of datasets, and of what is below them, by name; None
    for those of all pools.

    `types` narrows what is below; `depth` 0 is the names themselves, 1 their children, None
    everything. In the order of `zfs get`: parents before children, snapshots oldest first.
    Raises ZFSException: NOENT if a name does not exist, unless that is `absent_ok`.
    """
    wanted = None if names is None else list(names)
    if wanted == []:
        return {}
    asked = [key for key in properties.split(",") if key not in ("type", "")]
    columns = "all" if properties == "all" else ",".join(["type", *dict.fromkeys(asked)])
    scope = _scope(types, depth)
    if run.version() >= (2, 3):
        with contextlib.suppress(json.JSONDecodeError):
            argv = ["zfs", "get", "-jp", *scope, columns, *(wanted or ())]
            return parse_json(run.run(argv, absent_ok=absent_ok))
    for _ in range(_TRIES):
        with contextlib.suppress(MisreadableError):
            return _get_text(wanted, columns, types, depth, absent_ok)
    raise ZFSException(
        Error.BADPROP,
        "cannot list properties: the value of a user property holds line breaks that look like"
        " other properties, and this OpenZFS cannot tell them apart",
    )


def _get_text(
    names: Sequence[str] | None, columns: str, types: str, depth: int | None, absent_ok: bool
) -> dict[str, Rows]:
    """The listing as text; raises MisreadableError if it may hold what is not there."""
    argv = ["zfs", "get", "-Hp", "-o", "name,property,source,value", *_scope(types, depth)]
    found = parse(run.run([*argv, columns, *(names or ())], absent_ok=absent_ok))
    if depth == 0 and names is not None:
        known = set(names)
    elif any(":" in key for rows in found.values() for key in rows):
        known = {name for name, _ in names_below(names, types, depth, absent_ok)}
    else:
        return found
    if found.keys() - known:
        raise MisreadableError(f"not in the listing of names: {sorted(found.keys() - known)}")
    return found


def _scope(types: str, depth: int | None) -> list[str]:
    scope = ["-t", types] if types else []
    if depth is None:
        return [*scope, "-r"]
    return [*scope, "-d", str(depth)] if depth else scope


def names_below(
    names: Iterable[str] | None, types: str, depth: int | None, absent_ok: bool = False
) -> Iterator[tuple[str, DatasetType]]:
    """(name, type) of the named datasets and of what is below them, as far as of `types`; None
    for those of all pools.

    Nothing but the names is asked for, so this is the cheapest listing there is.
    """
    argv = ["zfs", "list", "-H", "-o", "type,name", *_scope(types, depth), *(names or ())]
    for line in run.run(argv, absent_ok=absent_ok).split("\n")[:-1]:
        kind, _, name = line.partition("\t")
        yield name, TYPE_NAMES[kind]


def dependents(name: str) -> Iterator[tuple[str, DatasetType]]:
    """(name, type) of everything that depends on a dataset or snapshot, in an order in which it
    can be destroyed.

    A dataset's dependents are its snapshots, their clones wherever they are, and its children; a
    snapshot's are its clones. One command for the subtree, and one more for each distance at
    which clones lie outside of what is known.
    """
    known: dict[str, tuple[DatasetType, list[str]]] = {}
    wanted = [name]
    while wanted:
        known.update(_with_clones(wanted))
        clones = {clone for _, found in known.values() for clone in found}
        wanted = sorted(clones - known.keys())
    yield from _dependents_first(name, known)


def _with_clones(names: list[str]) -> dict[str, tuple[DatasetType, list[str]]]:
    """name -> (type, clones), of the names and of what is below them."""
    argv = ["zfs", "list", "-H", "-r", "-t", "filesystem,volume,snapshot"]
    found = {}
    for line in run.run([*argv, "-o", "type,name,clones", *names]).split("\n")[:-1]:
        kind, name, clones = line.split("\t")
        found[name] = (TYPE_NAMES[kind], clones.split(",") if clones not in ("", "-") else [])
    return found


def _dependents_first(
    name: str, known: dict[str, tuple[DatasetType, list[str]]]
) -> Iterator[tuple[str, DatasetType]]:
    below: dict[str, list[str]] = {}
    for other in known:
        parent = other.rpartition("@" if "@" in other else "/")[0]
        below.setdefault(parent, []).append(other)
    # Snapshots before children, as libzfs goes; the stack holds (name, its parts are done).
    stack = [(name, False)]
    seen: set[str] = set()
    while stack:
        current, done = stack.pop()
        if done:
            if current != name:
                yield current, known[current][0]
            continue
        if current in seen or current not in known:
            continue
        seen.add(current)
        stack.append((current, True))
        parts = sorted(below.get(current, ()), key=lambda part: "@" not in part)
        stack.extend((part, False) for part in reversed([*parts, *known[current][1]]))


class Batch:
    """The properties of everything that one listing found, read when the first is asked for."""

    def __init__(self, names: Sequence[str] | None, types: str, depth: int | None) -> None:
        self._arguments = (names, types, depth)
        self._rows: dict[str, Rows] | None = None

    def rows(self, name: str) -> Rows | None:
        """The properties of one dataset; None if they could not be read with the others': ask for
        them alone."""
        if self._rows is None:
            names, types, depth = self._arguments
            self._rows = {}
            with contextlib.suppress(ZFSException):
                self._rows = get(names, types=types, depth=depth)
        return self._rows.get(name)
