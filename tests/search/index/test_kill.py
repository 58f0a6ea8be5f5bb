"""The embedded index and kill -9: it opens again, and nothing that the store acknowledged is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agora.errors import PostIndexError
from agora.posts.store import PostStore
from agora.search.index import embedded
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.generation import Generation
from agora.search.index.text import ReadPost, TextIndex
from agora.search.query.syntax import AtLeast, From, Lang, Not, Or, Word
from agora.text.embeddings import LexicalEmbeddings
from tests.search.index.made_posts import some_posts, table
from tests.search.index.test_contract import store_posts

WRITER = """
import sys
from pathlib import Path
from agora.posts.store import PostStore
from agora.search.index import embedded
from agora.text.embeddings import LexicalEmbeddings

embedded._BATCH_ROWS, embedded._SEAL_S = 16, 0.0
index, store = embedded.EmbeddedIndex.open(Path(sys.argv[1]) / "index"), PostStore.open(Path(sys.argv[1]) / "posts")
print("ready", flush=True)
while True:
    index.catch_up(store, embeddings=LexicalEmbeddings(16))
    if len(sys.argv) > 2:
        index.compact()
"""


def killed_writer(folder: Path, after_s: float, *more: str) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(folder), *more], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(after_s)
        child.kill()


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("compact",)])
def test_killed_index_opens_again_and_loses_nothing(tmp_path: Path, more: tuple[str, ...]) -> None:
    rng = random.Random(len(more))
    with PostStore.open(tmp_path / "posts", create=True) as store:
        for number in range(4):
            store.append(table(some_posts(400, first=400 * number)))
            store.delete_posts([f"p{400 * number + place}" for place in (1, 7)])
            killed_writer(tmp_path, rng.uniform(0.02, 0.5), *more)
            with EmbeddedIndex.open(tmp_path / "index") as index:  # a reader sees something whole
                ids = index.latest(None, 10_000).ids
                assert len(ids) == len(set(ids)) == index.num_posts == index.get(ids).num_rows
        with EmbeddedIndex.open(tmp_path / "index") as index:
            index.catch_up(store, embeddings=LexicalEmbeddings(16))
            with EmbeddedIndex.open(tmp_path / "anew") as anew:
                anew.catch_up(store, embeddings=LexicalEmbeddings(16))
                living = {post["id"] for post in store_posts(store)}
                assert set(index.latest(None, 10_000).ids) == living
                assert set(index.find_text(["vote"], None, 10_000).ids) == set(anew.find_text(["vote"], None, 10_000).ids)
                assert index.get(sorted(living)).equals(anew.get(sorted(living)))
                for where in (From("ada"), AtLeast("replies", 1), Not(Lang("en"))):
                    assert index.count(where) == anew.count(where)
                near = [opened.find_near(np.ones(16, np.float32), None, 10_000) for opened in (index, anew)]
                assert set(near[0].ids) == set(near[1].ids)
                np.testing.assert_array_equal(near[0].scores, near[1].scores)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store, EmbeddedIndex.open(tmp_path / "index") as first:
        store.append(table(some_posts(5)))
        first.catch_up(store)
        with EmbeddedIndex.open(tmp_path / "index") as second:
            assert second.num_posts == 5
            with pytest.raises(PostIndexError, match="written by another"):
                second.catch_up(store)
            first.close()
            store.append(table(some_posts(5, first=5)))
            assert second.catch_up(store).added == 5


def test_interrupted_batch_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Exception):
        pass

    def interrupted(self: TextIndex, row: int, read: ReadPost) -> None:
        add(self, row, read)
        if row == 15:
            raise Interrupted

    add = TextIndex.add
    with PostStore.open(tmp_path / "posts", create=True) as store, EmbeddedIndex.open(tmp_path / "index") as index:
        store.append(table(some_posts(10)))
        index.catch_up(store)
        store.append(table(some_posts(10, first=10)))
        monkeypatch.setattr(TextIndex, "add", interrupted)
        with pytest.raises(Interrupted):
            index.catch_up(store)
        assert index.num_posts == 10
        monkeypatch.undo()
        assert index.catch_up(store).added == 10
        ids = index.latest(Or((Word("vote"), Not(Word("vote")))), 100).ids
        assert len(ids) == len(set(ids)) == 20


def test_damage_is_named(tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store, EmbeddedIndex.open(tmp_path / "index") as index:
        store.append(table(some_posts(5)))
        index.catch_up(store)
    rows = tmp_path / "index" / "g0" / "rows.bin"
    rows.write_bytes(rows.read_bytes()[:-1])
    with pytest.raises(PostIndexError, match=r"rows\.bin.*made anew"):
        EmbeddedIndex.open(tmp_path / "index")
    (tmp_path / "index" / "state.json").write_text("{}")
    with pytest.raises(PostIndexError, match=r"state\.json"):
        EmbeddedIndex.open(tmp_path / "index")


def test_another_store_starts_the_index_anew(tmp_path: Path) -> None:
    with EmbeddedIndex.open(tmp_path / "index") as index:
        for name, count in (("one", 20), ("two", 6)):
            with PostStore.open(tmp_path / name, create=True) as store:
                store.append(table(some_posts(count)))
                index.catch_up(store)
                assert index.num_posts == count


def test_what_was_taken_in_some_seconds_before_a_kill_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 8))
    monkeypatch.setattr(embedded, "_BATCH_ROWS", 16)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    adding = Generation.add

    def add(self: Generation, posts: list[Any]) -> int:
        if posts[0]["id"] == "p80":
            raise KeyboardInterrupt
        return adding(self, posts)

    monkeypatch.setattr(Generation, "add", add)
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(table(some_posts(200)))
        with EmbeddedIndex.open(tmp_path / "index") as index, pytest.raises(KeyboardInterrupt):
            index.catch_up(store)
    with EmbeddedIndex.open(tmp_path / "index") as index:
        assert index.num_posts >= 32
