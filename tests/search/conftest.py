"""A store and an index for searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agora.integrity.labels import LABEL_SCHEMA
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import Embeddings

NOW = datetime(2026, 3, 20, 12, tzinfo=timezone.utc)


def post(name: str, author: str, text: str, *, minutes_ago: float = 60, **others: Any) -> dict[str, Any]:
    """A post that many minutes before NOW."""
    at = NOW - timedelta(minutes=minutes_ago)
    return {"id": name, "author": author, "created_at": at, "text": text, "kind": "post", "source": "test", **others}


def labels_of(*accounts: str, campaign: str = "c1") -> pa.Table:
    """Labels of these accounts as one campaign."""
    fixed = {
        "kind": "account", "campaign": campaign, "state": "coordinated", "is_automatic": False, "reason": f"They act as {campaign}.",
        "evidence": "written", "confidence": 0.99, "expires_at": "2030-01-01T00:00:00Z", "appeal": "none",
    }  # fmt: skip
    return pa.Table.from_pylist([{**fixed, "id": one, "account": one} for one in accounts], schema=LABEL_SCHEMA)


@pytest.fixture
def index_of(tmp_path: Path) -> Iterator[Callable[..., EmbeddedIndex]]:
    """Puts posts into a store and an index."""
    opened: list[EmbeddedIndex] = []

    def make(rows: list[dict[str, Any]], *, embeddings: Embeddings | None = None) -> EmbeddedIndex:
        index = EmbeddedIndex.open(tmp_path / f"index{len(opened)}")
        opened.append(index)
        with PostStore.open(tmp_path / f"posts{len(opened)}", create=True) as store:
            store.append(posts_table(rows))
            index.catch_up(store, embeddings=embeddings)
        return index

    yield make
    for index in opened:
        index.close()
