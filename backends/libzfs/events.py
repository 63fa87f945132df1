"""What has happened to pools: `zpool events -v`, as dicts."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from backends.libzfs import run

_DROPPED = re.compile(r"dropped (\d+) events?")
_PAIR = re.compile(r"\s+([\w-]+) = ?(.*)")
_START = re.compile(r"\w{3} +\d+ +\d{4} [\d:.]+\s+(\S+)")


def events(blocking: bool, skip_existing: bool) -> Iterator[dict[str, Any]]:
    """The events, oldest first; `blocking` goes on with those to come, for ever.

    Numbers are ints, text is str, several numbers are a list. `dropped` is how many were lost.
    """
    argv = ["zpool", "events", "-v", "-H"]
    if not blocking and not skip_existing:
        yield from parse(run.stream(argv))
    if not blocking:
        return
    newest = max((event["eid"] for event in parse(run.stream(argv))), default=0) * skip_existing
    for event in parse(run.stream([*argv, "-f"])):
        if event["eid"] > newest:
            yield event


def parse(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events in what `zpool events -v -H` prints; each ends with an empty line."""
    event: dict[str, Any] = {}
    dropped = 0
    for line in lines:
        if match := _DROPPED.match(line):
            dropped = int(match[1])
        elif _START.match(line):
            if len(event) > 1:
                yield event
            event = {"dropped": dropped}
            dropped = 0
        elif (match := _PAIR.match(line)) and event:
            event[match[1]] = _value(match[2])
        elif not line.strip() and len(event) > 1:
            yield event
            event = {}
    if len(event) > 1:
        yield event


def _value(text: str) -> Any:
    if text.startswith('"'):
        return text.strip().removeprefix('"').removesuffix('"')
    try:
        numbers = [int(word, 0) for word in text.split()]
    except ValueError:
        return text
    return numbers[0] if len(numbers) == 1 else numbers
