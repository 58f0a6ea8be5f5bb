"""What a scan may know besides posts: who follows whom, and which organisations declare accounts as their own.

Goes in: FILE.parquet with the columns follower and followed; FILE.csv with the columns account and organisation.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import DataError

FOLLOW_COLUMNS: Final = ("follower", "followed")
DECLARED_COLUMNS: Final = ("account", "organisation")


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
    declared: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in DECLARED_COLUMNS if name not in (reader.fieldnames or ())]:
                raise DataError(f"{path} has no column {missing[0]!r}; its first line must be: {','.join(DECLARED_COLUMNS)}")
            for row in reader:
                account, organisation = ((row[name] or "").strip() for name in DECLARED_COLUMNS)
                if not account or not organisation:
                    raise DataError(f"{path}, line {reader.line_num}: an account and an organisation are needed; seen: {row}")
                if declared.setdefault(account, organisation) != organisation:
                    other = declared[account]
                    raise DataError(f"{path}, line {reader.line_num}: {account!r} belongs to {other!r} and to {organisation!r}; keep one")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    return declared
