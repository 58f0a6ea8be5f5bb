"""Rows of CSV and TSV tables. A broken record costs its first line, not the rest of the file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from agora.errors import SourceError
from agora.posts.sources.json_stream import MAX_RECORD_BYTES, skip_line
from agora.posts.sources.record import Broken, Item, attempt, broken
from agora.posts.sources.table_rows import make_row, match_columns, refuse_repeated


def cells_of(header: str, delimiter: str) -> list[str]:
    """Names of columns. Raises SourceError."""
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise SourceError(f"invalid header line: {error}") from error


def delimiter_of(header: str) -> str:
    """What stands between columns: whichever of comma, tab, semicolon and bar is most frequent."""
    return max(",\t;|", key=header.count)


def read_csv(stream: BinaryIO, mapping: Mapping[str, str], *, bare_returns: bool = False) -> Iterator[Item]:
    """Posts and Broken rows; `bare_returns`: lines end in a carriage return alone. Raises SourceError for a header that does not do."""
    lines = _Lines(io.BufferedReader(_BareReturns(stream)) if bare_returns else stream)
    header = lines.next()
    if isinstance(header, Broken):
        raise SourceError(f"{header.reason}: the header line has {header.detail}")
    delimiter = delimiter_of(header)
    columns = cells_of(header, delimiter)
    matched = match_columns(columns, mapping)
    refuse_repeated(columns, matched)
    chosen = [(name, columns.index(column)) for name, column in matched.items()]
    while True:
        lines.begin()
        try:
            cells = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
        except csv.Error as error:
            limit = f"record too large: over {MAX_RECORD_BYTES} bytes, or a quote is missing"
            yield lines.reject(limit if lines.too_large else f"invalid table row: {error}, or a quote is missing")
            continue
        if lines.oversized:
            yield lines.oversized
            continue
        if cells is None:
            if not lines.ended:
                continue
            return
        if not cells:
            continue
        elif len(cells) != len(columns):
            yield lines.reject(f"wrong number of columns: {len(cells)} instead of {len(columns)}")
        elif not lines.is_text:
            yield lines.reject("not UTF-8: the row holds bytes that are not UTF-8", whole=True)
        else:
            item = attempt(make_row, {name: cells[index] for name, index in chosen}, lines.place())
            yield lines.reject(f"{item.reason}: {item.detail}", whole=True) if isinstance(item, Broken) else item


class _Lines:
    """Feeds the csv module and remembers the lines of the current record, so that a broken one costs only its first line."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._again, self._taken = stream, list[str | Broken](), list[str]()
        self._number, self._size = 0, 0
        self.ended = self.too_large = False
        self.oversized: Broken | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.ended or self.too_large or self.oversized:
            raise StopIteration
        line = self.next()
        if isinstance(line, Broken):
            if self._taken:  # an open quote runs into it: that record ends here, and the long line stands for itself
                self._again.append(line)
                self._number, self.too_large = self._number - 1, True
            else:
                self.oversized = line
            raise StopIteration
        if not line:
            self.ended = True
            self._number -= 1
            raise StopIteration
        self._taken.append(line)
        self._size += len(line)
        self.too_large = self._size > MAX_RECORD_BYTES
        return line

    def next(self) -> str | Broken:
        """The next line; Broken for one over MAX_RECORD_BYTES, which is passed over whole."""
        self._number += 1
        if self._again:
            return self._again.pop()
        line = self._stream.readline(MAX_RECORD_BYTES + 1)
        if len(line) > MAX_RECORD_BYTES and not line.endswith(b"\n"):
            return skip_line(self._stream, line, f"line {self._number}")
        return line.decode("utf-8", "surrogateescape")

    def begin(self) -> None:
        self._taken, self._size, self.too_large, self.oversized = [], 0, False, None

    @property
    def is_text(self) -> bool:
        try:
            "".join(self._taken).encode()
        except UnicodeEncodeError:
            return False
        return True

    def place(self) -> str:
        return f"line {self._number - len(self._taken) + 1}"

    def reject(self, error: str, *, whole: bool = False) -> Broken:
        """Broken item for the record; all its lines but the first are read again, unless they are known to be one record."""
        place, kept = self.place(), self._taken if whole else self._taken[:1]
        if not whole and len(self._taken) > 1:
            self._again.extend(reversed(self._taken[1:]))
            self._number -= len(self._taken) - 1
            self.ended = False
        return broken(error, place, "".join(kept).rstrip("\r\n").encode("utf-8", "surrogateescape"))


class _BareReturns(io.RawIOBase):
    """Old Macintosh text, whose lines end in a carriage return alone."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._stream.read(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)
