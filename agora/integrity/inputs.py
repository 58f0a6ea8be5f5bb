"""What a scan may know besides posts: who follows whom, which organisations declare accounts as their own, when accounts were made.

Goes in: FILE.parquet with the columns follower and followed; FILE.csv with account and organisation, or account and created_at.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import DataError

FOLLOW_COLUMNS: Final = ("follower", "followed")
DECLARED_COLUMNS: Final = ("account", "organisation")
CREATED_COLUMNS: Final = ("account", "created_at")


def read_follows(path: Path) -> pa.Table:
    """The follow graph, as strings. Raises DataError for a file that is no such table."""
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in FOLLOW_COLUMNS if name not in names]:
            raise DataError(f"{path} has no column {missing[0]!r}; it needs {' and '.join(FOLLOW_COLUMNS)}, and has {', '.join(names)}")
        follows = pq.read_table(path, columns=list(FOLLOW_COLUMNS))
        follows = follows.cast(pa.schema([(name, pa.string()) for name in FOLLOW_COLUMNS]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path} cannot be read as a Parquet table of follows: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    for name in FOLLOW_COLUMNS:
        if follows[name].null_count:
            raise DataError(f"{path} has {follows[name].null_count} empty values in {name!r}; every row needs both accounts")
    return follows


def read_declared(path: Path) -> dict[str, str]:
    """Organisation of each declared account. Raises DataError for a file that is no such table, or that contradicts itself."""
    return {account: organisation for _, account, organisation in _pairs(path, DECLARED_COLUMNS)}


def read_created(path: Path) -> dict[str, int]:
    """When each account was made, seconds since 1970. Raises DataError as `read_declared`, and for what is no time in ISO form."""
    created = {}
    for line, account, text in _pairs(path, CREATED_COLUMNS):
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise DataError(
                f"{path}, line {line}: created_at={text!r} is no time; write it like 2026-03-01 or 2026-03-01T12:00:00Z"
            ) from error
        created[account] = int((at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp())
    return created


def _pairs(path: Path, columns: tuple[str, str]) -> Iterator[tuple[int, str, str]]:
    """(line, account, value) of a CSV with these two columns."""
    known: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path} has no column {missing[0]!r}; its first line must be: {','.join(columns)}")
            for row in reader:
                account, value = ((row[name] or "").strip() for name in columns)
                if not account or not value:
                    raise DataError(f"{path}, line {reader.line_num}: {' and '.join(columns)} are needed; seen: {row}")
                if known.setdefault(account, value) != value:
                    raise DataError(
                        f"{path}, line {reader.line_num}: {account!r} has {columns[1]} {known[account]!r} and {value!r}; keep one"
                    )
                yield reader.line_num, account, value
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
