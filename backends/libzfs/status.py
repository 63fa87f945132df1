"""What `zpool status` says of a pool: its state, its vdevs, its last scan.

From JSON where the command prints it (OpenZFS 2.3), from its text before that. The text has no
guids (asked for with a second command), no sizes and no byte counts of a scan.
"""

import dataclasses
import json
import os
import re
import stat
import time
from typing import Any

from backends.libzfs import run
from backends.libzfs.enums import Error, ScanFunction, ScanState
from backends.libzfs.errors import ZFSException

CLASSES = {"logs": "log", "cache": "cache", "l2cache": "cache", "spares": "spare"}
CLASSES |= {"special": "special", "dedup": "dedup"}
GROUPS = ("data", "log", "cache", "spare", "special", "dedup")


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A vdev. `type` is ZFS's (raidz without its parity); `state` a name of zpool status.

    `path` is None for what is made of others; `aux` says more of the state (NONE: nothing).
    `numbers` holds what JSON adds: alloc_space, total_space, self_healed, ... in bytes.
    """

    name: str
    type: str
    path: str | None
    guid: int | None
    state: str
    aux: str
    errors: tuple[int, int, int]
    numbers: dict[str, int]
    children: tuple["Node", ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Scan:
    """A scrub or resilver. Times in seconds since the epoch, sizes in bytes, None: not known."""

    function: ScanFunction
    state: ScanState
    start: int | None = None
    end: int | None = None
    to_examine: int | None = None
    examined: int | None = None
    skipped: int | None = None
    issued: int | None = None
    issued_per_pass: int | None = None
    pass_start: int | None = None
    spent_paused: int | None = None
    paused: int | None = None
    errors: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """A pool as one `zpool status` saw it. `groups` maps data, log, cache, ... to vdevs."""

    name: str
    guid: int | None
    state: str
    reason: str
    message_id: str
    error_count: int
    root: Node
    groups: dict[str, tuple[Node, ...]]
    scan: Scan | None
    expansion: dict[str, Any] | None


def read(pool: str) -> Status:
    """The status of one pool. Raises ZFSException(NOENT) if it is not imported."""
    if run.version() >= (2, 3):
        return parse_json(run.run(["zpool", "status", "-jpP", pool]), pool)
    return read_text(pool)


def read_text(pool: str) -> Status:
    """The status of one pool from the text that every OpenZFS prints."""
    text = run.run(["zpool", "status", "-pP", pool])
    guids = run.run(["zpool", "status", "-pg", pool])
    return parse_text(text, guids)


# JSON


def parse_json(output: str, pool: str) -> Status:
    """The status of `pool` in what `zpool status -jpP` printed."""
    entry = json.loads(output)["pools"].get(pool)
    if entry is None:
        raise ZFSException(Error.NOENT, f"Pool {pool} not found")
    root = _json_node(entry["vdevs"][pool])
    groups: dict[str, tuple[Node, ...]] = dict.fromkeys(GROUPS, ())
    groups["data"] = root.children
    for key, group in CLASSES.items():
        if key in entry:
            groups[group] = tuple(_json_node(each) for each in entry[key].values())
    return Status(
        name=pool,
        guid=_number(entry.get("pool_guid")),
        state=_state(entry.get("state", ""), ""),
        reason=" ".join(entry.get("status", "").split()),
        message_id=entry.get("msgid", ""),
        error_count=_number(entry.get("error_count")) or 0,
        root=root,
        groups=groups,
        scan=_json_scan(entry.get("scan_stats")),
        expansion=entry.get("raidz_expand_stats"),
    )


def _json_node(entry: dict[str, Any]) -> Node:
    aux = entry.get("aux", "NONE")
    known = ("read_errors", "write_errors", "checksum_errors")
    numbers = {
        key: int(value)
        for key, value in entry.items()
        if key not in (*known, "guid", "name", "path") and str(value).isdigit()
    }
    path = entry.get("path")
    return Node(
        name=_short(entry["name"], path),
        type=entry.get("vdev_type", "missing"),
        path=path,
        guid=_number(entry.get("guid")),
        state=_state(entry.get("state", "UNKNOWN"), aux),
        aux=aux,
        errors=tuple(_number(entry.get(key)) or 0 for key in known),  # type: ignore[arg-type]
        numbers=numbers,
        children=tuple(_json_node(each) for each in entry.get("vdevs", {}).values()),
    )


def _state(state: str, aux: str) -> str:
    """A state as `zpool status` prints it (zpool_state_to_name)."""
    if state == "CANT_OPEN":
        if aux in ("CORRUPT_DATA", "BAD_LOG"):
            return "FAULTED"
        return "SPLIT" if aux == "SPLIT_POOL" else "UNAVAIL"
    return "OFFLINE" if state == "CLOSED" else state


def _short(name: str, path: str | None) -> str:
    """A disk's name without its directory, as libzfs has it; a file's whole path."""
    if path and name.startswith("/dev/"):
        return os.path.basename(name)
    return name


def _number(text: object) -> int | None:
    shown = str(text)
    return int(shown) if shown.isdigit() else None


def _json_scan(stats: dict[str, Any] | None) -> Scan | None:
    if not stats or "function" not in stats:
        return None
    numbers = {key: _number(value) for key, value in stats.items()}
    return Scan(
        function=ScanFunction[stats["function"]],
        state=ScanState[stats["state"]],
        start=numbers.get("start_time"),
        end=numbers.get("end_time"),
        to_examine=numbers.get("to_examine"),
        examined=numbers.get("examined"),
        skipped=numbers.get("skipped"),
        issued=numbers.get("issued"),
        issued_per_pass=numbers.get("issued_bytes_per_scan"),
        pass_start=numbers.get("pass_start"),
        spent_paused=numbers.get("scrub_spent_paused"),
        paused=numbers.get("scrub_pause"),
        errors=numbers.get("errors"),
    )


# Text

_FIELD = re.compile(
    r" {0,4}(pool|id|state|status|action|comment|see|scan|remove|checkpoint|expand|config|errors):"
    r" ?(.*)"
)
_MESSAGE = re.compile(r"ZFS-8000-\w\w")
_ERRORS = re.compile(r"(\d+) data errors")


def fields_of(text: str) -> dict[str, str]:
    """The fields of a status: name -> text, with the lines that follow it."""
    found: dict[str, str] = {}
    name = ""
    for line in text.split("\n"):
        match = _FIELD.fullmatch(line)
        if match and (name != "config" or match[1] == "errors"):
            name = match[1]
            found[name] = match[2]
        elif name:
            found[name] += f"\n{line}"
    return found


def parse_text(text: str, guids: str) -> Status:
    """What `zpool status -pP` and `zpool status -pg` printed."""
    fields = fields_of(text)
    name = fields["pool"].rstrip("\n")
    sections = config_sections(fields["config"], fields_of(guids)["config"])
    root = sections["data"][0]
    groups: dict[str, tuple[Node, ...]] = dict.fromkeys(GROUPS, ())
    groups |= sections
    groups["data"] = root.children
    message = _MESSAGE.search(fields.get("see", ""))
    errors = _ERRORS.search(fields.get("errors", ""))
    return Status(
        name=name,
        guid=root.guid,
        state=fields["state"].strip(),
        reason=" ".join(fields.get("status", "").split()),
        message_id=message[0] if message else "",
        error_count=int(errors[1]) if errors else 0,
        root=root,
        groups=groups,
        scan=_text_scan(fields.get("scan", "")),
        expansion=None,
    )


_ROW = re.compile(
    r"(?P<name>.*?) +(?P<state>ONLINE|OFFLINE|DEGRADED|FAULTED|REMOVED|UNAVAIL|SPLIT|AVAIL|INUSE"
    r"|UNKNOWN)"
    r"(?: +(?P<read>\d+) +(?P<write>\d+) +(?P<checksum>\d+))?(?P<rest>.*)"
)
_WAS = re.compile(r"was (/.*)")
_TYPE = re.compile(r"(mirror|raidz\d?|draid\d?|replacing|spare|root|hole|indirect|missing)")


def config_sections(config: str, guids: str = "") -> dict[str, tuple[Node, ...]]:
    """The vdev tree in a `config:` field, by group; `data` holds the pool's root alone."""
    identifiers = [row.lstrip().split(" ", 1)[0] for row in _rows(guids)] if guids else []
    sections: dict[str, tuple[Node, ...]] = {}
    # Sections hold (depth, row, guid); a heading is a row without a state at depth 0.
    group = "data"
    pending: list[tuple[int, str, str]] = []
    for place, row in enumerate(_rows(config)):
        heading = CLASSES.get(row.strip())
        if heading and not _ROW.match(row):
            sections[group] = _tree(pending)
            group, pending = heading, []
            continue
        guid = identifiers[place] if place < len(identifiers) else ""
        pending.append((len(row) - len(row.lstrip(" ")), row.lstrip(" "), guid))
    sections[group] = _tree(pending)
    return sections


def _rows(config: str) -> list[str]:
    rows = [line.removeprefix("\t").rstrip("\t ") for line in config.split("\n")]
    return [row for row in rows if row and not row.startswith("NAME ")]


def _tree(rows: list[tuple[int, str, str]]) -> tuple[Node, ...]:
    """The nodes of rows, each deeper row a child of the nearest shallower one before it."""
    found = []
    place = 0
    while place < len(rows):
        depth, row, guid = rows[place]
        end = place + 1
        while end < len(rows) and rows[end][0] > depth:
            end += 1
        found.append(_text_node(row, guid, _tree(rows[place + 1 : end]), depth))
        place = end
    return tuple(found)


def _text_node(row: str, guid: str, children: tuple[Node, ...], depth: int) -> Node:
    # `zpool import` prints caches and spares without a state.
    match = _ROW.fullmatch(row if depth != 2 or _ROW.fullmatch(row) else f"{row} UNKNOWN")
    if match is None:
        raise ZFSException(Error.UNKNOWN, f"zpool status printed what is not a vdev: {row!r}")
    name = match["name"]
    was = _WAS.search(match["rest"])
    path = was[1] if was else (name if name.startswith("/") else None)
    kind = _TYPE.match(name)
    if path:
        type_ = "file" if _is_file(path) else "disk"
    elif depth == 0 and children:
        type_ = "root"
    else:
        type_ = kind[1].rstrip("0123456789") if kind else "disk"
    return Node(
        name=_short(name, path),
        type=type_,
        path=path,
        guid=_number(guid),
        state=match["state"],
        aux="NONE",
        errors=(int(match["read"] or 0), int(match["write"] or 0), int(match["checksum"] or 0)),
        numbers={},
        children=children,
    )


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return not path.startswith("/dev/")


_DONE = re.compile(
    r"(scrub repaired|resilvered) .* with (\d+) errors on (\w{3} \w{3} +\d+ [\d:]{8} \d{4})"
)
_CANCELED = re.compile(r"(scrub|resilver) canceled on (\w{3} \w{3} +\d+ [\d:]{8} \d{4})")
_RUNNING = re.compile(r"(scrub|resilver) in progress since (\w{3} \w{3} +\d+ [\d:]{8} \d{4})")
_PAUSED = re.compile(r"scrub paused since (\w{3} \w{3} +\d+ [\d:]{8} \d{4})")


def _text_scan(text: str) -> Scan | None:
    if match := _DONE.search(text):
        function = ScanFunction.SCRUB if match[1][0] == "s" else ScanFunction.RESILVER
        when = _seconds(match[3])
        return Scan(function, ScanState.FINISHED, end=when, errors=int(match[2]))
    if match := _CANCELED.search(text):
        return Scan(ScanFunction[match[1].upper()], ScanState.CANCELED, end=_seconds(match[2]))
    if match := _RUNNING.search(text):
        return Scan(ScanFunction[match[1].upper()], ScanState.SCANNING, start=_seconds(match[2]))
    if match := _PAUSED.search(text):
        return Scan(ScanFunction.SCRUB, ScanState.SCANNING, paused=_seconds(match[1]))
    return None


def _seconds(text: str) -> int:
    return int(time.mktime(time.strptime(" ".join(text.split()), "%a %b %d %H:%M:%S %Y")))
