"""The LanceDB tables under a post store: how they are made, opened and tidied. What they promise is the store's matter."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import StoreError
from agora.log import Step
from agora.posts import sealing
from agora.posts.schema import DELETIONS_SCHEMA, POST_SCHEMA

ARRIVAL = "arrival"
TABLE_SCHEMA: Final = POST_SCHEMA.append(pa.field(ARRIVAL, pa.int64()))
"""Posts, and the order in which they came: merging fragments moves them (lancedb 0.40 orders fragments by the time of their rewriting)."""
_INDEX_CACHE_BYTES = 256 << 20
_METADATA_CACHE_BYTES = 128 << 20
_MAINTENANCE_ROUNDS = 4


def connect(folder: Path) -> Any:
    """The database in `folder`, with bounded caches."""
    import lancedb

    session = lancedb.Session(index_cache_size_bytes=_INDEX_CACHE_BYTES, metadata_cache_size_bytes=_METADATA_CACHE_BYTES)
    return lancedb.connect(folder, session=session)


def create_store(path: Path) -> None:
    """Make an empty store beside `path` and move it there whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        database = connect(building)
        deletions = database.create_table(sealing.DELETIONS_TABLE, schema=DELETIONS_SCHEMA)
        head = sealing.Head(posts_version=0, deletions_version=deletions.version)
        posts = create_posts(database, head.posts_table, None)
        files = sealing.inventory(building, (head.posts_table, sealing.DELETIONS_TABLE), {})
        head = replace(head, posts_version=posts.version, files=files)
        sealing.write_head(building, head)
        os.replace(building, path)
    except OSError as error:
        if not (path / sealing.HEAD_FILE).exists():  # else another process created it first
            raise StoreError(f"post store {path} cannot be created: {error.strerror or error}") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def create_posts(database: Any, name: str, posts: pa.RecordBatchReader | None) -> Any:
    """A table with TABLE_SCHEMA and an index on id, filled from the stream `posts` if there is one."""
    from lancedb.index import BTree

    table = database.create_table(name, posts, schema=TABLE_SCHEMA)
    table.create_index("id", config=BTree())
    return table


def optimize(table: Any) -> None:
    """Optimize until nothing changes: one call may leave work (two versions were left after deletions, lancedb 0.40), and
    the cleanup, which optimizes too, would then remove the sealed version before a newer one is sealed.
    """
    for _ in range(_MAINTENANCE_ROUNDS):
        before = table.version
        table.optimize()
        if table.version == before:
            return


def watched(reader: pa.RecordBatchReader, step: Step) -> pa.RecordBatchReader:
    """The same batches; `step` advances by their rows."""

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            yield batch
            step.advance(batch.num_rows)

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
