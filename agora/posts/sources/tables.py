"""Tables of posts: Parquet, CSV, TSV, and JSON lines with flat records. For everything that has no reader of its own.

Columns are matched by name (`COLUMN_NAMES`) or by a mapping {column: field}. `id`, `author`, `created_at` and `text` are needed. Parquet
goes column by column and never becomes Python rows, apart from the broken ones; the text formats go row by row through the same checks.

Command: `agora posts import posts.csv --map tweet=text --map when=created_at`
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Final

from agora.errors import RecordError, SourceError, UsageError
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import convert_values, open_values, parse
from agora.posts.sources.record import Item
from agora.posts.sources.source import Source
from agora.posts.sources.table_csv import cells_of, delimiter_of, read_csv
from agora.posts.sources.table_parquet import read_parquet
from agora.posts.sources.table_rows import FIELDS, NAME, JsonRows, match_columns

_SAMPLE_LINES: Final = 10
"""Lines in which recognition looks for a JSON record."""
_PARQUET: Final = b"PAR1"

log = logging.getLogger(__name__)


def recognise(head: Head, mapping: Mapping[str, str] | None = None) -> bool:
    """A Parquet file, a header line, or JSON records of which one has all needed columns."""
    if head.data.startswith(_PARQUET):
        return True
    return any(_has_columns(columns, mapping or {}) for columns in _json_keys(head) or [_header(head)])


def _has_columns(columns: list[str], mapping: Mapping[str, str]) -> bool:
    try:
        match_columns(columns, mapping)
    except SourceError:
        return False
    return True


def _json_keys(head: Head) -> list[list[str]]:
    """Keys of the records among the first lines; empty unless at least half of these lines are records (a first one may be broken)."""
    lines = [line.strip() for line in head.text.split("\n", _SAMPLE_LINES)[:_SAMPLE_LINES] if line.strip("\0 \t\r")]
    found = []
    for line in lines:
        if line[:1] == "{":
            with contextlib.suppress(RecordError):
                found.append(list(parse(line)))
    return found if 2 * len(found) >= len(lines) else []


def _header(head: Head) -> list[str]:
    first = re.split(r"[\r\n]", head.text, maxsplit=1)[0].strip()
    if first[:1] in ("[", "{") or "\0" in first:
        return []
    try:
        return cells_of(first, delimiter_of(first))
    except SourceError:
        return []


def source_with(mapping: Mapping[str, str]) -> Source:
    """The table source with a column mapping. Raises UsageError for a name that is no field of a post."""
    for column, name in mapping.items():
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise UsageError(f"--map {column}={name}: {name!r} is no field of a post; {hint}(fields: {', '.join(FIELDS)})")
        other = next((other for other in mapping if mapping[other] == name and other != column), None)
        if other is not None:
            raise UsageError(f"--map {column}={name} and --map {other}={name}: a field is read from one column")
    return Source(NAME, SOURCE.title, lambda head: recognise(head, mapping), functools.partial(read, mapping=mapping))


def read(file: SourceFile, mapping: Mapping[str, str] | None = None) -> Iterator[Item]:
    """Tables (Parquet) or rows (text formats), and Broken rows. Raises SourceError when needed columns are missing."""
    mapping = mapping or {}
    head = file.head()
    if head.data.startswith(_PARQUET):
        yield from read_parquet(file, mapping)
    elif head.text[:1] in "{[" or _json_keys(head):
        with file.open() as stream:
            values = open_values(stream, head.text, is_record=lambda value: isinstance(value, dict))
            rows = JsonRows(mapping)
            yield from convert_values(values, rows)
            for column in rows.unseen:
                log.warning("--map %s=%s: no record of %s has %r", column, mapping[column], file.name, column)
    else:
        with file.open() as stream:
            yield from read_csv(stream, mapping, bare_returns=b"\r" in head.data and b"\n" not in head.data)


SOURCE: Final = Source(NAME, "tables: Parquet, CSV, TSV, JSON lines (columns by name or --map)", recognise, read)
