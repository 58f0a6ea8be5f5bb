"""Does search know when the answer is not there? Every query is asked twice: with its right post in the index, and with it left out.

python -m benchmarks search_abstention [--quick] [--data FOLDER]

A confidence (agora/search/confidence.py) is trained on both kinds of the training part alone. On `dev` and `test` together (`value`), and
on each: AUROC of the two kinds, and the share of answerable queries that are answered when 10% of the others are (threshold on the scored
queries themselves, and the training part's threshold beside it). For every query all repeats of the right post are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.errors import UsageError
from agora.search.confidence import SIGNS, Confidence, train_confidence
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.interface import Hits, Match
from agora.search.query.syntax import Node
from agora.search.request import read_passage
from benchmarks.registry import Benchmark, Result
from benchmarks.search_collection import NOW, Collection, KeptEmbeddings, indexed, minilm, read_collection

AUROC_BAR, ANSWERED_BAR, FALSE_SHARE = 0.90, 0.75, 0.10
Numbers = npt.NDArray[np.float64]


class Without:
    """An index in which some posts are not there (what a filter by id would do, which no query has)."""

    def __init__(self, index: EmbeddedIndex) -> None:
        self._index, self.left_out = index, frozenset[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def find_text(self, words: Sequence[str], where: Node | None, limit: int, *, match: Match = "any", now: datetime | None = None) -> Hits:
        """As the index finds them, without those left out."""
        return self._less(self._index.find_text(words, where, limit + len(self.left_out), match=match, now=now), limit)

    def find_near(self, vector: npt.NDArray[np.float32], where: Node | None, limit: int, *, now: datetime | None = None) -> Hits:
        """As the index finds them, without those left out."""
        return self._less(self._index.find_near(vector, where, limit + len(self.left_out), now=now), limit)

    def _less(self, hits: Hits, limit: int) -> Hits:
        kept = [place for place, one in enumerate(hits.ids) if one not in self.left_out][:limit]
        return Hits([hits.ids[place] for place in kept], hits.scores[kept])


def _run(quick: bool, options: dict[str, str]) -> Result:
    collection = read_collection(options)
    if not collection.queries.get("train"):
        raise UsageError(f"{collection.name} has no queries of split train: a confidence is trained on them")
    embeddings = minilm()
    details: dict[str, Any] = {"bars": {"auroc": AUROC_BAR, "answered": ANSWERED_BAR}}
    with indexed(collection, None if quick else embeddings) as index:
        ways = {"words_only": None} if quick else {"words_and_meaning": embeddings, "words_only": None}
        for way, used in ways.items():
            seen = _signs(Searcher(index, embeddings=used), index, collection, used, step=4 if quick else 1)
            trained = train_confidence(*seen["train"], trained_on=f"{collection.name}, split train", false_share=FALSE_SHARE)
            details[way] = _scores(trained, seen) | {"weights": dict(zip(SIGNS, trained.weights, strict=True))}
            if "save" in options:
                trained.save(Path(options["save"]) / ("confidence.json" if used else "confidence_words.json"))
        embeddings.keep()
    together = details[next(iter(ways))]["dev_and_test"]
    holds = quick or (together["auroc"] >= AUROC_BAR and together["answered"] >= ANSWERED_BAR)
    return Result(value=together["auroc"], holds=holds, details=details)


def _signs(
    searcher: Searcher, index: EmbeddedIndex, collection: Collection, embeddings: KeptEmbeddings | None, *, step: int
) -> dict[str, tuple[list[Numbers], list[Numbers]]]:
    """Signs of each split's queries, with the right post there and without it."""
    partial = Without(index)
    blind = Searcher(partial, embeddings=embeddings)
    seen: dict[str, tuple[list[Numbers], list[Numbers]]] = {}
    for name, queries in collection.queries.items():
        there, gone = seen.setdefault(name, ([], []))
        for query, text in queries[::step]:
            request = read_passage(text)
            there.append(searcher.signs(searcher.rank(request, NOW)))
            partial.left_out = collection.repeats(collection.right[query])
            gone.append(blind.signs(blind.rank(request, NOW)))
    return seen


def _scores(trained: Confidence, seen: Mapping[str, tuple[list[Numbers], list[Numbers]]]) -> dict[str, Any]:
    scored = {name: tuple(np.array([trained.of(one) for one in some]) for some in pair) for name, pair in seen.items()}
    others = [pair for name, pair in scored.items() if name != "train"]
    scored["dev_and_test"] = (np.concatenate([pair[0] for pair in others]), np.concatenate([pair[1] for pair in others]))
    return {name: _score(there, gone, trained.enough) for name, (there, gone) in scored.items()}


def _score(there: Numbers, gone: Numbers, enough: float) -> dict[str, float]:
    ranks = np.argsort(np.argsort(np.concatenate([gone, there]))) + 1
    auroc = (ranks[len(gone) :].sum() - len(there) * (len(there) + 1) / 2) / (len(there) * len(gone))
    return {
        "auroc": round(float(auroc), 4), "answered": round(float(np.mean(there > np.quantile(gone, 1 - FALSE_SHARE))), 4),
        "answered_at_trained_threshold": round(float(np.mean(there > enough)), 4),
        "false_answers_at_trained_threshold": round(float(np.mean(gone > enough)), 4),
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="AUROC of queries whose right post is there against the same queries without it (dev and test parts)", unit="AUROC",
    bound=">= 0.90, and >= 75% answered at 10% false answers", run=_run, options=("data", "save"),
)  # fmt: skip
