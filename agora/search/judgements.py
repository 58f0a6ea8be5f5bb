"""Queries whose right posts somebody has named. Goes in: a folder with queries, qrels and, where the posts are not those of a workspace,
corpus (Parquet). Comes out: a `Collection`, and how well an order of posts agrees with it.

    queries.parquet   query_id, text, and split where the folder says what is for training ("train") and what for scoring
    qrels.parquet     query_id, doc_id, and relevance where 0 means wrong
    corpus.parquet    doc_id, text, and title, dup_of (of a repeat: the first that says the same) where there are any

A document becomes one post: its text, then its title. Repeats are collapsed through `dup_of`, in what is found and in what is right.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import UsageError
from agora.log import Progress, silent
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import Embeddings

NOW: Final = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""When the documents of a corpus were posted: all at once, so that freshness decides nothing."""
TOP: Final = 5
"""Posts that are scored."""
TRAIN: Final = "train"
_NAMES: Final = ("doc_id", "query_id", "dup_of")
_COLUMNS: Final = {"corpus": ("doc_id", "text"), "queries": ("query_id", "text"), "qrels": ("query_id", "doc_id")}


@dataclass(frozen=True, slots=True)
class Collection:
    """Queries by split as (id, text); right posts by query; the first of each document's repeats. `texts` is empty where the documents
    are the posts of a workspace."""

    name: str
    texts: Mapping[str, str]
    queries: Mapping[str, list[tuple[str, str]]]
    right: Mapping[str, frozenset[str]]
    first: Mapping[str, str]

    def repeats(self, ids: frozenset[str]) -> frozenset[str]:
        """All documents that say the same as one of these."""
        return frozenset(one for one, first in self.first.items() if first in ids) | ids


def read_collection(folder: Path, *, is_corpus_needed: bool = True) -> Collection:
    """The collection in a folder. A query without a split is of the split `test`. Raises UsageError when a file or column is missing."""
    corpus = _read(folder, "corpus") if is_corpus_needed or (folder / "corpus.parquet").is_file() else None
    queries, qrels = _read(folder, "queries"), _read(folder, "qrels")
    first = {row["doc_id"]: row.get("dup_of") or row["doc_id"] for row in corpus or ()}
    right: dict[str, set[str]] = {}
    for row in qrels:
        if row.get("relevance", 1) > 0 and (corpus is None or row["doc_id"] in first):
            right.setdefault(row["query_id"], set()).add(first.get(row["doc_id"], row["doc_id"]))
    by_split: dict[str, list[tuple[str, str]]] = {}
    for row in queries:
        if row["query_id"] in right:
            by_split.setdefault(row.get("split") or "test", []).append((row["query_id"], row["text"]))
    texts = {row["doc_id"]: "\n".join(part for part in (row["text"], row.get("title")) if part) for row in corpus or ()}
    return Collection(folder.name, texts, by_split, {query: frozenset(ids) for query, ids in right.items()}, first)


def _read(folder: Path, name: str) -> list[dict[str, Any]]:
    path, columns = folder / f"{name}.parquet", _COLUMNS[name]
    if not path.is_file():
        raise UsageError(f"{path} does not exist; a folder of judgements holds queries.parquet, qrels.parquet and mostly corpus.parquet")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [column for column in columns if column not in table.column_names]:
        raise UsageError(
            f"{path} has no column {missing[0]!r}, only {', '.join(table.column_names)}; a collection needs there: {', '.join(columns)}"
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    return [{key: str(value) if key in _NAMES and value is not None else value for key, value in row.items()} for row in rows]


@contextmanager
def indexed(collection: Collection, embeddings: Embeddings | None, *, progress: Progress = silent) -> Iterator[EmbeddedIndex]:
    """The documents in a store and an index, for as long as they are looked at."""
    rows = [
        {"id": one, "author": "collection", "created_at": NOW, "text": text, "kind": "post", "source": "collection"}
        for one, text in collection.texts.items()
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        PostStore.open(Path(folder) / "posts", create=True) as store,
        EmbeddedIndex.open(Path(folder) / "index") as index,
    ):
        store.append(posts_table(rows))
        index.catch_up(store, embeddings=embeddings, progress=progress)
        yield index


def average_precision(found: Sequence[str], right: frozenset[str], first: Mapping[str, str]) -> float:
    """Average precision among the first `TOP` distinct documents."""
    distinct = list(dict.fromkeys(first.get(one, one) for one in found))[:TOP]
    hits, total = 0, 0.0
    for rank, one in enumerate(distinct, start=1):
        if one in right:
            hits += 1
            total += hits / rank
    return total / min(len(right), TOP)


__all__ = ["NOW", "TOP", "TRAIN", "Collection", "average_precision", "indexed", "read_collection"]
