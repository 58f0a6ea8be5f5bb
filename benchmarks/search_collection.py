"""A collection with judgements, as the search benchmarks use it. Goes in: a folder with queries, corpus and qrels (Parquet). Comes out: its
documents as posts in a real store and index, and the right posts of each query.

A document becomes one post: its text, then its title. Repeats are collapsed through `dup_of`, in what is found and in what is right.
Vectors are kept in .bench-cache beside the benchmarks, by the hash of the text: making them takes minutes.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import UsageError
from agora.files import replacing
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import Embeddings
from agora.text.minilm import load_minilm
from benchmarks.registry import REPOSITORY, data_folder

CACHE = REPOSITORY / ".bench-cache" / "search"
DEVELOPMENT = "search/clef2020"
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SPLITS = ("train", "dev", "test")
TOP = 5
_NAMES = ("doc_id", "query_id", "dup_of")
_COLUMNS = {"corpus": ("doc_id", "text"), "queries": ("query_id", "text"), "qrels": ("query_id", "doc_id")}


@dataclass(frozen=True, slots=True)
class Collection:
    """Queries by split as (id, text); right posts by query; the first of each document's repeats."""

    name: str
    texts: Mapping[str, str]
    queries: Mapping[str, list[tuple[str, str]]]
    right: Mapping[str, frozenset[str]]
    first: Mapping[str, str]

    def repeats(self, ids: frozenset[str]) -> frozenset[str]:
        """All documents that say the same as one of these."""
        return frozenset(one for one, first in self.first.items() if first in ids)


def read_collection(options: dict[str, str]) -> Collection:
    """The collection at --data, or the development one. Raises UsageError when a file or column is missing."""
    folder = data_folder(options, *(() if "data" in options else (DEVELOPMENT,)))
    folder = folder if "data" in options else folder / DEVELOPMENT
    corpus, queries, qrels = (_read(folder / f"{name}.parquet", columns) for name, columns in _COLUMNS.items())
    first = {row["doc_id"]: row.get("dup_of") or row["doc_id"] for row in corpus}
    right: dict[str, set[str]] = {}
    for row in qrels:
        if row.get("relevance", 1) > 0 and row["doc_id"] in first:
            right.setdefault(row["query_id"], set()).add(first[row["doc_id"]])
    by_split: dict[str, list[tuple[str, str]]] = {}
    for row in queries:
        if row["query_id"] in right:
            by_split.setdefault(row.get("split") or "test", []).append((row["query_id"], row["text"]))
    texts = {row["doc_id"]: "\n".join(part for part in (row["text"], row.get("title")) if part) for row in corpus}
    return Collection(folder.name, texts, by_split, {query: frozenset(ids) for query, ids in right.items()}, first)


def _read(path: Path, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist; --data names a folder with queries, corpus and qrels as Parquet")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{path} cannot be read as Parquet: {error}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise UsageError(
            f"{path} has no column {missing[0]!r}, only {', '.join(table.column_names)}; a collection needs there: {', '.join(columns)}"
        )
    rows: list[dict[str, Any]] = table.to_pylist()
    named = [{key: str(value) if key in _NAMES and value is not None else value for key, value in row.items()} for row in rows]
    return named


@contextmanager
def indexed(collection: Collection, embeddings: Embeddings | None) -> Iterator[EmbeddedIndex]:
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
        index.catch_up(store, embeddings=embeddings)
        yield index


class KeptEmbeddings:
    """Vectors of another maker, kept on disk."""

    def __init__(self, make: Callable[[], Embeddings], name: str) -> None:
        self._make, self._path = make, CACHE / f"{name}.npz"
        self._made: Embeddings | None = None
        self._known: dict[str, npt.NDArray[np.float32]] = {}
        self._is_new = False
        if self._path.is_file():
            with np.load(self._path, allow_pickle=False) as kept:
                self._known = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))
        self.dim, self.name = 384, name

    def vectors(self, texts: pa.Array) -> npt.NDArray[np.float32]:
        """One unit row per text."""
        listed = [text or "" for text in texts.to_pylist()]
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in listed]
        missing = sorted(
            {key: text for key, text in zip(keys, listed, strict=True) if key not in self._known}.items(), key=lambda one: len(one[1])
        )
        if missing:
            self._made = self._made or self._make()
            made = self._made.vectors(pa.array([text for _, text in missing], pa.large_string()))
            self._known |= dict(zip((key for key, _ in missing), made, strict=True))
            self._is_new = True
        return np.stack([self._known[key] for key in keys]) if keys else np.zeros((0, self.dim), np.float32)

    def keep(self) -> None:
        """Write what is new."""
        if self._is_new:
            CACHE.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as part, part.open("wb") as file:
                np.savez(file, keys=np.array(list(self._known)), vectors=np.stack(list(self._known.values())))


def minilm() -> KeptEmbeddings:
    """MiniLM with its vectors kept."""
    return KeptEmbeddings(load_minilm, "all-minilm-l6-v2")


def average_precision(found: Sequence[str], right: frozenset[str], first: Mapping[str, str]) -> float:
    """Average precision among the first `TOP` distinct documents."""
    distinct = list(dict.fromkeys(first[one] for one in found))[:TOP]
    hits, total = 0, 0.0
    for rank, one in enumerate(distinct, start=1):
        if one in right:
            hits += 1
            total += hits / rank
    return total / min(len(right), TOP)
