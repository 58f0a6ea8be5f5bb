"""`agora search index` and `agora search find`."""

from __future__ import annotations

import json
import shutil
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
from agora.text.embeddings import LexicalEmbeddings
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
    assert found["confidence"] is None  # until it was tuned
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


def imported(workspace: Path, *records: dict[str, Any]) -> dict[str, Any]:
    """What `agora posts import` says of a file with these records."""
    file = workspace.parent / f"{workspace.name}.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    result = CliRunner().invoke(app, ["posts", "import", str(file), "--workspace", str(workspace), "--json"])
    assert result.exit_code == 0, result.exception
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def jetstream(operation: str, key: str, text: str = "") -> dict[str, Any]:
    """An event of the Bluesky Jetstream."""
    commit: dict[str, Any] = {"rev": "1", "operation": operation, "collection": "app.bsky.feed.post", "rkey": key}
    if operation != "delete":
        commit |= {"cid": "c", "record": {"$type": "app.bsky.feed.post", "createdAt": "2026-11-22T12:00:00Z", "text": text}}
    return {"did": "did:plc:ada", "time_us": 1_764_000_000_000_000, "kind": "commit", "commit": commit}


def test_a_deletion_that_is_imported_leaves_index_and_stored_answers(workspace: Path) -> None:
    imported(workspace, jetstream("create", "s1", "zebrasecret is what the ferry is called"))
    as_json(workspace, "index", "--embeddings", "none")
    assert as_json(workspace, "find", "zebrasecret")["total"] == 1
    assert as_json(workspace, "ask", "What is zebrasecret?")["posts"]
    assert imported(workspace, jetstream("delete", "s1"))["deletions"] == 1
    assert as_json(workspace, "find", "zebrasecret")["total"] == 0
    kept = [file.read_text() for file in (workspace / "search" / "answers").glob("*.json")]
    assert not any("zebrasecret" in text for text in kept)


@pytest.mark.parametrize("words", [["storm"], ["storm", "--latest"], ["ferry storm from:ada"]])
def test_what_was_deleted_is_not_found_before_the_index_knows(workspace: Path, words: list[str]) -> None:
    as_json(workspace, "index", "--embeddings", "lexical")
    before = as_json(workspace, "find", *words)
    assert "p1" in {hit["id"] for hit in before["hits"]}
    with PostStore.open(workspace / "posts") as store:
        store.delete_posts(["p1"])
    found = as_json(workspace, "find", *words)
    assert "p1" not in {hit["id"] for hit in found["hits"]} and found["total"] == before["total"] - 1
    assert as_json(workspace, "index")["deleted"] == 1


def test_what_is_not_indexed_is_said(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    assert as_json(workspace, "find", "zebra")["notes"] == []
    with PostStore.open(workspace / "posts") as store:
        store.append(posts_table([post("z1", "ida", "a zebra in the harbour")]))
    assert "1 post of the store is not in the index: agora search index" in as_json(workspace, "find", "zebra")["notes"]
    assert "1 post of the store is not in the index: agora search index" in as_json(workspace, "find", "zebra", "--latest")["notes"]
    assert "1 post of the store is not in the index: agora search index" in as_json(workspace, "ask", "Where is the zebra?")["warnings"]
    shutil.rmtree(workspace / "index")
    assert "11 posts of the store are not in the index: agora search index" in as_json(workspace, "find", "storm")["notes"]


def test_a_change_of_vectors_that_was_killed_leaves_searches_by_words_and_goes_on(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_json(workspace, "index", "--embeddings", "lexical")
    monkeypatch.setattr(LexicalEmbeddings, "name", property(lambda self: "other"))
    monkeypatch.setattr(LexicalEmbeddings, "dim", property(lambda self: 8))
    found = as_json(workspace, "find", "storm ferry", "--explain")  # a query of 8 numbers, posts of 128
    assert found["hits"] and not any("meaning" in hit["parts"] for hit in found["hits"])
    assert any("no vectors yet" in note for note in found["notes"])
    assert as_json(workspace, "ask", "Why is the ferry cancelled?")["warnings"]


def test_which_vectors_were_chosen_is_known_before_the_first_of_them_is_made(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_json(workspace, "index", "--embeddings", "none")

    def killed(self: LexicalEmbeddings, texts: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(LexicalEmbeddings, "vectors", killed)
        run(workspace, "index", "--embeddings", "lexical")
    assert as_json(workspace, "find", "storm ferry")["hits"]
    assert as_json(workspace, "index")["embeddings"] == "lexical"


def test_latest_heeds_every_other_option_or_refuses_it(workspace: Path) -> None:
    as_json(workspace, "index", "--embeddings", "none")
    assert "a passage has no latest" in str(run(workspace, "find", "storm", "--latest", "--passage").exception)
    assert {hit["id"] for hit in as_json(workspace, "find", "bread ferry", "--latest", "--match", "any")["hits"]} == {"p1", "p2", "p4"}
    assert as_json(workspace, "find", "bread ferry", "--latest", "--match", "all")["hits"] == []
    hits = as_json(workspace, "find", "storm", "--latest", "--explain")["hits"]
    assert [hit["why"][0] for hit in hits] == [f"place {place} by time, newest first" for place in range(1, len(hits) + 1)]
    assert any("labelled: They act as c1." in hit["why"] for hit in hits)
