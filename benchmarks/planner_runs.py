"""Predicted step times beside measured ones, always by constants that did not see the row.

python -m benchmarks planner_runs [--runs CSV] [--data FOLDER] [--quick]

Published runs: one source table is left out at a time (also one model, one source), and constants are fitted on the rest; rows whose
layout is whole count for the bar, all are shown. Without --runs also the single-node steps: constants fitted on 40 rows, mean of 20
draws. With --runs the constants start from the shipped ones, and `shipped` shows those without any fit.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.registry import Benchmark, Result, data_folder

MEDIAN_BOUND, P90_BOUND = 0.08, 0.25
STEPS_MEDIAN_BOUND, STEPS_P90_BOUND = 0.065, 0.20
COVERAGE_BOUNDS = (0.75, 0.90)
NUM_ROWS, NUM_DRAWS = 40, 20


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.cluster.runs import read_runs, read_usable_runs

    is_public = "runs" not in options
    folder = data_folder(options, "published_runs.csv", "a100_single_node_steps.csv") if is_public else None
    path = folder / "published_runs.csv" if folder is not None else Path(options["runs"])
    runs, unusable = read_usable_runs(path)
    details = {**published(runs, is_public=is_public, quick=quick), "unusable": unusable}
    holds = details["holds"]
    if folder is not None:
        steps = single_node(read_runs(folder / "a100_single_node_steps.csv"), 4 if quick else NUM_DRAWS)
        details["single_node"] = steps
        holds = holds and steps["holds"]
    return Result(value=details["bar"]["median"], holds=holds, details=details)


def summary(ratios: Any) -> dict[str, float]:
    """Median and 90th percentile of |predicted / measured - 1|."""
    errors = np.abs(ratios - 1)
    return {"median": float(np.median(errors)), "p90": float(np.quantile(errors, 0.9)), "rows": len(errors)}


def published(runs: Sequence[Any], *, is_public: bool, quick: bool) -> dict[str, Any]:
    """Cross-validation by source table, model and source."""
    from agora.cluster.calibrate import default_calibration
    from agora.cluster.validate import compare_runs

    start = None if is_public else default_calibration().constants
    whole = [run for run in runs if run.is_complete] or list(runs)
    keys: dict[str, Callable[[Any], Hashable]] = {"table": lambda run: run.table}
    if not quick:
        keys["model"] = lambda run: run.model
    details: dict[str, Any] = {}
    for name, key in keys.items():
        details[f"whole_layout_by_{name}"] = summary(_left_out(whole, key, start))
    ratios = _left_out(whole, lambda run: run.table, start)
    details["bar"] = details["whole_layout_by_table"]
    is_whole = np.array([run in whole for run in runs])
    if not quick:
        by_source = _left_out(runs, lambda run: run.source, start)
        details["whole_layout_by_source"] = {**summary(by_source[is_whole]), "note": "constants fitted on the rows of other sources alone"}
    details["inside_80_percent_interval"] = coverage(whole, ratios)
    everything = _left_out(runs, lambda run: run.table, start)
    details["all_rows_by_table"] = summary(everything)
    details["whole_layout_among_all"] = summary(everything[is_whole])
    shipped = compare_runs(runs, default_calibration())
    details["shipped"] = {
        "median": shipped.median_error, "p90": shipped.p90_error, "inside_interval": shipped.inside_interval,
        "note": "fitted on these very rows" if is_public else "nothing fitted on these rows",
    }  # fmt: skip
    details["rows"] = [
        {
            "run_id": run.run_id,
            "model": run.model,
            "accelerator": run.accelerator,
            "measured_s": run.step_time_s,
            "predicted_s": run.step_time_s * ratio,
        }
        for run, ratio in zip(runs, everything.tolist(), strict=True)
    ]
    low, high = COVERAGE_BOUNDS
    bar = details["bar"]
    details["holds"] = bar["median"] <= MEDIAN_BOUND and bar["p90"] <= P90_BOUND and low <= details["inside_80_percent_interval"] <= high
    return details


def _left_out(runs: Sequence[Any], key: Callable[[Any], Hashable], start: Any) -> Any:
    from agora.cluster.calibrate import cross_validate

    return cross_validate(runs, key, start=start) / np.array([run.step_time_s for run in runs])


def coverage(runs: Sequence[Any], ratios: Any) -> float:
    """Share of rows inside an interval made from the residuals of other tables, dense models and mixtures apart."""
    from agora.cluster.calibrate import interval_of

    measured = 1 / ratios
    tables, sparse = np.array([run.table for run in runs]), np.array([run.shape.num_experts > 0 for run in runs])
    inside = []
    for table in dict.fromkeys(tables):
        for kind in (False, True):
            here, others = (tables == table) & (sparse == kind), (tables != table) & (sparse == kind)
            if here.any() and others.sum() >= 5:
                interval = interval_of(measured[others])
                inside += list((measured[here] >= interval.low) & (measured[here] <= interval.high))
    return float(np.mean(inside)) if inside else float("nan")


def single_node(runs: Sequence[Any], num_draws: int) -> dict[str, Any]:
    """Constants fitted on 40 random rows, errors on all others; and the share of those inside the interval of the 40."""
    from agora.cluster.calibrate import calibrate, fit_constants, predict_s, take_runs
    from agora.cluster.runs import run_columns

    columns = run_columns(runs)
    draw = np.random.default_rng(2026)
    found, inside = [], []
    for number in range(num_draws):
        chosen = draw.choice(len(runs), NUM_ROWS, replace=False)
        others = np.setdiff1d(np.arange(len(runs)), chosen)
        ratios = predict_s(columns, fit_constants(take_runs(columns, chosen))) / columns.step_time_s
        found.append(summary(ratios[others]))
        if number < 3:
            interval = calibrate([runs[row] for row in chosen], folds=8).dense
            inside.append(float(np.mean((1 / ratios[others] >= interval.low) & (1 / ratios[others] <= interval.high))))
    median, p90 = (float(np.mean([one[name] for one in found])) for name in ("median", "p90"))
    return {
        "median": median, "p90": p90, "draws": num_draws, "calibration_rows": NUM_ROWS, "inside_80_percent_interval": inside,
        "holds": median <= STEPS_MEDIAN_BOUND and p90 <= STEPS_P90_BOUND,
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="median error of predicted step times of published runs, by constants fitted without the run's source table",
    unit="relative error",
    bound=f"<= {MEDIAN_BOUND} (p90 <= {P90_BOUND}; single node <= {STEPS_MEDIAN_BOUND} / {STEPS_P90_BOUND})",
    run=_run,
    options=("runs", "data"),
)
