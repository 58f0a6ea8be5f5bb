"""Predicted step times beside measured ones, always by constants that did not see the row.

python -m benchmarks planner_runs [--runs CSV] [--data FOLDER] [--quick]

Published runs: one source table, one model, one accelerator, one source is left out at a time, and constants are fitted on the rest, each
model counting once. Rows whose layout is whole count for the bar, once with their table and once with their source left out; all are shown.
Intervals are judged the same way: made from the rows of other models (accelerators), for the rows left out. Without --runs also the
single-node steps: constants fitted on 40 rows, mean of 20 draws. With --runs the constants start from the shipped ones, `shipped` shows
those without any fit, and the interval is the stated one.
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
    """Cross-validation by source table, model, accelerator and source."""
    from agora.cluster.calibrate import default_calibration
    from agora.cluster.validate import compare_runs

    start = None if is_public else default_calibration().constants
    is_whole = np.array([run.is_complete for run in runs])
    is_whole = is_whole if is_whole.any() else np.ones(len(runs), dtype=bool)
    whole = [run for run, is_bar in zip(runs, is_whole, strict=True) if is_bar]
    keys: dict[str, Callable[[Any], Hashable]] = {"table": lambda run: run.table}
    if not quick:
        keys |= {"model": lambda run: run.model, "accelerator": lambda run: run.accelerator, "source": lambda run: run.source}
    details: dict[str, Any] = {"whole_layout_alone_by_table": summary(_left_out(whole, keys["table"], start))}
    found = {name: _left_out(runs, key, start) for name, key in keys.items()}
    for name, ratios in found.items():
        details[f"by_{name}"] = {
            "all": summary(ratios), "whole_layout": summary(ratios[is_whole]),
            **({"other": summary(ratios[~is_whole])} if not is_whole.all() else {}),
        }  # fmt: skip
    judged = [details["whole_layout_alone_by_table"]]
    judged += [details["by_source"]["whole_layout"]] if is_public and not quick else []
    details["bar"] = max(judged, key=lambda one: one["median"])
    shipped = compare_runs(runs, default_calibration())
    details["shipped"] = {
        "median": shipped.median_error, "p90": shipped.p90_error, "inside_interval": shipped.inside_interval,
        "note": "fitted on these very rows" if is_public else "nothing fitted on these rows; the interval is the stated one",
    }  # fmt: skip
    inside = {name: coverage(runs, found[name], name) for name in ("model", "accelerator") if is_public and name in found}
    stated = inside["model"] if inside else shipped.inside_interval
    details["inside_80_percent_interval"] = stated
    details["inside_by_what_is_left_out"] = inside
    details["rows"] = [
        {
            "run_id": run.run_id,
            "model": run.model,
            "accelerator": run.accelerator,
            "measured_s": run.step_time_s,
            "predicted_s": run.step_time_s * ratio,
        }
        for run, ratio in zip(runs, found["table"].tolist(), strict=True)
    ]
    low, high = COVERAGE_BOUNDS
    is_near = all(bar["median"] <= MEDIAN_BOUND and bar["p90"] <= P90_BOUND for bar in judged)
    details["holds"] = is_near and (quick or low <= stated <= high)
    return details


def _left_out(runs: Sequence[Any], key: Callable[[Any], Hashable], start: Any) -> Any:
    from agora.cluster.calibrate import cross_validate

    return cross_validate(runs, key, start=start, weigh=True) / np.array([run.step_time_s for run in runs])


def coverage(runs: Sequence[Any], ratios: Any, distance: Any) -> float:
    """Share of rows inside an interval made from the residuals of other models (accelerators), dense models and mixtures apart. Rows for
    which no other group is left count as outside."""
    from agora.cluster.calibrate import KEYS, held_out_interval

    measured, sparse = 1 / ratios, np.array([run.shape.num_experts > 0 for run in runs])
    keys = np.array([str(KEYS[distance](run)) for run in runs])
    inside = np.zeros(len(runs), dtype=bool)
    for key in dict.fromkeys(keys.tolist()):
        for kind in (False, True):
            here, others = (keys == key) & (sparse == kind), (keys != key) & (sparse == kind)
            if here.any() and others.any():
                interval = held_out_interval(runs, measured, distance, others)
                inside[here] = (measured[here] >= interval.low) & (measured[here] <= interval.high)
    return float(inside.mean())


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
            interval, _ = calibrate([runs[row] for row in chosen], folds=8).intervals["model"]
            inside.append(float(np.mean((1 / ratios[others] >= interval.low) & (1 / ratios[others] <= interval.high))))
    median, p90 = (float(np.mean([one[name] for one in found])) for name in ("median", "p90"))
    return {
        "median": median, "p90": p90, "draws": num_draws, "calibration_rows": NUM_ROWS, "inside_80_percent_interval": inside,
        "holds": median <= STEPS_MEDIAN_BOUND and p90 <= STEPS_P90_BOUND,
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="median error of predicted step times of published runs, by constants fitted without the run's table or source (the worse)",
    unit="relative error",
    bound=f"<= {MEDIAN_BOUND} (p90 <= {P90_BOUND}; single node <= {STEPS_MEDIAN_BOUND} / {STEPS_P90_BOUND})",
    run=_run,
    options=("runs", "data"),
)
