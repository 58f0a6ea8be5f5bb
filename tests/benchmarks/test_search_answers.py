"""The judge of cited answers is strict by itself, and the questions' rule finds what answers them."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from typing import Any

import pytest

from benchmarks.search_answers import ErringModel, mentions, supports
from benchmarks.search_answers_questions import Asked, Board, answerable, unanswerable, words_of

DAY = datetime(2026, 3, 15, tzinfo=timezone.utc)


def post(id: str, text: str, author: str = "anna") -> dict[str, Any]:
    return {"id": id, "author": author, "created_at": DAY, "text": text, "kind": "post", "ref_id": None, "ref_author": None}


TRAIN = post("a", "The night trains don't run, 300 passengers waited")


@pytest.mark.parametrize(
    ("sentence", "holds"),
    [
        ("anna wrote on 2026-03-15: “night trains don't run”", True),
        ("berta wrote on 2026-03-15: “night trains don't run”", False),
        ("anna wrote on 2026-03-16: “night trains don't run”", False),
        ("anna reposted on 2026-03-15: “night trains don't run”", False),
        ("anna wrote on 2026-03-15: “night trains do run”", False),
        ("300 passengers waited", True),
        ("400 passengers waited", False),
        ("Passengers never waited", False),
        ("Passengers cheered and sang", False),
        ("One post says “300 passengers waited”", True),
        ("One post says “400 passengers waited”", False),
    ],
)
def test_judge(sentence: str, holds: bool) -> None:
    assert supports(sentence, [TRAIN]) is holds


def test_words_of_asking_endings_and_signs() -> None:
    assert words_of("#Trains' late @Anna's https://x.example") >= {"#train", "train", "late", "@anna", "anna"}
    asked = Asked("number", "?", frozenset(), ("passenger",), "passengers")
    assert mentions("x wrote: “300 passengers”", asked) and not mentions("x wrote on 2026: “passengers”", asked)


def board() -> Board:
    draw = random.Random(1)
    nouns = ["harbour", "station", "bridge", "market", "festival", "orchestra", "library", "museum", "bakery", "theatre"]
    verbs = ["crowded", "flooded", "painted", "repaired", "inspected", "celebrated", "abandoned", "decorated", "visited", "measured"]
    names = ["Lindau", "Bregenz", "Rorschach", "Konstanz", "Meersburg"]
    sources: dict[str, list[dict[str, Any]]] = {"x": [post(f"f{n}", "nothing of note here", "filler") for n in range(2_000)]}
    for source in ("gop_debate_2015", "ordinary_archives", "airline_2015", "rumour_threads_2014_15", "politicians_2017"):
        sources[source] = []
        for n, thing in enumerate(draw.choices(["lantern", "barrel", "ribbon"], k=4)):
            place = f"the {draw.choice(nouns)} of {draw.choice(names)} was {draw.choice(verbs)}"
            sources[source].append(post(f"{source}{n}", f"{place} with {n % 40 + 2} {thing}s", f"user{n % 7}"))
    return Board.of(sources)


def test_questions_are_the_same_each_time_and_their_answers_hold_the_words() -> None:
    made = board()
    asked = answerable(made, 30, 4)
    assert asked == answerable(made, 30, 4) and asked
    by_id = {row["id"]: row for row in made.posts}
    for one in asked:
        assert one.gold and all(set(one.words) <= words_of(by_id[id]["text"]) for id in one.gold)
    assert all(not one.gold for one in unanswerable(made, 10, 4))


def test_erring_model_knows_which_of_its_sentences_are_true() -> None:
    model = ErringModel(random.Random(2))
    posts = "POST-0 [1] d\nThe night trains to Lindau run again\nEND-0\nPOST-0 [2] d\nBread at the fair was very good\nEND-0"
    prompt = f"QUESTION-0\nq\nEND-0\n{posts}"
    said = [delta.text for _ in range(40) for delta in model.chat([{"content": prompt}], None)]
    assert any("[1]" in text for text in said) and {is_true for _, is_true in model.truth.values()} == {True, False}
