"""Search tuned to judgements: learned on some queries, scored on others, used from then on."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import UsageError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.confidence import auroc
from agora.search.rerank import FEATURES
from agora.search.workspace import index_posts, open_searcher, tune_workspace
from agora.settings import Workspace
from tests.search.conftest import NOW, post

NUM_QUERIES = 40


def judgements(folder: Path, *, is_random: bool = False, splits: bool = True, corpus: bool = True) -> list[dict[str, str]]:
    """Of three posts with the words of a query the longest is right, or any (`is_random`). Returns the posts."""
    rng = random.Random(5)
    filler = [f"filler{number}" for number in range(60)]
    documents, queries, qrels = [], [], []
    for number in range(NUM_QUERIES):
        words = [f"topic{number}{letter}" for letter in "abc"]
        for place, length in enumerate((2, 3, 25)):
            documents.append({"doc_id": f"d{number}-{place}", "text": " ".join([*words, *rng.sample(filler, length)])})
        queries.append({"query_id": f"q{number}", "text": " ".join(words), "split": "train" if number % 2 else "test"})
        qrels.append({"query_id": f"q{number}", "doc_id": f"d{number}-{rng.randrange(3) if is_random else 2}", "relevance": 1})
    folder.mkdir()
    tables = {"queries": queries if splits else [{**one, "split": None} for one in queries], "qrels": qrels}
    for name, rows in (tables | ({"corpus": documents} if corpus else {})).items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return documents


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """A workspace whose posts are the documents of the judgements."""
    place = Workspace(tmp_path / "workspace").create()
    documents = judgements(tmp_path / "own", corpus=False)
    with PostStore.open(place.folder("posts"), create=True) as store:
        store.append(posts_table([post(one["doc_id"], "ada", one["text"]) for one in documents]))
    index_posts(place, embeddings="none")
    return place


def tuned(place: Workspace, folder: Path, *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(
        app, ["search", "tune", str(folder), "--workspace", str(place.root), "--embeddings", "none", "--json", *more]
    )
    assert result.exit_code == 0, result.output
    printed: dict[str, Any] = json.loads(result.stdout)
    return printed


def first_hit(place: Workspace, text: str) -> Any:
    with open_searcher(place) as searcher:
        return searcher.find(text, passage=True, now=NOW)


def test_what_was_learned_holds_on_queries_not_seen_and_is_used(place: Workspace, tmp_path: Path) -> None:
    assert first_hit(place, "topic4a topic4b topic4c").hits[0].post["id"] != "d4-2"
    printed = tuned(place, tmp_path / "own")  # judgements about the workspace's own posts
    assert (printed["trained_on_queries"], printed["held_out_queries"], printed["held_out"]) == (20, 20, "splits test")
    assert printed["map_at_5_without"] < 0.7 and printed["map_at_5_with"] > 0.95 and printed["worse"] == 0
    assert printed["auroc_of_confidence"] > 0.9
    results = first_hit(place, "topic4a topic4b topic4c")
    assert results.hits[0].post["id"] == "d4-2" and set(FEATURES) <= set(results.hits[0].parts)
    assert results.confidence > 0.5 > first_hit(place, "filler1 filler2 whales").confidence


def test_without_splits_every_query_is_scored_by_what_has_not_seen_it(place: Workspace, tmp_path: Path) -> None:
    judgements(tmp_path / "folds", splits=False)
    printed = tuned(place, tmp_path / "folds", "--out", str(tmp_path / "out"))
    assert (printed["trained_on_queries"], printed["held_out_queries"]) == (NUM_QUERIES, NUM_QUERIES)
    assert printed["map_at_5_with"] > 0.95 and sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "confidence.json",
        "reranker.json",
    ]
    assert not (place.folder("search") / "reranker.json").exists()


def test_judgements_that_mean_nothing_leave_no_reranker(place: Workspace, tmp_path: Path) -> None:
    judgements(tmp_path / "noise", is_random=True, splits=False)
    tuned(place, tmp_path / "own")
    printed = tuned(place, tmp_path / "noise")
    assert printed["map_at_5_with"] < 0.85
    assert (place.folder("search") / "reranker.json").exists() == (printed["map_at_5_with"] > printed["map_at_5_without"])


def test_a_reranker_for_other_vectors_is_left_out_with_a_warning(
    place: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tuned(place, tmp_path / "own")
    index_posts(place, embeddings="lexical")
    results = first_hit(place, "topic4a topic4b topic4c")
    assert "meaning" not in results.hits[0].parts or "text_share" not in results.hits[0].parts
    assert results.confidence is None and "train it anew" in caplog.text


def test_too_few_queries_and_missing_files_are_named(place: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing/queries\.parquet does not exist"):
        tune_workspace(place, tmp_path / "nothing")
    judgements(tmp_path / "few")
    pq.write_table(pq.read_table(tmp_path / "few" / "queries.parquet").slice(0, 5), tmp_path / "few" / "queries.parquet")
    with pytest.raises(UsageError, match="5 judged queries"):
        tune_workspace(place, tmp_path / "few", embeddings="none")


def test_auroc_counts_pairs() -> None:
    there, gone = [0.2, 0.5, 0.9], [0.1, 0.5]
    pairs = [(one > other) + (one == other) / 2 for one in there for other in gone]
    assert auroc(there, gone) == pytest.approx(sum(pairs) / len(pairs))
