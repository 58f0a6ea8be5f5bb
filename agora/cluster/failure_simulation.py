"""The slow twin of `failures.py`: one job played event by event with a seed. Goes in: a FailureModel. Comes out: its goodput.

simulate_goodput(model, interval_s, num_failures=20_000, seed=1)
"""

from __future__ import annotations

import heapq

import numpy as np

from agora.cluster.failures import FailureModel


def simulate_goodput(model: FailureModel, interval_s: float, *, num_failures: int, seed: int) -> float:
    """Lasting progress / time, over `num_failures` interruptions.

    The job works, stands still at each checkpoint, and writes it beside the work; a failure throws it back to the last one written. A
    failed node goes to repair and a spare takes its place; without a spare the job waits for a repair. Restarts can fail.
    """
    draw = np.random.default_rng(seed)
    mean_s = model.mean_time_s
    now = progress = 0.0
    repairs: list[float] = []
    for life in draw.exponential(mean_s, num_failures):
        # one life of the job: restart (unless it is the first), then segments until the failure
        started = now + (model.restart_s if now else 0.0)
        failed = now + life
        progress += _saved_work(max(failed - started, 0.0), model, interval_s)
        now = failed
        while repairs and repairs[0] <= now:
            heapq.heappop(repairs)
        heapq.heappush(repairs, now + draw.exponential(model.repair_s))
        if len(repairs) > model.num_spare_nodes:
            now = max(now, heapq.heappop(repairs))
    return progress / now


def _saved_work(up_s: float, model: FailureModel, interval_s: float) -> float:
    """Useful seconds whose checkpoint was written within `up_s` of running."""
    cycle = interval_s + model.stall_s
    finished = int(up_s // cycle)
    if finished == 0:
        return 0.0
    # a checkpoint is written `write_s` after its work ended, the stall included; writes never overlap
    last_end = finished * cycle - model.stall_s
    lag = max(model.write_s, model.stall_s)
    while finished and last_end + lag > up_s:
        finished -= 1
        last_end -= cycle
    return finished * interval_s


def simulate_elastic_goodput(
    model: FailureModel, accelerators_per_replica: int, rejoin_s: float, regroup_s: float, detect_s: float, *, num_failures: int, seed: int
) -> float:
    """Share of the machine that works when each failure takes one replica away for `rejoin_s`: everyone hangs until it is noticed, and
    pauses when it leaves and returns.

    Pauses stop the work and also the clock of failures and of rejoining, as in the formula.
    """
    draw = np.random.default_rng(seed)
    num_replicas = model.num_accelerators // accelerators_per_replica
    rate = model.rate_per_accelerator_s * accelerators_per_replica
    away: list[float] = []
    now = worked = paused = 0.0
    failures = 0
    while failures < num_failures:
        present = num_replicas - len(away)
        next_failure = now + draw.exponential(1 / (rate * present)) if present else np.inf
        if away and away[0] <= next_failure:
            back = heapq.heappop(away)
            worked += present * (back - now)
            now = back
        else:
            worked += present * (next_failure - now)
            now = next_failure
            heapq.heappush(away, now + rejoin_s)
            failures += 1
            paused += detect_s
        paused += regroup_s
    return float(worked / (num_replicas * (now + paused)))
