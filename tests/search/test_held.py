"""A searcher that stays open shows what other processes write, from any thread."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from agora.errors import PostIndexError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.answers.workspace import ask_workspace
from agora.search.authority import write_authority
from agora.search.held import HeldSearcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.query.parse import parse
from agora.search.workspace import AUTHORITY_FILE, index_posts
from agora.settings import Workspace
from tests.search.conftest import NOW, labels_of, post

WRITER = """
import json, sys
from pathlib import Path
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.settings import Workspace
from datetime import datetime

place = Workspace(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    verb, given = json.loads(line)
    with PostStore.open(place.folder("posts")) as store:
        if verb in ("append", "replace"):
            getattr(store, verb)(posts_table([{**row, "created_at": datetime.fromisoformat(row["created_at"])} for row in given]))
        elif verb == "delete":
            store.delete_posts(given)
    index_posts(place, embeddings=given if verb == "embeddings" else None, compact=verb == "compact")
    print("done", flush=True)
"""


CODES = ("de", "fr", "pt", "it", "nl", "sv")


class Other:
    """Another process that writes into a workspace."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def does(self, verb: str, given: Any = None) -> None:
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(json.dumps([verb, given], default=str) + "\n")
        self._child.stdin.flush()
        assert self._child.stdout.readline() == "done\n"


@contextmanager
def other_process(place: Workspace) -> Iterator[Other]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(place.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        try:
            yield Other(child)
        finally:
            child.kill()


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table([post("p1", "berta", "The night trains to Lindau were cancelled"), post("p2", "emil", "Bread was good")]))
    place = Workspace(tmp_path)
    index_posts(place, embeddings="lexical")
    return place


def ids(searcher: HeldSearcher, text: str) -> list[str]:
    return [hit.post["id"] for hit in searcher.find(text, now=NOW, match="all").hits]


def test_another_processs_posts_edits_deletions_and_compaction_show(place: Workspace) -> None:
    searcher = HeldSearcher(place)
    assert ids(searcher, "trains") == ["p1"]
    with other_process(place) as other:
        other.does(
            "append",
            [post("p3", "ada", "an avalanche near the pass"), post("p4", "ada", "re", kind="reply", ref_id="p1", ref_author="berta")],
        )
        assert ids(searcher, "avalanche") == ["p3"] and sorted(ids(searcher, "conversation_id:p1")) == ["p1", "p4"]
        assert ids(searcher, "min_replies:1") == ["p1"]
        other.does("replace", [post("p3", "ada", "a landslide near the pass")])
        assert ids(searcher, "avalanche") == [] and ids(searcher, "landslide") == ["p3"]
        other.does("delete", ["p3", "p4"])
        assert ids(searcher, "landslide") == [] and ids(searcher, "min_replies:1") == []
        other.does("compact")
        other.does("append", [post("p5", "ada", "an avalanche near the lake")])
        assert ids(searcher, "avalanche") == ["p5"] and ids(searcher, "trains") == ["p1"]
        other.does("embeddings", "none")
        assert ids(searcher, "avalanche") == ["p5"]


def test_what_a_search_shows_is_what_a_new_one_shows(place: Workspace) -> None:
    """Following a growing index part by part is opening it: the slow twin is a fresh process's view."""
    rng = np.random.default_rng(4)
    held = EmbeddedIndex.open(place.folder("index"))
    words = ["flood", "aare", "rhine", "train", "bread", "night"]
    with PostStore.open(place.folder("posts")) as store, EmbeddedIndex.open(place.folder("index")) as writer:
        for turn in range(6):
            rows = []
            for number in range(30):
                above = {"kind": "reply", "ref_id": f"t{turn}-{rng.integers(number + 1)}", "ref_author": "x"}
                text, lang = " ".join(rng.choice(words, 4)), rng.choice(["en", CODES[turn]])
                rows.append(post(f"t{turn}-{number}", f"a{rng.integers(5)}", text, lang=lang, **above))
            store.append(posts_table(rows))
            store.delete_posts([f"t{turn}-{number}" for number in rng.choice(30, 3, replace=False)])
            writer.catch_up(store)
            if turn == 3:
                writer.compact()
            writer.close()
            assert held.refresh() and not held.refresh()
            fresh = EmbeddedIndex.open(place.folder("index"))
            for query in (
                "flood",
                "aare rhine",
                f"lang:{CODES[turn]} flood",
                "min_replies:2",
                f"conversation_id:t{turn}-0",
                "from:a1 -bread",
            ):
                root = parse(query).root
                assert held.latest(root, 500).ids == fresh.latest(root, 500).ids
                assert held.count(root) == fresh.count(root)
            assert held.get(held.latest(None, 9).ids) == fresh.get(fresh.latest(None, 9).ids)
            assert held.num_posts == fresh.num_posts == store.num_posts


def test_labels_and_authority_show_and_labels_end_by_themselves(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = HeldSearcher(place)
    assert searcher.find("trains", now=NOW).hits[0].label is None
    soon = datetime.now(timezone.utc) + timedelta(hours=1)
    labels = labels_of("berta")
    labels = labels.set_column(labels.schema.get_field_index("expires_at"), labels.schema.field("expires_at"), [[soon.isoformat()]])
    place.folder("integrity").mkdir()
    pq.write_table(labels, place.folder("integrity") / "labels.parquet")
    assert searcher.find("trains", now=NOW).hits[0].label == "They act as c1."
    assert ids(searcher, "label:coordinated") == ["p1"]
    write_authority({"emil": 1.0}, place.folder("search") / AUTHORITY_FILE)
    assert searcher.find("bread", now=NOW).hits[0].parts["authority"] > 0

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Later:
            return super().now(tz) + timedelta(hours=1)

    for module in ("agora.search.held", "agora.integrity.labels"):
        monkeypatch.setattr(f"{module}.datetime", Later)
    assert searcher.find("trains", now=NOW).hits[0].label is None and ids(searcher, "label:coordinated") == []


def test_many_threads_search_while_another_process_writes(place: Workspace) -> None:
    searcher = HeldSearcher(place)
    with other_process(place) as other, ThreadPoolExecutor(3) as pool:
        is_over = False

        def search() -> int:
            turns = 0
            while not is_over:
                found = searcher.find("flood trains", now=NOW, match="any")
                assert {hit.post["id"] for hit in found.hits} <= {"p1", "p2", *(f"n{number}" for number in range(4))}
                turns += 1
                time.sleep(0.05)
            return turns

        running = [pool.submit(search) for _ in range(3)]
        for number in range(4):
            other.does("append", [post(f"n{number}", f"a{number}", f"flood number {number} {'x' * number}")])
            if number == 2:
                other.does("compact")
        other.does("delete", ["n0"])
        is_over = True
        assert all(one.result() > 0 for one in running)
    assert "n0" not in ids(searcher, "flood") and len(ids(searcher, "flood")) == 3


def test_what_is_no_longer_shown_is_let_go(place: Workspace) -> None:
    searcher = HeldSearcher(place)
    assert ids(searcher, "trains") == ["p1"]
    assert searcher._held is not None
    old = weakref.ref(searcher._held.index._generation)
    index_posts(place, compact=True)
    assert ids(searcher, "trains") == ["p1"]
    gc.collect()
    assert old() is None


def test_a_look_at_an_index_that_did_not_change_reads_no_post(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = HeldSearcher(place)
    first = searcher.current()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing changed, so nothing is read")

    monkeypatch.setattr("agora.search.held.make_searcher", refuse)
    monkeypatch.setattr("agora.search.index.generation.Generation.follow", refuse)
    assert searcher.current() is first


def test_a_workspace_without_an_index_says_so_until_it_has_one(tmp_path: Path) -> None:
    place, searcher = Workspace(tmp_path), HeldSearcher(Workspace(tmp_path))
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table([post("p1", "berta", "night trains to Lindau")]))
    with pytest.raises(PostIndexError, match="agora search index"):
        searcher.find("trains")
    index_posts(place, embeddings="none")
    assert ids(searcher, "trains") == ["p1"]


def test_answers_come_from_a_searcher_that_is_held(place: Workspace) -> None:
    searcher = HeldSearcher(place)
    answer = ask_workspace(place, "What about night trains to Lindau?", now=NOW, finder=searcher)
    assert [sentence.post_ids for sentence in answer.sentences] == [("p1",)]
