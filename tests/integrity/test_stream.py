"""The watcher of a stream: it agrees with an obvious twin, stays within its memory, survives disorder and death, and finds a campaign."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agora.errors import ConfigError, DataError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.buffers import Events, KeyBuffers
from agora.integrity.evidence import Row
from agora.integrity.pairs import OCCASION_S
from agora.integrity.signals import signals
from agora.integrity.slots import SlotTable
from agora.integrity.stream import Stream, StreamConfig
from agora.integrity.tracking import Limits, Tracker, burst_wager, occasions
from agora.integrity.watch import open_stream, watch
from agora.posts.schema import posts_table

START = datetime(2026, 3, 2, tzinfo=timezone.utc)
SMALL = StreamConfig(
    windows_s=(60, 600), num_first=4096, num_rings=1024, num_bands=8192, num_pairs=8192, num_accounts=2048, num_posts=16_384, max_groups=20
)


def post(number: int, author: str, at_s: float, **more: Any) -> dict[str, Any]:
    when = START + timedelta(seconds=at_s)
    return {"id": f"p{number}", "author": author, "created_at": when, "text": f"note {number}", "kind": "post", "source": "t"} | more


def batch(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return posts_table(rows).select(list(POST_COLUMNS)).combine_chunks().to_batches()[0]


def campaign_rows(num_waves: int = 12, *, hours: float = 3.0) -> list[dict[str, Any]]:
    """Ten accounts that post one link per wave within 30 seconds, among accounts that post links at random times."""
    rng = np.random.default_rng(5)
    events = [(w * hours * 3600 + rng.uniform(0, 30), f"c{a}", f"https://x.example/{w}") for w in range(num_waves) for a in range(10)]
    span = num_waves * hours * 3600
    events += [(rng.uniform(0, span), f"o{rng.integers(200)}", f"https://y.example/{rng.integers(150)}") for _ in range(2000)]
    events.sort()
    return [post(n, author, at, urls=[url]) for n, (at, author, url) in enumerate(events)]


def obvious_co_actions(events: list[tuple[int, int, int]], window_s: int) -> Counter[tuple[int, int, int]]:
    """Every pair of accounts that shared a key within the window, per pair of actions; repeats within an hour aside."""
    found: Counter[tuple[int, int, int]] = Counter()
    for key in {event[0] for event in events}:
        mine: list[tuple[int, int]] = []
        last: dict[int, int] = {}
        for _, account, time_s in sorted((e for e in events if e[0] == key), key=lambda e: (e[2], e[1])):
            if account not in last or time_s - last[account] >= 3600:
                mine.append((account, time_s))
            last[account] = time_s
        for place, (one, at) in enumerate(mine):
            for two, then in mine[:place]:
                if one != two and at - then < window_s:
                    found[key, min(one, two), max(one, two)] += 1
    return found


@pytest.mark.parametrize("size", [1, 7, 400])
def test_co_actions_are_those_of_an_obvious_twin(size: int) -> None:
    rng = np.random.default_rng(1)
    times = np.sort(rng.integers(0, 40_000, 400))
    events = [(int(rng.integers(1, 30)), int(rng.integers(1, 40)), int(time_s)) for time_s in times]
    buffers = KeyBuffers(num_first=1024, num_rings=1024, window_s=600)
    found: Counter[tuple[int, int]] = Counter()
    for start in range(0, len(events), size):
        part = np.asarray(events[start : start + size], np.int64)
        none = np.zeros(len(part), np.uint64)
        pairs = buffers.add(
            Events(part[:, 0].astype(np.uint64), part[:, 1].astype(np.uint64), part[:, 2], none, none.astype(np.uint8), none > 0, none)
        )
        found.update(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    expected: Counter[tuple[int, int]] = Counter()
    for (_, one, two), count in obvious_co_actions(events, 600).items():
        expected[one, two] += count
    assert found == expected


def test_a_table_forgets_the_lowest_score_and_counts_what_it_leaves_out() -> None:
    table = SlotTable(8)
    keys = np.arange(1, 9, dtype=np.uint64)
    table.place(keys, np.arange(8))
    slots, is_new = table.place(np.asarray([99], np.uint64), np.asarray([50]))
    assert (
        is_new.all() and table.find(keys)[0] < 0 and (table.find(keys)[1:] >= 0).all() and table.find(np.asarray([99], np.uint64)) == slots
    )
    many, _ = table.place(np.arange(100, 120, dtype=np.uint64), np.full(20, 60))
    assert (many >= 0).sum() == 8 and table.left_out == 12 and len(np.unique(many[many >= 0])) == 8


def test_campaign_is_reported_and_nobody_else() -> None:
    stream = Stream(SMALL)
    alerts = stream.feed(batch(campaign_rows()))
    assert alerts and all(name.startswith("c") for alert in alerts for name in alert.accounts)
    assert len(alerts[-1].accounts) >= 8 and alerts[-1].posts and "link" in alerts[-1].signals


def test_declared_organisation_explains_an_alert() -> None:
    stream = Stream(SMALL, declared={f"c{number}": "wire" for number in range(10)})
    alerts = stream.feed(batch(campaign_rows()))
    assert alerts and all("wire" in alert.explanation for alert in alerts)


def burst(start_s: int, accounts: range) -> Row:
    """All of `accounts`, and nobody else, share one link within a minute."""
    pairs = len(accounts) * (len(accounts) - 1) // 2
    return Row(
        key=start_s, signal=[signal.id for signal in signals()].index("link"), exposed=False, author=0, start_s=start_s, end_s=start_s + 50,
        members=len(accounts), size=len(accounts), close=pairs, mean=float(pairs), variance=0.0, is_tight=True, others=(), around=(),
        accounts=tuple(accounts), posts=(),
    )  # fmt: skip


LIMITS = Limits(p_alert=2.5e-4, min_occasions=3, min_actions=2)
CAMPAIGN, CROWD = range(1, 31), range(100, 250)


@pytest.mark.parametrize("in_between", ["lost in a crowd", "not found"])
def test_group_keeps_its_evidence_when_a_search_takes_it_for_part_of_a_crowd_or_misses_it(in_between: str) -> None:
    tracker = Tracker(window_s=600, max_groups=20)
    apart = [np.asarray(CROWD), np.asarray(CAMPAIGN)]
    between = [np.asarray([*CROWD, *CAMPAIGN])] if in_between == "lost in a crowd" else [np.asarray(CROWD)]
    tracker.track(apart, 0)
    for number, communities in enumerate((between, apart, between)):
        at_s = 10_000 * (number + 1)
        rolls = [roll.find(np.asarray([CAMPAIGN[0]], np.uint64))[0].tolist()[0] for roll in tracker.rolls]
        findings = tracker.test([(group, burst(at_s, CAMPAIGN)) for group in rolls if group >= 0], LIMITS)
        assert len(findings) == (number == 2)
        tracker.track(communities, at_s + 1000)
    assert findings[0].accounts == tuple(CAMPAIGN) and findings[0].num_occasions == 3


def test_accounts_that_an_alert_named_raise_no_second_one_as_part_of_another_group() -> None:
    tracker = Tracker(window_s=600, max_groups=20)
    tracker.track([np.asarray(CAMPAIGN)], 0)
    tracker.track([np.asarray([*CROWD, *CAMPAIGN])], 1)
    numbers = list(tracker.groups)
    rows = [(number, burst(at_s, CAMPAIGN)) for number in numbers for at_s in (10_000, 20_000, 30_000)]
    assert len(numbers) == 2 and len(tracker.test(rows, LIMITS)) == 1


def test_a_wave_across_the_full_hour_is_one_occasion() -> None:
    hour = 400_000 * OCCASION_S
    rows = [burst(hour + shift_s, range(1, 6)) for shift_s in (-20, 10, 40, OCCASION_S - 20)]
    assert [len(together) for together in occasions(rows)] == [3, 1]


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.2])
def test_a_wager_on_bursts_gains_nothing_in_the_mean_while_the_rate_is_organic(rate: float) -> None:
    for seen in range(12):
        for bursts in range(seen + 1):
            held = burst_wager(bursts, seen, rate)
            for truth in (rate, rate / 3, 0.0):
                then = truth * burst_wager(bursts + 1, seen + 1, rate) + (1 - truth) * burst_wager(bursts, seen + 1, rate)
                assert then <= held * (1 + 1e-9)
    assert burst_wager(0, 0, rate) == pytest.approx(1.0)


def test_looking_after_every_occasion_passes_no_more_organic_groups_than_the_limit() -> None:
    rng = np.random.default_rng(4)
    limit, passed = 0.02, 0
    for _ in range(1500):
        bursts = np.cumsum(rng.random(60) < 0.1)
        passed += any(burst_wager(int(count), number + 1, 0.1) >= 1 / limit for number, count in enumerate(bursts))
    assert passed <= 1500 * limit


def test_saved_watcher_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    parts = [batch(campaign_rows()).slice(start, 300) for start in range(0, 2120, 300)]
    whole, first = Stream(SMALL), Stream(SMALL)
    expected = [alert for part in parts for alert in whole.feed(part)]
    found = [alert for part in parts[:4] for alert in first.feed(part)]
    first.save(tmp_path / "watch.npz")
    second = Stream.load(tmp_path / "watch.npz")
    found += [alert for part in parts[4:] for alert in second.feed(part)]
    assert found == expected == second.alerts() and second.counts == whole.counts
    assert all(np.array_equal(array, second.arrays()[name]) for name, array in whole.arrays().items())


def test_damaged_state_is_named(tmp_path: Path) -> None:
    (tmp_path / "watch.npz").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"watch\.npz"):
        Stream.load(tmp_path / "watch.npz")


def test_repeated_posts_count_once() -> None:
    stream, rows = Stream(SMALL), campaign_rows(2)
    stream.feed(batch(rows + rows[:50]))
    pairs = stream.counts["co_actions"]
    stream.feed(batch(rows))
    assert stream.counts["repeated"] == 50 + len(rows) and stream.counts["co_actions"] == pairs and stream.counts["posts"] == len(rows)


def test_disorder_within_minutes_does_not_hide_the_campaign() -> None:
    rng = np.random.default_rng(2)
    rows = campaign_rows()
    rows = [rows[place] for place in np.argsort(np.arange(len(rows)) + rng.normal(0, 5, len(rows)))]
    stream = Stream(SMALL)
    alerts = stream.feed(batch(rows))
    assert alerts and all(name.startswith("c") for alert in alerts for name in alert.accounts)


def test_single_wrong_times_do_not_move_the_clock_and_a_jump_of_the_feed_does() -> None:
    stream = Stream(SMALL)
    stream.feed(batch([post(n, f"o{n % 7}", n) for n in range(300)]))
    before = stream.clock_s
    stream.feed(batch([post(1000, "o1", 10 * 365 * 86_400), post(1001, "o2", -90_000_000)]))
    assert abs(stream.clock_s - before) <= 2 and stream.counts["ahead"] == 1 and stream.counts["late"] == 1
    for jump_s in (30 * 86_400, 60):
        stream.feed(batch([post(10_000 + jump_s + n, f"o{n % 7}", jump_s + n) for n in range(300)]))
        assert abs(stream.clock_s - (START.timestamp() + jump_s + 299)) <= 10


def test_memory_does_not_grow_with_the_stream() -> None:
    config = StreamConfig(
        windows_s=(60,), num_first=256, num_rings=64, num_bands=256, num_pairs=64, num_accounts=64, num_posts=64, max_groups=4
    )
    stream = Stream(config)
    size = stream.memory_bytes()
    for part in range(5):
        rows = [
            post(part * 2000 + n, f"a{part}-{n % 500}", part * 4000 + 2 * n, urls=[f"https://x.example/{part}/{n // 3}"])
            for n in range(2000)
        ]
        stream.feed(batch(rows))
    held = [len(group.rows) for tracker in stream.trackers for group in tracker.groups.values()]
    assert stream.memory_bytes() == size and len(held) <= 4 and stream.counts["posts"] == 10_000


def test_watching_lines_skips_broken_ones_and_keeps_its_state(tmp_path: Path) -> None:
    lines = [json.dumps({**row, "created_at": row["created_at"].isoformat()}) for row in campaign_rows()]
    state = tmp_path / "watch.npz"
    stream = open_stream(state, SMALL)
    alerts = list(watch([*lines[:5], "{broken", "", *lines[5:]], stream, state=state))
    assert alerts and stream.counts["broken"] == 1 and stream.counts["posts"] == len(lines)
    again = open_stream(state, SMALL)
    assert again.alerts() == alerts and not list(watch(lines[-50:], again)) and again.counts["repeated"] == 50


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match="tick_s"):
        StreamConfig(tick_s=0)
