"""Words, quotes and variables of a Dockerfile line.

The rules are those of BuildKit's frontend/dockerfile (parser/line_parsers.go for words,
shell/lex.go for expansion), with the backslash as the escape character. Every refusal is a
StoreError that gives the reason alone; the caller says which instruction it was.
"""

from collections.abc import Mapping

from imagegraph.errors import StoreError

_NESTING_MAX = 50
_SPECIAL_PARAMETERS = "@*#?-$!0"


def words(text: str) -> list[str]:
    """The words of `text`, split at white space outside quotes; quotes and escapes are kept."""
    found: list[str] = []
    word = ""
    quote = ""
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if not quote and char.isspace():
            if word:
                found.append(word)
            word = ""
            continue
        if char == "\\" and quote != "'":
            # The next character is part of the word, whatever it is; a last backslash is none.
            word += text[position - 1 : position + 1] if position < len(text) else ""
            position += 1
            continue
        if not quote and char in "'\"":
            quote = char
        elif char == quote:
            quote = ""
        word += char
    return [*found, word] if word else found


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`text` without its quotes and escapes, and with its variables replaced from `environment`.

    Knows $NAME, ${NAME} and ${NAME-x}, ${NAME+x}, ${NAME?x}, these three also with a colon; an
    unset variable is empty. Nothing is expanded within single quotes or after a backslash.
    """
    return _until(text, 0, "", environment, 0)[0]


def _until(
    text: str, position: int, stop: str, environment: Mapping[str, str], depth: int
) -> tuple[str, int]:
    """Expand from `position` to the character `stop` (empty: the end), and where that was."""
    parts: list[str] = []
    while position < len(text):
        char = text[position]
        if char == stop:
            return "".join(parts), position + 1
        if char == "'":
            part, position = _single_quoted(text, position)
        elif char == '"':
            part, position = _double_quoted(text, position, environment, depth)
        elif char == "$":
            part, position = _variable(text, position, environment, depth)
        elif char == "\\":
            part, position = text[position + 1 : position + 2], position + 2
        else:
            part, position = char, position + 1
        parts.append(part)
    if stop:
        raise StoreError(f"there is no {stop!r} to end ${{...}}")
    return "".join(parts), position


def _single_quoted(text: str, position: int) -> tuple[str, int]:
    end = text.find("'", position + 1)
    if end < 0:
        raise StoreError("a single quote is not closed")
    return text[position + 1 : end], end + 1


def _double_quoted(
    text: str, position: int, environment: Mapping[str, str], depth: int
) -> tuple[str, int]:
    parts: list[str] = []
    position += 1
    while position < len(text):
        char = text[position]
        if char == '"':
            return "".join(parts), position + 1
        if char == "$":
            part, position = _variable(text, position, environment, depth)
        elif char == "\\" and text[position + 1 : position + 2] in ('"', "$", "\\"):
            part, position = text[position + 1], position + 2
        else:
            part, position = char, position + 1
        parts.append(part)
    raise StoreError("a double quote is not closed")


def _variable(
    text: str, position: int, environment: Mapping[str, str], depth: int
) -> tuple[str, int]:
    """Replace the variable whose dollar sign is at `position`; also the position after it."""
    if text[position + 1 : position + 2] != "{":
        end = _name_end(text, position + 1)
        name = text[position + 1 : end]
        return (environment.get(name, "") if name else "$"), end
    if depth == _NESTING_MAX:
        raise StoreError(f"variables are nested more than {_NESTING_MAX} deep")
    end = _name_end(text, position + 2)
    name, colon = text[position + 2 : end], text[end : end + 1] == ":"
    operator = text[end + colon : end + colon + 1]
    if not name or not operator:
        raise StoreError("bad substitution; write $NAME, ${NAME} or ${NAME:-default}")
    if operator == "}" and not colon:
        return environment.get(name, ""), end + 1
    if operator not in "-+?":
        raise StoreError(f"unsupported modifier {text[end : end + colon + 1]!r} in ${{{name}...}}")
    word, position = _until(text, end + colon + 1, "}", environment, depth + 1)
    value = environment.get(name)
    absent = not value if colon else value is None
    if operator == "+":
        return ("" if absent else word), position
    if not absent:
        return value or "", position
    if operator == "-":
        return word, position
    raise StoreError(f"{name}: {word or 'is not allowed to be ' + ('empty' if colon else 'unset')}")


def _name_end(text: str, start: int) -> int:
    """Where the variable name at `start` ends: word characters, digits alone, or one special."""
    end = start
    if text[start : start + 1].isdigit():
        while text[end : end + 1].isdigit():
            end += 1
        return end
    if start < len(text) and text[start] in _SPECIAL_PARAMETERS:
        return start + 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    return end
