"""The written cases hold; what nodes cannot be named is refused when they are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from agora.errors import QuerySyntaxError, UsageError
from agora.posts.store import PostStore
from agora.search.query import syntax
from agora.search.query.dates import DateError, parse_date
from agora.search.query.matching import matches
from agora.search.query.parse import MAX_EXCLUDED, parse
from benchmarks.search_operator_cases import CASES, REFUSED
from benchmarks.search_operators import MAX_BOMB_MS, context, filled, run_cases, slow_find, slowest_bomb

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)  # a Sunday


def test_every_written_case_holds() -> None:
    assert list(run_cases(slow_find)) == []
    assert len(CASES) + len(REFUSED) >= 150


def test_cases_are_not_written_twice() -> None:
    queries = [case.query for case in (*CASES, *REFUSED)]
    assert len(set(queries)) == len(queries)


def test_an_index_that_finds_too_much_is_told() -> None:
    assert ("flo", "index finds ['p1'], not []") in list(run_cases(lambda root: slow_find(root) or {"p1"}))


def test_an_index_is_filled_with_the_posts_and_their_labels(tmp_path: Path) -> None:
    class Twin:
        """An index that asks every post."""

        def catch_up(self, store: PostStore, *, labels: pa.Table) -> None:
            known = {"p1": 12, "p5": 100, "p14": 2}  # a store keeps what its schema has
            self.posts = [{**post, "num_likes": known.get(post["id"])} for batch in store.scan() for post in batch.to_pylist()]
            self.context = replace(context(), labelled_accounts=frozenset(labels["account"].to_pylist()))

        def latest(self, where: syntax.Node | None, limit: int, before: datetime | None, *, now: datetime) -> SimpleNamespace:
            assert now == NOW and limit >= len(self.posts)
            return SimpleNamespace(ids=[post["id"] for post in self.posts if matches(where, post, self.context)])

    assert list(run_cases(filled(Twin(), tmp_path / "posts"))) == []  # type: ignore[arg-type]


def test_no_hostile_query_takes_long() -> None:
    milliseconds, query = min(slowest_bomb() for _ in range(3))  # the machine is shared
    assert milliseconds < MAX_BOMB_MS, query


def test_an_error_shows_the_place_below_the_query() -> None:
    with pytest.raises(UsageError) as caught:
        parse("東京 min_faves:many")
    assert str(caught.value).split("\n")[1:] == ["  東京 min_faves:many", "  " + " " * len("xxxx min_faves:") + "^"]
    with pytest.raises(QuerySyntaxError) as caught:
        parse("flood " * 50 + "\t(storm " + "hoax " * 50)
    lines = str(caught.value).split("\n")[1:]
    assert lines[0][lines[1].index("^")] == "(" and max(map(len, lines)) < 80 and "\t" not in str(caught.value)


def test_a_warning_names_the_place() -> None:
    warnings = parse("flood form:bob !!! NOT").warnings
    assert [warning.position for warning in warnings] == [6, 15, 19]


def test_dates_in_words_count_from_the_given_moment() -> None:
    root = parse("since:yesterday", now=datetime(2020, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=2)))).root
    assert root == syntax.Since(datetime(2020, 2, 28, tzinfo=timezone.utc))


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("now", "2026-11-22T12:00"), ("today", "2026-11-22"), ("midnight", "2026-11-22"), ("Tomorrow", "2026-11-23"),
        ("YESTERDAY", "2026-11-21"), ("this week", "2026-11-16"), ("last week", "2026-11-09"), ("last_year", "2025-01-01"),
        ("this year", "2026-01-01"), ("last month", "2026-10-01"), ("sunday", "2026-11-22"), ("last sunday", "2026-11-15"),
        ("sat", "2026-11-21"), ("last tues", "2026-11-17"), ("december", "2025-12-01"), ("nov", "2026-11-01"),
        ("last november", "2025-11-01"),
        ("2h", "2026-11-22T10:00"), ("90 minutes ago", "2026-11-22T10:30"), ("an hour ago", "2026-11-22T11:00"),
        ("1w2d ago", "2026-11-13T12:00"),
        ("a month ago", "2026-10-22T12:00"), ("nine months ago", "2026-02-22T12:00"), ("2 years ago", "2024-11-22T12:00"),
        ("2026", "2026-01-01"), ("2026-03", "2026-03-01"), ("2026-03-04 05:06", "2026-03-04T05:06"), ("20260304", None),
        ("nov 2", "2026-11-02"), ("2nd November 2024", "2024-11-02"), ("24 dec", "2025-12-24"), ("dec 24, 2026", "2026-12-24"),
        ("mai", None), ("ma", None), ("monday monday", None), ("3 fortnights ago", None), ("", None), ("31 feb", None),
        ("-1d", None), ("x" * 99, None),
    ],
)  # fmt: skip
def test_dates_in_words(text: str, iso: str | None) -> None:
    if iso is None:
        with pytest.raises(DateError):
            parse_date(text, NOW)
    else:
        assert parse_date(text, NOW) == datetime.fromisoformat(iso).replace(tzinfo=timezone.utc)


def test_months_before_a_long_day_end_on_the_last_of_a_short_month() -> None:
    assert parse_date("a month ago", datetime(2026, 3, 31, tzinfo=timezone.utc)).date().isoformat() == "2026-02-28"


@pytest.mark.parametrize(
    "build",
    [
        lambda: syntax.Word(" "), lambda: syntax.Word("\ud800a"), lambda: syntax.Phrase("!"), lambda: syntax.And((syntax.Word("a"),)),
        lambda: syntax.Or(()), lambda: syntax.From("@ada"), lambda: syntax.To(""), lambda: syntax.Mention("a b"),
        lambda: syntax.Hashtag("a-b"),
        lambda: syntax.Cashtag("1"), lambda: syntax.Url("-"), lambda: syntax.Lang("EN"),
        lambda: syntax.Since(NOW.astimezone(timezone(timedelta(hours=1)))),
        lambda: syntax.Until(NOW.replace(tzinfo=None)), lambda: syntax.WithinTime(0), lambda: syntax.Has("quotes"),
        lambda: syntax.AtLeast("faves", -1),
        lambda: syntax.Conversation(" x"), lambda: syntax.Labelled("nice"),
    ],
)  # fmt: skip
def test_a_node_that_no_query_could_name_is_refused(build: Callable[[], syntax.Node]) -> None:
    with pytest.raises(ValueError, match="is no"):
        build()


def test_words_to_rank_by_leave_out_what_is_excluded() -> None:
    root = parse('Flood "big storm" -hoax (#Aare OR @ada) $BTC from:bob lang:en flood').root
    assert root is not None
    assert syntax.wanted_words(root) == ["flood", "big", "storm", "aare", "#aare", "ada", "@ada", "btc", "$btc"]
    assert len(list(syntax.walk(root))) == 12


def test_more_exclusions_than_are_cheap_are_refused_at_their_place() -> None:
    assert parse(" OR ".join(f"-w{number}" for number in range(MAX_EXCLUDED))).root is not None
    with pytest.raises(QuerySyntaxError, match="minus signs") as caught:
        parse(" ".join(f"(a{number} OR -b{number})" for number in range(200)))
    assert caught.value.position == len(" ".join(f"(a{number} OR -b{number})" for number in range(64))) + len(" (a64 OR ")
