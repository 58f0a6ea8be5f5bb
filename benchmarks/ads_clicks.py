"""Which of two ads is clicked more? A click model on real ads, beside TF-IDF ridge regression.

python -m benchmarks ads_clicks [--quick] [--train FILE] [--test FILE] [--data FOLDER] [--seeds N]

Ads with at least 500 impressions, pairs within a placement whose click rates are at least 1.5 times apart, both ads left out. Five folds
grouped by text; smoothing and penalty are chosen anew inside each training part. `value` is the share of pairs ordered rightly with
targeting; the text alone has its own bar. In the details stand folds grouped by landing page (pages never seen), and with near-duplicate
texts in one fold (parts of words alike by a cosine above 0.5, and what they join). With --train (and --test) the model is trained on one
file and scored on the other, or cross-validated on the one. --quick: fewer pairs, and folds by text alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agora.ads.scoring.clicks import ClickConfig, click_rate_order, cross_validate, smoothed_rates, train_clicks
from agora.ads.scoring.likeness import Describer, likeness
from agora.ads.scoring.pairs import chosen_ads, folds_by, pairs_of
from agora.ads.scoring.past_ads import PastAd, read_past_ads
from agora.errors import UsageError
from benchmarks.registry import Benchmark, Result, data_folder, whole_number

BARS = {"with_targeting": 0.84, "text_alone": 0.76}
OF_RIDGE = {"with_targeting": 0.816, "text_alone": 0.731}
NEAR = 0.5
TABLE = Path("ads", "ira_facebook_ads.parquet")


def _run(quick: bool, options: dict[str, str]) -> Result:
    if "test" in options and "train" not in options:
        raise UsageError("--test needs --train: the file that the model is trained on")
    file = Path(options["train"]) if "train" in options else data_folder(options, TABLE) / TABLE
    ads = read_past_ads(file)
    found = {name: _measured(ads, options, quick, with_targeting=name == "with_targeting") for name in BARS}
    details: dict[str, Any] = {"bars": BARS, "tf_idf_ridge_of_the_issue": OF_RIDGE, "num_ads": len(ads), **found}
    holds = all(found[name]["accuracy"] >= bar for name, bar in BARS.items())
    return Result(value=found["with_targeting"]["accuracy"], holds=holds, details=details)


def _measured(ads: list[PastAd], options: dict[str, str], quick: bool, *, with_targeting: bool) -> dict[str, Any]:
    small = {"factors": (), "max_pairs": 100_000} if quick else {}
    config = ClickConfig(with_targeting=with_targeting, **small)  # type: ignore[arg-type]
    if "test" in options:
        asked = read_past_ads(Path(options["test"]))
        model = train_clicks(ads, config)
        ridge = pairs_of(asked).accuracy(_ridge(ads, asked, with_targeting=with_targeting))
        return {
            "accuracy": round(click_rate_order(model, asked), 4), "tf_idf_ridge": round(ridge, 4), "num_test": len(asked),
            "weights": dict(model.weights), **model.facts,
        }  # fmt: skip
    seeds = range(whole_number(options, "seeds", 1, at_least=1))
    runs = [cross_validate(ads, config, seed=seed) for seed in seeds]
    new_pages = None if quick else cross_validate(ads, config, groups=[ad.page for ad in ads]).accuracy
    near = None if quick else cross_validate(ads, config, groups=_near_groups(ads)).accuracy
    return {
        "accuracy": round(float(np.mean([run.accuracy for run in runs])), 4), "by_seed_and_fold": [run.by_fold for run in runs],
        "tf_idf_ridge_here": round(_ridge_crossed(ads, with_targeting=with_targeting), 4), "pages_never_seen": new_pages,
        "near_duplicates_together": near,
        "num_pairs": runs[0].num_pairs, "weights": runs[0].weights,
    }  # fmt: skip


def _near_groups(ads: Sequence[PastAd]) -> list[str]:
    """One name for all texts that are near-duplicates of each other, directly or through others."""
    from scipy.sparse.csgraph import connected_components

    described = Describer.learn(ads).describe(ads)
    return [str(one) for one in connected_components(likeness(described, described, ("letters",))["letters"] > NEAR)[1]]


def _ridge(known: Sequence[PastAd], asked: Sequence[PastAd], *, with_targeting: bool) -> Any:
    """Ridge regression (penalty 1) of click rates on TF-IDF of words and pairs of words, and of settings."""
    describer = Describer.learn(known)
    past, new = describer.describe(known), describer.describe(asked)
    ways = ("words", "items") if with_targeting else ("words",)
    total, across = (sum(likeness(a, past, ways).values()) for a in (past, new))
    rates = smoothed_rates(known)
    return rates.mean() + across @ np.linalg.solve(total + np.eye(len(known)), rates - rates.mean())


def _ridge_crossed(ads: list[PastAd], *, with_targeting: bool) -> float:
    folds = folds_by([ad.text for ad in ads], 5, 0)
    right, num = 0.0, 0
    for number in range(5):
        kept, left = (chosen_ads(ads, np.flatnonzero(where)) for where in (folds != number, folds == number))
        pairs = pairs_of(left)
        right, num = right + pairs.right(_ridge(kept, left, with_targeting=with_targeting)), num + len(pairs)
    return right / num


BENCHMARK = Benchmark(
    measures="share of pairs of unseen ads whose more clicked one scores higher (pairs of one placement, click rates 1.5 times apart)",
    unit="share", bound=">= 0.84 with targeting, and >= 0.76 by the text alone", run=_run, options=("train", "test", "data", "seeds"),
)  # fmt: skip
