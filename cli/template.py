"""The part of Go's templates (text/template) that people use with Docker's --format.

    plain text and {{.Field}}, {{.Config.Env}}, {{.}}
    {{json .X}}, {{join .X ", "}}, {{index .X "key"}}, {{.X | json}}, {{.Label "key"}}

Values print as Go prints them: true, [a b], map[k:v], <no value>. Anything else of Go's language is
refused in one line.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import typer

from cli import output

_ACTION = r"\{\{(.*?)\}\}"
_WORD = r'\s*(?:(\|)|("(?:[^"\\]|\\.)*")|(\.[A-Za-z0-9_.]*|[A-Za-z]\w*|-?[0-9]+)(?=[\s|]|$))'
_LABEL = ".Label"
_FIELD = r"(?:\.[A-Za-z_][A-Za-z0-9_]*)+|\."


def bad_format(reason: str) -> typer.BadParameter:
    return typer.BadParameter(reason, param_hint="--format")


class Template:
    """A template, ready to be filled in; raises BadParameter where it is not one."""

    def __init__(self, text: str) -> None:
        self._steps: list[str | list[list[str]]] = []
        pieces = re.split(_ACTION, text, flags=re.DOTALL)
        for number, piece in enumerate(pieces):
            if number % 2:
                self._steps.append(_pipeline(piece))
            elif "{{" in piece or "}}" in piece:
                raise bad_format(f"braces do not pair in {piece!r}")
            else:
                self._steps.append(piece)

    def render(self, data: Mapping[str, Any], shown: Callable[[str], str] = str) -> str:
        """The text with the fields of `data`, as `shown` has them, filled in.

        Raises BadParameter for an unknown field.
        """
        return "".join(
            step if isinstance(step, str) else shown(_go(_evaluate(step, data)))
            for step in self._steps
        )

    def fields(self) -> set[str]:
        """The names of the fields that it shows; `.` alone, the whole, is the empty name."""
        words = [
            word
            for step in self._steps
            if not isinstance(step, str)
            for part in step
            for word in part
        ]
        return {word[1:].partition(".")[0] for word in words if word.startswith(".")}

    def headings(self, names: Mapping[str, str]) -> str:
        """The text with the heading of each field in its place, for `table ...`."""
        parts = []
        for step in self._steps:
            if isinstance(step, str):
                parts.append(step)
            else:
                fields = [word[1:] for words in step for word in words if word.startswith(".")]
                parts.append(" ".join(names.get(field, field.upper()) for field in fields))
        return "".join(parts)


def _pipeline(text: str) -> list[list[str]]:
    """The commands of an action, each as its words."""
    commands: list[list[str]] = [[]]
    position = 0
    while text[position:].strip():
        match = re.compile(_WORD).match(text, position)
        if match is None:
            raise _unknown(text)
        position = match.end()
        if match[1]:
            commands.append([])
        else:
            commands[-1].append(match[2] or match[3])
    for number, words in enumerate(commands):
        _check(text, words, piped=number > 0)
    return commands


def _check(text: str, words: list[str], *, piped: bool) -> None:
    if not words:
        raise _unknown(text)
    name, given = words[0], len(words) - 1 + piped
    if name in _FUNCTIONS:
        if given == _FUNCTIONS[name]:
            return
    elif re.fullmatch(_FIELD, name) and given == (name == _LABEL):
        return
    raise _unknown(text)


def _unknown(text: str) -> typer.BadParameter:
    return bad_format(
        f"{{{{{text}}}}} is not understood: there are {{{{.Field}}}}, {{{{json .Field}}}},"
        ' {{join .Field ", "}} and {{index .Field "key"}}'
    )


def _evaluate(commands: list[list[str]], data: Mapping[str, Any]) -> Any:
    value: Any = None
    for number, words in enumerate(commands):
        name, *rest = words
        if name not in _FUNCTIONS:
            value = _field(name, data)
            if name == _LABEL:
                value = _call("label", [value, *(_argument(word, data) for word in rest)])
            continue
        # The result of the command before is the last argument, as in Go.
        arguments = [_argument(word, data) for word in rest] + ([value] if number else [])
        value = _call(name, arguments)
    return value


def _argument(word: str, data: Mapping[str, Any]) -> Any:
    if word.startswith("."):
        return _field(word, data)
    if word.startswith('"'):
        import json

        try:
            return json.loads(word)
        except ValueError:
            raise bad_format(f"{word} is not a string") from None
    if word.lstrip("-").isdigit():
        return int(word)
    raise bad_format(f"{word} is neither a field, a string nor a number")


def _field(path: str, data: Mapping[str, Any]) -> Any:
    names = path[1:].split(".") if path != "." else []
    if names and names[0] not in data:
        raise bad_format(f"there is no field {names[0]}: there are {', '.join(data)}")
    value: Any = data
    for name in names:
        if value is None:
            break
        if not isinstance(value, Mapping):
            raise bad_format(f"{path} is not there: what is before .{name} has no fields")
        value = value.get(name)
    return value


def _call(name: str, arguments: list[Any]) -> Any:
    if name == "json":
        return output.json_text(arguments[0], compact=True)
    if name == "join":
        parts, separator = arguments
        if not isinstance(parts, list | None) or not isinstance(separator, str):
            raise bad_format("join takes a list and the string to put between")
        return separator.join(map(_go, parts or []))
    whole, key = arguments
    if name == "label" and isinstance(whole, Mapping):
        return whole.get(key, "")
    if whole is None:
        return None
    if isinstance(whole, list) and isinstance(key, int):
        if not 0 <= key < len(whole):
            raise bad_format(f"index {key} is out of range")
        return whole[key]
    if isinstance(whole, Mapping):
        return whole.get(key)
    raise bad_format("index takes a list and a number, or a map and a string")


def _go(value: Any) -> str:
    """The value as Go's fmt prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(_go, value))}]"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    return str(value)


_FUNCTIONS = {"json": 1, "join": 2, "index": 2}
