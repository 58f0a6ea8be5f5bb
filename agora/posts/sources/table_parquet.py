"""Parquet tables, column by column; only rows that the columns cannot say become Python values."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import RecordError, SourceError
from agora.posts.schema import KINDS, POST_SCHEMA, REPOST
from agora.posts.sources.files import SourceFile
from agora.posts.sources.record import EARLIEST, Item, attempt, broken, latest_us, parse_time, whole_number
from agora.posts.sources.table_rows import MARKS, NAME, make_row, match_columns, refuse_repeated

IDENTITIES: Final = ("id", "author", "ref_id", "ref_author")
"""Fields in which a whole number is taken as text."""
_BATCH_ROWS: Final = 65_536


def read_parquet(file: SourceFile, mapping: Mapping[str, str]) -> Iterator[Item]:
    """Tables of posts, and Broken rows. Raises SourceError for a damaged file or missing columns."""
    with _seekable(file) as stream:
        try:
            parquet = pq.ParquetFile(stream)
            columns = match_columns(parquet.schema_arrow.names, mapping)
            refuse_repeated(parquet.schema_arrow.names, columns)
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
        yield from by_rows(batch, columns, first_row, range(batch.num_rows))
        return
    good = _plausible(arrays)
    table = pa.table(arrays, schema=POST_SCHEMA)
    if not pc.all(good).as_py():
        wrong = pc.indices_nonzero(pc.invert(good)).to_pylist()
        yield from by_rows(batch, columns, first_row, wrong)
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
            arrays[field.name] = _cast_text(array, field)
    return arrays


def _cast_text(array: pa.Array, field: pa.Field) -> pa.Array:
    """Raises RecordError for a type that the row-wise twin does not take for text: no 1e+18 becomes an id."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    is_text = any(holds(kind) for holds in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary))
    if not (is_text or pa.types.is_null(kind) or (pa.types.is_integer(kind) and field.name in IDENTITIES)):
        raise RecordError(f"no text: {field.name} is {kind}")
    texts = array.cast(field.type)
    return pc.if_else(pc.equal(texts, ""), None, texts) if field.name == "lang" else texts


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
    return _is_clean_text(values, r"^$|\x00" if name == "urls" else rf"^$|\x00|^[{MARKS}]")


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
    good = pc.and_kleene(good, pc.invert(pc.fill_null(pc.match_substring(arrays["lang"], "\0"), False)))
    for name in ("ref_id", "ref_author"):
        good = pc.and_kleene(good, pc.fill_null(pc.match_substring_regex(arrays[name], _HAS_TEXT), True))
    return pc.fill_null(good, False)


def by_rows(batch: pa.RecordBatch, columns: Mapping[str, str], first_row: int, rows: Any) -> Iterator[Item]:
    """The slow twin of the columns: each of `rows` of a batch by itself."""
    for row in rows:
        place = f"row {first_row + row}"
        scalars = {name: batch.column(batch.schema.get_field_index(column))[row] for name, column in columns.items()}
        bad = next((name for name, scalar in scalars.items() if not _is_text(scalar)), None)
        if bad is None:
            yield attempt(make_row, {name: _plain(scalar) for name, scalar in scalars.items()}, place)
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
