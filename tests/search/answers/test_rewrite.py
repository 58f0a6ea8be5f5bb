"""Questions to queries: names, numbers, tags and times survive; frames go."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.search.answers import rewrite

NOW = datetime(2015, 8, 10, 15, 0, tzinfo=timezone.utc)  # a Monday


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("What do people say about Trump and Megyn Kelly?", "Trump Megyn Kelly"),
        ("What happened with flight 5268 from DCA to PHL?", "flight 5268 DCA PHL"),
        ("What's the latest on #CharlieHebdo?", "#CharlieHebdo"),
        ("What did @united say about flight 236?", "flight 236 from:united"),
        ("Why are people angry with USAirways?", "angry USAirways"),
        ("What did people write about $AAPL and https://t.co/abc?", '$AAPL "https://t.co/abc"'),
        ('Who said "build a wall" from:realDonaldTrump', '"build a wall" from:realDonaldTrump'),
        ("Is it OR not AND?", "not"),
        ("The Who", "The Who"),
        ("Is it?", "Is it"),
        ("Кто выиграл дебаты?", "Кто выиграл дебаты"),
        ("東京の天気は", "東京の天気は"),
        ("talks on cultural exchange", "talks cultural exchange"),
        ("What about trains -night lang:de", "trains -night lang:de"),
    ],
)
def test_query_keeps_what_is_asked(question: str, query: str) -> None:
    assert rewrite(question, now=NOW).queries[0] == query


@pytest.mark.parametrize(
    ("words", "times"),
    [
        ("yesterday", "since:2015-08-09 until:2015-08-10"),
        ("today", "since:2015-08-10"),
        ("since Friday", "since:2015-08-07"),
        ("on Friday", "since:2015-08-07 until:2015-08-08"),
        ("last Monday", "since:2015-08-03 until:2015-08-04"),
        ("last week", "since:2015-08-03 until:2015-08-10"),
        ("this month", "since:2015-08-01"),
        ("last month", "since:2015-07-01 until:2015-08-01"),
        ("last year", "since:2014-01-01 until:2015-01-01"),
        ("in the last 3 days", "since:2015-08-07T15:00:00Z"),
        ("in the past two hours", "since:2015-08-10T13:00:00Z"),
        ("on August 7, 2015", "since:2015-08-07 until:2015-08-08"),
        ("on 7 August", "since:2015-08-07 until:2015-08-08"),
        ("in February", "since:2015-02-01 until:2015-03-01"),
        ("in December", "since:2014-12-01 until:2015-01-01"),
        ("before 2015-08-01", "until:2015-08-01"),
        ("after 2015-08-01", "since:2015-08-02"),
        ("right now", "since:2015-08-09T15:00:00Z"),
    ],
)
def test_time_words_become_filters(words: str, times: str) -> None:
    assert rewrite(f"What about the trains {words}?", now=NOW).queries[0] == f"trains {times}"


@pytest.mark.parametrize(
    "question",
    ["What about Black Friday?", "May I march?", "Is USA Today wrong?", "What about the 31 February club?", "Sunday Times sales"],
)
def test_names_that_look_like_times_are_left_alone(question: str) -> None:
    assert "since:" not in rewrite(question, now=NOW).queries[0]


def test_year_that_may_be_the_subject_is_searched_as_a_word_too() -> None:
    asked = rewrite("What about elections in 2016?", now=NOW)
    assert asked.queries == ("elections since:2016-01-01 until:2017-01-01", "elections 2016")


def test_names_numbers_tags_and_phrases_are_required() -> None:
    asked = rewrite('How many people at #Lindau station saw "night trains" and Berta?', now=NOW)
    assert set(asked.required) == {"#lindau", "night", "train", "berta"} and asked.wanted == ("station", "saw")
    assert asked.kind == "count"


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    asked = rewrite(text, now=NOW)
    assert all(isinstance(query, str) and query.strip() for query in asked.queries)


_PIECES = ["trains", "Lindau", "#fest", "@anna", "$ABC", "42", '"', "-", "(", "AND", "since:", "the", "🍞"]


@given(st.lists(st.sampled_from(_PIECES), max_size=12))
def test_tags_handles_and_numbers_survive(words: list[str]) -> None:
    query = " ".join(rewrite("What about " + " ".join(words) + "?", now=NOW).queries[:1])
    for word in words:
        if word in ("Lindau", "#fest", "@anna", "$ABC", "42"):
            assert word in query


def test_a_row_of_letters_is_no_name() -> None:
    assert rewrite("What did Ada Huber say?", now=NOW).speaker == ("ada", "huber")
    assert rewrite(f"What did {'A' * 1900} say?", now=NOW).speaker == ()
