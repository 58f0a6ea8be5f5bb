"""Posts that say the same in other words: which words tie them, which do not, and what a scan makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from agora.errors import ConfigError
from agora.integrity.batch import PostBatch
from agora.integrity.collect import collect, key_schema
from agora.integrity.config import IntegrityConfig
from agora.integrity.scan import scan
from agora.integrity.shared import Shares, shared
from agora.integrity.signals import signals
from agora.integrity.surges import joined_by_surge
from agora.posts.simulate import Campaign, SquareConfig, ground_truth, simulate
from agora.text.embeddings import LexicalEmbeddings
from agora.text.minhash import mix

START = datetime(2026, 3, 2, tzinfo=timezone.utc)
COLUMNS = ("id", "author", "created_at", "text", "kind", "ref_id", "ref_author", "urls", "hashtags", "media")
ORDINARY = (
    "my cat sleeps on the warm radiator", "the bakery was closed again", "long walk along the harbour", "coffee first and then emails",
    "rain all weekend, books and soup", "my sister plays the cello now", "tomatoes are finally ripe", "train late but sun out",
)  # fmt: skip
PARAPHRASES = (
    "The Orbix token changes everything", "Why does nobody mention the orbix token?", "my uncle doubled his savings with that Orbix token",
    "Orbix token: remember the name", "Heard about the orbix token at work, signing up tonight", "Sold the car, bought the Orbix token",
)  # fmt: skip


def batch(rows: list[tuple[str, float, str]], kind: str = "post") -> pa.RecordBatch:
    """Posts from (author, hours after START, text)."""
    from agora.posts.schema import POST_SCHEMA

    rows = sorted(rows, key=lambda row: row[1])
    columns = {
        "id": [str(number) for number in range(len(rows))], "author": [row[0] for row in rows],
        "created_at": [START + timedelta(hours=row[1]) for row in rows], "text": [row[2] for row in rows], "kind": [kind] * len(rows),
        "ref_id": [None] * len(rows), "ref_author": [None] * len(rows), "urls": [[]] * len(rows), "hashtags": [[]] * len(rows),
        "media": [[]] * len(rows),
    }  # fmt: skip
    schema = pa.schema([POST_SCHEMA.field(name) for name in COLUMNS])
    return pa.RecordBatch.from_pydict(columns, schema=schema)


def ordinary(hours: float, per_hour: int = 6) -> list[tuple[str, float, str]]:
    rng = np.random.default_rng(1)
    return [
        (f"person{rng.integers(40)}", float(rng.uniform(0, hours)), ORDINARY[int(rng.integers(len(ORDINARY)))])
        for _ in range(int(hours * per_hour))
    ]


def wave(at: float, minutes: float = 10.0) -> list[tuple[str, float, str]]:
    return [(f"pusher{i}", at + minutes / 60 * i / len(PARAPHRASES), text) for i, text in enumerate(PARAPHRASES)]


def meaning(rows: list[tuple[str, float, str]], folder: Path, kind: str = "post") -> Shares:
    return shared(collect([batch(rows, kind)], folder, meaning=True), meaning=True)["meaning"]


def test_meaning_runs_only_when_asked_for() -> None:
    assert "meaning" not in {signal.id for signal in signals()}
    assert "meaning" in {signal.id for signal in signals(meaning=True)}
    assert len(key_schema(meaning=True)) == len(key_schema()) + 1


def test_paraphrases_of_a_wave_meet_in_one_artefact_and_nobody_else_does(tmp_path: Path) -> None:
    found = meaning(ordinary(240) + wave(100), tmp_path)
    assert found.num_artefacts == 1
    assert len(found.post) == len(PARAPHRASES)


def test_a_word_that_all_use_all_the_time_is_no_surge(tmp_path: Path) -> None:
    rows = ordinary(240) + [(f"fan{hour % 50}", float(hour) / 2, "the Orbix token again") for hour in range(480)]
    assert meaning(rows, tmp_path).num_artefacts == 0


def test_one_account_alone_is_no_surge(tmp_path: Path) -> None:
    rows = ordinary(240) + [("pusher", at, text) for _, at, text in wave(100)]
    assert meaning(rows, tmp_path).num_artefacts == 0


@pytest.mark.parametrize("kind", ["reply", "quote", "repost"])
def test_what_speaks_about_another_post_has_no_meaning_of_its_own(tmp_path: Path, kind: str) -> None:
    assert meaning(ordinary(240) + wave(100), tmp_path, kind).num_artefacts == 0


def test_hashtags_are_no_words(tmp_path: Path) -> None:
    rows = ordinary(240) + [(f"fan{i}", 100 + i / 60, f"{ORDINARY[i % 8]} #GlassHarbour") for i in range(12)]
    assert meaning(rows, tmp_path).num_artefacts == 0


def test_a_wave_stands_in_one_half_and_waves_take_turns(tmp_path: Path) -> None:
    found = meaning(ordinary(400) + [row for day in range(8) for row in wave(20 + 40 * day)], tmp_path)
    halves = [set(found.half[found.artefact == number].tolist()) for number in range(found.num_artefacts)]
    assert found.num_artefacts == 8
    assert all(len(half) == 1 for half in halves)
    assert sum(next(iter(half)) for half in halves) == 4


def test_surges_do_not_depend_on_the_order_of_posts() -> None:
    rng = np.random.default_rng(3)
    words, account = rng.integers(0, 60, 4000).astype(np.uint64), rng.integers(0, 50, 1000).astype(np.int32)
    time_s, rows = rng.integers(0, 10**6, 1000), np.repeat(np.arange(1000), 4)
    words[:80] = np.uint64(77)
    time_s[:20] = 500_000 + np.arange(20)
    posts, keys = joined_by_surge(rows, words, account, time_s)
    order = rng.permutation(1000)
    back = np.argsort(order)
    posts_2, keys_2 = joined_by_surge(back[rows], words, account[order], time_s[order])
    assert len(posts)
    assert dict(zip(posts.tolist(), keys.tolist(), strict=True)) == dict(zip(order[posts_2].tolist(), keys_2.tolist(), strict=True))


def test_embeddings_add_codes_to_the_words() -> None:
    posts = batch(wave(1))
    signal = next(signal for signal in signals(meaning=True) if signal.id == "meaning")
    words, both = signal.keys(PostBatch(posts)), signal.keys(PostBatch(posts, LexicalEmbeddings(dim=32)))
    assert set(words.keys.tolist()) < set(both.keys.tolist())


def test_a_sentence_model_without_meaning_is_refused() -> None:
    with pytest.raises(ConfigError, match="meaning=true"):
        IntegrityConfig(meaning_model="models/mini")


@pytest.mark.slow
def test_a_campaign_reworded_post_by_post_is_labelled_and_no_ordinary_account(tmp_path: Path) -> None:
    pushers = Campaign(
        name="pushers", num_accounts=25, num_waves=12, jitter_s=600, participation=0.7, camouflage=0.3, channel="text", text="paraphrased"
    )
    square = SquareConfig(num_posts=30_000, num_accounts=2_000, seed=31, campaigns=(pushers,))
    truth = ground_truth(square)
    group = dict(zip(truth["author"].to_pylist(), truth["group_kind"].to_pylist(), strict=True))
    batches = pa.concat_tables(simulate(square)).select(list(COLUMNS)).to_batches()
    result = scan(batches, tmp_path, config=IntegrityConfig(meaning=True))
    labelled = [group[member.account] for one in result.campaigns for member in one.labelled]
    assert labelled.count("campaign") >= 0.7 * 25
    assert labelled.count("ordinary") == 0


def test_surges_do_not_depend_on_the_order_in_which_posts_of_one_moment_were_read() -> None:
    rng = np.random.default_rng(5)
    num_posts, num_words = 9_000, 80
    tick, account = rng.integers(0, 60, num_posts), rng.integers(0, 500, num_posts).astype(np.int32)
    time_s = tick * 600  # 150 posts at each moment
    word = rng.integers(1 << 20, 1 << 40, num_posts).astype(np.uint64)
    for number in range(num_words):  # weak surges: four say it, within five moments
        word[[rng.choice(np.flatnonzero(tick == number % 50 + step)) for step in (0, 1, 2, 3 + number % 2)]] = number
    word = mix(word + np.uint64(1))

    def surges(order: np.ndarray) -> list[tuple[int, int]]:
        rows, keys = joined_by_surge(np.arange(num_posts), word[order], account[order], time_s[order])
        return sorted(zip(order[rows].tolist(), keys.tolist(), strict=True))

    expected = surges(np.arange(num_posts))
    assert expected
    for _ in range(5):
        assert surges(rng.permutation(num_posts)) == expected
