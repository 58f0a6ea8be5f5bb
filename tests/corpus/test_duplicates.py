"""Duplicates: the earliest stays, whatever the order of the input; Jaccard decides, MinHash only finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pyarrow as pa

from agora.corpus.config import CorpusConfig
from agora.corpus.duplicates import PostKeys, drop_equal_ids, drop_equal_texts, drop_near, earliest_first, near_candidates
from agora.corpus.steps import STEP_NUMBER
from agora.text.minhash import band_keys, hash_strings, jaccard, shingles, signatures

CONFIG = CorpusConfig(near_duplicate_min_words=4)
NEAR, EXACT = STEP_NUMBER["near_duplicate"], STEP_NUMBER["exact_duplicate"]


def run(texts: list[str], config: CorpusConfig = CONFIG) -> tuple[PostKeys, list[tuple[int, int]]]:
    """All texts in order of time; returns reasons and (dropped, joined to)."""
    column = pa.array(texts, type=pa.large_string())
    hashes = hash_strings(column)
    size = len(texts)
    keys = PostKeys(
        created_at=np.arange(size), id_hash=np.arange(size, dtype=np.uint64), author_hash=np.zeros(size, dtype=np.uint64),
        ref_hash=np.zeros(size, dtype=np.uint64), text_hash=hashes, key_hash=hashes,
        bands=band_keys(signatures(column, config.num_bands * config.rows_per_band), config.num_bands),
        num_words=np.array([len(text.split()) for text in texts], dtype=np.uint32), is_reply=np.zeros(size, dtype=np.bool_),
        reason=np.zeros(size, dtype=np.uint8),
    )  # fmt: skip
    order = earliest_first(keys)
    drop_equal_ids(keys, order)
    drop_equal_texts(keys, order, config)
    candidates = near_candidates(keys, order, config)
    dropped, kept = drop_near(keys, candidates, shingles(column.take(pa.array(candidates))), config)
    return keys, list(zip(dropped.tolist(), kept.tolist(), strict=True))


def words(seed: int, count: int = 20) -> list[str]:
    return [f"w{number}" for number in np.random.default_rng(seed).integers(10_000, size=count)]


def test_the_earliest_of_equal_texts_stays() -> None:
    keys, _ = run(["a b c d", "e f g h", "a b c d", "a b c d"])
    assert keys.reason.tolist() == [0, 0, EXACT, EXACT]


def test_near_duplicates_are_joined_to_an_earlier_post_they_verifiably_resemble() -> None:
    texts = []
    for seed in range(60):
        base = words(seed)
        texts.append(" ".join(base))
        for place in (0, 7, 19):
            changed = [*base]
            changed[place] = f"other{seed}{place}"
            texts.append(" ".join(changed))
    keys, pairs = run(texts)
    sets = shingles(pa.array(texts, type=pa.large_string()))
    dropped, kept = (np.array(side) for side in zip(*pairs, strict=True))
    assert (kept < dropped).all()
    assert (jaccard(sets, kept, dropped) >= CONFIG.near_duplicate_jaccard).all()
    assert not keys.reason[::4].any(), "the originals stay"
    assert (keys.reason == NEAR).sum() >= 0.95 * 180


def test_posts_below_the_threshold_stay_however_many_bands_they_share() -> None:
    base = words(1)
    texts = [" ".join(base), " ".join(base[:12] + words(2, 8))]
    keys, pairs = run(texts, replace(CONFIG, rows_per_band=1, num_bands=32))
    assert pairs == []
    assert not keys.reason.any()


def test_all_pairs_by_brute_force_find_no_more_than_a_few_that_were_missed() -> None:
    rng = np.random.default_rng(5)
    texts = []
    for seed in range(25):
        base = words(seed, 14)
        texts += [" ".join(base[: rng.integers(11, 15)]) for _ in range(4)]
    texts = list(dict.fromkeys(texts))
    keys, _ = run(texts)
    sets = shingles(pa.array(texts, type=pa.large_string()))
    alive = np.flatnonzero(keys.reason == 0)
    left, right = (np.array(side) for side in zip(*itertools.combinations(alive, 2), strict=True))
    assert (jaccard(sets, left, right) >= 0.85).sum() <= 2


def test_short_posts_are_only_compared_for_equality() -> None:
    keys, _ = run(["one two three", "one two three four"], replace(CONFIG, near_duplicate_min_words=6, near_duplicate_jaccard=0.5))
    assert not keys.reason.any()
