"""Tables of posts: Parquet, CSV, TSV, and JSON lines with flat records. For everything that has no reader of its own.

Columns are matched by name (`COLUMN_NAMES`) or by a mapping {column: field}. `id`, `author`, `created_at` and `text` are needed. Parquet
goes column by column and never becomes Python rows, apart from the broken ones; the text formats go row by row through the same checks.

Command: `agora posts import posts.csv --map tweet=text --map when=created_at`
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import functools
import io
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import RecordError, SourceError, UsageError
from agora.posts.schema import KINDS, POST_SCHEMA, REPOST
from agora.posts.sources.files import Head, SourceFile
from agora.posts.sources.json_stream import MAX_RECORD_BYTES, convert_values, open_values, parse, skip_line
from agora.posts.sources.record import EARLIEST, Broken, Item, attempt, broken, latest_us, make_post, parse_time, whole_number
from agora.posts.sources.source import Source

NAME: Final = "table"
REQUIRED: Final = ("id", "author", "created_at", "text")
FIELDS: Final = tuple(name for name in POST_SCHEMA.names if name != "source")
COLUMN_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "id_str", "post_id", "tweet_id", "status_id", "uri"),
    "author": ("author", "author_id", "user_id", "did", "user", "username", "screen_name", "external_author_id", "account"),
    "created_at": ("created_at", "timestamp", "datetime", "published", "created_utc", "date", "time"),
    "text": ("text", "full_text", "content", "body", "message", "tweet"),
    "lang": ("lang", "language"),
    "kind": ("kind",),
    "ref_id": ("ref_id", "in_reply_to_id", "parent_id", "in_reply_to_status_id"),
    "ref_author": ("ref_author", "in_reply_to_user_id"),
    "urls": ("urls",),
    "hashtags": ("hashtags",),
    "mentions": ("mentions",),
    "media": ("media",),
    "num_likes": ("num_likes", "like_count", "likes", "favorite_count", "favourites_count", "favorites_count"),
}
"""Column names that mean a field, best first."""
_LISTS: Final = ("urls", "hashtags", "mentions")
_MARKS: Final = "#@"
"""What stands in front of a hashtag or a mention and is no part of it."""
_BATCH_ROWS: Final = 65_536
_SAMPLE_LINES: Final = 10
"""Lines in which recognition looks for a JSON record."""
_PARQUET: Final = b"PAR1"
_SPLIT: Final = re.compile(r"[\s|]+")

log = logging.getLogger(__name__)


def match_columns(columns: list[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """{field: column}. Raises SourceError for a mapping that names an unknown column, or when a needed field has none."""
    for column, name in mapping.items():
        if column not in columns:
            raise SourceError(f"--map {column}={name}: the table has no column {column!r}; it has {', '.join(columns)}")
    chosen = {name: column for column, name in mapping.items()}
    lower = {column.lower(): column for column in reversed(columns) if column not in mapping}
    for name, candidates in COLUMN_NAMES.items():
        if name not in chosen:
            found = next((lower[candidate] for candidate in candidates if candidate in lower), None)
            if found is not None:
                chosen[name] = found
    missing = [name for name in REQUIRED if name not in chosen]
    if missing:
        raise SourceError(
            f"table without a column for {', '.join(missing)}; it has {', '.join(columns[:40])}. "
            f"Name them on import: agora posts import FILE --map COLUMN={missing[0]}"
        )
    return chosen


def _refuse_repeated(columns: list[str], chosen: Mapping[str, str]) -> None:
    for name, column in chosen.items():
        if columns.count(column) > 1:
            raise SourceError(f"the table has {columns.count(column)} columns called {column!r}, needed for {name}; rename all but one")


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
        return _cells(first, _delimiter(first))
    except SourceError:
        return []


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise SourceError(f"invalid header line: {error}") from error


def _delimiter(header: str) -> str:
    return max(",\t;|", key=header.count)


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
        yield from _read_parquet(file, mapping)
    elif head.text[:1] in "{[" or _json_keys(head):
        with file.open() as stream:
            values = open_values(stream, head.text, is_record=lambda value: isinstance(value, dict))
            rows = JsonRows(mapping)
            yield from convert_values(values, rows)
            for column in rows.unseen:
                log.warning("--map %s=%s: no record of %s has %r", column, mapping[column], file.name, column)
    else:
        has_bare_returns = b"\r" in head.data and b"\n" not in head.data
        with file.open() as stream:
            yield from _read_csv(io.BufferedReader(_BareReturns(stream)) if has_bare_returns else stream, mapping)


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


class JsonRows:
    """Rows of JSON records. Columns are matched again whenever a record has other keys."""

    def __init__(self, mapping: Mapping[str, str]) -> None:
        self._mapping, self._keys, self._columns = mapping, frozenset[str](), dict[str, str]()
        self.unseen = set(mapping)

    def __call__(self, value: Any) -> Item:
        if not isinstance(value, dict):
            raise RecordError(f"not a record: {type(value).__name__}")
        if value.keys() != self._keys:
            present = {column: name for column, name in self._mapping.items() if column in value}
            try:
                self._columns = match_columns(list(value), present)
            except SourceError as error:
                raise RecordError(f"missing column: {error}") from error
            self._keys = frozenset(value)
            self.unseen -= self._keys
        return _row({name: value.get(column) for name, column in self._columns.items()})


def _row(value: Mapping[str, Any]) -> Item:
    ref_id = value.get("ref_id")
    lists = {name: _list(value.get(name), name) for name in _LISTS}
    media = value.get("media")
    media = parse(media) if isinstance(media, str) and media else media
    media = [item for item in media if item is not None] if isinstance(media, list) else media
    return make_post(
        source=NAME,
        id=value.get("id"),
        author=value.get("author"),
        created_at_us=parse_time(value.get("created_at")),
        text=value.get("text"),
        lang=value.get("lang"),
        kind=value.get("kind") or ("reply" if ref_id else "post"),
        ref_id=ref_id,
        ref_author=value.get("ref_author"),
        media=media or (),
        num_likes=value.get("num_likes"),
        **lists,
    )


def _list(value: Any, name: str) -> list[str]:
    if not value:
        return []
    if isinstance(value, str):
        value = parse(value) if value.startswith("[") else [word for word in _SPLIT.split(value) if word]
    if not isinstance(value, list):
        raise RecordError(f"no list: {name} is {type(value).__name__}")
    words = [_word(word, name) for word in value if word is not None]
    return words if name == "urls" else [word.lstrip(_MARKS) for word in words]


def _word(word: Any, name: str) -> str:
    if isinstance(word, str):
        return word
    if isinstance(word, int) and not isinstance(word, bool):
        return str(word)
    raise RecordError(f"no text: {name} holds {type(word).__name__}")


def _read_csv(stream: BinaryIO, mapping: Mapping[str, str]) -> Iterator[Item]:
    lines = _Lines(stream)
    header = lines.next()
    if isinstance(header, Broken):
        raise SourceError(f"{header.reason}: the header line has {header.detail}")
    delimiter = _delimiter(header)
    columns = _cells(header, delimiter)
    matched = match_columns(columns, mapping)
    _refuse_repeated(columns, matched)
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
            item = attempt(_row, {name: cells[index] for name, index in chosen}, lines.place())
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


def _read_parquet(file: SourceFile, mapping: Mapping[str, str]) -> Iterator[Item]:
    with _seekable(file) as stream:
        try:
            parquet = pq.ParquetFile(stream)
            columns = match_columns(parquet.schema_arrow.names, mapping)
            _refuse_repeated(parquet.schema_arrow.names, columns)
            first_row = 0
            for batch in parquet.iter_batches(batch_size=_BATCH_ROWS, columns=sorted(set(columns.values()))):
                yield from _convert_batch(batch, columns, first_row)
                first_row += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"damaged: not a readable Parquet file ({error})") from error


def _seekable(file: SourceFile) -> BinaryIO:
    """Parquet is read from its end: inside an archive it is copied to a nameless temporary file first."""
    if file.path is not None and file.base_name == file.path.name.lower():
        return file.path.open("rb")
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (the caller closes it)
    with file.open_plain() as stream:
        while chunk := stream.read(io.DEFAULT_BUFFER_SIZE * 64):
            copy.write(chunk)
    copy.seek(0)
    return copy  # type: ignore[return-value]


def _convert_batch(batch: pa.RecordBatch, columns: Mapping[str, str], first_row: int) -> Iterator[Item]:
    given = {name: batch.column(batch.schema.get_field_index(column)) for name, column in columns.items()}
    try:
        arrays = _cast(given, batch.num_rows)
        for array in arrays.values():
            array.validate(full=True)  # a Parquet file may call any bytes a string
    except (pa.ArrowException, RecordError):
        # A column of another type, or one value that does not fit: row by row, so that only that row is lost.
        yield from _by_rows(batch, columns, first_row, range(batch.num_rows))
        return
    good = _plausible(arrays)
    table = pa.table(arrays, schema=POST_SCHEMA)
    if not pc.all(good).as_py():
        wrong = pc.indices_nonzero(pc.invert(good)).to_pylist()
        yield from _by_rows(batch, columns, first_row, wrong)
        table = table.filter(good)
    yield table


def _cast(given: Mapping[str, pa.Array], num_rows: int) -> dict[str, pa.Array]:
    arrays: dict[str, pa.Array] = {}
    for field in POST_SCHEMA:
        array = given.get(field.name)
        if array is None:
            arrays[field.name] = _default(field, given, arrays, num_rows)
        elif pa.types.is_list(field.type):
            arrays[field.name] = _cast_list(array, field)
        elif field.name == "created_at":
            arrays[field.name] = _cast_times(array, field.type)
        elif field.name == "num_likes":
            arrays[field.name] = _cast_likes(array, arrays["kind"])
        else:
            arrays[field.name] = array.cast(field.type)
    return arrays


def _cast_likes(array: pa.Array, kinds: pa.Array) -> pa.Array:
    if not pa.types.is_integer(array.type):
        array = pa.array([whole_number(value) for value in array.to_pylist()], pa.int64())
    return pc.if_else(pc.equal(kinds, REPOST), None, array.cast(pa.int64()))


def _default(field: pa.Field, given: Mapping[str, pa.Array], arrays: Mapping[str, pa.Array], num_rows: int) -> pa.Array:
    if field.name == "source":
        return pa.repeat(pa.scalar(NAME), num_rows)
    if field.name == "kind":
        if "ref_id" not in given:
            return pa.repeat(pa.scalar("post"), num_rows)
        return pc.if_else(pc.is_valid(given["ref_id"]), "reply", "post")
    if pa.types.is_list(field.type):
        return pa.array([[]] * num_rows, field.type)
    return pa.nulls(num_rows, field.type)


def _cast_times(array: pa.Array, target: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(array.type):
        return array.cast(target, safe=array.type.unit != "ns")  # nanoseconds are cut, coarser units cannot overflow unseen
    if pa.types.is_date(array.type):
        return array.cast(target)
    return pa.array([parse_time(value) for value in array.to_pylist()], target)


def _cast_list(array: pa.Array, field: pa.Field) -> pa.Array:
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise RecordError(f"no list: {array.type}")
    if array.null_count:
        array = pa.array([value or [] for value in array.to_pylist()], array.type)
    array = array.cast(field.type)
    if _is_clean(array.flatten(), field.name):
        return array
    raise RecordError(f"{field.name} holds what the row-wise reading takes out or refuses")


def _is_clean(values: pa.Array, name: str) -> bool:
    """Whether the row-wise twin would leave these elements of a list as they are."""
    if values.null_count:
        return False
    if name == "media":
        return not values.field("kind").null_count and all(_is_clean_text(values.field(part), r"\x00") for part in ("kind", "url", "alt"))
    return _is_clean_text(values, r"^$|\x00" if name == "urls" else rf"^$|\x00|^[{_MARKS}]")


def _is_clean_text(values: pa.Array, wrong: str) -> bool:
    return not pc.any(pc.match_substring_regex(values, wrong)).as_py()


_HAS_TEXT: Final = r"^[^\x00]*[\pL\pN\pP\pS][^\x00]*$"  # no NUL, and something that no reader takes for a blank


def _plausible(arrays: Mapping[str, pa.Array]) -> pa.Array:
    """Rows that `make_post` would take as they are (the row-wise twin checks the others one by one)."""
    times = arrays["created_at"].cast(pa.int64())
    good = pc.and_kleene(
        pc.greater_equal(times, int(EARLIEST.timestamp()) * 1_000_000),
        pc.less_equal(times, latest_us()),
    )
    good = pc.and_kleene(good, pc.is_in(arrays["kind"], pa.array(KINDS)))
    for name in ("id", "author"):
        good = pc.and_kleene(good, pc.match_substring_regex(arrays[name], _HAS_TEXT))
        good = pc.and_kleene(good, pc.less_equal(pc.utf8_length(arrays[name]), 512))
    good = pc.and_kleene(good, pc.invert(pc.match_substring(arrays["text"], "\0")))
    for name in ("ref_id", "ref_author"):
        good = pc.and_kleene(good, pc.fill_null(pc.match_substring_regex(arrays[name], _HAS_TEXT), True))
    return pc.fill_null(good, False)


def _by_rows(batch: pa.RecordBatch, columns: Mapping[str, str], first_row: int, rows: Any) -> Iterator[Item]:
    for row in rows:
        place = f"row {first_row + row}"
        scalars = {name: batch.column(batch.schema.get_field_index(column))[row] for name, column in columns.items()}
        bad = next((name for name, scalar in scalars.items() if not _is_text(scalar)), None)
        if bad is None:
            yield attempt(_row, {name: _plain(scalar) for name, scalar in scalars.items()}, place)
        else:
            raw = b", ".join(map(_raw_bytes, scalars.values()))
            yield broken(f"not UTF-8: column {columns[bad]!r} holds bytes that are not UTF-8", place, raw)


def _is_text(scalar: pa.Scalar) -> bool:
    try:
        _plain(scalar)
    except UnicodeDecodeError:
        return False
    return True


def _raw_bytes(scalar: pa.Scalar) -> bytes:
    return scalar.as_buffer().to_pybytes() if hasattr(scalar, "as_buffer") and scalar.is_valid else str(scalar.type).encode()


def _plain(scalar: pa.Scalar) -> Any:
    """The Python value. Raises UnicodeDecodeError for bytes that are no text."""
    try:
        value = scalar.as_py()
    except UnicodeDecodeError:
        raise
    except (OverflowError, ValueError):
        return f"{scalar.value} {scalar.type}"  # a time that Python's calendar does not reach
    return value.decode() if isinstance(value, bytes) else value


SOURCE: Final = Source(NAME, "tables: Parquet, CSV, TSV, JSON lines (columns by name or --map)", recognise, read)
