"""How long a scan takes: posts from a store, all signals, all tests.

python -m benchmarks integrity_speed [--quick] [--posts 1200000]

A simulated square with the default campaigns, scanned from a PostStore with its follow graph. Reading, who shared what, tests and
evidence are timed apart. In full the near duplicates of 24 h windows are timed too, on 9 million posts of fourteen simulated days,
one square each (one core; the simulation is not timed).
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.registry import Benchmark, Result, whole_number

MAX_SCAN_S: Final = 12.0
FULL_POSTS: Final = 1_200_000
NEAR_TEXTS, MAX_NEAR_S = 9_000_000, 600.0


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.simulate import SquareConfig, follow_graph, simulate_into
    from agora.posts.store import PostStore
    from benchmarks.integrity_squares import FIRST_SEED

    num_posts = whole_number(options, "posts", 300_000 if quick else FULL_POSTS, at_least=10_000)
    config = SquareConfig(num_posts=num_posts, num_accounts=num_posts // 20, seed=FIRST_SEED + 800)
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder) / "posts", create=True) as store:
        simulate_into(store, config)
        cpu = time.process_time()
        seconds, found = _scan(store, Path(folder) / "keys", follow_graph(config))
        cpu = time.process_time() - cpu
    total = sum(seconds.values())
    bar = MAX_SCAN_S * num_posts / FULL_POSTS
    details: dict[str, Any] = {"posts": num_posts, "stages_s": seconds, "cpu_s": cpu, "bar_s": bar, **found}
    holds = total <= bar
    if not quick:
        details["near_duplicates"] = near = _near_duplicates(NEAR_TEXTS)
        holds = holds and near["seconds"] <= MAX_NEAR_S
    return Result(value=total * FULL_POSTS / num_posts, holds=holds, details=details)


def _scan(store: Any, work: Path, follows: Any) -> tuple[dict[str, float], dict[str, int]]:
    from agora.integrity.batch import POST_COLUMNS
    from agora.integrity.collect import collect
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.scan import examine
    from agora.integrity.shared import shared

    times = [time.perf_counter()]
    posts = collect(store.scan(columns=POST_COLUMNS), work, num_posts=store.num_posts)
    times.append(time.perf_counter())
    found = shared(posts)
    times.append(time.perf_counter())
    result = examine(posts, found, config=IntegrityConfig(), follows=follows)
    times.append(time.perf_counter())
    read, who, tests = (after - before for before, after in itertools.pairwise(times))
    counts = {"groups": result.num_groups, "tests": result.num_tests, "campaigns": sum(bool(one.labelled) for one in result.campaigns)}
    return {"read": read, "who_shared_what": who, "tests_and_evidence": tests}, counts


def _near_duplicates(num_posts: int) -> dict[str, float]:
    """Keys of texts day by day, joined within each day: a 24 h window at a time."""
    import numpy as np
    import pyarrow as pa

    from agora.integrity.batch import POST_COLUMNS, PostBatch
    from agora.integrity.shared import joined_by_bands
    from agora.integrity.signals import signals
    from agora.posts.simulate import SquareConfig, simulate

    near = next(signal for signal in signals() if signal.id == "near_text")
    per_day = num_posts // 14
    seconds, done, joined = 0.0, 0, 0
    for day in range(14):
        config = SquareConfig(num_posts=per_day, num_accounts=per_day // 20, days=1.0, seed=900 + day)
        rows, keys, start = [], [], 0
        for table in simulate(config):
            batch: pa.RecordBatch = table.select(POST_COLUMNS).combine_chunks().to_batches()[0]
            started = time.perf_counter()
            found = near.keys(PostBatch(batch))
            seconds += time.perf_counter() - started
            rows.append(start + np.unique(found.rows))
            keys.append(found.keys.reshape(len(rows[-1]), -1))
            start += batch.num_rows
        started = time.perf_counter()
        _, same = joined_by_bands(np.concatenate(rows), np.concatenate(keys))
        joined += len(same) - len(np.unique(same))
        seconds += time.perf_counter() - started
        done += start
    return {"posts": done, "seconds": seconds, "bar_s": MAX_NEAR_S, "texts_joined_to_another": joined}


BENCHMARK = Benchmark(
    measures="seconds for a scan of 1.2 million posts from a store: reading, all signals, all tests (scaled in --quick)", unit="s",
    bound="<= 12, near duplicates of 24 h windows on 9M posts <= 600", run=_run, options=("posts",),
)  # fmt: skip
