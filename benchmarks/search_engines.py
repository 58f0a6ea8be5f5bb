"""The embedded index against LanceDB on the same posts: milliseconds per search, in turns, and recall. See docs/decisions/0005.

python -m benchmarks search_engines [--posts N] [--data FOLDER]

Words with a filter on language and time, and vectors with the same filter; LanceDB has a full-text index, scalar indexes and IVF_HNSW_SQ,
and filters before it ranks.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.registry import SHARED_DATA, Benchmark, Result, whole_number
from benchmarks.search_speed import some_posts, some_queries

_ROUNDS, _PER_ROUND, _FOUND = 3, 25, 100


def _lance(folder: Path, posts: pa.Table, made: npt.NDArray[np.float32]) -> Any:
    os.environ.setdefault("LANCE_LOG", "error")  # it warns of a coming change at every search
    import lancedb
    from lancedb.index import FTS, Bitmap, BTree, HnswSq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(made.reshape(-1)), made.shape[1])
    table = lancedb.connect(folder).create_table(
        "posts", posts.select(["id", "text", "lang", "created_at"]).append_column("vector", vectors)
    )
    for name, config in (("text", FTS()), ("lang", Bitmap()), ("created_at", BTree()), ("vector", HnswSq(distance_type="dot"))):
        table.create_index(name, config=config)
    return table


def _lance_ids(table: Any, vector: npt.NDArray[np.float32]) -> list[str]:
    return list(table.search(vector).select(["id", "_distance"]).limit(10).to_arrow()["id"].to_pylist())


def _recall(found: Callable[[int], list[str]], made: npt.NDArray[np.float32], asked: npt.NDArray[np.float32], ids: list[str]) -> float:
    places = {key: place for place, key in enumerate(ids)}
    shares = []
    for number, query in enumerate(asked):
        products = made @ query
        tenth = np.partition(products, len(products) - 10)[len(products) - 10]
        shares.append(sum(products[places[key]] >= tenth - 1e-6 for key in found(number)) / 10)
    return float(np.mean(shares))


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.store import PostStore
    from agora.search.index.embedded import EmbeddedIndex
    from agora.search.query.syntax import And, Lang, Since
    from agora.text.embeddings import load_embeddings

    posts = some_posts(whole_number(options, "posts", 20_000 if quick else 100_000, at_least=1000), Path(options.get("data", SHARED_DATA)))
    embeddings = load_embeddings()
    made = embeddings.vectors(posts["text"].combine_chunks().cast(pa.large_string()))
    queries = some_queries(posts, _ROUNDS * _PER_ROUND, 1)
    asked = embeddings.vectors(pa.array([text for _, text in queries], pa.large_string()))
    moments = np.sort(np.asarray(posts["created_at"].cast(pa.int64())))
    middle = datetime.fromtimestamp(int(moments[len(moments) // 2]) / 1e6, timezone.utc)
    where, sql = And((Lang("en"), Since(middle))), f"lang = 'en' AND created_at >= timestamp '{middle:%Y-%m-%d %H:%M:%S}'"
    with tempfile.TemporaryDirectory() as name, PostStore.open(Path(name) / "posts", create=True) as store:
        store.append(posts)
        with EmbeddedIndex.open(Path(name) / "index") as index:
            started = time.perf_counter()
            index.catch_up(store, embeddings=embeddings)
            built = {"embedded_build_with_vectors_s": time.perf_counter() - started}
            started = time.perf_counter()
            table = _lance(Path(name) / "lance", posts, made)
            built["lance_build_vectors_given_s"] = time.perf_counter() - started
            fast: dict[str, Callable[[int], Any]] = {
                "embedded_words": lambda n: index.find_text(queries[n][0], where, _FOUND),
                "lance_words": lambda n: (
                    table.search(queries[n][1], query_type="fts")
                    .where(sql, prefilter=True)
                    .select(["id", "_score"])
                    .limit(_FOUND)
                    .to_arrow()
                ),
                "embedded_near": lambda n: index.find_near(asked[n], where, _FOUND),
                "lance_near": lambda n: table.search(asked[n]).where(sql).select(["id", "_distance"]).limit(_FOUND).to_arrow(),
            }
            seconds: dict[str, list[float]] = {key: [] for key in fast}
            for turn in range(_ROUNDS):
                for key, ask in fast.items():
                    for number in range(turn * _PER_ROUND, (turn + 1) * _PER_ROUND):
                        started = time.perf_counter()
                        ask(number)
                        seconds[key].append(time.perf_counter() - started)
            ids = posts["id"].to_pylist()
            recall = {
                "embedded_recall": _recall(lambda n: index.find_near(asked[n], None, 10).ids, made, asked, ids),
                "lance_recall": _recall(
                    lambda n: table.search(asked[n]).select(["id"]).limit(10).to_arrow()["id"].to_pylist(), made, asked, ids
                ),
            }
    times = {
        f"{key}_p{int(part * 100)}_ms": float(np.quantile(found, part)) * 1e3 for key, found in seconds.items() for part in (0.5, 0.95)
    }
    details = {"posts": posts.num_rows, "dim": embeddings.dim, **built, **times, **recall, "load": os.getloadavg()[0]}
    ratio = times["lance_words_p50_ms"] / times["embedded_words_p50_ms"]
    return Result(value=ratio, holds=ratio >= 1, details=details)


BENCHMARK = Benchmark(
    measures="LanceDB's time over the embedded index's, words with a filter",
    unit="times",
    bound=">= 1",
    run=_run,
    options=("posts", "data"),
)
