"""Fits the constants of the step-time model to measured steps. Goes in: 5 to 5,000 runs. Comes out: a Calibration with its interval.

    agora cluster calibrate STEPS.csv --out mine.json

The fit works on logarithms with a loss that grows only linearly for outliers, and every constant is held near its prior: a few rows move
what they speak about and leave the rest. The 80% interval comes from rows that the fit did not see (Gauss-Newton with Levenberg's damping;
intervals as in split conformal prediction, Lei et al. 2018, section 2).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agora.cluster.columns import Values
from agora.cluster.constants import NAMES, Constants, as_mapping, default_constants, from_logs, priors, to_logs
from agora.cluster.facts import load_tables
from agora.cluster.runs import Run, RunColumns, run_columns
from agora.cluster.step_time import step_times
from agora.errors import DataError

Floats = NDArray[np.float64]
_SIGMA = 0.08  # size of an ordinary residual; larger ones count linearly
_STEP = 1e-3
_ROUNDS = 15
COVERAGE = 0.8
MIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Interval:
    """What measured times were, in multiples of predicted ones, for 80% of held-out rows."""

    low: float
    high: float

    def around(self, seconds: float) -> tuple[float, float]:
        """The interval of one prediction."""
        return seconds * self.low, seconds * self.high


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants with what is known about their errors. `median_error` is that of held-out rows, None when not fitted here."""

    constants: Constants
    dense: Interval
    experts: Interval
    num_rows: int
    median_error: float | None

    def interval(self, has_experts: bool) -> Interval:
        """The interval for a dense model or for one with experts."""
        return self.experts if has_experts else self.dense


def default_calibration() -> Calibration:
    """The constants that ship with Agora, with the interval of their cross-validation over published runs."""
    table = load_tables("constants")["interval"]
    dense, experts = (Interval(table.base(f"{kind}_low"), table.base(f"{kind}_high")) for kind in ("dense", "experts"))
    return Calibration(default_constants(), dense, experts, int(table.base("rows")), table.base("median_error"))


def predict_s(columns: RunColumns, constants: Constants) -> Floats:
    """Predicted seconds of each run."""
    total = step_times(columns.shape, columns.batch, columns.layouts, columns.hardware, constants).total_s
    return np.asarray(total, dtype=float)


def fit_constants(columns: RunColumns, *, start: Constants | None = None) -> Constants:
    """The constants that explain the runs best without leaving their priors for nothing.

    `start` replaces the medians of the priors (their spreads stay): constants that were already fitted elsewhere.
    """
    medians, spreads = priors()
    if start is not None:
        medians = to_logs(start)
    free = np.flatnonzero(spreads > 0)
    logs, damping = medians.copy(), 1e-2
    wanted = np.log(columns.step_time_s)
    predicted = _log_times(columns, logs)
    cost = _cost(wanted - predicted, (logs - medians)[free] / spreads[free])
    for _ in range(_ROUNDS):
        slopes = _slopes(columns, logs, predicted, free)
        residual = wanted - predicted
        weights = 1 / np.sqrt(1 + (residual / _SIGMA) ** 2) / _SIGMA**2
        curvature = slopes.T @ (slopes * weights[:, None]) + np.diag(1 / spreads[free] ** 2)
        pull = slopes.T @ (weights * residual) - (logs - medians)[free] / spreads[free] ** 2
        gained = 0.0
        for _ in range(6):
            move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), pull)
            trial = logs.copy()
            trial[free] += np.clip(move, -1, 1)
            times = _log_times(columns, trial)
            new_cost = _cost(wanted - times, (trial - medians)[free] / spreads[free])
            if new_cost < cost:
                gained, logs, predicted, cost, damping = cost - new_cost, trial, times, new_cost, max(damping / 5, 1e-6)
                break
            damping *= 8
        if gained < 1e-3:
            break
    return from_logs(logs)


def _log_times(columns: RunColumns, logs: Floats) -> Floats:
    return np.log(predict_s(columns, from_logs(logs)))


def _cost(residual: Floats, away: Floats) -> float:
    return float(2 * np.sum(np.sqrt(1 + (residual / _SIGMA) ** 2) - 1) + np.sum(away**2))


def _slopes(columns: RunColumns, logs: Floats, predicted: Floats, free: NDArray[np.intp]) -> Floats:
    slopes = np.empty((len(predicted), len(free)))
    for column, index in enumerate(free):
        moved = logs.copy()
        moved[index] += _STEP
        slopes[:, column] = (_log_times(columns, moved) - predicted) / _STEP
    return slopes


def take_runs(columns: RunColumns, rows: NDArray[Any]) -> RunColumns:
    """The rows that an index array or a mask selects."""

    def part(group: Any) -> Any:
        return type(group)(**{field.name: _rows(getattr(group, field.name), rows) for field in fields(group)})

    return RunColumns(part(columns.shape), part(columns.batch), part(columns.layouts), part(columns.hardware), columns.step_time_s[rows])


def _rows(value: Values, rows: NDArray[Any]) -> Values:
    return value[rows] if isinstance(value, np.ndarray) else value


def cross_validate(runs: Sequence[Run], key: Callable[[Run], Hashable], *, start: Constants | None = None) -> Floats:
    """Predicted seconds of each run by constants fitted without any run of the same `key`.

    When no other run is left, the constants are `start`, or the medians of the priors: never those that ship, which saw published runs.
    """
    columns, keys = run_columns(runs), [key(run) for run in runs]
    predicted = np.empty(len(runs))
    for left_out in dict.fromkeys(keys):
        is_out = np.array([other == left_out for other in keys])
        others = take_runs(columns, ~is_out)
        constants = fit_constants(others, start=start) if len(others.step_time_s) else start or from_logs(priors()[0])
        predicted[is_out] = predict_s(take_runs(columns, is_out), constants)
    return predicted


def interval_of(ratios: Floats, coverage: float = COVERAGE) -> Interval:
    """The interval that holds the share `coverage` of ratios measured / predicted, widened for their small number."""
    tail = (1 - coverage) / 2
    # half a standard error of the tail's share: few rows must not promise more than they know
    tail -= 0.5 * math.sqrt(tail * (1 - tail) / len(ratios))
    low, high = np.quantile(ratios, [max(tail, 0.0), min(1 - tail, 1.0)])
    return Interval(float(low), float(high))


def calibrate(runs: Sequence[Run], *, folds: int = 10) -> Calibration:
    """Fit a user's own steps; the interval comes from rows left out in `folds` turns. Raises DataError for fewer than 5 rows."""
    if len(runs) < MIN_ROWS:
        raise DataError(f"{len(runs)} measured steps are too few to calibrate on; measure at least {MIN_ROWS} with different layouts")
    columns = run_columns(runs)
    fold = np.random.default_rng(0).permutation(len(runs)) % min(folds, len(runs))
    position = {run.run_id: int(number) for run, number in zip(runs, fold, strict=True)}
    predicted = cross_validate(runs, lambda run: position[run.run_id])
    ratios = columns.step_time_s / predicted
    interval = interval_of(ratios)
    return Calibration(fit_constants(columns), interval, interval, len(runs), float(np.median(np.abs(1 / ratios - 1))))


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON (whole or not at all)."""
    from agora.files import write_atomically

    content = {
        "constants": dict(as_mapping(calibration.constants)),
        "dense": [calibration.dense.low, calibration.dense.high],
        "experts": [calibration.experts.low, calibration.experts.high],
        "num_rows": calibration.num_rows,
        "median_error": calibration.median_error,
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read a calibration written by `save_calibration`. Raises DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        constants = Constants(**{name: float(content["constants"][name]) for name in NAMES})
        return Calibration(
            constants, Interval(*content["dense"]), Interval(*content["experts"]), int(content["num_rows"]), content["median_error"]
        )
    except OSError as error:
        raise DataError(f"calibration {path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no calibration written by agora cluster calibrate: {error!r}") from error
