"""Does search know when the answer is not there? Every query is asked twice: with its right post in the index, and with it left out.

python -m benchmarks search_abstention [--quick] [--data FOLDER]

A confidence (agora/search/confidence.py) is trained on both kinds of the training part alone. On `dev` and `test` together (`value`), and
on each: AUROC of the two kinds, and the share of answerable queries that are answered when 10% of the others are (threshold on the scored
queries themselves, and the training part's threshold beside it). For every query all repeats of the right post are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.errors import UsageError
from agora.search.confidence import SIGNS, Confidence, auroc, train_confidence
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.withheld import Known, Signs, signs_with_and_without
from benchmarks.registry import Benchmark, Result
from benchmarks.search_collection import NOW, Collection, KeptEmbeddings, indexed, minilm, read_collection

AUROC_BAR, ANSWERED_BAR, FALSE_SHARE = 0.90, 0.75, 0.10
Numbers = npt.NDArray[np.float64]


def _run(quick: bool, options: dict[str, str]) -> Result:
    collection = read_collection(options)
    if not collection.queries.get("train"):
        raise UsageError(f"{collection.name} has no queries of split train: a confidence is trained on them")
    embeddings = minilm()
    details: dict[str, Any] = {"bars": {"auroc": AUROC_BAR, "answered": ANSWERED_BAR}}
    with indexed(collection, None if quick else embeddings) as index:
        ways = {"words_only": None} if quick else {"words_and_meaning": embeddings, "words_only": None}
        for way, used in ways.items():
            seen = _signs(index, collection, used, step=4 if quick else 1)
            trained = train_confidence(*seen["train"], trained_on=f"{collection.name}, split train")
            details[way] = _scores(trained, seen) | {"weights": dict(zip(SIGNS, trained.weights, strict=True))}
        embeddings.keep()
    together = details[next(iter(ways))]["dev_and_test"]
    holds = quick or (together["auroc"] >= AUROC_BAR and together["answered"] >= ANSWERED_BAR)
    return Result(value=together["auroc"], holds=holds, details=details)


def _signs(index: EmbeddedIndex, collection: Collection, embeddings: KeptEmbeddings | None, *, step: int) -> dict[str, Signs]:
    """Signs of each split's queries, with the right post there and without it."""
    seen = {}
    for name, queries in collection.queries.items():
        known = [Known(text, collection.repeats(collection.right[query])) for query, text in queries[::step]]
        seen[name] = signs_with_and_without(index, lambda over: Searcher(over, embeddings=embeddings), known, NOW)
    return seen


def _scores(trained: Confidence, seen: Mapping[str, Signs]) -> dict[str, Any]:
    scored = {name: tuple(np.array([trained.of(one) for one in some]) for some in pair) for name, pair in seen.items()}
    others = [pair for name, pair in scored.items() if name != "train"]
    scored["dev_and_test"] = (np.concatenate([pair[0] for pair in others]), np.concatenate([pair[1] for pair in others]))
    enough = float(np.quantile(scored["train"][1], 1 - FALSE_SHARE))
    return {name: _score(there, gone, enough) for name, (there, gone) in scored.items()}


def _score(there: Numbers, gone: Numbers, enough: float) -> dict[str, float]:
    return {
        "auroc": round(auroc(there, gone), 4), "answered": round(float(np.mean(there > np.quantile(gone, 1 - FALSE_SHARE))), 4),
        "answered_at_trained_threshold": round(float(np.mean(there > enough)), 4),
        "false_answers_at_trained_threshold": round(float(np.mean(gone > enough)), 4),
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="AUROC of queries whose right post is there against the same queries without it (dev and test parts)", unit="AUROC",
    bound=">= 0.90, and >= 75% answered at 10% false answers", run=_run, options=("data",),
)  # fmt: skip
