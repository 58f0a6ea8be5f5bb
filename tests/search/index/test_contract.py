"""What every index promises: each test runs on each backend."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agora.integrity.labels import LABEL_SCHEMA
from agora.posts.schema import REPLY, REPOST
from agora.posts.store import PostStore
from agora.search.index import FOUND_SCHEMA, PostIndex
from agora.search.index.embedded import EmbeddedIndex
from agora.search.query import syntax
from agora.search.query.matching import Engagement, MatchContext, matches
from agora.search.query.syntax import And, AtLeast, Conversation, From, Has, Labelled, Lang, Node, Not, Or, Since, Word
from agora.text.embeddings import LexicalEmbeddings
from agora.text.words import words
from tests.search.index.made_posts import ACCOUNTS, NOW, START, WORDS, some_posts, table

Post = dict[str, Any]


_LABEL = {"is_automatic": True, "confidence": 1.0, "campaign": "c1", "expires_at": "9999-01-01T00:00:00Z"}


def label_rows(accounts: list[str], posts: list[str]) -> pa.Table:
    rows = [("account", name) for name in accounts] + [("post", name) for name in posts]
    filled: list[dict[str, Any]] = []
    for kind, name in rows:
        row = {field.name: "" for field in LABEL_SCHEMA}
        filled.append({**row, "kind": kind, "id": name, **_LABEL})
    return pa.Table.from_pylist(filled, schema=LABEL_SCHEMA)


def context_of(
    posts: list[Post], accounts: frozenset[str] = frozenset(), labelled: frozenset[str] = frozenset(), threads: Sequence[Post] = ()
) -> MatchContext:
    """What the twin needs to know, worked out the slow way; `threads`: posts that may have gone, and still hold threads together."""
    by_id = {post["id"]: post for post in posts}

    def engagement(key: str) -> Engagement:
        def distinct(kind: str) -> int:
            authors = {post["author"] for post in posts if post["ref_id"] == key and post["kind"] == kind}
            return len({"one voice" if author in accounts else author for author in authors})

        return Engagement(faves=0, reposts=distinct(REPOST), replies=distinct(REPLY))

    by_id |= {post["id"]: post for post in threads}

    def above(key: str) -> set[str]:
        seen: set[str] = set()
        while key in by_id and by_id[key]["kind"] == REPLY and by_id[key]["ref_id"] and by_id[key]["ref_id"] not in seen:
            key = by_id[key]["ref_id"]
            seen.add(key)
        return seen

    return MatchContext(NOW, accounts, labelled, engagement, above)


def random_node(rng: random.Random, depth: int = 2) -> Node:
    if depth and rng.random() < 0.6:
        parts = tuple(random_node(rng, depth - 1) for _ in range(rng.choice([2, 2, 3])))
        return rng.choice([lambda: And(parts), lambda: Or(parts), lambda: Not(parts[0])])()
    moment = START + timedelta(minutes=rng.randrange(4000))
    account = rng.choice([*ACCOUNTS, "nobody", "BOB"])
    return rng.choice(
        [
            lambda: Word(rng.choice(WORDS)),
            lambda: syntax.Phrase(f"{rng.choice(WORDS)} {rng.choice(WORDS)}"),
            lambda: From(account),
            lambda: syntax.To(account),
            lambda: syntax.Mention(rng.choice(["ada", "eve", "EVE"])),
            lambda: syntax.Hashtag(rng.choice(["vote", "Brexit", "no"])),
            lambda: syntax.Cashtag("acme"),
            lambda: syntax.Url(rng.choice(["example.org", "example.org/news", "two/three", "org/nothing", "example.com/two"])),
            lambda: Lang(rng.choice(["en", "en-gb", "pt", "und", "de"])),
            lambda: Since(moment),
            lambda: syntax.Until(moment),
            lambda: syntax.WithinTime(rng.randrange(1, 300_000)),
            lambda: Has(rng.choice(syntax.FILTERS)),
            lambda: AtLeast(rng.choice(syntax.COUNTED), rng.randrange(0, 4)),
            lambda: Conversation(f"p{rng.randrange(60)}"),
            lambda: Labelled(),
        ]
    )()


def found(index: PostIndex, node: Node | None) -> set[str]:
    return set(index.latest(node, 10_000, now=NOW).ids)


@pytest.mark.parametrize("seed", range(3))
def test_index_finds_what_matching_says(index: PostIndex, store: PostStore, seed: int) -> None:
    posts = some_posts(120, seed)
    store.append(table(posts[:70]))
    labels = label_rows(["eve", "ada"], ["p3", "p77"])
    index.catch_up(store, labels=labels)
    store.append(table(posts[70:]))
    index.catch_up(store)
    store.delete_posts(["p5", "p80"])
    store.delete_authors(["çelik"])
    index.catch_up(store)
    living = store_posts(store)
    context = context_of(living, frozenset({"eve", "ada"}), frozenset({"p3", "p77"}), posts)
    rng = random.Random(seed)
    for _ in range(150 if isinstance(index, EmbeddedIndex) else 30):  # Milvus Lite takes ten times as long
        node = random_node(rng)
        expected = {post["id"] for post in living if matches(node, post, context)}
        assert found(index, node) == expected, node
        assert index.count(node, now=NOW) == len(expected), node
        asked = [*words(rng.choice(WORDS)), *words(rng.choice(WORDS))]
        holding = {post["id"] for post in living if set(asked) & tokens(post)}
        assert set(index.find_text(asked, node, 1000, now=NOW).ids) == expected & holding, (asked, node)
        all_of_them = {post["id"] for post in living if set(asked) <= tokens(post)}
        assert set(index.find_text(asked, node, 1000, match="all", now=NOW).ids) == expected & all_of_them, (asked, node)


def tokens(post: Post) -> set[str]:
    from agora.search.query.matching import ReadPost

    return set(ReadPost(post).tokens)


def store_posts(store: PostStore) -> list[Post]:
    return pa.Table.from_batches(list(store.scan())).to_pylist()


def test_filter_holds_before_ranking(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(300)
    for post in posts:
        post["text"], post["author"] = "vote vote", "many"
    posts[7]["author"], posts[7]["text"] = "one", "please vote on this long text of no special rank at all"
    store.append(table(posts))
    index.catch_up(store, labels=label_rows([], ["p7"]))
    for where in (From("one"), Labelled(), And((From("one"), Labelled())), Not(From("many"))):
        assert index.find_text(["vote"], where, 1).ids == ["p7"]


def test_near_ranks_as_the_inner_products_do(index: PostIndex, store: PostStore) -> None:
    embeddings = LexicalEmbeddings(32)
    posts = some_posts(200, 5)
    store.append(table(posts))
    index.catch_up(store, embeddings=embeddings)
    vectors = embeddings.vectors(pa.array([post["text"] for post in posts], pa.large_string()))
    query = embeddings.vectors(pa.array(["vote brexit"], pa.large_string()))[0]
    products = {post["id"]: float(vector @ query) for post, vector in zip(posts, vectors, strict=True) if vector.any()}
    hits = index.find_near(query, Lang("en"), 10)
    allowed = {post["id"] for post in posts if (post["lang"] or "").startswith("en")} & set(products)
    best = sorted((products[key] for key in allowed), reverse=True)[:10]
    assert set(hits.ids) <= allowed
    np.testing.assert_allclose([products[key] for key in hits.ids], best, atol=0.02)  # 8 bits per dimension, unit length
    np.testing.assert_allclose(hits.scores, best, atol=0.02)


def test_vectors_come_later_and_change_with_the_model(index: PostIndex, store: PostStore) -> None:
    store.append(table(some_posts(50)))
    index.catch_up(store)
    assert index.find_near(np.ones(16, np.float32), None, 5).ids == []
    for dim in (16, 24):
        index.catch_up(store, embeddings=LexicalEmbeddings(dim))
        assert len(index.find_near(np.ones(dim, np.float32), None, 5).ids) == 5


def test_latest_is_strictly_by_time(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(100)
    store.append(table(posts))
    index.catch_up(store)
    moments = {post["id"]: post["created_at"] for post in posts}
    hits = index.latest(None, 30)
    assert [moments[key] for key in hits.ids] == sorted(moments.values(), reverse=True)[:30]
    before = moments[hits.ids[10]]
    assert all(moments[key] < before for key in index.latest(None, 30, before).ids)


def test_get_returns_posts_in_the_order_asked(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(40)
    store.append(table(posts))
    index.catch_up(store)
    got = index.get(["p9", "nothing", "p3"])
    assert got.schema.equals(FOUND_SCHEMA)
    context = context_of(posts)
    for row, post in zip(got.to_pylist(), (posts[9], posts[3]), strict=True):
        assert {name: row[name] for name in post} == post
        known = context.engagement(post["id"])
        assert (row["num_replies"], row["num_reposts"], row["num_likes"]) == (known.replies, known.reposts, 0)
    assert index.get([]).num_rows == 0


def test_histogram_counts_each_post_once(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(80)
    store.append(table(posts))
    index.catch_up(store)
    counted = index.histogram(Lang("en"), 86_400).to_pylist()
    expected: dict[Any, int] = {}
    for post in posts:
        if (post["lang"] or "").startswith("en"):
            day = post["created_at"].replace(hour=0, minute=0)
            expected[day] = expected.get(day, 0) + 1
    assert {row["start"]: row["num_posts"] for row in counted} == expected


def test_labels_change_without_reading_posts_again(index: PostIndex, store: PostStore) -> None:
    store.append(table(some_posts(40)))
    index.catch_up(store, labels=label_rows(["ada"], []))
    assert found(index, Labelled()) == found(index, From("ada"))
    index.set_labels(label_rows([], ["p1"]))
    assert found(index, Labelled()) == {"p1"}
    assert found(index, Not(Labelled())) == found(index, None) - {"p1"}


def test_a_campaign_that_reposts_and_replies_counts_as_one_voice(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(30)
    for number, post in enumerate(posts):
        post.update(author=f"a{number}", kind="post", ref_id=None, ref_author=None)
    for number in range(10, 20):
        posts[number].update(kind=REPOST if number < 15 else REPLY, ref_id="p1", ref_author="a1")
    store.append(table(posts))
    index.catch_up(store)

    def counts() -> tuple[int, int]:
        (row,) = index.get(["p1"]).to_pylist()
        for what, name in (("reposts", "num_reposts"), ("replies", "num_replies")):
            assert found(index, AtLeast(what, row[name])) == {"p1"} and not found(index, AtLeast(what, row[name] + 1))
        return row["num_reposts"], row["num_replies"]

    assert counts() == (5, 5)
    index.set_labels(label_rows([f"a{number}" for number in range(10, 19)], []))
    assert counts() == (1, 2)
    assert index.count(Not(AtLeast("replies", 2))) == 29
    store.append(table([{**posts[20], "id": "x1", "author": "a12", "kind": REPLY, "ref_id": "p1", "ref_author": "a1"}]))
    index.catch_up(store)
    assert counts() == (1, 2)
    store.delete_posts(["p19"])
    index.catch_up(store)
    assert counts() == (1, 1)
    index.set_labels(label_rows([], []))
    assert counts() == (5, 5)


def test_a_deleted_reply_breaks_no_thread(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(8)
    for number, post in enumerate(posts):
        above = number - 1 if 0 < number < 6 else None
        post.update(author=f"a{number}", kind="post" if above is None else REPLY, ref_id=None if above is None else f"p{above}")
        post["ref_author"] = None if above is None else f"a{above}"
    store.append(table(posts))
    index.catch_up(store, embeddings=LexicalEmbeddings(16))
    assert found(index, Conversation("p0")) == {f"p{number}" for number in range(6)}
    assert found(index, Conversation("p3")) == {"p3", "p4", "p5"}
    store.delete_posts(["p1", "p5"])
    store.delete_authors(["a3"])
    assert index.catch_up(store).deleted == 3

    def check() -> None:
        assert found(index, Conversation("p0")) == {"p0", "p2", "p4"}
        assert found(index, Conversation("p2")) == {"p2", "p4"}
        assert found(index, Not(Conversation("p0"))) == {"p6", "p7"}
        assert index.num_posts == index.count(None) == index.get([post["id"] for post in posts]).num_rows == 5
        assert index.histogram(None, 86_400 * 365 * 100)["num_posts"].to_pylist() == [5]

    check()
    for _ in range(2):
        index.compact()
        check()
        index.catch_up(store, embeddings=LexicalEmbeddings(16))
        check()


def test_frequent_words_are_counted(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(60)
    store.append(table(posts))
    index.catch_up(store)
    asked = ["vote", "#vote", "@ada", "$acme", "京", "東京", "nothing"]
    assert index.document_frequency(asked) == {word: sum(word in tokens(post) for post in posts) for word in asked}


def test_caught_up_again_changes_nothing(index: PostIndex, store: PostStore) -> None:
    store.append(table(some_posts(30)))
    assert index.catch_up(store).added == 30
    again = index.catch_up(store)
    assert (again.added, again.deleted, again.position) == (0, 0, 30)


def test_opened_again_it_knows_everything(open_index: Callable[[Path], PostIndex], store: PostStore, tmp_path: Path) -> None:
    store.append(table(some_posts(50)))
    first = open_index(tmp_path / "index")
    first.catch_up(store, embeddings=LexicalEmbeddings(16))
    store.delete_posts(["p1"])
    first.catch_up(store)
    nodes = (None, From("ada"), AtLeast("replies", 1), Conversation("p2"), Word("vote"))
    before = [found(first, node) for node in nodes]
    near = first.find_near(np.ones(16, np.float32), None, 5).ids
    first.close()
    second = open_index(tmp_path / "index")
    assert [found(second, node) for node in nodes] == before
    assert second.find_near(np.ones(16, np.float32), None, 5).ids == near
    store.append(table(some_posts(20, first=50)))
    assert second.catch_up(store).added == 20
    second.close()


def test_deleted_bytes_are_gone_after_compact(index: PostIndex, store: PostStore, tmp_path: Path) -> None:
    posts = some_posts(50)
    posts[10]["text"] = "xyzzysecretword in the text"
    posts[11]["author"] = "xyzzyauthor"
    for post in posts:
        post["ref_author"] = None
    store.append(table(posts))
    index.catch_up(store, embeddings=LexicalEmbeddings(16))
    assert index.find_text(["xyzzysecretword"], None, 5).ids == ["p10"]
    store.delete_posts(["p10"])
    store.delete_authors(["xyzzyauthor"])
    index.catch_up(store)
    assert index.find_text(["xyzzysecretword"], None, 5).ids == []
    assert index.get(["p10", "p11"]).num_rows == 0
    everything = found(index, None)
    near = set(index.find_near(np.ones(16, np.float32), None, 100).ids)
    assert not {"p10", "p11"} & {*everything, *near}
    index.compact()
    assert found(index, None) == everything
    assert set(index.find_near(np.ones(16, np.float32), None, 100).ids) == near
    for path in (tmp_path / "index").rglob("*"):
        if path.is_file():
            assert b"xyzzy" not in path.read_bytes(), path
    store.append(table(some_posts(10, first=50)))
    assert index.catch_up(store).added == 10


def test_edit_is_found_by_its_new_words_only(index: PostIndex, store: PostStore, tmp_path: Path) -> None:
    embeddings = LexicalEmbeddings(64)
    posts = some_posts(30)
    for post in posts:
        post["text"], post["kind"], post["ref_id"], post["ref_author"] = "vote brexit", "post", None, None
    posts[10]["text"] = "xyzzybefore"
    posts[12].update(kind="reply", ref_id="p10", ref_author=posts[10]["author"])
    store.append(table(posts))
    index.catch_up(store, embeddings=embeddings)
    asked = embeddings.vectors(pa.array(["xyzzybefore", "plughafter"], pa.large_string()))
    assert found(index, Word("xyzzybefore")) == {"p10"}
    store.replace(table([{**posts[10], "text": "plughafter"}]))
    assert index.catch_up(store, embeddings=embeddings).added == 0

    def check() -> None:
        assert index.find_text(["xyzzybefore"], None, 5).ids == []
        assert found(index, Word("xyzzybefore")) == set()
        assert found(index, Word("plughafter")) == set(index.find_text(["plughafter"], None, 5).ids) == {"p10"}
        assert [row["text"] for row in index.get(["p10"]).to_pylist()] == ["plughafter"]
        assert [row["num_replies"] for row in index.get(["p10"]).to_pylist()] == [1]
        assert index.num_posts == len(found(index, None)) == 30
        before, after = (index.find_near(vector, None, 1) for vector in asked)
        assert after.ids == ["p10"] and after.scores[0] > 0.9
        assert before.scores[0] < 0.9

    check()
    assert found(index, AtLeast("replies", 1)) == {"p10"}
    again = index.catch_up(store, embeddings=embeddings)
    assert (again.added, again.deleted) == (0, 0)
    index.compact()
    store.compact()
    check()
    for path in [*(tmp_path / "index").rglob("*"), *store.folder.rglob("*")]:
        if path.is_file():
            assert b"xyzzy" not in path.read_bytes(), path


def test_edited_twice_then_deleted_it_is_gone(index: PostIndex, store: PostStore) -> None:
    posts = some_posts(20)
    store.append(table(posts))
    index.catch_up(store)
    for text in ("once", "twice"):
        store.replace(table([{**posts[3], "text": text}]))
        index.catch_up(store)
    assert found(index, Word("twice")) == {"p3"}
    assert not found(index, Word("once"))
    store.delete_posts(["p3"])
    assert index.catch_up(store).deleted == 20 - store.num_posts
    assert "p3" not in found(index, None)


def test_empty_index_answers(index: PostIndex, store: PostStore) -> None:
    assert index.find_text(["vote"], Lang("en"), 10).ids == []
    assert index.latest(None, 10).ids == []
    assert index.count(Word("vote")) == 0
    assert index.get(["p1"]).num_rows == 0
    assert index.histogram(None, 60).num_rows == 0
    assert index.catch_up(store).added == 0
    assert index.num_posts == 0


def test_what_others_write_shows_after_a_refresh(open_index: Callable[[Path], PostIndex], store: PostStore, tmp_path: Path) -> None:
    writer = open_index(tmp_path / "index")
    store.append(table(some_posts(20)))
    writer.catch_up(store)
    writer.refresh()
    reader = open_index(tmp_path / "index")
    assert not reader.refresh()
    store.append(table(some_posts(20, first=20)))
    store.delete_posts(["p3"])
    writer.catch_up(store)
    assert reader.refresh() and not reader.refresh()
    assert reader.num_posts == 39 and reader.latest(None, 100).ids == writer.latest(None, 100).ids
    writer.compact()
    assert reader.refresh()
    assert reader.latest(None, 100).ids == writer.latest(None, 100).ids
    writer.close()
    reader.close()
