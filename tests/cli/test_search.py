"""`agora search index` and `agora search find`."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import PostIndexError, QuerySyntaxError, StoreError, UsageError
from agora.integrity.labels import write_labels
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from tests.search.conftest import labels_of, post


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Four posts of ordinary accounts, six of a campaign; nothing indexed."""
    rows = [
        post("p1", "ada", "The ferry is cancelled because of the storm", minutes_ago=60),
        post("p2", "bob", "the ferry is cancelled because of the storm!", minutes_ago=50),
        post("p3", "eve", "Storm over the harbour", minutes_ago=40),
        post("p4", "bob", "Bread is cheap", minutes_ago=30),
    ]
    rows += [
        post(f"f{number}", f"c{number}", f"storm hoax number {number * 31} told by {number}", minutes_ago=number) for number in range(6)
    ]
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows))
    write_labels(labels_of(*(f"c{number}" for number in range(6))), tmp_path / "integrity")
    return tmp_path


def run(workspace: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["search", *words, "--workspace", str(workspace)], catch_exceptions=True)


def as_json(workspace: Path, *words: str) -> dict[str, Any]:
    result = run(workspace, *words, "--json")
    assert result.exit_code == 0, result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_what_is_indexed_is_found_with_one_voice_per_campaign(workspace: Path) -> None:
    done = as_json(workspace, "index", "--embeddings", "none")
    assert (done["added"], done["posts"], done["embeddings"], done["labels"]) == (10, 10, "none", 6)
    found = as_json(workspace, "find", "storm")
    assert {hit["id"] for hit in found["hits"]} > {"p1", "p3"}
    assert sum(hit["label"] is not None for hit in found["hits"]) == 1
    assert next(hit for hit in found["hits"] if hit["id"] == "p1")["alike"] == 1
    assert found["confidence"] is None  # nothing was tuned here
    assert as_json(workspace, "index")["added"] == 0


def test_index_follows_for_a_time(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    with PostStore.open(workspace / "posts") as store:
        timer = threading.Timer(0.5, lambda: store.append(posts_table([post("p9", "ida", "an avalanche")])))
        timer.start()
        done = as_json(workspace, "index", "--follow", "--for", "2s")
        timer.join()
    assert (done["added"], done["posts"]) == (1, 11)
    assert "give both" in str(run(workspace, "index", "--for", "2s").exception)


def test_explain_shows_every_part_and_latest_is_by_time(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "lexical")
    for hit in as_json(workspace, "find", "storm ferry", "--explain")["hits"]:
        assert hit["score"] == pytest.approx(sum(hit["parts"].values()))
        assert hit["why"]
    times = [hit["created_at"] for hit in as_json(workspace, "find", "storm", "--latest")["hits"]]
    assert times == sorted(times, reverse=True)
    shown = run(workspace, "find", "storm", "--explain")
    assert "[coordinated] They act as c1." in shown.stdout
    assert "score " in shown.stdout
    assert "+1 alike" in shown.stdout


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("find", "storm"), PostIndexError, "agora search index"),
        (("index", "--embeddings", "nowhere"), UsageError, "'nowhere' is no folder"),
        (("find", "storm", "--match", "some"), UsageError, "--match 'some'"),
    ],
)
def test_mistakes_say_what_to_do(workspace: Path, words: tuple[str, ...], error: type[Exception], says: str) -> None:
    result = run(workspace, *words)
    assert isinstance(result.exception, error)
    assert says in str(result.exception)


def test_a_broken_query_names_its_place(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    result = run(workspace, "find", "(storm")
    assert isinstance(result.exception, QuerySyntaxError)


@pytest.mark.parametrize("query", ["-filter:replies storm", "-lang:de storm", "-(bread OR ferry) storm", "-n storm"])
def test_a_query_may_begin_with_a_minus_sign(workspace: Path, query: str) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    found = as_json(workspace, "find", query, "-n", "5")
    assert "p3" in {hit["id"] for hit in found["hits"]}
    assert run(workspace, "find", "storm", "--limti", "5").exit_code == 2


def test_no_model_is_loaded_where_there_are_no_posts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.search.workspace.load_minilm", lambda: pytest.fail("loaded"))
    for words in (("index", "--embeddings", "minilm"), ("find", "storm")):
        assert isinstance(run(tmp_path, *words).exception, (StoreError, PostIndexError))


def test_what_holds_some_words_only_stands_below_a_line(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    shown = run(workspace, "find", "storm ferry because cancelled zebra").stdout.splitlines()
    assert shown[0].startswith("note: 0 posts hold all of this; the others hold some of it")
    assert shown[1] == "--- hold some of it, or mean the like ---"
    strict = run(workspace, "find", "bread zebra").stdout
    assert "note: 0 posts hold all of this; 1 holds some of it: --match any" in strict and "bob" not in strict
    assert all(hit["is_loose"] for hit in as_json(workspace, "find", "is bread a zebra?")["hits"])
