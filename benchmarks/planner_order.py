"""Whether the planner puts layouts in the right order: single-node steps, all rows of one hidden size left out of the fit.

python -m benchmarks planner_order [--data FOLDER] [--quick]

Layouts of one model (hidden size and layers) on one number of accelerators at one batch are ordered by seconds per sequence: Spearman's
correlation, and how much slower the planner's first pick is than the true best. Judged at a fixed batch, because across batches the
largest micro-batch wins nearly always and the first pick cannot lose; the other groups are shown beside it. `tie_loss`: the same when
everything that the planner calls as good as its first pick (`agora.cluster.search.TIE`) is measured and the best of it taken.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from benchmarks.planner_runs import summary
from benchmarks.registry import Benchmark, Result, data_folder

MEDIAN_BOUND, SPEARMAN_BOUND, LOSS_BOUND, WORST_LOSS_BOUND = 0.09, 0.75, 0.01, 0.05
_FEWEST = 4  # layouts of a group that is ordered


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.cluster.calibrate import cross_validate
    from agora.cluster.runs import read_runs

    runs = read_runs(data_folder(options, "a100_single_node_steps.csv") / "a100_single_node_steps.csv")
    if quick:
        runs = [run for run in runs if run.shape.num_layers in (12, 24)]
    predicted = cross_validate(runs, lambda run: run.shape.dim)
    measured = np.array([run.step_time_s for run in runs])
    batches = np.array([run.global_batch for run in runs])
    error = summary(predicted / measured)
    groups: dict[str, Callable[[Any], Hashable]] = {
        "model_and_machine": lambda run: (run.shape.dim, run.shape.num_layers, run.layout.num_accelerators),
        "model": lambda run: (run.shape.dim, run.shape.num_layers),
        "model_machine_and_batch": lambda run: (run.shape.dim, run.shape.num_layers, run.layout.num_accelerators, run.global_batch),
    }
    ranks = np.array([run.layout.num_accelerators for run in runs])
    per_sequence = {"model": ranks}  # accelerator-seconds where machines differ
    orders = {
        name: order(runs, predicted * per_sequence.get(name, 1) / batches, measured * per_sequence.get(name, 1) / batches, key)
        for name, key in groups.items()
    }
    bar = orders["model_machine_and_batch"]
    holds = error["median"] <= MEDIAN_BOUND and bar["spearman"] >= SPEARMAN_BOUND
    holds = holds and bar["loss_mean"] <= LOSS_BOUND and bar["loss_max"] <= WORST_LOSS_BOUND
    return Result(value=bar["spearman"], holds=holds, details={"left_out_size": error, "orders": orders})


def order(runs: Sequence[Any], predicted: Any, measured: Any, key: Callable[[Any], Hashable]) -> dict[str, float]:
    """Mean Spearman correlation over groups, and the loss of the first pick."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, run in enumerate(runs):
        groups[key(run)].append(row)
    from agora.cluster.search import TIE

    correlations, losses, tie_losses, tie_sizes = [], [], [], []
    for rows in groups.values():
        if len(rows) >= _FEWEST:
            ranks = [np.argsort(np.argsort(values[rows])) for values in (predicted, measured)]
            correlations.append(float(np.corrcoef(ranks[0], ranks[1])[0, 1]))
            best = measured[rows].min()
            losses.append(float(measured[rows][np.argmin(predicted[rows])] / best - 1))
            is_tied = predicted[rows] <= predicted[rows].min() * (1 + TIE)
            tie_losses.append(float(measured[rows][is_tied].min() / best - 1))
            tie_sizes.append(int(is_tied.sum()))
    return {
        "spearman": float(np.mean(correlations)),
        "loss_mean": float(np.mean(losses)),
        "loss_max": float(np.max(losses)),
        "groups": len(losses),
        "tie_loss_mean": float(np.mean(tie_losses)),
        "tie_loss_max": float(np.max(tie_losses)),
        "tie_size_mean": float(np.mean(tie_sizes)),
    }


BENCHMARK = Benchmark(
    measures="order of layouts of a model whose hidden size the fit never saw: mean Spearman correlation; loss of the first pick",
    unit="correlation",
    bound=f">= {SPEARMAN_BOUND} (loss <= {LOSS_BOUND} mean, {WORST_LOSS_BOUND} max; median error <= {MEDIAN_BOUND})",
    run=_run,
    options=("data",),
)
