"""What a store holds, at a glance, and a way out of it. Goes in: a PostStore. Comes out: counts, or a Parquet or JSONL file.

Memory grows with accounts (they are counted exactly), not with posts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from agora.errors import UsageError
from agora.files import replacing
from agora.log import Progress, silent
from agora.posts.distinct import Distinct
from agora.posts.schema import POST_SCHEMA
from agora.posts.store import PostStore


@dataclass(frozen=True, kw_only=True, slots=True)
class PostStatistics:
    """Counts of live posts; `first` and `last` are None for an empty store."""

    posts: int
    accounts: int
    first: datetime | None
    last: datetime | None
    deletions: int
    kinds: dict[str, int]
    langs: dict[str, int]
    sources: dict[str, int]


def post_statistics(store: PostStore, *, progress: Progress = silent) -> PostStatistics:
    """Read the whole store once and count. Languages that are not declared count as 'none'."""
    counts: dict[str, dict[str, int]] = {"kind": {}, "lang": {}, "source": {}}
    authors = Distinct()
    first: datetime | None = None
    last: datetime | None = None
    total = 0
    with progress.step("count posts", total=store.num_posts, unit="posts") as step:
        for batch in store.scan(columns=["author", "created_at", *counts]):
            total += batch.num_rows
            for name, found in counts.items():
                for entry in batch.column(name).value_counts().to_pylist():
                    key = entry["values"] if entry["values"] is not None else "none"
                    found[key] = found.get(key, 0) + entry["counts"]
            authors.add(batch.column("author"))
            span = pc.min_max(batch.column("created_at")).as_py()
            first = span["min"] if first is None else min(first, span["min"])
            last = span["max"] if last is None else max(last, span["max"])
            step.advance(batch.num_rows)
    ordered = {name: dict(sorted(found.items(), key=lambda entry: (-entry[1], entry[0]))) for name, found in counts.items()}
    return PostStatistics(
        posts=total, accounts=len(authors.values()), first=first, last=last, deletions=store.deletions().num_rows,
        kinds=ordered["kind"], langs=ordered["lang"], sources=ordered["source"],
    )  # fmt: skip


def export_posts(store: PostStore, path: Path, *, progress: Progress = silent) -> int:
    """Write all live posts to `path`, .parquet or .jsonl, and return their number. The file appears whole or not at all.

    Raises UsageError for another ending or a folder that does not exist.
    """
    writers = {".parquet": _write_parquet, ".jsonl": _write_jsonl}
    if path.suffix not in writers:
        raise UsageError(f"export file {path} must end in .parquet or .jsonl")
    if not path.parent.is_dir():
        raise UsageError(f"folder {path.parent} of the export file does not exist; create it first")
    total = 0
    with replacing(path) as part, progress.step(f"export to {path.name}", total=store.num_posts, unit="posts") as step:

        def counted() -> Iterator[pa.RecordBatch]:
            nonlocal total
            for batch in store.scan():
                yield batch
                total += batch.num_rows
                step.advance(batch.num_rows)

        writers[path.suffix](counted(), part)
    return total


def _write_parquet(batches: Iterator[pa.RecordBatch], path: Path) -> None:
    with pq.ParquetWriter(path, POST_SCHEMA, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _write_jsonl(batches: Iterator[pa.RecordBatch], path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(row, ensure_ascii=False, default=_plain) + "\n" for row in batch.to_pylist())


def _plain(value: Any) -> str:
    assert isinstance(value, datetime), value
    return value.isoformat()
