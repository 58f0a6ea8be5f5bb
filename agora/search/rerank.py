"""Ranking learned from judgements. Goes in: candidates of queries whose right posts are known. Comes out: a `Reranker`, one weight per
property of a query and a post, kept as JSON.

The score is a weighted sum, so every part of it can be shown. Weights maximise the likelihood of the right post among its candidates (Cao
and others, "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, with the top-one probability of eq. 5), with a
quadratic penalty; the problem is convex, so the same judgements give the same weights.

Not covered: what a reader clicks (nobody's clicks are read here).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt

from agora.errors import DataError
from agora.files import write_atomically
from agora.search.candidates import Candidates, Compared
from agora.search.wording import Wording, compare

Table = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.float64]

FROM_LISTS: Final = ("meaning", "behind_in_meaning", "words", "behind_in_words", "beginnings", "behind_in_beginnings", "named_by_meaning")
FEATURES: Final = (*FROM_LISTS, *(field.name for field in fields(Wording)))
PENALTY: Final = 0.003
"""Weight of the quadratic penalty; chosen by cross-validation on the training part of the relevance benchmark (docs/log.md)."""
FORMAT: Final = 1
_MAX_STEPS: Final = 100
_SMALLEST_STEP: Final = 1e-10


def features(found: Candidates, compared: Compared, places: Sequence[int] | None = None) -> Table:
    """One row per candidate (of `places`, default all), columns `FEATURES`. `behind_`: how far behind the best of the list."""
    meaning = np.array([found.by_meaning.get(one, np.nan) for one in compared.ids], np.float64)
    known = ~np.isnan(meaning)
    meaning = np.where(known, meaning, np.min(meaning[known], initial=1.0) if known.any() else 0.0)
    lists = [meaning, np.array(compared.words, np.float64), np.array(compared.beginnings, np.float64)]
    columns = [column for values in lists for column in (values, values - np.max(values, initial=-np.inf))]
    chosen = list(range(len(compared.ids))) if places is None else list(places)
    close = [astuple(compare(compared.query, compared.texts[place], compared.weights)) for place in chosen]
    left = np.stack([*columns, known.astype(np.float64)], axis=1)[chosen]
    return np.hstack([left, np.array(close, np.float64).reshape(len(chosen), len(fields(Wording)))])


@dataclass(frozen=True, kw_only=True, slots=True)
class Reranker:
    """score = sum of weight * (value - mean) / spread over `FEATURES`. `trained_on` says where the judgements are from, `vectors` which
    embeddings were used (empty for none, None where nobody knows)."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    num_queries: int
    trained_on: str
    vectors: str | None = None

    def parts(self, rows: Table) -> Table:
        """What each property gives each row; the score is the sum of a row."""
        return np.asarray((rows - np.array(self.means)) / np.array(self.spreads) * np.array(self.weights), np.float64)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        content = {"format": FORMAT, "features": list(FEATURES), **asdict(self)}
        write_atomically(path, json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Reranker:
        """Read what `save` wrote. Raises DataError for anything else."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            names, version = content.pop("features"), content.pop("format")
            values = {name: tuple(map(float, value)) if isinstance(value, list) else value for name, value in content.items()}
            found = cls(**cast("dict[str, Any]", values))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} cannot be read as a re-ranker: {error}; train it anew") from error
        if version != FORMAT or tuple(names) != FEATURES or {len(found.weights), len(found.means), len(found.spreads)} != {len(FEATURES)}:
            raise DataError(f"{path} was trained on other properties of posts than this version compares; train it anew")
        return found


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates of one query, and which of them are right."""

    rows: Table
    is_right: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, found: Candidates, compared: Compared, right: Collection[str]) -> Judged:
        """Compare the candidates of one query."""
        return cls(features(found, compared), np.array([one in right for one in compared.ids], np.bool_))


def train_reranker(judged: Sequence[Judged], *, trained_on: str, vectors: str | None = None, penalty: float = PENALTY) -> Reranker:
    """Weights from judgements. Queries without a right candidate teach nothing. Raises DataError when none has one."""
    useful = [one for one in judged if one.is_right.any() and not one.is_right.all()]
    if not useful:
        raise DataError("no query has a right post among its candidates and a wrong one: nothing to learn from")
    rows = np.concatenate([one.rows for one in useful])
    means, spreads = rows.mean(axis=0), rows.std(axis=0)
    spreads[spreads < 1e-9] = 1.0
    lengths = np.array([len(one.rows) for one in useful])
    target = np.concatenate([one.is_right / one.is_right.sum() for one in useful])
    weights = _most_likely((rows - means) / spreads, target, lengths, penalty)
    return Reranker(
        weights=tuple(weights.tolist()), means=tuple(means.tolist()), spreads=tuple(spreads.tolist()), num_queries=len(useful),
        trained_on=trained_on, vectors=vectors,
    )  # fmt: skip


def _most_likely(rows: Table, target: Numbers, lengths: npt.NDArray[np.int64], penalty: float) -> Numbers:
    starts, query = np.cumsum(lengths) - lengths, np.repeat(np.arange(len(lengths)), lengths)

    def loss(weights: Numbers) -> tuple[float, Numbers, Table]:
        scores = rows @ weights
        scores = scores - np.maximum.reduceat(scores, starts)[query]
        logs = scores - np.log(np.add.reduceat(np.exp(scores), starts))[query]
        chance = np.exp(logs)
        expected = np.add.reduceat(rows * chance[:, None], starts)
        curvature = ((rows * chance[:, None]).T @ rows - expected.T @ expected) / len(lengths)
        slope = rows.T @ (chance - target) / len(lengths)
        return (
            float(-(target @ logs) / len(lengths) + penalty / 2 * (weights @ weights)),
            slope + penalty * weights,
            curvature + penalty * np.eye(len(weights)),
        )

    return least(loss, rows.shape[1])


def least(loss: Callable[[Numbers], tuple[float, Numbers, Table]], size: int) -> Numbers:
    """Where a strictly convex function, given with gradient and Hessian, is least: Newton's method with halved steps."""
    at = np.zeros(size)
    value, slope, curvature = loss(at)
    for _ in range(_MAX_STEPS):
        step = np.linalg.solve(curvature, slope)
        length = 1.0
        while length > _SMALLEST_STEP and loss(at - length * step)[0] > value:
            length /= 2
        at = at - length * step
        before, (value, slope, curvature) = value, loss(at)
        if before - value < _SMALLEST_STEP * max(1.0, abs(value)):
            break
    return at
