"""What rises is found, counted by voices; what merely varies is not."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom, poisson

from agora.errors import ConfigError
from agora.integrity.voice import Voices
from agora.posts.schema import posts_table
from agora.search.query.parse import parse
from agora.search.surprise import MIN_DISPERSION, History, _tail, surprises
from agora.search.terms import in_sample, some_terms, some_terms_of_many, terms_of
from agora.search.trends import TrendConfig, TrendReport, find_trends

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
WORDS = [f"w{number}" for number in range(400)]
WEIGHTS = [1 / (rank + 3) for rank in range(len(WORDS))]
Said = tuple[datetime, str, str]


class Board:
    """Posts in memory that can be scanned as those of a store."""

    def __init__(self, said: Sequence[Said], **more: Any) -> None:
        rows = [
            {"id": f"p{number}", "author": author, "created_at": at, "text": text, "kind": "post", "source": "test", **more}
            for number, (at, author, text) in enumerate(said)
        ]
        self._table = posts_table(rows)
        self.num_posts = len(rows)

    def scan(self, *, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(list(columns)).to_batches(max_chunksize=1000)


def chatter(seed: int, *, hours: int = 72, accounts: int = 60, per_hour: int = 40) -> list[Said]:
    """What people say when nothing happens: words as frequent as ever, and now and then two who take up a rare word together."""
    chance = random.Random(seed)
    said = []
    for hour in range(hours):
        for _ in range(per_hour):
            at = NOW - hour * HOUR - timedelta(seconds=chance.randrange(3600))
            said.append((at, f"a{chance.randrange(accounts)}", " ".join(chance.choices(WORDS, WEIGHTS, k=8))))
        rare = f"rare{chance.randrange(40)}"
        said += [
            (NOW - hour * HOUR - timedelta(seconds=60 * place), f"a{chance.randrange(accounts)}", rare)
            for place in range(chance.randrange(4))
        ]
    return said


def rise(text: str, count: int, *, author: str = "a", ago: timedelta = timedelta(minutes=30)) -> list[Said]:
    """So many accounts say this now."""
    return [(NOW - ago + timedelta(seconds=number), f"{author}{number}", text) for number in range(count)]


def found(said: Sequence[Said], *, voices: Voices | None = None, config: TrendConfig | None = None, **more: Any) -> TrendReport:
    return find_trends(Board(said), config or TrendConfig(history_s=71 * 3600), voices=voices, now=NOW, **more)  # type: ignore[arg-type]


def test_what_many_say_at_once_rises_as_one_trend() -> None:
    report = found([*chatter(1), *rise("The harbour bridge is closed #bridge", 12)])
    (trend,) = report.trends
    assert {"#bridge", "harbour", "closed"} <= {trend.term, *trend.alike}
    assert (trend.voices, trend.accounts, trend.posts) == (12, 12, 12) and trend.lift > 50 and trend.q_value < 1e-6
    assert len(trend.examples) == 3 and len(set(trend.examples)) == 3
    assert [bucket.voices for bucket in trend.histogram] == [0] * 23 + [12]
    assert trend.histogram[-1].start == "2026-11-22T11:00:00Z"


def test_nothing_rises_when_nothing_happens() -> None:
    assert sum(bool(found(chatter(seed)).trends) for seed in range(12)) <= 1


def test_a_campaign_is_one_voice_however_many_accounts_it_has() -> None:
    said = [*chatter(2), *rise("Buy #foocoin today, foocoin only rises", 500, author="bot"), *rise("landslide on the north road", 9)]
    seen = [{trend.term, *trend.alike} for trend in found(said).trends]
    assert any("#foocoin" in terms for terms in seen)
    labelled = found(said, voices=Voices({f"bot{number}": "c1" for number in range(500)}))
    assert [{"landslide", "north"} <= {trend.term, *trend.alike} for trend in labelled.trends] == [True]
    assert labelled.num_voices < 100


def test_a_campaign_among_others_counts_once_and_its_accounts_are_told() -> None:
    said = [*chatter(3), *rise("landslide", 50, author="bot"), *rise("landslide", 9)]
    (trend,) = found(said, voices=Voices({f"bot{number}": "c1" for number in range(50)})).trends
    assert (trend.voices, trend.accounts, trend.posts) == (10, 59, 59)


def test_one_account_that_shouts_is_no_trend() -> None:
    assert found([*chatter(4), *[(NOW - timedelta(seconds=n), "loud", "earthquake now") for n in range(1, 900)]]).trends == ()


def test_what_comes_every_morning_is_no_trend() -> None:
    said = chatter(5, hours=168)
    for day in range(8):
        said += [(at - timedelta(days=day), author, text) for at, author, text in rise("breakfast time", 15)]
    assert [trend for trend in found(said, config=TrendConfig()).trends if "breakfast" in (trend.term, *trend.alike)] == []
    said = [one for one in said if one[2] != "breakfast time" or one[0] > NOW - HOUR]
    assert [trend for trend in found(said, config=TrendConfig()).trends if "breakfast" in (trend.term, *trend.alike)]


def test_a_word_that_comes_in_clumps_needs_a_larger_one() -> None:
    clumps = [(at - 7 * number * HOUR, author, "derby goal") for number in range(1, 10) for at, author, _ in rise("", 6)]
    config = TrendConfig(history_s=71 * 3600, max_q=0.1)
    assert found([*chatter(6), *clumps, *rise("derby goal", 20)], config=config).trends == ()
    assert found([*chatter(6), *rise("derby goal", 20)], config=config).trends != ()
    assert found([*chatter(6), *clumps, *rise("derby goal", 55)], config=config).trends != ()


def test_two_stories_stay_apart() -> None:
    report = found([*chatter(7), *rise("landslide north", 10), *rise("eclipse tonight", 10, author="a3")])
    assert len(report.trends) == 2


def test_trends_among_the_posts_of_a_query() -> None:
    said = [*chatter(8), *rise("landslide north", 10), *rise("eclipse tonight", 10)]
    root = parse("-landslide").root
    assert [trend.term for trend in found(said, where=root).trends] == ["eclipse tonight"]


def test_posts_of_the_future_and_from_before_the_history_do_not_count() -> None:
    late = [(NOW + HOUR, f"a{n}", "landslide") for n in range(30)]
    early = [(NOW - 100 * HOUR, f"a{n}", "landslide") for n in range(30)]
    base = [*chatter(9), *rise("landslide", 10)]
    assert found([*base, *late, *early]).trends == found(base).trends


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ([], "there is none before then"),
        ([(NOW - timedelta(days=2), "a", "x")], "the newest before then is of 2026-11-20T12:00:00Z"),
        (rise("landslide", 10), "only 0 windows of the history hold posts"),
    ],
)
def test_too_little_to_tell_is_said(said: list[Said], says: str) -> None:
    report = found(said)
    assert report.trends == () and says in report.warnings[0]


def test_a_square_that_fell_silent_is_counted_up_to_its_newest_post() -> None:
    said = [(at - 2000 * HOUR, author, text) for at, author, text in [*chatter(9), *rise("landslide", 10)]]
    assert found(said).trends == () and "in the 1 hour up to" in found(said).warnings[0]
    report = found(said, or_newest=True)
    assert report.trends[0].term == "landslide" and report.warnings == ("the newest posts are of 2026-08-31; counted up to then",)
    assert found([*chatter(9), *rise("landslide", 10)], or_newest=True).warnings == ()


@pytest.mark.parametrize(
    "wrong",
    [{"window_s": 1.0}, {"history_s": 3600.0}, {"history_s": 1e9}, {"min_voices": 1}, {"limit": 0}, {"min_lift": 0.5}, {"max_q": 1.0}],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrendConfig(**wrong)


@given(
    st.lists(
        st.sampled_from(["Storm", "#Storm", "of", "the", "2026", "7", "x", "🔥", "東京都", "京", "$BTC", "https://t.co/a", "@ada", "."])
    )
)
def test_some_terms_are_those_that_are_known_or_in_the_sample(parts: list[str]) -> None:
    said = (" ".join(parts), ["Extra"], ["http://b.example/c?utm_source=1"])
    every = terms_of(*said)
    known = {term for number, term in enumerate(every) if " " in term or number % 3}
    known |= {word for term in known for word in term.split()}
    expected = [term for term, kind in every.items() if term in known or (kind != "link" and in_sample(term.split()[0]))]
    assert sorted(some_terms(known, *said)) == sorted(expected)


def test_terms_of_a_post() -> None:
    assert terms_of("The storm, the STORM! 2026 #Aare $BTC 🔥 see https://t.co/x", ["aare", "More"], ["https://www.example.org/a"]) == {
        "the": "word", "storm": "word", "aare": "word", "btc": "word", "🔥": "word", "see": "word", "the storm": "phrase",
        "storm the": "phrase", "aare btc": "phrase", "btc 🔥": "phrase", "🔥 see": "phrase", "#aare": "tag",
        "$btc": "cashtag", "#more": "tag",
        "https://example.org/a": "link", "https://t.co/x": "link",
    }  # fmt: skip


def test_the_tail_is_that_of_the_negative_binomial_law_given_that_the_term_came_up() -> None:
    now, uses, dispersion = np.array([1, 4, 30]), np.array([0.0, 3.0, 200.0]), np.array([0.3, 1.0, 0.05])
    mean, p_value = _tail(now, uses, 1000.0, 50.0, dispersion, 0.5)
    shape = 1 / (1 / (uses + 0.5) + dispersion)
    law = nbinom(shape, shape / (shape + mean))
    assert p_value == pytest.approx(law.sf(now - 1) / law.sf(0)) and p_value[0] == 1
    _, steady = _tail(now[2:], np.array([2e9]), 1e10, 50.0, np.array([1e-9]), 0.5)
    assert steady == pytest.approx(poisson.sf(29, 10), rel=1e-3)


@pytest.mark.parametrize("clump", [1, 5])
def test_p_values_are_not_too_small_when_nothing_changes(clump: int) -> None:
    rng = np.random.default_rng(clump)
    rates = rng.gamma(0.3, 4.0, 20_000) / clump
    counts = rng.poisson(rates[:, None], (20_000, 101)) * rng.integers(1, 2 * clump, (20_000, 101))  # each use takes some others along
    counts = counts[counts[:, 0] > 0]
    term, window = np.nonzero(counts)
    history = History(term, window, counts[term, window], np.full(101, 500), np.ones(len(counts), np.bool_))
    result = surprises(counts[:, 0], history, window_s=86_400.0, num_terms=len(counts))
    for level in (0.1, 0.01, 0.001):
        assert np.mean(result.p_value <= level) <= level * 1.5
    assert result.q_value.min() > 0.01 and MIN_DISPERSION > 0


def test_terms_of_many_posts_are_those_of_each() -> None:
    rng = random.Random(3)
    pieces = ["flood", "Flood", "aare", "rhine", "a", "7", "#Aare", "$btc", "東京都", "京", "café", "@ada", "don't", "🎉"]
    pieces += ["https://example.org/x?utm_source=1", "https://t.co/1"]
    texts = [" ".join(rng.choice(pieces) for _ in range(rng.randrange(12))) for _ in range(300)]
    tags = [rng.choice([[], ["Rhine"], ["Aare", "x"]]) for _ in texts]
    urls = [rng.choice([[], ["https://example.org/x"]]) for _ in texts]
    known = {"flood", "aare", "flood aare", "#aare", "https://example.org/x", "東京", "café flood"}
    found = some_terms_of_many(known, texts, tags, urls)
    of_each: list[set[str]] = [set() for _ in texts]
    for row, term in zip(found.rows.tolist(), found.terms.tolist(), strict=True):
        of_each[row].add(found.names[term])
    assert of_each == [set(some_terms(known, *one)) for one in zip(texts, tags, urls, strict=True)]
    assert some_terms_of_many(known, [], [], []).rows.tolist() == [] == some_terms_of_many(known, [""], [[]], [[]]).rows.tolist()
