"""Pairs of accounts against a slow and obvious twin, in memory and on disk."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agora.integrity import pairs
from agora.integrity.config import IntegrityConfig
from agora.integrity.episodes import Episodes, episodes
from agora.integrity.records import ScanResult
from agora.integrity.scan import scan
from agora.posts.simulate import SquareConfig, simulate
from tests.integrity.boards import shares_of

NUM_ACCOUNTS = 40


@pytest.fixture(params=["in memory", "on disk"])
def _limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "on disk":
        monkeypatch.setattr(pairs, "MAX_RECORDS_IN_MEMORY", 2)
        monkeypatch.setattr(pairs, "PART_RECORDS", 7)
        monkeypatch.setattr(pairs, "_BLOCK_EVENTS", 5)


def halves_of(seed: int, crowd: int = 9) -> list[Episodes]:
    rng = np.random.default_rng(seed)
    result = []
    for signal in ("repost", "text"):
        rows = [tuple(row) for row in rng.integers(0, (3, NUM_ACCOUNTS, 9000), (rng.integers(2, 12) * crowd, 3)).tolist()]
        shares = shares_of(signal, sorted(rows, key=lambda row: (row[0], row[2], row[1])))
        result.append(episodes(shares, np.ones(len(rows), np.bool_), 1800))
    return result


def slow_edges(halves: list[Episodes], window_s: int) -> dict[tuple[int, int], float]:
    best: dict[tuple[int, int], dict[int, float]] = defaultdict(dict)
    for half in halves:
        rows = list(zip(half.episode.tolist(), half.account.tolist(), half.time_s.tolist(), strict=True))
        for place, (episode, account, time_s) in enumerate(rows):
            others = sum(one[0] == episode and abs(one[2] - time_s) < window_s for one in rows) - 1
            near = [one for one in rows[place + 1 : place + 1 + pairs.NEIGHBOURS] if one[0] == episode and one[2] - time_s < window_s]
            for _, other, _ in near:
                pair, hour = (min(account, other), max(account, other)), time_s // 3600
                best[pair][hour] = max(best[pair].get(hour, 0.0), 1 / np.log2(1 + others))
    return {pair: sum(hours.values()) for pair, hours in best.items() if len(hours) >= 2}


@pytest.mark.usefixtures("_limits")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([60, 600, 3600]))
def test_pairs_are_those_of_a_double_loop(seed: int, window_s: int) -> None:
    halves = halves_of(seed)
    left, right, weight = pairs.edges(halves, window_s, NUM_ACCOUNTS)
    expected = slow_edges(halves, window_s)
    found = list(zip(left.tolist(), right.tolist(), strict=True))
    assert found == sorted(expected)
    assert weight == pytest.approx([expected[pair] for pair in found])


def test_accounts_too_many_for_one_number_are_cut_into_more_parts() -> None:
    halves = [
        Episodes(one.signal, one.episode, one.account * 200_000, one.time_s, one.post, one.size, one.artefact) for one in halves_of(3)
    ]
    for half in halves:
        half.time_s[:] += (half.episode.astype(np.int64) % 2) * 20 * 366 * 86_400  # twenty years
    many = pairs.edges(halves, 600, NUM_ACCOUNTS * 200_000)
    small = [replace(half, account=half.account // 200_000) for half in halves]
    few = pairs.edges(small, 600, NUM_ACCOUNTS)
    assert len(few[0])
    assert pairs._Packing(halves, NUM_ACCOUNTS * 200_000, 10).part_bits > 0
    assert [(many[0] // 200_000).tolist(), (many[1] // 200_000).tolist(), many[2].tolist()] == [one.tolist() for one in few]


def test_nothing_close_gives_no_pairs() -> None:
    assert [len(column) for column in pairs.edges([], 60, NUM_ACCOUNTS)] == [0, 0, 0]


def test_a_scan_finds_the_same_with_pairs_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scanned(name: str) -> ScanResult:
        square = SquareConfig(num_posts=40_000, num_accounts=1_000, seed=7)
        return scan((batch for table in simulate(square) for batch in table.to_batches()), tmp_path / name, config=IntegrityConfig())

    before = scanned("memory")
    monkeypatch.setattr(pairs, "MAX_RECORDS_IN_MEMORY", 1000)
    monkeypatch.setattr(pairs, "PART_RECORDS", 5000)
    assert scanned("disk") == before
    assert sorted(path.suffix for path in (tmp_path / "disk").iterdir()) == sorted(path.suffix for path in (tmp_path / "memory").iterdir())
    assert any(campaign.labelled for campaign in before.campaigns)
