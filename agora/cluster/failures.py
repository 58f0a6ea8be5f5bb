"""How often a run is interrupted and how much of its time is useful. Goes in: ranks, rates, costs. Comes out: intervals, goodput, spares.

    goodput(FailureModel.of(num_accelerators=16_384), interval_s)

Interruptions are memoryless and independent; a restart can fail too; a checkpoint counts once it is written. `failure_simulation.py` plays
the same story event by event. Not covered: failures that come in groups (a rack, a power line), silent corruption found late.
Sources: Daly 2006, equation 20; the exact optimum by the Lambert function follows from it. Tests compare with Young 1974 and Daly's 37.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from agora.cluster.columns import Values
from agora.cluster.facts import load_tables


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureModel:
    """What interruptions cost one synchronous job. `write_s` is how long a checkpoint takes until it can be loaded; `stall_s` is the part
    of it during which training stands still."""

    num_accelerators: int
    rate_per_accelerator_s: float
    stall_s: float
    write_s: float
    restart_s: float
    repair_s: float
    accelerators_per_node: int
    num_spare_nodes: int

    @property
    def mean_time_s(self) -> float:
        """Mean time between interruptions of the whole job."""
        return 1 / (self.rate_per_accelerator_s * self.num_accelerators)


def interruption_rate() -> float:
    """Unexpected interruptions per accelerator and second."""
    return sum(fact.base for name, fact in load_tables("failures")["components"].facts.items() if name != "planned")


def failure_model(
    *,
    num_accelerators: int,
    checkpoint_bytes: float,
    accelerators_per_node: int,
    num_writers: int | None = None,
    rate_per_accelerator_s: float | None = None,
) -> FailureModel:
    """The model of a job with the shipped rates, or another rate of interruptions. `num_writers`: ranks that each write their part
    (default: all)."""
    tables = load_tables("failures")
    restart, storage = tables["restart"], tables["storage"]
    part = checkpoint_bytes / (num_writers or num_accelerators)
    model = FailureModel(
        num_accelerators=num_accelerators,
        rate_per_accelerator_s=interruption_rate() if rate_per_accelerator_s is None else rate_per_accelerator_s,
        stall_s=max(part / storage.base("snapshot"), 0.5),
        write_s=max(part / storage.base("per_accelerator"), 1.0), restart_s=restart.base("detect") + restart.base("restart"),
        repair_s=restart.base("repair"), accelerators_per_node=accelerators_per_node, num_spare_nodes=0,
    )  # fmt: skip
    return with_spares(model, spare_nodes(model))


def with_spares(model: FailureModel, num_spare_nodes: int) -> FailureModel:
    """The same job with another number of spare nodes."""
    return replace(model, num_spare_nodes=num_spare_nodes)


def best_interval_s(model: FailureModel) -> float:
    """The interval of useful work between checkpoints with the highest goodput: M (1 + W(-exp(-1 - d/M))), by bisection.

    A checkpoint cannot begin before the last one is written, so it is at least `write_s`.
    """
    m, d = model.mean_time_s, model.stall_s
    low, high = 0.0, 1.0
    for _ in range(80):
        x = (low + high) / 2
        low, high = (x, high) if (1 - x) * math.exp(x + d / m) > 1 else (low, x)
    return max(m * (low + high) / 2, model.write_s, 1e-9)


def goodput(model: FailureModel, interval_s: Values) -> Values:
    """Share of time that becomes lasting progress, with a checkpoint after every `interval_s` of useful work.

    Daly 2006, equation 20 per segment: M exp(R/M) (exp((t + d)/M) - 1); after a failure the part of the last segment that was not yet
    written is lost with it, as if the restart took that much longer; times the share of time that enough nodes are there.
    """
    m = model.mean_time_s
    late = np.minimum(max(model.write_s - model.stall_s, 0.0), interval_s)
    again = late * interval_s / (interval_s + model.stall_s)
    segment = m * np.exp(np.minimum((model.restart_s + again) / m, 600)) * np.expm1(np.minimum((interval_s + model.stall_s) / m, 600))
    return interval_s / segment * availability(model)


def _nodes_in_repair(model: FailureModel) -> float:
    return model.repair_s / model.mean_time_s


def availability(model: FailureModel) -> float:
    """Share of time that no more nodes are in repair than there are spares.

    While the job waits no node fails, so nodes in repair are a birth-death chain that stops at spares + 1: an Erlang loss system with
    spares + 1 servers, whose blocking probability is the share of time spent waiting (Erlang 1917).
    """
    load, blocked = _nodes_in_repair(model), 1.0
    for servers in range(1, model.num_spare_nodes + 2):
        blocked = load * blocked / (servers + load * blocked)
    return 1 - blocked


def spare_nodes(model: FailureModel, waiting: float = 1e-3) -> int:
    """Fewest spare nodes with which the job waits for repairs less than the share `waiting` of the time."""
    load, blocked, servers = _nodes_in_repair(model), 1.0, 0
    while True:
        servers += 1
        blocked = load * blocked / (servers + load * blocked)
        if blocked < waiting:
            return servers - 1


def elastic_goodput(model: FailureModel, accelerators_per_replica: Values, rejoin_s: float, regroup_s: float, detect_s: float) -> Values:
    """Share of the machine that works when a failure takes away one replica and not the job.

    A failure hangs all replicas, which wait for the lost one's gradients, until it is noticed (`detect_s`). The replica is away for
    `rejoin_s` after each of its failures; all others also stand still for `regroup_s` when it leaves and when it returns.
    """
    replica_mean_s = 1 / (model.rate_per_accelerator_s * accelerators_per_replica)
    present = replica_mean_s / (replica_mean_s + rejoin_s)
    failures_per_s = present / model.mean_time_s
    return present / (1 + failures_per_s * (detect_s + 2 * regroup_s))
