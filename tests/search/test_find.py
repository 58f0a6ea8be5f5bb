"""The search as a whole, over a real index."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest

from agora.errors import QuerySyntaxError, UsageError
from agora.integrity.voice import voices
from agora.search.find import Searcher
from agora.search.fusion import LIST_WEIGHTS, K
from agora.search.index.embedded import EmbeddedIndex
from agora.search.query.matching import MatchContext, matches
from agora.search.query.parse import parse
from agora.text.embeddings import LexicalEmbeddings
from tests.search.conftest import NOW, labels_of, post

IndexOf = Callable[..., EmbeddedIndex]

POSTS = [
    post("p1", "ada", "The ferry to the island is cancelled because of the storm", minutes_ago=300),
    post("p2", "bob", "Storm warning for the coast tonight", minutes_ago=20, hashtags=["storm"]),
    post("p3", "eve", "Ferries run again tomorrow", minutes_ago=10),
    post("p4", "bob", "Bread is cheap this week", minutes_ago=5),
    post("p5", "cem", "the ferry to the island is cancelled because of the storm!!", minutes_ago=30),
    post("p6", "dan", "Fähre und Sturm: heute nicht", minutes_ago=15, lang="de"),
]


def ids(searcher: Searcher, text: str, **how: Any) -> list[str]:
    return [hit.post["id"] for hit in searcher.find(text, now=NOW, **how).hits]


def flood(count: int) -> list[dict[str, Any]]:
    """A campaign of `count` accounts, each in other words."""
    tails = ("share", "wake up", "they lie", "look", "true", "again", "now", "all of it", "tell them", "more")
    return [
        post(f"f{number}", f"c{number}", f"storm poison ferry island {tails[number % 10]} {number * 7919}", minutes_ago=1 + number / 100)
        for number in range(count)
    ]


@pytest.mark.parametrize("with_vectors", [False, True])
def test_all_words_must_be_there_and_what_is_left_out_is_said(index_of: IndexOf, with_vectors: bool) -> None:
    embeddings = LexicalEmbeddings() if with_vectors else None
    searcher = Searcher(index_of(POSTS, embeddings=embeddings), embeddings=embeddings)
    for text in ("ferry storm", "ferry AND storm", "ferry AND storm AND cancelled AND island", "(ferry) storm", '"ferry" storm'):
        assert {one for hit in searcher.find(text, now=NOW).hits for one in (hit.post["id"], *hit.alike_ids)} <= {"p1", "p5"}
    assert set(ids(searcher, "ferry storm", match="any")) >= {"p1", "p2"}
    assert searcher.find("storm bread", now=NOW).notes == ("0 posts hold all of this; 4 hold some of it: --match any",)
    assert searcher.find("storm bread from:bob", now=NOW).notes == ("0 posts hold all of this; 2 hold some of it: --match any",)
    assert searcher.find("storm", now=NOW).notes == searcher.find("storm bread", now=NOW, match="all", limit=1).notes[1:] == ()


def test_a_sentence_may_loosen_and_shows_apart_what_holds_some_words(index_of: IndexOf) -> None:
    searcher = Searcher(index_of(POSTS))
    found = searcher.find("ferry storm island cancelled", now=NOW)
    assert [(hit.post["id"], hit.is_loose) for hit in found.hits] == [("p1", False), ("p2", True)]
    assert found.notes[0].startswith("2 posts hold all of this; the others hold some")
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.score == pytest.approx(sum(hit.parts.values())) for hit in found.hits)
    assert {hit.post["author"] for hit in searcher.find("storm warning tonight ferry from:bob", now=NOW).hits} == {"bob"}
    assert not any(hit.is_loose for hit in searcher.find("ferry storm island bread", now=NOW, match="all").hits)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("url:bit.ly", {"u1"}), ("zebrafish OR from:ada", {"p1"}), ("the", {"p1", "p2"}), ('"the island"', {"p1"}), ('"to be"', {"u2"}),
        ("zebrafish OR (from:bob bread)", {"p4"}), ("min_faves:0 lang:de", {"p6"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_vectors", [False, True])
def test_what_matches_without_a_word_to_rank_by_is_shown_too(index_of: IndexOf, text: str, wanted: set[str], with_vectors: bool) -> None:
    rows = [*POSTS, post("u1", "fay", "look here", urls=["https://bit.ly/abc"]), post("u2", "gus", "or not to be")]
    embeddings = LexicalEmbeddings() if with_vectors else None
    searcher = Searcher(index_of(rows, embeddings=embeddings), embeddings=embeddings)
    results = searcher.find(text, now=NOW, explain=True)
    assert {hit.post["id"] for hit in results.hits} == wanted
    assert sum(1 + len(hit.alike_ids) for hit in results.hits) == results.total


REPEATS = [
    post(f"r{number}", f"s{number % 300}", "storm poison on the ferry tonight", minutes_ago=1 + number / 100) for number in range(600)
]


@pytest.mark.parametrize("with_vectors", [False, True])
@pytest.mark.parametrize("varied", [False, True])
def test_a_flood_that_repeats_itself_leaves_no_page_empty(index_of: IndexOf, with_vectors: bool, varied: bool) -> None:
    tails = [f" and they hide it from all of us again {place}" if varied else "" for place in range(len(REPEATS))]
    rows = [{**row, "text": row["text"] + tail} for row, tail in zip(REPEATS, tails, strict=True)]
    embeddings = LexicalEmbeddings() if with_vectors else None
    others = [post(f"o{number}", f"o{number}", f"storm at pier {number} {number * 7919} with much wind and rain") for number in range(5)]
    searcher = Searcher(index_of([*rows, *others], embeddings=embeddings), embeddings=embeddings)
    few, many = (searcher.find("storm", now=NOW, limit=limit).hits for limit in (4, 100))
    assert {hit.post["author"] for hit in many} >= {"o0", "o1", "o2", "o3", "o4"}
    assert sum(hit.post["id"].startswith("r") for hit in many) == 1
    assert [(hit.post["id"], hit.alike) for hit in few] == [(hit.post["id"], hit.alike) for hit in many[:4]]
    assert next(hit for hit in many if hit.alike).alike_is_least


def test_a_campaign_of_accounts_that_no_filter_can_name_is_one_voice(index_of: IndexOf) -> None:
    rows = [{**row, "author": f"@{row['author']}"} for row in flood(210)]
    searcher = Searcher(index_of([*rows, *POSTS]), labels=labels_of(*(row["author"] for row in rows)))
    voices_shown = [hit.voice for hit in searcher.find("storm", mode="latest", now=NOW).hits]
    assert voices_shown.count("campaign:c1") == 1 and "account:bob" in voices_shown


@pytest.mark.parametrize("mode", ["top", "latest"])
def test_no_campaign_hides_another(index_of: IndexOf, mode: str) -> None:
    table = pa.concat_tables([labels_of(*(f"s{number}" for number in range(300))), labels_of("other", campaign="c2")])
    rows = [*REPEATS, post("b1", "other", "storm near my house, and it is long since we had one"), *POSTS]
    searcher = Searcher(index_of(rows), labels=table)
    for text in ("storm", "storm (tonight OR house OR ferry OR label:coordinated)"):
        voices_shown = [hit.voice for hit in searcher.find(text, mode=mode, now=NOW).hits]  # type: ignore[arg-type]
        assert {"campaign:c1", "campaign:c2", "account:bob"} <= set(voices_shown)
        assert len([voice for voice in voices_shown if voice.startswith("campaign:")]) == 2


@pytest.mark.parametrize(
    "text", ["storm -ferry", '"storm warning"', "(bread OR tomorrow)", "from:bob", "storm from:bob", "#storm", "lang:de", "-lang:de ferry"]
)
def test_what_is_found_strictly_is_what_the_slow_twin_matches(index_of: IndexOf, text: str) -> None:
    searcher = Searcher(index_of(POSTS))
    root = parse(text).root
    assert root is not None
    wanted = {row["id"] for row in POSTS if matches(root, {"lang": None, "hashtags": [], "urls": [], "mentions": [], "media": [], **row},
                                                   MatchContext(now=NOW))}  # fmt: skip
    results = searcher.find(text, now=NOW, match="all")
    shown = {one for hit in results.hits for one in (hit.post["id"], *hit.alike_ids)}
    assert shown == wanted
    assert results.total == len(wanted)


def test_what_is_found_by_meaning_passes_the_filters(index_of: IndexOf) -> None:
    embeddings = LexicalEmbeddings()
    searcher = Searcher(index_of(POSTS, embeddings=embeddings), embeddings=embeddings)
    assert "p3" in ids(searcher, "ferries island", match="any")
    assert set(ids(searcher, "ferry storm from:bob")) <= {"p2", "p4"}
    assert "p2" not in ids(searcher, "ferry -storm")


def test_near_duplicates_are_one_hit_the_earliest(index_of: IndexOf) -> None:
    hits = Searcher(index_of(POSTS)).find("ferry island cancelled", now=NOW).hits
    assert [(hit.post["id"], hit.alike, hit.alike_ids) for hit in hits] == [("p1", 1, ("p5",))]


def test_the_score_is_the_sum_of_its_parts_and_hits_come_best_first(index_of: IndexOf) -> None:
    embeddings = LexicalEmbeddings()
    searcher = Searcher(index_of(POSTS, embeddings=embeddings), embeddings=embeddings, authority={"bob": 1.0})
    hits = searcher.find("ferry storm warning", now=NOW, match="any", explain=True).hits
    assert all(hit.score == pytest.approx(sum(hit.parts.values())) for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert {"words", "meaning", "recency", "authority"} <= set(hits[0].parts)
    assert all(hit.why for hit in hits)


def test_latest_is_strictly_by_time_whatever_the_words_weigh(index_of: IndexOf) -> None:
    hits = Searcher(index_of(POSTS), authority={"ada": 1.0}).find("storm OR bread OR ferries", mode="latest", now=NOW).hits
    assert [hit.post["id"] for hit in hits] == ["p4", "p3", "p2", "p5", "p1"]
    assert all(later.post["created_at"] > earlier.post["created_at"] for later, earlier in pairwise(hits))


@pytest.mark.parametrize("with_vectors", [False, True])
@pytest.mark.parametrize("mode", ["top", "latest"])
def test_a_flood_has_one_voice_and_pushes_nobody_out_of_sight(index_of: IndexOf, mode: str, with_vectors: bool) -> None:
    rows = [*flood(300), *POSTS]
    table = labels_of(*(f"c{number}" for number in range(300)))
    embeddings = LexicalEmbeddings() if with_vectors else None
    searcher = Searcher(index_of(rows, embeddings=embeddings), embeddings=embeddings, voices=voices(table), labels=table)
    hits = searcher.find("storm", mode=mode, now=NOW).hits  # type: ignore[arg-type]
    flooded = [hit for hit in hits if hit.post["author"].startswith("c") and hit.post["author"] != "cem"]
    assert len(flooded) == 1
    assert flooded[0].label == "They act as c1."
    assert flooded[0].voice == "campaign:c1"
    assert {"p2"} <= {one for hit in hits for one in (hit.post["id"], *hit.alike_ids)}
    assert any(hit.post["id"] in ("p1", "p5") for hit in hits)


def test_who_asks_for_labelled_posts_sees_them_all_and_who_excludes_them_none(index_of: IndexOf) -> None:
    table = labels_of(*(f"c{number}" for number in range(30)))
    searcher = Searcher(index_of([*flood(30), *POSTS]), voices=voices(table), labels=table)
    asked = searcher.find("storm label:coordinated", now=NOW, limit=50).hits
    assert sum(1 + len(hit.alike_ids) for hit in asked) == 30
    assert {"ada", "bob", "cem"} >= {hit.post["author"] for hit in searcher.find("storm -label:coordinated", now=NOW).hits}


def test_more_accounts_in_a_campaign_do_not_raise_what_it_gets(index_of: IndexOf) -> None:
    scores = []
    for count in (3, 120):
        table = labels_of(*(f"c{number}" for number in range(count)))
        searcher = Searcher(index_of([*flood(count), *POSTS]), voices=voices(table), labels=table)
        hits = searcher.find("storm", now=NOW).hits
        scores.append(len([hit for hit in hits if hit.label]))
    assert scores == [1, 1]


def test_a_passage_has_no_operators(index_of: IndexOf) -> None:
    searcher = Searcher(index_of(POSTS))
    text = 'from:bob -storm "is the ferry (to the island) cancelled?'
    assert ids(searcher, text, passage=True)[0] == "p1"
    with pytest.raises(QuerySyntaxError):
        searcher.find(text, now=NOW)


def test_fresh_posts_win_near_ties_only(index_of: IndexOf) -> None:
    rows = [post("old", "ada", "storm on the coast", minutes_ago=60 * 24 * 300), post("new", "bob", "storm over the coast", minutes_ago=1)]
    rows += [post("right", "eve", "coast storm damage numbers for the harbour", minutes_ago=60 * 24 * 300)]
    searcher = Searcher(index_of(rows))
    assert ids(searcher, "storm coast")[0] == "new"
    assert ids(searcher, "storm damage numbers harbour")[0] == "right"


@pytest.mark.parametrize("text", ["", "  ", "🙂", "from:nobody", "a" * 4000, "\\ " * 50])
def test_odd_queries_find_something_or_nothing_but_do_not_fail(index_of: IndexOf, text: str) -> None:
    embeddings = LexicalEmbeddings()
    searcher = Searcher(index_of(POSTS, embeddings=embeddings), embeddings=embeddings)
    assert len(searcher.find(text, now=NOW).hits) <= len(POSTS)


def test_long_passages_and_broken_characters_are_read_to_a_limit(index_of: IndexOf) -> None:
    searcher = Searcher(index_of(POSTS))
    assert ids(searcher, "storm warning coast " + "\ud800 x" * 50_000, passage=True)[0] == "p2"


def test_an_empty_index_and_an_impossible_limit(index_of: IndexOf) -> None:
    searcher = Searcher(index_of([]))
    assert searcher.find("storm", now=NOW).hits == ()
    with pytest.raises(UsageError, match="limit 0"):
        searcher.find("storm", limit=0)


def test_words_of_time_count_from_now(index_of: IndexOf) -> None:
    searcher = Searcher(index_of(POSTS))
    assert set(ids(searcher, "storm within_time:25m")) == {"p2"}
    assert searcher.find("storm within_time:25m", now=NOW + timedelta(days=1)).hits == ()


@pytest.mark.parametrize("text", ["ferry storm warning", "the to is", "lang:de heute", "ferry the island"])
def test_the_places_that_are_explained_are_those_of_the_score(index_of: IndexOf, text: str) -> None:
    embeddings = LexicalEmbeddings()
    searcher = Searcher(index_of(POSTS, embeddings=embeddings), embeddings=embeddings)
    hits = searcher.find(text, now=NOW, match="any", explain=True).hits
    assert hits
    for hit in hits:
        said = {
            reason.split(" by ")[1].split(" (")[0]: int(reason.split()[1]) for reason in hit.why if re.match(r"place \d+ by \w", reason)
        }
        shown = {"words": "words", "beginnings": "words with the same beginning", "meaning": "meaning"}
        scored = {name: hit.parts[name] for name in shown if hit.parts.get(name)}
        assert said.keys() == {shown[name] for name in scored}
        assert all(part == pytest.approx(LIST_WEIGHTS[name] / (K + said[shown[name]])) for name, part in scored.items())
