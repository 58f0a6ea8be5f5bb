"""Counting close pairs and their null: closed forms against brute force, draws and slow twins."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import false_discovery_control

from agora.integrity.bursts import occasions
from agora.integrity.control import q_values
from agora.integrity.episodes import Episodes, close_pairs, episodes
from agora.integrity.timing import GroupEpisodes, episode_pairs, group_episodes, timing_counts
from tests.integrity.boards import shares_of

GAP_S = 21_600.0


def one_artefact(times: list[int]) -> Episodes:
    shares = shares_of("repost", [(0, account, at) for account, at in enumerate(times)])
    return episodes(shares, np.ones(len(times), np.bool_), GAP_S)


def of_group(events: Episodes, members: set[int], window_s: int, num_accounts: int = 100) -> GroupEpisodes:
    group_of = np.full(num_accounts, -1, np.int32)
    group_of[list(members)] = 0
    return group_episodes(events, episode_pairs(events, window_s), group_of, window_s)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-(10**6), 10**6)), max_size=40), st.integers(1, 10**5)
)  # fmt: skip
def test_close_pairs_agree_with_a_double_loop(rows: list[tuple[int, int]], window_s: int) -> None:
    rows = sorted(rows)
    earlier, later = close_pairs(np.array([b for b, _ in rows], np.int32), np.array([t for _, t in rows], np.int64), window_s)
    for here, (block, at) in enumerate(rows):
        near = [j for j, (b, t) in enumerate(rows) if j != here and b == block and abs(t - at) < window_s]
        assert (earlier[here], later[here]) == (sum(j < here for j in near), sum(j > here for j in near))


def test_close_pairs_of_many_blocks_over_decades_do_not_overflow() -> None:
    block = np.array([10**12, 10**12, 3 * 10**12], np.int64)
    earlier, later = close_pairs(block, np.array([0, 30, 10**9], np.int64), 60)
    assert later.tolist() == [1, 0, 0] and earlier.tolist() == [0, 1, 0]


@given(st.lists(st.integers(0, 400), min_size=2, max_size=7), st.integers(2, 7), st.sampled_from([30, 60, 200]))
def test_mean_and_variance_are_those_of_all_subsets(times: list[int], num_members: int, window_s: int) -> None:
    num_members = min(num_members, len(times))
    found = of_group(one_artefact(times), set(range(num_members)), window_s)
    counts = [
        sum(abs(times[i] - times[j]) < window_s for i, j in combinations(subset, 2))
        for subset in combinations(range(len(times)), num_members)
    ]
    assert found.mean[0] == pytest.approx(np.mean(counts))
    assert found.variance[0] == pytest.approx(np.var(counts), abs=1e-9)


def test_mean_and_variance_agree_with_draws_on_a_large_artefact() -> None:
    rng = np.random.default_rng(3)
    times = np.sort(rng.exponential(900, 300)).astype(int)
    found = of_group(one_artefact(times.tolist()), set(range(25)), 60, 300)
    drawn = []
    for _ in range(4000):
        some = np.sort(rng.choice(times, 25, replace=False))
        drawn.append(int((np.subtract.outer(some, some)[np.tril_indices(25, -1)] < 60).sum()))
    assert found.mean[0] == pytest.approx(np.mean(drawn), rel=0.03)
    assert found.variance[0] == pytest.approx(np.var(drawn), rel=0.1)


@pytest.mark.parametrize("crowd", ["burst", "clique"])
def test_p_values_of_random_groups_are_not_too_small(crowd: str) -> None:
    """Ten groups at random in each of 40 squares of 8 artefacts. With 400 groups and a true level of .05, 32 or fewer are expected
    with probability .998; a clique of eight within a minute is the hardest, as its pairs come together."""
    small = total = 0
    for seed in range(40):
        rng = np.random.default_rng([seed, crowd == "clique"])
        rows = []
        for artefact in range(8):
            apart = rng.exponential(600, 60) if crowd == "burst" else np.append(rng.uniform(0, 40, 8), rng.uniform(100, 15_000, 52))
            who = rng.choice(300, 60, replace=False)
            rows += [(artefact, int(a), int(artefact * 100_000 + at)) for a, at in zip(who, apart, strict=True)]
        events = episodes(shares_of("repost", rows), np.ones(len(rows), np.bool_), GAP_S)
        group_of = (rng.permutation(300) % 10).astype(np.int32)
        found = group_episodes(events, episode_pairs(events, 60), group_of, 60)
        counts = timing_counts(events, found, occasions(found, 2), 10, 60, seed=1)
        small += int((counts.p_value <= 0.05).sum())
        total += int((counts.occasions > 0).sum())
    assert total == 400 and small <= 32


def test_a_rare_pair_is_not_taken_for_certain() -> None:
    """Two members meet once in three artefacts of a thousand sharers: chance 3 * P / C(n, 2), not 1e-100 because no draw met."""
    rng = np.random.default_rng(0)
    rows = []
    for artefact in range(3):
        times = np.sort(rng.choice(80_000, 1000, replace=False)) + artefact * 10**6
        rows += [(artefact, account, int(at)) for account, at in enumerate(rng.permutation(times))]
    shares = shares_of("repost", rows)
    events = episodes(shares, np.ones(len(rows), np.bool_), GAP_S)
    first = np.flatnonzero(events.episode == 0)
    nearest = first[np.argmin(np.diff(events.time_s[first]))]
    pair = {int(events.account[nearest]), int(events.account[nearest + 1])}
    found = of_group(events, pair, 10, 1000)
    counts = timing_counts(events, found, occasions(found, 2), 1, 10, seed=0)
    expected = float(found.mean.sum())
    assert counts.observed[0] >= 1
    assert counts.p_value[0] >= 0.2 * expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_q_values_are_those_of_benjamini_and_hochberg(p: list[float]) -> None:
    assert q_values(np.array(p)) == pytest.approx(false_discovery_control(p))


def test_no_tests_have_no_q_values() -> None:
    assert len(q_values(np.empty(0))) == 0
