"""How sure a search is that its best post is what was asked for. Goes in: candidates in order. Comes out: a number between 0 and 1.

A logistic regression over signs of it: how near the best post is in meaning and wording, how far ahead of the next ones, whether words and
meaning name the same post, how much of the query and of the post the other covers. Trained on queries whose right post was there, against
the same queries with it taken away (withheld.py). No weights come with Agora: `agora search tune` makes them from one's own judgements.

Not covered: whether a post is true. Another kind of query needs other weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.errors import DataError
from agora.files import write_atomically
from agora.search.candidates import Candidates, Compared
from agora.search.rerank import FEATURES, features, least
from agora.search.wording import best_possible

Numbers = npt.NDArray[np.float64]

SIGNS: Final = (
    "meaning", "meaning_ahead_of_next", "meaning_ahead_of_ten", "wording", "wording_ahead_of_next", "wording_ahead_of_ten",
    "ranked_ahead", "is_best_by_meaning", "is_best_by_wording", "query_share", "text_share", "rarest", "other_numbers", "pairs",
    "text_grams", "query_grams", "run", "length",
)  # fmt: skip
PENALTY: Final = 0.003
FORMAT: Final = 2


def signs(found: Candidates, compared: Compared, ranked: Sequence[str], scores: Sequence[float]) -> Numbers:
    """The signs (`SIGNS`) of candidates ranked by `scores`, best first. Zeros without candidates."""
    if not ranked:
        return np.zeros(len(SIGNS))
    place = compared.ids.index(ranked[0])
    row = dict(zip(FEATURES, features(found, compared, [place])[0].tolist(), strict=True))
    meaning = sorted(found.by_meaning.values(), reverse=True)
    possible = best_possible(compared.weights) or 1.0
    wording = sorted((value / possible for value in compared.beginnings), reverse=True)
    ahead = (scores[0] - scores[1]) / (abs(scores[0]) + 1e-9) if len(scores) > 1 else 1.0
    close = [row[name] for name in SIGNS[SIGNS.index("query_share") :]]
    return np.array(
        [
            found.by_meaning.get(ranked[0], 0.0), *_ahead(meaning), compared.beginnings[place] / possible, *_ahead(wording), ahead,
            float(row["behind_in_meaning"] == 0 and bool(meaning)), float(row["behind_in_beginnings"] == 0), *close,
        ]
    )  # fmt: skip


def _ahead(values: Sequence[float]) -> tuple[float, float]:
    """How far the first is ahead of the second, and of the mean of the fifth to the tenth."""
    if not values:
        return 0.0, 0.0
    rest = values[4:10] or [0.0]
    return values[0] - (values[1] if len(values) > 1 else 0.0), values[0] - sum(rest) / len(rest)


@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence:
    """Chance of being right = 1 / (1 + exp(-(bias + sum of weight * (sign - mean) / spread))). `vectors`: the name of the embeddings
    of the search that it is about, empty for search by words alone, None where nobody knows; `is_reranked`: whether a re-ranker decided."""

    weights: tuple[float, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    bias: float
    num_queries: int
    vectors: str | None
    is_reranked: bool
    trained_on: str

    def of(self, seen: Numbers) -> float:
        """The confidence for one query's signs."""
        if not seen.any():
            return 0.0
        scaled = (seen - np.array(self.means)) / np.array(self.spreads)
        return float(1 / (1 + np.exp(-(self.bias + scaled @ np.array(self.weights)))))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        write_atomically(path, json.dumps({"format": FORMAT, "signs": list(SIGNS), **asdict(self)}, indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Confidence:
        """Read what `save` wrote. Raises DataError for anything else."""
        try:
            return _parsed(path.read_text(encoding="utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read as a confidence: {error}; train it anew") from error


def train_confidence(
    answerable: Sequence[Numbers], unanswerable: Sequence[Numbers], *, trained_on: str, vectors: str | None = None,
    is_reranked: bool = False, penalty: float = PENALTY,
) -> Confidence:  # fmt: skip
    """Weights from signs of queries whose right post was there, and was not. Raises DataError without both kinds."""
    if not len(answerable) or not len(unanswerable):
        raise DataError("a confidence is trained on answerable and unanswerable queries; one kind is missing")
    rows = np.stack([*answerable, *unanswerable])
    means, spreads = rows.mean(axis=0), rows.std(axis=0)
    spreads[spreads < 1e-9] = 1.0
    is_right = np.repeat([1.0, 0.0], [len(answerable), len(unanswerable)])
    table = np.hstack([(rows - means) / spreads, np.ones((len(rows), 1))])
    ridge = np.append(np.full(len(SIGNS), penalty), 1e-9)

    def loss(weights: Numbers) -> tuple[float, Numbers, Numbers]:
        scores = table @ weights
        chance = 1 / (1 + np.exp(-scores))
        value = np.logaddexp(0, (1 - 2 * is_right) * scores).mean() + (ridge * weights) @ weights / 2
        curvature = (table * (chance * (1 - chance))[:, None]).T @ table / len(table) + np.diag(ridge)
        return float(value), table.T @ (chance - is_right) / len(table) + ridge * weights, curvature

    weights = least(loss, len(SIGNS) + 1)
    return Confidence(
        weights=tuple(weights[:-1].tolist()), means=tuple(means.tolist()), spreads=tuple(spreads.tolist()), bias=float(weights[-1]),
        num_queries=len(answerable), vectors=vectors, is_reranked=is_reranked, trained_on=trained_on,
    )  # fmt: skip


def auroc(there: Sequence[float] | Numbers, gone: Sequence[float] | Numbers) -> float:
    """Chance that a query whose right post is there has the greater confidence than one whose is not (of equal ones, half)."""
    ordered = np.sort(np.asarray(gone))
    below, upto = np.searchsorted(ordered, there, "left"), np.searchsorted(ordered, there, "right")
    return float((below + upto).mean() / 2 / len(ordered))


def _parsed(text: str, where: str) -> Confidence:
    try:
        content = json.loads(text)
        names, version = content.pop("signs"), content.pop("format")
        values: dict[str, Any] = {name: tuple(map(float, value)) if isinstance(value, list) else value for name, value in content.items()}
        found = Confidence(**values)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where} cannot be read as a confidence: {error}; train it anew") from error
    if version != FORMAT or tuple(names) != SIGNS or {len(found.weights), len(found.means), len(found.spreads)} != {len(SIGNS)}:
        raise DataError(f"{where} was trained on other signs than this version reads; train it anew")
    return found
