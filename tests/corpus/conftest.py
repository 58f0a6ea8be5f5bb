"""Writes rows as Parquet files of posts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.posts.schema import posts_table


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: list[dict[str, Any]] | pa.Table, name: str = "posts.parquet") -> Path:
        path = tmp_path / name
        pq.write_table(rows if isinstance(rows, pa.Table) else posts_table(rows), path)
        return path

    return write
