"""Fits the constants of the step-time model to measured steps. Goes in: 5 to 5,000 runs. Comes out: a Calibration with its interval.

    agora cluster calibrate STEPS.csv --out mine.json

The fit works on logarithms with a loss that grows only linearly for outliers, and every constant is held near its prior: a few rows move
what they speak about and leave the rest. The 80% interval comes from rows that the fit did not see (Gauss-Newton with Levenberg's damping;
intervals of `interval_of`).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

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


Distance = Literal["model", "accelerator", "source"]
DISTANCES: tuple[Distance, ...] = get_args(Distance)
"""What a prediction is new in: a model on measured accelerators and software, an accelerator, or the whole software (source)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Constants with what is known about their errors. `median_error` is that of held-out rows, None when not fitted here.

    `intervals`: by what is new, those of dense models and of mixtures. `sources` and `accelerators` are those of the fitted runs; a user's
    own steps have one interval for all.
    """

    constants: Constants
    intervals: Mapping[Distance, tuple[Interval, Interval]]
    num_rows: int
    median_error: float | None
    sources: tuple[str, ...] = ()
    accelerators: tuple[str, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether a user fitted it on steps of one machine."""
        return not self.sources

    def news(self, accelerator_name: str, source: str) -> tuple[Distance, ...]:
        """What the fit never saw of a run: always its model, perhaps the accelerator and the software. Runs of one's own machine are like
        those that were fitted."""
        if self.is_own:
            return ("model",)
        found: list[Distance] = ["model"]
        found += ["accelerator"] if accelerator_name not in self.accelerators else []
        return tuple(found + (["source"] if source not in self.sources else []))

    def interval(self, has_experts: bool, accelerator_name: str, source: str = "") -> Interval:
        """The widest interval of what is new in a run; a plan is for software that no published run measured."""
        known = [self.intervals[distance][has_experts] for distance in self.news(accelerator_name, source)]
        return Interval(min(one.low for one in known), max(one.high for one in known))


def default_calibration() -> Calibration:
    """The constants that ship with Agora, with the intervals of their cross-validation over published runs."""
    table = load_tables("constants")["interval"]
    intervals = {
        distance: (
            Interval(table.base(f"{distance}_dense_low"), table.base(f"{distance}_dense_high")),
            Interval(table.base(f"{distance}_experts_low"), table.base(f"{distance}_experts_high")),
        )
        for distance in DISTANCES
    }
    return Calibration(
        default_constants(), intervals, int(table.base("rows")), table.base("median_error"), tuple(table.words["sources"]),
        tuple(table.words["accelerators"]),
    )  # fmt: skip


def predict_s(columns: RunColumns, constants: Constants) -> Floats:
    """Predicted seconds of each run."""
    total = step_times(columns.shape, columns.batch, columns.layouts, columns.hardware, constants).total_s
    return np.asarray(total, dtype=float)


def group_weights(runs: Sequence[Run]) -> Floats:
    """1 / (rows of a run's model). Published rows of one model share its errors: together they say as much about another model as one row.
    A user's own steps are different: they are of the machine and the models that are asked about, and each counts whole."""
    rows = Counter(run.model for run in runs)
    return np.array([1 / rows[run.model] for run in runs])


def fit_constants(columns: RunColumns, *, start: Constants | None = None, row_weights: Floats | None = None) -> Constants:
    """The constants that explain the runs best without leaving their priors for nothing.

    `start` replaces the medians of the priors (their spreads stay): constants that were already fitted elsewhere. `row_weights`: what a row
    counts against the priors (default 1).
    """
    medians, spreads = priors()
    if start is not None:
        medians = to_logs(start)
    free = np.flatnonzero(spreads > 0)
    logs, damping = medians.copy(), 1e-2
    wanted = np.log(columns.step_time_s)
    counts = np.ones(len(wanted)) if row_weights is None else row_weights
    predicted = _log_times(columns, logs)
    cost = _cost(wanted - predicted, (logs - medians)[free] / spreads[free], counts)
    for _ in range(_ROUNDS):
        slopes = _slopes(columns, logs, predicted, free)
        residual = wanted - predicted
        weights = counts / np.sqrt(1 + (residual / _SIGMA) ** 2) / _SIGMA**2
        curvature = slopes.T @ (slopes * weights[:, None]) + np.diag(1 / spreads[free] ** 2)
        pull = slopes.T @ (weights * residual) - (logs - medians)[free] / spreads[free] ** 2
        gained = 0.0
        for _ in range(6):
            move = np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), pull)
            trial = logs.copy()
            trial[free] += np.clip(move, -1, 1)
            times = _log_times(columns, trial)
            new_cost = _cost(wanted - times, (trial - medians)[free] / spreads[free], counts)
            if new_cost < cost:
                gained, logs, predicted, cost, damping = cost - new_cost, trial, times, new_cost, max(damping / 5, 1e-6)
                break
            damping *= 8
        if gained < 1e-3:
            break
    return from_logs(logs)


def _log_times(columns: RunColumns, logs: Floats) -> Floats:
    return np.log(predict_s(columns, from_logs(logs)))


def _cost(residual: Floats, away: Floats, counts: Floats) -> float:
    return float(2 * np.sum(counts * (np.sqrt(1 + (residual / _SIGMA) ** 2) - 1)) + np.sum(away**2))


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


def cross_validate(runs: Sequence[Run], key: Callable[[Run], Hashable], *, start: Constants | None = None, weigh: bool = False) -> Floats:
    """Predicted seconds of each run by constants fitted without any run of the same `key`; `weigh`: rows count by `group_weights`.

    When no other run is left, the constants are `start`, or the medians of the priors: never those that ship, which saw published runs.
    """
    columns, keys = run_columns(runs), [key(run) for run in runs]
    predicted = np.empty(len(runs))
    for left_out in dict.fromkeys(keys):
        is_out = np.array([other == left_out for other in keys])
        others = take_runs(columns, ~is_out)
        weights = group_weights([run for run, out in zip(runs, is_out, strict=True) if not out]) if weigh else None
        constants = fit_constants(others, start=start, row_weights=weights) if len(others.step_time_s) else start or from_logs(priors()[0])
        predicted[is_out] = predict_s(take_runs(columns, is_out), constants)
    return predicted


def interval_of(ratios: Floats, groups: Sequence[Hashable] | None = None, coverage: float = COVERAGE) -> Interval:
    """The interval that holds the share `coverage` of ratios measured / predicted of something new.

    Rows of one of `groups` share a part of their error (default: each row is its own group). Below 30 groups it is the wider of two:
    quantiles in which each group counts once, and the prediction interval of a new row of a new group with normal logarithms - spread
    between groups, spread within, uncertainty of the mean - by Student's t with Satterthwaite's degrees of freedom (Satterthwaite 1946).
    Quantiles alone promise too much for few groups: at 80% those of fewer than 9 do not exist. From 30 groups on it is the quantiles.
    """
    keys = list(range(len(ratios))) if groups is None else list(groups)
    rows = Counter(keys)
    logs, tail = np.log(ratios), (1 - coverage) / 2
    weights = np.array([1 / rows[key] for key in keys])
    if groups is None:
        tail = max(tail - (1 - tail) / len(ratios), 0.0)  # one more row of the same kind (Lei et al. 2018, section 2)
    low, high = (_weighted_quantile(logs, weights, share) for share in (tail, 1 - tail))
    if 1 < len(rows) < _MANY_GROUPS:
        middle, reach = _new_row_of_new_group(logs, keys, (1 + coverage) / 2)
        low, high = min(low, middle - reach), max(high, middle + reach)
    return Interval(math.exp(low), math.exp(high))


_MANY_GROUPS = 30


def _new_row_of_new_group(logs: Floats, keys: Sequence[Hashable], share: float) -> tuple[float, float]:
    """Mean over groups, and how far from it a row of another group lies at most with that share."""
    members = [logs[[other == key for other in keys]] for key in dict.fromkeys(keys)]
    sizes, means = np.array([len(group) for group in members]), np.array([group.mean() for group in members])
    number, freedom = len(members), len(logs) - len(members)
    within = sum(float(np.sum((group - group.mean()) ** 2)) for group in members) / freedom if freedom else 0.0
    of_means, part = float(means.var(ddof=1)), float(np.mean(1 / sizes)) if freedom else 0.0
    between = of_means * (1 + 1 / number)
    inside = max(1 - part, 0.0) * within  # a mean over few rows already holds a part of the spread within
    variance = between + inside
    if variance == 0:
        return float(means.mean()), 0.0
    degrees = variance**2 / (between**2 / (number - 1) + (inside**2 / freedom if freedom else 0.0))
    return float(means.mean()), student_quantile(share, degrees) * math.sqrt(variance)


def _weighted_quantile(values: Floats, weights: Floats, share: float) -> float:
    order = np.argsort(values)
    middles = np.cumsum(weights[order]) - weights[order] / 2
    return float(np.interp(share, middles / np.sum(weights), values[order]))


def student_quantile(share: float, freedom: float) -> float:
    """Student's t: with t = sqrt(freedom) tan(a) its density is that of cos(a)^(freedom - 1)."""
    angles = np.linspace(-math.pi / 2, math.pi / 2, 20_001)
    density = np.maximum(np.cos(angles), 0.0) ** (max(freedom, 1.0) - 1)
    grown = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return float(math.sqrt(max(freedom, 1.0)) * math.tan(np.interp(share, grown / grown[-1], angles)))


def calibrate(runs: Sequence[Run], *, folds: int = 10) -> Calibration:
    """Fit a user's own steps; the interval comes from rows left out in `folds` turns. Raises DataError for fewer than 5 rows."""
    if len(runs) < MIN_ROWS:
        raise DataError(f"{len(runs)} measured steps are too few to calibrate on; measure at least {MIN_ROWS} with different layouts")
    columns = run_columns(runs)
    fold = np.random.default_rng(0).permutation(len(runs)) % min(folds, len(runs))
    position = {id(run): int(number) for run, number in zip(runs, fold, strict=True)}
    predicted = cross_validate(runs, lambda run: position[id(run)])
    ratios = columns.step_time_s / predicted
    interval = interval_of(ratios)
    return Calibration(
        fit_constants(columns), dict.fromkeys(DISTANCES, (interval, interval)), len(runs), float(np.median(np.abs(1 / ratios - 1)))
    )


KEYS: Mapping[Distance, Callable[[Run], Hashable]] = {
    "model": lambda run: run.model, "accelerator": lambda run: run.accelerator, "source": lambda run: run.source
}  # fmt: skip


def fit_published(runs: Sequence[Run]) -> Calibration:
    """How the shipped constants are made: all published runs, each model counting once; intervals from leaving out one model, one
    accelerator, one source at a time. An interval of what is new in more ways is never narrower."""
    columns = run_columns(runs)
    has_experts = np.array([run.shape.num_experts > 0 for run in runs])
    intervals: dict[Distance, tuple[Interval, Interval]] = {}
    median = 0.0
    for distance in DISTANCES:
        ratios = columns.step_time_s / cross_validate(runs, KEYS[distance], weigh=True)
        dense, experts = (held_out_interval(runs, ratios, distance, rows) for rows in (~has_experts, has_experts))
        intervals[distance] = (dense, experts)
        if distance != "model":
            before = intervals["model"]
            intervals[distance] = (_widest(intervals[distance][0], before[0]), _widest(intervals[distance][1], before[1]))
        if distance == "model":
            median = float(np.median(np.abs(1 / ratios - 1)))
    return Calibration(
        fit_constants(columns, row_weights=group_weights(runs)), intervals, len(runs), median,
        tuple(sorted({run.source for run in runs})), tuple(sorted({run.accelerator for run in runs})),
    )  # fmt: skip


def held_out_interval(runs: Sequence[Run], ratios: Floats, distance: Distance, rows: NDArray[np.bool_]) -> Interval:
    """The interval of `ratios` (measured / predicted without the row's model, accelerator or source) over the chosen rows. What is new is
    one group; where the rows have a single one, their models are."""
    for key in (KEYS[distance], KEYS["model"]):
        groups = [key(run) for run, is_chosen in zip(runs, rows, strict=True) if is_chosen]
        if len(set(groups)) > 1:
            return interval_of(ratios[rows], groups)
    return interval_of(ratios[rows])


def _widest(one: Interval, other: Interval) -> Interval:
    return Interval(min(one.low, other.low), max(one.high, other.high))


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration as JSON (whole or not at all)."""
    from agora.files import write_atomically

    content = {
        "constants": dict(as_mapping(calibration.constants)),
        "intervals": {distance: [[one.low, one.high] for one in pair] for distance, pair in calibration.intervals.items()},
        "sources": list(calibration.sources),
        "accelerators": list(calibration.accelerators),
        "num_rows": calibration.num_rows,
        "median_error": calibration.median_error,
    }
    write_atomically(path, json.dumps(content, indent=2) + "\n")


def load_calibration(path: Path) -> Calibration:
    """Read a calibration written by `save_calibration`. Raises DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        constants = Constants(**{name: float(content["constants"][name]) for name in NAMES})
        intervals: dict[Distance, tuple[Interval, Interval]] = {
            distance: (Interval(*content["intervals"][distance][0]), Interval(*content["intervals"][distance][1])) for distance in DISTANCES
        }
        return Calibration(
            constants,
            intervals,
            int(content["num_rows"]),
            content["median_error"],
            tuple(content["sources"]),
            tuple(content["accelerators"]),
        )
    except OSError as error:
        raise DataError(f"calibration {path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no calibration written by agora cluster calibrate: {error!r}") from error
