"""JSON files of any size as a stream of values, with the place of each. Memory is bounded by MAX_RECORD_BYTES.

Goes in: a binary stream. Comes out: parsed values, and a Broken item for every stretch of the file that is not one; after it the
stream finds the next record by itself. Three layouts: one value per line; one array (also `name = [...]`, or arrays that are members
of one object); one document.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, Protocol

from agora.errors import RecordError, SourceError
from agora.posts.sources.record import EXCERPT_BYTES, Broken, Item, attempt_all, broken

MAX_RECORD_BYTES: Final = 16 * 2**20
"""Largest single record. An API page of 500 posts takes about 5 MB; more than this is damage or an attack."""
MAX_DOCUMENT_BYTES: Final = 64 * 2**20
"""Largest file that must be parsed as one document (a recorded cassette, a forum topic)."""
_CHUNK_BYTES: Final = 2**20
_STRUCTURE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]|"', re.DOTALL)
_SPACE: Final = re.compile(r"[ \t\r\n,]*")
_COLON: Final = re.compile(r"[ \t\r\n]*:[ \t\r\n]*")
_OPENING: Final = re.compile(r"\ufeff?\s*(?:(?:var\s+)?[A-Za-z_$][\w.$]*\s*=\s*)?")
_GARBAGE_END: Final = re.compile(r"[,{\[\]]")
_OPENS: Final = re.compile(r"[\[{]")
_NEXT_ELEMENT: Final = re.compile(r"\}\s*,\s*(?=\{)")
_LIST_END: Final = re.compile(r"""\]\s*(?:;|,\s*"|\}?\s*\Z)""")
_DECODER: Final = json.JSONDecoder()


class Values(Protocol):
    """A stream of parsed values. `broken(error)` is the quarantine item for the value yielded last."""

    def __iter__(self) -> Iterator[Any]:
        """Parsed values; Broken where the file holds none."""

    def broken(self, error: str) -> Broken:
        """`error` is `reason: detail`."""

    def place(self) -> str:
        """Where the value yielded last begins."""


def convert_values(values: Values, convert: Callable[[Any], Item]) -> Iterator[Item]:
    """One item per value. A value that `convert` refuses becomes Broken with its place."""
    for value in values:
        if isinstance(value, Broken):
            yield value
            continue
        try:
            yield convert(value)
        except RecordError as error:
            yield values.broken(str(error))
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            yield values.broken(f"unexpected shape: {type(error).__name__} {error}")


def expand_values(values: Values, expand: Callable[[Any], Iterator[Item]]) -> Iterator[Item]:
    """Several items per value (pages, listings). Broken items inside get the value's place in front of their own."""
    for value in values:
        if isinstance(value, Broken):
            yield value
            continue
        yield from attempt_all(expand, value, values.place())


def parse(text: str | bytes) -> Any:
    """`json.loads` whose every failure is a RecordError: `not UTF-8`, `invalid JSON` or `nested too deeply`."""
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise RecordError(f"not UTF-8: {error}") from error
    except RecursionError as error:
        raise RecordError("nested too deeply: more levels than the parser takes") from error
    except ValueError as error:
        raise RecordError(f"invalid JSON: {error}") from error


def skip_line(stream: BinaryIO, begun: bytes, place: str) -> Broken:
    """Pass over the rest of a line that began with `begun`, hashing what passes: one item for the whole line."""
    digest, size = hashlib.sha256(begun), len(begun)
    while True:
        piece = stream.readline(_CHUNK_BYTES)
        digest.update(piece)
        size += len(piece)
        if not piece or piece.endswith(b"\n"):
            break
    return Broken("record too large", f"{size} bytes, at most {MAX_RECORD_BYTES}", place, begun[:EXCERPT_BYTES], digest.hexdigest(), size)


class JsonLines:
    """One value per line. A line over MAX_RECORD_BYTES is passed over without holding it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._line, self._number, self._offset = stream, b"", 0, 0

    def __iter__(self) -> Iterator[Any]:
        while True:
            self._offset += len(self._line)
            self._line = self._stream.readline(MAX_RECORD_BYTES + 1)
            if not self._line:
                return
            self._number += 1
            if len(self._line) > MAX_RECORD_BYTES and not self._line.endswith(b"\n"):
                item = skip_line(self._stream, self._line, self.place())
                self._offset, self._line = self._offset + item.size_bytes, b""
                yield item
                continue
            stripped = self._line.strip()
            if not stripped:
                continue
            if not stripped.strip(b"\0"):
                yield self.broken("NUL bytes: the line holds nothing else")
                continue
            try:
                yield parse(stripped)
            except RecordError as error:
                yield self.broken(str(error))

    def place(self) -> str:
        return f"line {self._number}"

    def broken(self, error: str) -> Broken:
        return broken(error, self.place(), self._line.rstrip(b"\r\n"))


class JsonDocument:
    """The whole file as one value. Raises SourceError above MAX_DOCUMENT_BYTES."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._raw = stream, b""

    def __iter__(self) -> Iterator[Any]:
        self._raw = self._stream.read(MAX_DOCUMENT_BYTES + 1)
        if len(self._raw) > MAX_DOCUMENT_BYTES:
            raise SourceError(f"file too large: one JSON document over {MAX_DOCUMENT_BYTES} bytes; split it or write one record per line")
        try:
            yield parse(self._raw)
        except RecordError as error:
            yield self.broken(str(error))

    def place(self) -> str:
        return "byte 0"

    def broken(self, error: str) -> Broken:
        return broken(error, self.place(), self._raw)


class JsonArrays:
    """The elements of one top-level array, or of the arrays under the `members` of one object. Places are byte offsets.

    `is_record` tells a record from an object nested inside one: after damage the stream goes on at the next one that passes.
    """

    def __init__(self, stream: BinaryIO, *, members: frozenset[str] = frozenset(), is_record: Callable[[Any], bool]) -> None:
        self._stream, self._members, self._is_record = stream, members, is_record
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text, self._position, self._base, self._ended = "", 0, 0, False
        self._start = self._end = 0
        self._cut = False

    def __iter__(self) -> Iterator[Any]:
        while not self._ended and not _OPENS.search(self._text) and len(self._text) < _CHUNK_BYTES:
            self._fill()
        opening = _OPENING.match(self._text)
        self._position = opening.end() if opening else 0
        first = self._peek()
        if first == "[":
            self._position += 1
            yield from self._elements()
        elif first == "{" and self._members:
            self._position += 1
            yield from self._object()
        else:
            self._start, self._end = self._position, len(self._text)
            yield self.broken(f"invalid JSON: expected a list, found {self._text[self._position : self._position + 20]!r}")

    def place(self) -> str:
        return f"byte {self._base + self._num_bytes(0, self._start)}"

    def broken(self, error: str) -> Broken:
        raw = self._text[self._start : self._end].encode("utf-8", "surrogateescape")
        return broken(error, self.place(), raw)

    def _num_bytes(self, start: int, end: int) -> int:
        return len(self._text[start:end].encode("utf-8", "surrogateescape"))

    def _fill(self) -> None:
        """Read one more chunk (more while a record stays open), dropping what is done."""
        size = max(_CHUNK_BYTES, len(self._text) - self._position)
        data = self._stream.read(size)
        self._base += self._num_bytes(0, self._position)
        self._text = self._text[self._position :] + self._decode(data, not data)
        self._position = 0
        self._ended = not data

    def _peek(self) -> str:
        """The next character that is no white space or comma; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._position)
            self._position = space.end() if space else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if self._ended:
                return ""
            self._fill()

    def _object(self) -> Iterator[Any]:
        while self._peek() == '"':
            key = self._next()
            if isinstance(key, Broken):
                yield key
                return
            self._peek()
            colon = _COLON.match(self._text, self._position)
            self._position = colon.end() if colon else self._position
            opens = self._peek()
            if key in self._members and opens == "[":
                self._position += 1
                yield from self._elements()
            else:
                value = self._next()
                if isinstance(value, Broken):
                    yield value
        if self._peek() != "}" and not self._cut:
            yield self._truncated("object")

    def _elements(self) -> Iterator[Any]:
        is_lost = False  # since something broken no record was seen: what comes may still be of it
        while True:
            opens = self._peek()
            if opens == "]":
                resumed = self._after_stray_bracket() if is_lost else None
                if resumed is None:
                    self._position += 1
                    return
                self._start, self._end = self._position, resumed
                yield self.broken("invalid JSON: a bracket that closes nothing")
                self._position = resumed
            if opens == "":
                if not self._cut:
                    yield self._truncated("list")
                return
            value = self._next()
            is_lost = isinstance(value, Broken) or (is_lost and not self._is_record(value))
            yield value

    def _after_stray_bracket(self) -> int | None:
        """Start of the next record where the bracket at the position is no end of the list, but one that damage set free."""
        while not self._ended and len(self._text) - self._position < _CHUNK_BYTES:
            self._fill()
        return None if _LIST_END.match(self._text, self._position) else self._resynchronise()

    def _truncated(self, what: str) -> Broken:
        self._start, self._end, self._cut = self._position, len(self._text), True
        return self.broken(f"truncated file: it ends before its {what} is closed")

    def _next(self) -> Any:
        """Parse the value at the position, or pass over a broken one."""
        while True:
            error = self._try_value()
            if error is None:
                self._position = self._end
                return self._value
            self._start = self._position
            end = self._balanced_end()
            length = len(self._text) - self._position
            if end is None and not self._ended and length <= MAX_RECORD_BYTES:
                resumed = self._resynchronise() if length > _CHUNK_BYTES else None
                if resumed is None:
                    self._fill()
                    continue
                end = resumed
            elif end is None:
                end = self._resynchronise() or len(self._text)
                if length > MAX_RECORD_BYTES:
                    error = f"record too large: over {MAX_RECORD_BYTES} bytes, or a quote or bracket is missing in it"
                elif self._ended and end == len(self._text):
                    error = f"truncated file: {error}"
                    self._cut = True
            else:
                # Balanced brackets around broken content; a missing one may have swallowed good records: prefer the nearer end.
                end = min(end, self._resynchronise(end) or end)
            self._end = self._position = max(end, self._start + 1)
            return self.broken(error)

    def _try_value(self) -> str | None:
        try:
            self._value, self._end = _DECODER.raw_decode(self._text, self._position)
        except RecursionError:
            return "nested too deeply: more levels than the parser takes"
        except ValueError as error:
            return f"invalid JSON: {error}"
        self._start = self._position
        if self._end == len(self._text) and not self._ended and not isinstance(self._value, (dict, list, str)):
            return "invalid JSON: a number that may go on"
        if not self._value_is_text():
            return "not UTF-8: the record holds bytes that are not UTF-8"
        return None

    def _value_is_text(self) -> bool:
        """Bytes that were not UTF-8 are U+DC80..DCFF in the buffer."""
        try:
            self._text[self._start : self._end].encode()
        except UnicodeEncodeError:
            return False
        return True

    def _balanced_end(self) -> int | None:
        """Where the value that starts at the position closes; None when it does not inside the buffer."""
        if self._position >= len(self._text):
            return None
        if self._text[self._position] not in '{["':
            garbage = _GARBAGE_END.search(self._text, self._position + 1)
            return garbage.start() if garbage else None
        depth = 0
        for match in _STRUCTURE.finditer(self._text, self._position):
            token = match[0]
            if token in "{[":
                depth += 1
            elif token in "}]":
                depth -= 1
            elif token == '"':
                return None
            if depth <= 0:
                return match.end()
        return None

    def _resynchronise(self, before: int | None = None) -> int | None:
        """Start of the next record after the position: `}, {` whose object passes `is_record`."""
        for match in _NEXT_ELEMENT.finditer(self._text, self._position + 1, before or len(self._text)):
            try:
                value, _ = _DECODER.raw_decode(self._text, match.end())
            except (ValueError, RecursionError):
                continue
            if self._is_record(value):
                return match.end()
        return None


def layout(head: str) -> str:
    """`array`, `lines` or `document`, from the beginning of a JSON file."""
    opening = _OPENING.match(head)
    body = head[opening.end() if opening else 0 :]
    if body.startswith("[") or (opening and "=" in opening[0]):
        return "array"
    lines = body.split("\n")
    if len(lines) == 1:
        return "lines"
    try:
        parse(lines[0])
        return "lines"
    except RecordError:
        whole = sum(line.startswith("{") and line.rstrip().endswith("}") for line in lines)
        return "lines" if whole else "document"


def open_values(stream: BinaryIO, head: str, *, is_record: Callable[[Any], bool]) -> Values:
    """The stream in the layout that its beginning shows."""
    kind = layout(head)
    if kind == "array":
        return JsonArrays(stream, is_record=is_record)
    return JsonLines(stream) if kind == "lines" else JsonDocument(stream)
