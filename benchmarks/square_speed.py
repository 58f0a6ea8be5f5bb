"""Simulated square: posts per second made on one core, set-up included, and the memory it took.

python -m benchmarks square_speed [--quick]
"""

from __future__ import annotations

import resource
import sys
import time

from benchmarks.registry import Benchmark, Result

_BAR = 50_000.0


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.simulate import SquareConfig, simulate

    config = SquareConfig(num_posts=500_000 if quick else 5_000_000, num_accounts=20_000 if quick else 100_000)
    started, cpu = time.perf_counter(), time.process_time()
    made = sum(table.num_rows for table in simulate(config))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    details = {"posts": made, "accounts": config.num_accounts, "wall_s": wall_s, "cpu_s": cpu_s, "peak_memory_bytes": peak}
    rate = made / max(cpu_s, wall_s)
    return Result(value=rate, holds=rate >= _BAR, details=details)


BENCHMARK = Benchmark(measures="simulated posts per second on one core", unit="posts/s", bound=">= 50000", run=_run)
