"""The post store as a Daft dataframe. Goes in: the folder of a store. Comes out: a lazy dataframe of its live posts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

os.environ["DAFT_ANALYTICS_ENABLED"] = "0"  # read when daft is imported: nothing phones home

import daft
import pyarrow as pa
from daft.io.pushdowns import Pushdowns
from daft.io.source import DataSource, DataSourceTask
from daft.recordbatch import RecordBatch

from agora.posts.schema import POST_SCHEMA


def posts_dataframe(folder: Path) -> daft.DataFrame:
    """All live posts of the store at `folder`; the columns that the query uses are the only ones read."""
    return PostsSource(folder).read()


class PostsSource(DataSource):  # type: ignore[misc]
    """Reads a store in one stream: the table library already decodes in parallel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return f"agora posts {self._folder}"

    @property
    def schema(self) -> daft.Schema:
        return daft.Schema.from_pyarrow_schema(POST_SCHEMA)

    async def get_tasks(self, pushdowns: Pushdowns) -> AsyncIterator[DataSourceTask]:
        columns = None
        if pushdowns.columns is not None:
            needed = set(pushdowns.columns) | pushdowns.filter_required_column_names()
            columns = [name for name in POST_SCHEMA.names if name in needed]
        yield PostsTask(self._folder, columns or None)


class PostsTask(DataSourceTask):  # type: ignore[misc]
    """One scan of the store; can be sent to another process."""

    def __init__(self, folder: Path, columns: list[str] | None) -> None:
        self._folder = folder
        self._columns = columns

    @property
    def schema(self) -> daft.Schema:
        names = self._columns or POST_SCHEMA.names
        return daft.Schema.from_pyarrow_schema(pa.schema([POST_SCHEMA.field(name) for name in names]))

    async def read(self) -> AsyncIterator[RecordBatch]:
        from agora.posts.store import PostStore

        for batch in PostStore.open(self._folder).scan(columns=self._columns):
            yield RecordBatch.from_arrow_record_batches([batch], batch.schema)
