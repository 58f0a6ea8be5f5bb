"""Recorded web answers, as client libraries keep them for their tests: VCR cassettes (YAML) and betamax cassettes (JSON).

Goes in: a stream. Comes out: (method, address, body text) per answer, one at a time. Only the block and scalar styles that VCR writes
are understood; an answer in another style is Broken by line, never misread. This is not a YAML parser.
"""

from __future__ import annotations

import base64
import binascii
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

from agora.errors import RecordError
from agora.posts.sources.json_stream import MAX_RECORD_BYTES, JsonArrays, parse
from agora.posts.sources.record import Broken, Item, attempt, attempt_all, broken

_KEY: Final = re.compile(r"( *)(?:- )?([A-Za-z_]+):(?: (.*))?$")
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPES: Final = {
    "0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b",
    "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One recorded answer; `place` is its line or byte."""

    method: str
    uri: str
    body: str
    place: str


def read_answers(answers: Iterable[Answer | Broken], expand: Callable[[Any, Answer], Iterable[Item]]) -> Iterator[Item]:
    """`expand(value, answer)` of every answer whose body is JSON. Broken items inside get the answer's place in front of their own."""
    for answer in answers:
        if isinstance(answer, Broken):
            yield answer
            continue
        try:
            value = parse(answer.body)
        except RecordError as error:
            yield broken(str(error), answer.place, answer.body.encode("utf-8", "surrogatepass"))
            continue
        yield from attempt_all(lambda whole, answer=answer: expand(whole, answer), value, answer.place)  # type: ignore[misc]


def betamax_answers(stream: BinaryIO) -> Iterator[Answer | Broken]:
    """The answers of a JSON cassette."""
    values = JsonArrays(stream, members=frozenset(["interactions", "http_interactions"]), is_record=_is_interaction)
    for value in values:
        if isinstance(value, Broken):
            yield value
            continue
        outcome: Any = attempt(_betamax_answer, value)  # type: ignore[arg-type]
        yield outcome if isinstance(outcome, Broken) else Answer(outcome[0], outcome[1], outcome[2], values.place())


def _is_interaction(value: Any) -> bool:
    return isinstance(value, dict) and "request" in value and "response" in value


def _betamax_answer(value: Any) -> tuple[str, str, str]:
    body = value["response"]["body"]
    text = body["string"] if "string" in body else base64.b64decode(body["base64_string"]).decode()
    return value["request"]["method"], value["request"]["uri"], text


def vcr_answers(stream: BinaryIO) -> Iterator[Answer | Broken]:
    """The answers of a YAML cassette, read line by line."""
    lines = _Lines(stream)
    method = uri = ""
    section, begun = "", 0
    for line in lines:
        match = _KEY.match(line)
        if not match:
            continue
        indent, key, value = len(match[1]), match[2], match[3] or ""
        if key in ("request", "response") and indent <= 2:
            section, begun = key, lines.number
            if key == "request":
                method = uri = ""
        elif section == "request" and key in ("method", "uri") and indent == 4:
            method, uri = (value, uri) if key == "method" else (method, value)
        elif section == "response" and key == "string" and indent == 6:
            place = f"line {begun}"
            try:
                yield Answer(method, uri, _scalar(value, indent, lines), place)
            except RecordError as error:
                yield broken(str(error), place, value.encode("utf-8", "surrogateescape"))
        elif section == "request" and key == "body" and indent == 4 and value[:1] in ("'", '"'):
            try:
                _scalar(value, indent, lines)
            except RecordError as error:
                yield broken(str(error), f"line {lines.number}", value.encode("utf-8", "surrogateescape"))


class _Lines:
    """Lines of the file with one line of push-back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._back, self.number = stream, [], 0  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[str]:
        while (line := self.next()) is not None:
            yield line

    def next(self) -> str | None:
        self.number += 1
        if self._back:
            return str(self._back.pop())
        data = self._stream.readline(MAX_RECORD_BYTES)
        return data.decode("utf-8", "surrogateescape").rstrip("\r\n") if data else None

    def push_back(self, line: str) -> None:
        self.number -= 1
        self._back.append(line)


def _scalar(value: str, indent: int, lines: _Lines) -> str:
    """The text of a scalar whose first line is `value`. Raises RecordError for a style that VCR does not write."""
    if value.startswith("!!binary"):
        try:
            return base64.b64decode(_block(value.partition(" ")[2], indent, lines)).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise RecordError(f"recorded answer not understood: binary body is no text ({error})") from error
    if value[:1] in ("'", '"'):
        return _quoted(value, lines)
    if value[:1] in ("|", ">"):
        return _block(value, indent, lines)
    if value[:1] in ("&", "*", "!", "[", "{"):
        raise RecordError(f"recorded answer not understood: YAML style {value[:1]!r}")
    pieces = [value, *(line.strip() for line in _indented(indent, lines))]
    return " ".join(piece for piece in pieces if piece)


def _indented(indent: int, lines: _Lines) -> Iterator[str]:
    """Following lines that stand deeper than `indent` (or are empty)."""
    while (line := lines.next()) is not None:
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            lines.push_back(line)
            return
        yield line


def _block(header: str, indent: int, lines: _Lines) -> str:
    found = list(_indented(indent, lines))
    depth = min((len(line) - len(line.lstrip(" ")) for line in found if line.strip()), default=0)
    text = ("\n" if header.startswith("|") else " ").join(line[depth:] for line in found)
    return text.rstrip("\n ")


def _quoted(value: str, lines: _Lines) -> str:
    quote, size = value[0], 0
    closing = re.compile(r"(?:[^']|'')*+'\s*") if quote == "'" else re.compile(r'(?:[^"\\]|\\.)*+"\s*')
    found, line = [value[1:]], value[1:]
    while not closing.fullmatch(line):
        following = lines.next()
        size += len(line)
        if following is None or size > MAX_RECORD_BYTES:
            raise RecordError("truncated file: a recorded answer is not closed")
        line = following
        found.append(line)
    found[-1] = found[-1].rstrip()[:-1]
    folded = _fold(found, quote)
    return folded.replace("''", "'") if quote == "'" else _ESCAPE.sub(_unescape, folded)


def _fold(found: list[str], quote: str) -> str:
    """YAML's folding: a line end is a space, n empty lines are n line ends; in double quotes a final backslash joins without space."""
    text, breaks = found[0] if len(found) == 1 else "", 0
    if len(found) == 1:
        return text
    for number, line in enumerate(found):
        body = line if number == 0 else line.lstrip(" \t")
        body = body if number == len(found) - 1 else body.rstrip(" \t")
        if number and not body and number < len(found) - 1:
            breaks += 1
            continue
        if number:
            joined = quote == '"' and len(text) - len(text.rstrip("\\")) & 1
            text = text[:-1] + "\n" * breaks if joined else text + ("\n" * breaks or " ")
        text, breaks = text + body, 0
    return text


def _unescape(match: re.Match[str]) -> str:
    code = match[1]
    if code[0] in "xuU" and len(code) > 1:
        number = int(code[1:], 16)
        if number > sys.maxunicode:
            raise RecordError(f"recorded answer not understood: \\{code} is no character")
        return chr(number)
    return _ESCAPES.get(code, code)
