"""Dockerfile instructions that change an image's configuration: `commit -c` and `import -c`.

A configuration is the inner `config` object of an image document, with Docker's field names (Cmd,
Entrypoint, Env, ExposedPorts, Healthcheck, Labels, OnBuild, Shell, StopSignal, User, Volumes,
WorkingDir); fields that are not known here are kept. An instruction means what it means to Docker:
github.com/moby/buildkit frontend/dockerfile/instructions/parse.go for the syntax, moby's
builder/dockerfile/dispatchers.go for the effect. Variables are expanded from the image's own Env
in ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR; the host's environment is not seen.
"""

import copy
import json
import posixpath
import re
from collections.abc import Callable, Iterable
from typing import Any

from imagegraph.errors import StoreError
from imagegraph.expansion import expand, words

Config = dict[str, Any]

_DEFAULT_SHELL = ["/bin/sh", "-c"]
_BLANK = r"[\t\v\f\r ]+"
_MILLISECOND = 1_000_000

_TRIGGERS = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL RUN SHELL STOPSIGNAL USER VOLUME "
    "WORKDIR".split()
)


class InvalidInstruction(StoreError):
    """An instruction that cannot be applied; the message names it and the reason."""


def apply(config: Config, instruction: str) -> Config:
    """A copy of `config` with one instruction applied; raises InvalidInstruction."""
    return apply_all(config, [instruction])


def apply_all(config: Config, instructions: Iterable[str]) -> Config:
    """A copy of `config` with the instructions applied in order, as one Dockerfile.

    As in a Dockerfile, ENTRYPOINT clears a Cmd that no CMD before it among these has set.
    Raises InvalidInstruction.
    """
    changed = copy.deepcopy(config)
    cmd_was_set = False
    for instruction in instructions:
        for line in _lines(instruction):
            keyword = _keyword(line)
            try:
                _apply_line(changed, line)
            except StoreError as error:
                raise _invalid(line, str(error)) from None
            if keyword == "CMD" and changed.get("Cmd"):
                cmd_was_set = True
            if keyword == "ENTRYPOINT" and not cmd_was_set:
                changed.pop("Cmd", None)
    return changed


def _lines(instruction: str) -> list[str]:
    """The logical lines: comments and blank lines dropped, continued lines joined."""
    try:
        instruction.encode()
    except UnicodeEncodeError:
        raise _invalid(instruction, "it is not UTF-8") from None
    lines: list[str] = []
    pending = ""
    for line in instruction.split("\n"):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        continued = re.fullmatch(r"(.*[^\\]|)\\[ \t\r]*", line, re.DOTALL)
        if continued:
            pending += continued[1]
        else:
            lines.append(pending + line)
            pending = ""
    lines.append(pending)
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        raise _invalid(instruction, "there is no instruction in it")
    return lines


def _keyword(line: str) -> str:
    return re.split(_BLANK, line, maxsplit=1)[0].upper()


def _apply_line(config: Config, line: str) -> None:
    keyword = _keyword(line)
    flags, rest = _flags(line[len(keyword) :].strip())
    if keyword == "HEALTHCHECK":
        _healthcheck(config, rest, flags)
        return
    change = _CHANGES.get(keyword)
    if change is None:
        known = ", ".join(sorted([*_CHANGES, "HEALTHCHECK"]))
        raise StoreError(f"{keyword[:32]} cannot change a configuration; use {known}")
    if flags:
        raise StoreError(f"unknown flag {flags[0]}; put -- before an argument that begins with --")
    change(config, rest)


def _flags(text: str) -> tuple[list[str], str]:
    """The leading words that begin with `--`, and what follows them (or a lone `--`)."""
    flags: list[str] = []
    while text.startswith("--"):
        word, *rest = re.split(r"\s+", text, maxsplit=1)
        text = rest[0] if rest else ""
        if word == "--":
            break
        flags.append(word)
    return flags, text


def _cmd(config: Config, rest: str) -> None:
    config["Cmd"] = _command(config, rest)


def _entrypoint(config: Config, rest: str) -> None:
    command = _command(config, rest) if rest else []
    if command:
        config["Entrypoint"] = command
    else:
        config.pop("Entrypoint", None)


def _command(config: Config, rest: str) -> list[str]:
    """The command line in exec form, or the shell form with the shell before it."""
    _needed(rest)
    command = _json_strings(rest)
    return [*(_list(config, "Shell") or _DEFAULT_SHELL), rest] if command is None else command


def _env(config: Config, rest: str) -> None:
    variables = _list(config, "Env")
    for name, value in _pairs(config, rest):
        entry = f"{name}={value}"
        for index, old in enumerate(variables):
            if old.partition("=")[0] == name:
                variables[index] = entry
                break
        else:
            variables.append(entry)
    config["Env"] = variables


def _label(config: Config, rest: str) -> None:
    config["Labels"] = _dict(config, "Labels") | dict(_pairs(config, rest))


def _expose(config: Config, rest: str) -> None:
    ports = _dict(config, "ExposedPorts")
    environment = _environment(config)
    for word in re.split(_BLANK, _needed(rest)):
        for port in expand(word, environment).split():
            ports |= {name: {} for name in _ports(port)}
    config["ExposedPorts"] = ports


def _ports(text: str) -> list[str]:
    """The ports of PORT[-PORT][/PROTOCOL], each as Docker writes it: 8080/tcp."""
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", text.lower())
    if match is None:
        raise StoreError(f"{text!r} is not PORT[-PORT][/tcp|udp|sctp], e.g. 8080 or 53/udp")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= last <= 65535:
        raise StoreError(f"port {text!r} must be from 1 to 65535, the lower end of a range first")
    protocol = match[3] or "tcp"
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _healthcheck(config: Config, rest: str, flags: list[str]) -> None:
    """HEALTHCHECK NONE, or HEALTHCHECK [flags] CMD and a command in exec or shell form."""
    kind, *after = re.split(r"\s+", _needed(rest), maxsplit=1)
    kind = kind.upper()
    if kind == "NONE":
        if after or flags:
            raise StoreError("HEALTHCHECK NONE takes no arguments and no flags")
        config["Healthcheck"] = {"Test": ["NONE"]}
        return
    if kind != "CMD":
        raise StoreError(f"unknown type {kind!r}; use CMD or NONE")
    text = "".join(after)
    command = _json_strings(text)
    test = ["CMD-SHELL", text] if command is None else ["CMD", *command]
    if not text or len(test) < 2:
        raise StoreError("there is no command after CMD")
    config["Healthcheck"] = {"Test": test} | _health_options(flags)


def _health_options(flags: list[str]) -> dict[str, int]:
    """Docker's fields for the flags, times in nanoseconds; zero is the default and left out."""
    from imagegraph.times import parse_duration

    fields = {
        "--interval": "Interval",
        "--timeout": "Timeout",
        "--start-period": "StartPeriod",
        "--start-interval": "StartInterval",
        "--retries": "Retries",
    }
    options: dict[str, int] = {}
    for flag in flags:
        name, _, value = flag.partition("=")
        field = fields.get(name)
        if field is None:
            raise StoreError(f"unknown flag {name}; use {', '.join(fields)}")
        if field in options:
            raise StoreError(f"flag {name} is given twice")
        if field != "Retries":
            options[field] = 0 if value == "0" else parse_duration(value)
            if 0 < options[field] < _MILLISECOND:
                raise StoreError(f"{name} cannot be less than 1ms")
        elif re.fullmatch(r"[0-9]{1,9}", value):
            options[field] = int(value)
        else:
            raise StoreError(f"{name} needs a number that is not negative, not {value!r}")
    return {field: value for field, value in options.items() if value}


def _onbuild(config: Config, rest: str) -> None:
    trigger = _keyword(_needed(rest))
    if trigger not in _TRIGGERS:
        raise StoreError(f"{trigger[:32]} is not allowed as an ONBUILD trigger")
    config["OnBuild"] = [*_list(config, "OnBuild"), rest]


def _shell(config: Config, rest: str) -> None:
    shell = _json_strings(rest)
    if not shell:
        raise StoreError('SHELL needs a JSON array, e.g. SHELL ["/bin/bash", "-c"]')
    config["Shell"] = shell


def _stopsignal(config: Config, rest: str) -> None:
    signal = _expanded(config, rest)
    if not is_signal(signal):
        raise StoreError(f"{signal!r} is not a signal; use a name or a number, e.g. SIGTERM or 15")
    config["StopSignal"] = signal


def is_signal(text: str) -> bool:
    """Whether the kernel has that signal: a number, or a name with or without SIG, in any case."""
    from signal import Signals

    if re.fullmatch(r"[0-9]{1,2}", text):
        return 1 <= int(text) <= 64
    name = text.upper().removeprefix("SIG")
    return f"SIG{name}" in Signals.__members__ or bool(
        re.fullmatch(r"RTMIN\+([1-9]|1[0-5])|RTMAX-([1-9]|1[0-4])", name)
    )


def _user(config: Config, rest: str) -> None:
    config["User"] = _expanded(config, rest)


def _volume(config: Config, rest: str) -> None:
    paths = _json_strings(_needed(rest))
    if paths is None:
        paths = re.split(_BLANK, rest)
    environment = _environment(config)
    paths = [expand(path.strip(), environment) for path in paths]
    if not paths or not all(paths):
        raise StoreError("a volume cannot be an empty string")
    config["Volumes"] = _dict(config, "Volumes") | {path: {} for path in paths}


def _workdir(config: Config, rest: str) -> None:
    path = _expanded(config, rest)
    if not path:
        raise StoreError("the directory is empty once its variables are replaced")
    current = config.get("WorkingDir") or ""
    if not isinstance(current, str):
        raise StoreError("the image's WorkingDir is not a string")
    path = posixpath.normpath(posixpath.join("/", current, path))
    # POSIX lets a path begin with two slashes and normpath keeps them.
    config["WorkingDir"] = "/" + path.lstrip("/")


def _pairs(config: Config, rest: str) -> list[tuple[str, str]]:
    """The pairs of `NAME=VALUE ...`, or of the old form `NAME VALUE`, unquoted and expanded."""
    found = words(_needed(rest))
    pairs: list[tuple[str, ...]]
    if "=" in found[0]:
        for word in found:
            if "=" not in word:
                raise StoreError(f"there is no = in {word!r}; write NAME=VALUE, and quote spaces")
        pairs = [tuple(word.split("=", 1)) for word in found]
    else:
        pairs = [tuple(re.split(_BLANK, rest, maxsplit=1))]
        if len(pairs[0]) < 2:
            raise StoreError(f"{rest!r} has no value; write NAME=VALUE")
    environment = _environment(config)
    expanded = [(expand(name, environment), expand(value, environment)) for name, value in pairs]
    if not all(name for name, _ in expanded):
        raise StoreError("a name is empty; write NAME=VALUE")
    return expanded


def _json_strings(text: str) -> list[str] | None:
    """The strings of a JSON array; None where `text` is no JSON array at all, as Docker has it."""
    if not text.startswith("["):
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(value, str) for value in values):
        raise StoreError("a JSON array here may hold strings only")
    if re.search("[\ud800-\udfff]", "".join(values)):
        raise StoreError("a JSON string has half of a surrogate pair")
    return list(values)


def _environment(config: Config) -> dict[str, str]:
    return {name: value for name, _, value in (e.partition("=") for e in _list(config, "Env"))}


def _expanded(config: Config, rest: str) -> str:
    return expand(_needed(rest), _environment(config))


def _needed(rest: str) -> str:
    if not rest:
        raise StoreError("it needs an argument")
    return rest


def _list(config: Config, field: str) -> list[str]:
    """A copy of a field that holds strings, empty where it is absent or null."""
    value = config.get(field) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise StoreError(f"the image's {field} is not a list of strings")
    return list(value)


def _dict(config: Config, field: str) -> dict[str, Any]:
    """A copy of a field that holds an object, empty where it is absent or null."""
    value = config.get(field) or {}
    if not isinstance(value, dict):
        raise StoreError(f"the image's {field} is not an object")
    return dict(value)


def _invalid(instruction: str, reason: str) -> InvalidInstruction:
    shown = instruction if len(instruction) <= 60 else f"{instruction[:57]}..."
    # The reason may quote the instruction, which may hold anything.
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in reason)
    return InvalidInstruction(f"invalid instruction {shown!r}: {line}")


_CHANGES: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
