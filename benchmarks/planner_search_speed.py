"""How fast the planner is on one core: estimates, layout searches, a whole plan at 100,352 accelerators.

python -m benchmarks planner_search_speed [--quick]

All times are processor time of one process. A candidate is one combination of degrees, schedule, recomputation, sharding, micro-batch and
precision that the search considers; `possible` are left after divisibility, `fitting` after memory, and only these are priced.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.registry import Benchmark, Result

ESTIMATES_BOUND, SEARCH_BOUND_S, PER_MILLION_BOUND_S, PLAN_BOUND_S = 300_000.0, 10.0, 1.0, 2.0
_CHUNK = 4_096


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.cluster.plan import plan, question_of
    from agora.cluster.questions import gigafactory_100k
    from agora.cluster.search import search

    rates = [estimates_per_s(50_000 if quick else 400_000) for _ in range(3)]
    searches: dict[str, dict[str, Any]] = {}
    for name, request in _searches().items():
        found = search(question_of(request))
        per_million = found.seconds / found.num_candidates * 1e6
        searches[name] = {
            "seconds": found.seconds, "candidates": found.num_candidates, "possible": found.num_possible, "fitting": found.num_fitting,
            "seconds_per_million": per_million, "best": found.best[0].layout.describe(),
        }  # fmt: skip
    started = time.process_time()
    plan(gigafactory_100k())
    plan_s = time.process_time() - started
    rate = float(np.median(rates))
    holds = rate >= ESTIMATES_BOUND and plan_s <= PLAN_BOUND_S
    holds = holds and all(
        one["seconds"] <= SEARCH_BOUND_S and one["seconds_per_million"] <= PER_MILLION_BOUND_S for one in searches.values()
    )
    return Result(value=rate, holds=holds, details={"estimates_per_s": rates, "searches": searches, "plan_at_100352_s": plan_s})


def _searches() -> dict[str, Any]:
    from agora.cluster.plan import PlanRequest

    return {
        "175B on 1,024 A100": PlanRequest(
            model="GPT-3-175B", accelerator="A100-80", num_accelerators=1_024, seq_len=2048, batch_tokens=1536 * 2048
        ),
        "405B on 100,352 H100": PlanRequest(model="Llama-3-405B", accelerator="H100", num_accelerators=100_352, batch_tokens=6_272 * 8192),
    }


def estimates_per_s(number: int) -> float:
    """Step times of random layouts of a dense 405B model per processor second (memory not counted)."""
    from agora.cluster.accelerator import hardware
    from agora.cluster.columns import LayoutColumns
    from agora.cluster.constants import default_constants
    from agora.cluster.models import model_shape
    from agora.cluster.step_time import Batch, step_times

    draw = np.random.default_rng(1)

    def powers(most: int) -> Any:
        return 2.0 ** draw.integers(0, most, number)

    columns = LayoutColumns(
        shard=powers(8),
        replicate=powers(4),
        tensor=powers(4),
        pipeline=powers(5),
        virtual=1 + draw.integers(0, 3, number),
        context=powers(3),
        micro_batch=powers(4),
        recompute=draw.integers(0, 3, number),
        sharding=draw.integers(1, 4, number),
        schedule=draw.integers(1, 4, number),
    )
    shape, chip, constants = model_shape("Llama-3-405B"), hardware("H100"), default_constants()
    batch = Batch(seq_len=8192, global_batch=2048)
    started = time.process_time()
    for first in range(0, number, _CHUNK):
        step_times(shape, batch, columns.take(np.arange(first, min(first + _CHUNK, number))), chip, constants)
    return number / (time.process_time() - started)


BENCHMARK = Benchmark(
    measures="step-time estimates per second on one core; searches and a whole plan in processor seconds",
    unit="estimates/s",
    bound=f">= {ESTIMATES_BOUND:.0f} (search <= {SEARCH_BOUND_S:.0f} s, {PER_MILLION_BOUND_S:.0f} s/M; plan <= {PLAN_BOUND_S:.0f} s)",
    run=_run,
)
