"""Episodes and bursts, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from agora.integrity.bursts import burst_counts, is_burst, occasions
from agora.integrity.episodes import Episodes, episodes
from agora.integrity.timing import GroupEpisodes, episode_pairs, group_episodes
from tests.integrity.boards import shares_of


def every(rows: list[tuple[int, int, int]], gap_s: float = 100, exposed: list[bool] | None = None) -> Episodes:
    shares = shares_of("repost", rows)
    return episodes(shares, np.ones(len(shares.post), np.bool_), gap_s, None if exposed is None else np.array(exposed))


def grouped(events: Episodes, members: set[int], window_s: int = 60) -> GroupEpisodes:
    group_of = np.full(100, -1, np.int32)
    group_of[list(members)] = 0
    return group_episodes(events, episode_pairs(events, window_s), group_of, window_s)


def test_a_silence_longer_than_the_gap_ends_an_episode() -> None:
    found = every([(0, 1, 0), (0, 2, 100), (0, 3, 201), (0, 4, 250)])
    assert found.size.tolist() == [2, 2]
    assert found.account.tolist() == [1, 2, 3, 4]


def test_each_account_counts_once_with_its_first_post() -> None:
    found = every([(0, 1, 0), (0, 1, 5), (0, 2, 10), (0, 2, 20)])
    assert found.time_s.tolist() == [0, 10]


def test_one_account_alone_is_no_episode() -> None:
    assert len(every([(0, 1, 0), (0, 1, 5), (1, 2, 10)])) == 0


def test_followers_and_others_are_compared_apart() -> None:
    found = every([(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 4, 3)], exposed=[True, False, True, False])
    assert [sorted(found.account[found.episode == number].tolist()) for number in range(2)] == [[2, 4], [1, 3]]
    assert found.artefact.tolist() == [0, 0]


def test_only_posts_in_question_count() -> None:
    shares = shares_of("repost", [(0, 1, 0), (0, 2, 1), (0, 3, 2)])
    found = episodes(shares, np.array([True, False, True]), 100)
    assert found.account.tolist() == [1, 3]


def test_a_burst_needs_three_members_few_outsiders_and_most_pairs_close() -> None:
    rows = [(0, 1, 0), (0, 2, 1), (0, 3, 2), (0, 9, 3)]  # three of four: a burst
    rows += [(1, 1, 10**4), (1, 2, 10**4 + 1), (1, 3, 10**4 + 2), (1, 8, 10**4), (1, 9, 10**4)]  # three of five
    rows += [(2, 1, 2 * 10**4), (2, 2, 2 * 10**4)]  # two
    rows += [(3, 1, 3 * 10**4), (3, 2, 3 * 10**4 + 1), (3, 3, 3 * 10**4 + 70), (3, 4, 3 * 10**4 + 140)]  # one close pair of six
    found = grouped(every(rows), {1, 2, 3, 4})
    assert is_burst(found).tolist() == [True, False, False, False]


def test_an_hour_is_one_occasion() -> None:
    rows = [(0, 1, 0), (0, 2, 1), (0, 3, 2)]
    rows += [(1, 1, 600), (1, 2, 601), (1, 3, 602), (1, 4, 603)]
    rows += [(2, 1, 7200), (2, 2, 7201), (2, 3, 7202)]
    found = grouped(every(rows), {1, 2, 3, 4})
    chosen = occasions(found, 3)
    assert found.members[chosen].tolist() == [4, 3]
    assert found.start_s[chosen].tolist() == [600, 7200]


def test_p_of_bursts_is_the_binomial_tail() -> None:
    rows = [(hour, account, hour * 7200 + account) for hour in range(3) for account in (1, 2, 3)]
    rows += [(3, account, 3 * 7200 + account * 500) for account in (1, 2, 3)]
    counts = burst_counts(grouped(every(rows, 10**4), {1, 2, 3}), np.array([3]), 0.2)
    assert (counts.occasions[0], counts.bursts[0]) == (4, 3)
    assert counts.p_value[0] == pytest.approx(binom.pmf(3, 4, 0.2) + binom.pmf(4, 4, 0.2))


def test_a_group_that_did_nothing_has_p_one() -> None:
    assert burst_counts(grouped(every([(0, 1, 0), (0, 2, 1)]), {1, 2}), np.array([2, 0, 0]), 0.2).p_value.tolist() == [1.0, 1.0, 1.0]
