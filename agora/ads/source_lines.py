"""On which line of a file a value stands. Goes in: valid TOML or JSON. Comes out: the line of any key, list item or table.

Neither parser tells lines. The text is read once more, for places only; values come from the parser. Not covered: keys that TOML writes
with quotes around dots. What has no line of its own gets that of the nearest table around it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

Path = tuple[str | int, ...]
_STRING: Final = r'"""(?:\\.|[^\\])*?"""' + r"|'''.*?'''" + r'|"(?:\\.|[^"\\\n])*"' + r"|'[^'\n]*'"
_TOML: Final = re.compile(
    rf"(?P<string>{_STRING})|(?P<comment>#[^\n]*)|(?P<line>\n)|(?P<mark>[\[\]{{}},=])|(?P<word>[^\s\[\]{{}},=#\"']+)", re.S
)
_JSON: Final = re.compile(r'(?P<string>"(?:\\.|[^"\\])*")|(?P<line>\n)|(?P<mark>[\[\]{},:])|(?P<word>[^\s\[\]{},:"]+)')


@dataclass(slots=True)
class Lines:
    """Lines, counted from 1, by the path of the value: ("facts", 2, "text")."""

    places: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Sequence[str | int]) -> int:
        """The line of what `path` names, or of the nearest thing around it; 1 for the file."""
        for length in range(len(path), 0, -1):
            if tuple(path[:length]) in self.places:
                return self.places[tuple(path[:length])]
        return 1


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    line: int


def _tokens(pattern: re.Pattern[str], text: str) -> list[_Token]:
    found, line = [], 1
    for match in pattern.finditer(text):
        kind = str(match.lastgroup)
        if kind != "comment":
            found.append(_Token(kind, match.group(), line))
        line += match.group().count("\n")
    return found


def json_lines(text: str) -> Lines:
    """The lines of a valid JSON text."""
    import json

    lines = Lines()
    tokens = [token for token in _tokens(_JSON, text) if token.kind != "line"]
    _value(tokens, 0, (), lines, ":", lambda key: str(json.loads(key)))
    return lines


def toml_lines(text: str) -> Lines:
    """The lines of a valid TOML text."""
    lines, counts = Lines(), Counter[Path]()
    tokens, at, table = _tokens(_TOML, text), 0, Path()
    while at < len(tokens):
        token = tokens[at]
        if token.kind == "line":
            at += 1
        elif token.text == "[":
            double = at + 1 < len(tokens) and tokens[at + 1].text == "["
            at += 2 if double else 1
            names = []
            while tokens[at].text != "]":
                names.append(tokens[at].text)
                at += 1
            at += 2 if double else 1
            table = _key("".join(names))
            if double:
                counts[table] += 1
                lines.places.setdefault(table, token.line)
                table = (*table, counts[table] - 1)
            lines.places.setdefault(table, token.line)
        else:
            at = _assignment(tokens, at, table, lines)
    return lines


def _assignment(tokens: list[_Token], at: int, table: Path, lines: Lines) -> int:
    """`key = value` from `at` on; where it ends."""
    first, words = tokens[at], []
    while tokens[at].text != "=":
        words.append(tokens[at].text)
        at += 1
    path = (*table, *_key("".join(words)))
    lines.places.setdefault(path, first.line)
    return _value(tokens, at + 1, path, lines, "=", _unquoted)


def _value(tokens: list[_Token], at: int, path: Path, lines: Lines, between: str, unquoted: object) -> int:
    """Note the places inside the value that begins at `at`; where it ends."""
    assert callable(unquoted)
    at = _over_lines(tokens, at)
    lines.places.setdefault(path, tokens[at].line) if path else None
    mark = tokens[at].text if tokens[at].kind == "mark" else ""
    if mark not in ("[", "{"):
        return at + 1
    at, number = _over_lines(tokens, at + 1), 0
    while tokens[at].text not in ("]", "}") or tokens[at].kind != "mark":
        if mark == "[":
            inner: Path = (*path, number)
        else:
            inner = (*path, *(_key(tokens[at].text) if between == "=" else (unquoted(tokens[at].text),)))
            lines.places.setdefault(inner, tokens[at].line)
            at = _over_lines(tokens, at + 1) + 1
        at = _over_lines(tokens, _value(tokens, at, inner, lines, between, unquoted))
        if tokens[at].text == ",":
            at = _over_lines(tokens, at + 1)
        number += 1
    return at + 1


def _over_lines(tokens: list[_Token], at: int) -> int:
    while at < len(tokens) and tokens[at].kind == "line":
        at += 1
    return at


def _key(text: str) -> Path:
    return tuple(_unquoted(part) for part in text.split("."))


def _unquoted(text: str) -> str:
    return text[1:-1] if text[:1] in "\"'" and len(text) > 1 else text


__all__ = ["Lines", "json_lines", "toml_lines"]
