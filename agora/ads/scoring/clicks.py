"""A click model of one's own past ads. Goes in: ads with impressions and clicks. Comes out: a model that says which of two ads is clicked
more.

    model = train_clicks(read_past_ads(Path("results.csv")))
    model.save(Path("clicks"))
    model.score([PastAd(text="..."), PastAd(text="...")])       # differences of scores are log odds

Scores are a function of how alike an ad is to past ones (likeness.py). Learning has three steps, all on the training ads alone:
1. which ways of being alike count how much: coordinate search, judged by the pairs of held-out ads in kernel ridge regression of click
   rates, by the closed form for left-out blocks (Rasmussen and Williams 2006, eq. 5.12, for blocks), held out by text and by landing page;
2. how strongly to smooth, by the same judgement;
3. pairwise logistic loss over pairs of one placement (RankNet: Burges et al. 2005, doi:10.1145/1102351.1102363) with the norm of the
   function as penalty.
Click rates are smoothed towards the mean first (beta prior by moments), as few impressions say little.

Not covered: what nobody tried yet. The model knows past ads of one advertiser; it does not know why they were clicked.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.ads.scoring.likeness import TARGETING_WAYS, TERM_WAYS, TEXT_WAYS, Described, Describer, likeness, scipy_sparse
from agora.ads.scoring.pairs import Numbers, Pairs, Places, chosen_ads, click_rates, folds_by, pairs_of
from agora.ads.scoring.past_ads import PastAd
from agora.errors import DataError, MissingExtraError, ModelError
from agora.files import replacing_folder
from agora.log import Progress, silent

_log = logging.getLogger(__name__)

FORMAT: Final = "agora-clicks-1"
MODEL_FILE, WEIGHTS_FILE = "click_model.json", "click_model.safetensors"
_FEWEST_ADS, _MOST_ADS, _FEWEST_PAIRS = 30, 5000, 50


@dataclass(frozen=True, kw_only=True, slots=True)
class ClickConfig:
    """How a click model is trained. `with_targeting` false: by the text alone."""

    with_targeting: bool = True
    factors: tuple[float, ...] = (0.0, 0.3, 3.0)
    smoothings: tuple[float, ...] = (0.2, 0.5, 1.0)
    penalties: tuple[float, ...] = (0.01, 0.03, 0.1)
    num_folds: int = 5
    max_pairs: int = 300_000
    max_steps: int = 60
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ClickModel:
    """What was learnt. `weights`: ways of being alike; `strengths`: one number per past ad. Never pickled: JSON and safetensors."""

    config: ClickConfig
    describer: Describer
    past: Described
    strengths: Numbers
    weights: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def score(self, ads: Sequence[PastAd]) -> Numbers:
        """One number per ad; a difference of two is the log odds that the first is clicked more, where rates differ clearly."""
        if not ads:
            return np.zeros(0)
        described = self.describer.describe(ads)
        found = [_mixed(described.only(rows), self.past, self.weights) @ self.strengths for rows in _blocks(len(ads))]
        return np.concatenate(found)

    def beats(self, one: PastAd, other: PastAd) -> float:
        """Chance that `one` is clicked more than `other`, given that their click rates are clearly apart."""
        first, second = self.score([one, other])
        return float(1 / (1 + math.exp(-np.clip(first - second, -30, 30))))

    def save(self, folder: Path) -> None:
        """Write the model; the folder is replaced as a whole."""
        from safetensors.numpy import save_file

        tensors = {"strengths": self.strengths, "shape": self.past.shape, "setup": self.past.setup, "day": self.past.day}
        for name, matrix in self.past.terms.items():
            tensors |= {f"{name}.data": matrix.data, f"{name}.indices": matrix.indices.astype(np.int64)}
            tensors |= {f"{name}.indptr": matrix.indptr.astype(np.int64)}
        described = {
            "format": FORMAT, "config": asdict(self.config), "weights": dict(self.weights), "facts": dict(self.facts),
            "pages": list(self.past.pages), "vocabularies": self.describer.vocabularies, "scales": self.describer.scales,
        }  # fmt: skip
        with replacing_folder(folder) as draft:
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, draft / WEIGHTS_FILE)
            (draft / MODEL_FILE).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> ClickModel:
        """Read a saved model. Raises ModelError naming the file and what is wrong."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            described = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
            if described.get("format") != FORMAT:
                raise ModelError(f"{folder / MODEL_FILE}: format {described.get('format')!r} is not {FORMAT!r}; train the model anew")
            tensors = load_file(folder / WEIGHTS_FILE)
            return _assembled(described, tensors)
        except FileNotFoundError as error:
            raise ModelError(f"{folder} holds no click model ({Path(error.filename).name} is missing); train one") from None
        except (SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{folder}: damaged click model ({type(error).__name__}: {error}); train it anew") from None


def _assembled(described: Mapping[str, Any], tensors: Mapping[str, npt.NDArray[Any]]) -> ClickModel:
    config: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in described["config"].items()}
    num_ads = len(tensors["strengths"])
    sparse = scipy_sparse()
    terms = {}
    for name in TERM_WAYS:
        shape = (num_ads, max(1, len(described["vocabularies"][name])))
        terms[name] = sparse.csr_matrix((tensors[f"{name}.data"], tensors[f"{name}.indices"], tensors[f"{name}.indptr"]), shape=shape)
        terms[name].check_format()
    past = Described(terms, tensors["shape"], tensors["setup"], tensors["day"], tuple(described["pages"]))
    sizes = {len(past.shape), len(past.setup), len(past.day), len(past.pages), num_ads}
    if len(sizes) != 1 or not np.isfinite(tensors["strengths"]).all():
        raise ValueError(f"parts of different sizes {sorted(sizes)} or numbers that are none")
    describer = Describer(described["vocabularies"], described["scales"])
    return ClickModel(ClickConfig(**config), describer, past, tensors["strengths"], described["weights"], described["facts"])


def train_clicks(ads: Sequence[PastAd], config: ClickConfig | None = None, *, progress: Progress = silent) -> ClickModel:
    """Learn from past ads. Of more than 5,000 the most recent are taken. Raises DataError where too few can be compared."""
    config = config or ClickConfig()
    ads = _recent(ads)
    pairs = pairs_of(ads)
    if len(ads) < _FEWEST_ADS or len(pairs) < _FEWEST_PAIRS:
        raise DataError(
            f"{len(ads)} ads with {len(pairs)} pairs of clearly different click rates are too few to learn from "
            f"(at least {_FEWEST_ADS} and {_FEWEST_PAIRS}); add results"
        )
    ways = TEXT_WAYS | (TARGETING_WAYS if config.with_targeting else {})
    describer = Describer.learn(ads)
    past = describer.describe(ads)
    matrices = {name: matrix.astype(np.float32) for name, matrix in likeness(past, past, ways).items()}
    search = _Search(ads, matrices, smoothed_rates(ads), config)
    with progress.step("click model", total=2 * len(ways) * len(config.factors), unit="weights tried") as step:
        weights, smoothing, judged = search.run(ways, step.advance)
        total = sum(weight * matrices[name].astype(np.float64) for name, weight in weights.items())
        penalty = _penalty(ads, np.asarray(total), smoothing, config)
    strengths = _pairwise(np.asarray(total), search.target, pairs.some(config.max_pairs, config.seed), smoothing, penalty, config)
    facts = {
        "num_ads": len(ads),
        "num_pairs": len(pairs),
        "smoothing": smoothing,
        "penalty": penalty,
        "held_out_accuracy": round(judged, 4),
    }
    _log.info("click model: %s, weights %s", facts, weights)
    return ClickModel(config, describer, past, strengths, weights, facts)


def smoothed_rates(ads: Sequence[PastAd]) -> Numbers:
    """Click rates drawn towards the mean as if each ad had some average impressions more (beta prior, fitted by
    moments weighted by impressions)."""
    shown = np.array([max(1, ad.impressions) for ad in ads], dtype=np.float64)
    clicks = np.array([ad.clicks for ad in ads], dtype=np.float64)
    mean = float(clicks.sum() / shown.sum())
    varied = float(shown @ (clicks / shown - mean) ** 2 / shown.sum())
    spread = max(1e-9, varied - mean * (1 - mean) * len(ads) / float(shown.sum()))
    prior = min(1e4, max(1.0, mean * (1 - mean) / spread - 1))
    return (clicks + prior * mean) / (shown + prior)


def _recent(ads: Sequence[PastAd]) -> list[PastAd]:
    if len(ads) <= _MOST_ADS:
        return list(ads)
    _log.warning("click model: the %d most recent of %d ads are used", _MOST_ADS, len(ads))
    return sorted(ads, key=lambda ad: ad.created.timestamp() if ad.created else 0.0)[-_MOST_ADS:]


def _blocks(size: int) -> list[Places]:
    return [np.arange(at, min(size, at + 1000)) for at in range(0, size, 1000)]


def _mixed(a: Described, b: Described, weights: Mapping[str, float]) -> Numbers:
    total = np.zeros((len(a.day), len(b.day)))
    for name, matrix in likeness(a, b, weights).items():
        total += weights[name] * matrix
    return total


class _Search:
    """Coordinate search over weights of ways. Judged by pairs of ads of one left-out block, blocks by text and by landing page."""

    def __init__(self, ads: Sequence[PastAd], matrices: Mapping[str, npt.NDArray[np.float32]], rates: Numbers, config: ClickConfig) -> None:
        self.matrices, self.config = matrices, config
        self.target = (rates - rates.mean()) / (rates.std() + 1e-12)
        self.blocks: list[list[tuple[Places, Pairs]]] = []
        for groups in ([ad.text for ad in ads], [ad.page for ad in ads]):
            if len(set(groups)) >= 2 * config.num_folds:
                folds = folds_by(groups, config.num_folds, config.seed)
                members = [np.flatnonzero(folds == number) for number in range(config.num_folds)]
                self.blocks.append([(here, pairs_of(chosen_ads(ads, here))) for here in members])

    def run(self, start: Mapping[str, float], advance: Any) -> tuple[dict[str, float], float, float]:
        weights, smoothing = dict(start), self.config.smoothings[len(self.config.smoothings) // 2]
        best = self.judge(weights, smoothing)
        for _ in range(2):
            before = best
            for other in self.config.smoothings:
                if other != smoothing and (judged := self.judge(weights, other)) > best:
                    best, smoothing = judged, other
            for name in start:
                kept = weights[name] or start[name]
                for factor in self.config.factors:
                    tried = weights | {name: kept * factor if weights[name] else kept}
                    if sum(tried.values()) > 0 and (judged := self.judge(tried, smoothing)) > best:
                        best, weights = judged, tried
                    advance()
            if best - before < 0.001:
                break
        return {name: weight for name, weight in weights.items() if weight > 0}, smoothing, best

    def judge(self, weights: Mapping[str, float], smoothing: float) -> float:
        """Mean over the ways of dividing: accuracy on pairs of ads that are left out together."""
        total = np.zeros_like(next(iter(self.matrices.values())))
        for name, weight in weights.items():
            if weight:
                total += np.float32(weight) * self.matrices[name]
        total[np.diag_indices_from(total)] += np.float32(smoothing)
        inverse = _linalg().inv(total, check_finite=False, overwrite_a=True)
        solved = inverse @ self.target
        shares = []
        for blocks in self.blocks:
            right = num = 0.0
            for here, pairs in blocks:
                if len(pairs):
                    left_out = self.target[here] - np.linalg.solve(inverse[np.ix_(here, here)], solved[here])
                    right, num = right + pairs.right(left_out), num + len(pairs)
            shares.append(right / max(1.0, num))
        return float(np.mean(shares)) if shares else 0.0


def _penalty(ads: Sequence[PastAd], total: Numbers, smoothing: float, config: ClickConfig) -> float:
    """The penalty whose model orders left-out ads best: three folds by text."""
    folds = folds_by([ad.text for ad in ads], 3, config.seed + 1)
    target = smoothed_rates(ads)
    target = (target - target.mean()) / (target.std() + 1e-12)
    found = dict.fromkeys(config.penalties, 0.0)
    for number in range(3):
        kept, left = np.flatnonzero(folds != number), np.flatnonzero(folds == number)
        known, asked = pairs_of(chosen_ads(ads, kept)), pairs_of(chosen_ads(ads, left))
        if not len(known) or not len(asked):
            continue
        for penalty in config.penalties:
            strengths = _pairwise(
                total[np.ix_(kept, kept)], target[kept], known.some(config.max_pairs // 4, config.seed), smoothing, penalty, config
            )
            found[penalty] += asked.accuracy(total[np.ix_(left, kept)] @ strengths)
    return max(found, key=lambda penalty: found[penalty])


def _pairwise(total: Numbers, target: Numbers, pairs: Pairs, smoothing: float, penalty: float, config: ClickConfig) -> Numbers:
    """Strengths a (scores are total @ a) that minimise mean log(1 + exp(-gap)) + penalty/2n * a'Ka, from those of ridge regression."""
    from scipy.optimize import minimize

    linalg, num = _linalg(), len(total)
    jittered = total + 1e-4 * float(np.mean(np.diag(total))) * np.eye(num)
    ridge = linalg.solve(jittered + smoothing * np.eye(num), target, assume_a="pos")
    lower = linalg.cholesky(jittered, lower=True)

    def loss(u: Numbers) -> tuple[float, Numbers]:
        scores = lower @ u
        gap = np.clip(scores[pairs.more] - scores[pairs.less], -500, 500)
        slope = -1 / (1 + np.exp(gap)) / len(pairs)
        by_ad = np.bincount(pairs.more, slope, num) - np.bincount(pairs.less, slope, num)
        return float(np.logaddexp(0, -gap).mean() + penalty / 2 * (u @ u) / num), lower.T @ by_ad + penalty * u / num

    found = minimize(loss, 3.0 * (lower.T @ ridge), jac=True, method="L-BFGS-B", options={"maxiter": config.max_steps})
    solved: Numbers = linalg.solve_triangular(lower, found.x, lower=True, trans="T")
    return solved


def _linalg() -> Any:
    try:
        from scipy import linalg
    except ImportError:
        raise MissingExtraError("scipy", "ads", "the click model") from None
    return linalg


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossValidated:
    """How many pairs of unseen ads were ordered rightly."""

    accuracy: float
    num_pairs: int
    by_fold: tuple[float, ...]
    weights: tuple[Mapping[str, float], ...]


def cross_validate(
    ads: Sequence[PastAd], config: ClickConfig | None = None, *, groups: Sequence[str] | None = None, num_folds: int = 5, seed: int = 0,
    progress: Progress = silent,
) -> CrossValidated:  # fmt: skip
    """Train on all folds but one and order the pairs of that one, for each. `groups` (default: the text) are never divided. Everything
    is chosen
    anew inside each training part."""
    folds = folds_by(groups or [ad.text for ad in ads], num_folds, seed)
    right, num, by_fold, weights = 0.0, 0, [], []
    for number in range(num_folds):
        kept, left = (chosen_ads(ads, np.flatnonzero(where)) for where in (folds != number, folds == number))
        model = train_clicks(kept, config, progress=progress)
        pairs = pairs_of(left)
        correct = pairs.right(model.score(left))
        right, num = right + correct, num + len(pairs)
        by_fold.append(round(correct / max(1, len(pairs)), 4))
        weights.append({name: round(weight, 3) for name, weight in model.weights.items()})
    return CrossValidated(accuracy=right / max(1, num), num_pairs=num, by_fold=tuple(by_fold), weights=tuple(weights))


def click_rate_order(model: ClickModel, ads: Sequence[PastAd]) -> float:
    """Accuracy of a model on the pairs of ads that it has not seen."""
    pairs = pairs_of(ads)
    if not len(pairs):
        raise DataError(f"none of {len(ads)} ads can be compared: no two of one placement have click rates 1.5 times apart")
    return pairs.accuracy(model.score(ads))


def mean_rate(ads: Sequence[PastAd]) -> float:
    """Mean click rate, for reports."""
    return float(click_rates(ads).mean()) if ads else 0.0
