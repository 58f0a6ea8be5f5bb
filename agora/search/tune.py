"""Search tuned to one's own judgements. Goes in: queries whose right posts somebody has named (judgements.py). Comes out: a re-ranker
(rerank.py) and a confidence (confidence.py) trained on all that is for training, and how they do on queries that they have not seen.

    agora search tune FOLDER

The figures are of the real search, once without and once with the re-ranker. Where the folder says what is for training (split `train`),
the other queries are scored. Where it does not, every query is scored by a re-ranker that was trained without its fifth of the
queries, and the one that is kept is trained on all.

Not covered: whether the judgements are good, and queries of another kind than theirs.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agora.errors import UsageError
from agora.log import Progress, Step, silent
from agora.search.confidence import Confidence, auroc, train_confidence
from agora.search.find import Searcher
from agora.search.index.interface import PostIndex
from agora.search.judgements import TOP, TRAIN, Collection, average_precision
from agora.search.request import read_passage
from agora.search.rerank import Judged, Reranker, train_reranker
from agora.search.withheld import Known, Signs, signs_with_and_without
from agora.text.embeddings import Embeddings

FOLDS: Final = 5
LEAST_QUERIES: Final = 20
"""Judged queries, at least: five folds of four. Fewer would only be learned by heart."""

Queries = Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuned:
    """`before` and `after`: MAP@5 on the held-out queries without and with the re-ranker; `better` and `worse`: how many of them gained
    and lost by it. `auroc`: how well the confidence tells held-out queries whose right post is there from the same without it. `how`: what
    was held out."""

    reranker: Reranker
    confidence: Confidence
    auroc: float
    num_trained_on: int
    num_held_out: int
    how: str
    before: float
    after: float
    better: int
    worse: int

    @property
    def helps(self) -> bool:
        """Whether search is better with it on queries that it has not seen."""
        return self.after > self.before


def tune(collection: Collection, index: PostIndex, embeddings: Embeddings | None, *, now: datetime, progress: Progress = silent) -> Tuned:
    """Train on a collection whose documents the index holds. Raises UsageError for too few judged queries, DataError when nothing can be
    learned from them."""
    queries = [one for some in collection.queries.values() for one in some]
    if len(queries) < LEAST_QUERIES:
        raise UsageError(f"{collection.name} has {len(queries)} judged queries; it takes at least {LEAST_QUERIES}, better hundreds")
    kept, folds, how = _parts(collection, queries)
    vectors = embeddings.name if embeddings is not None else ""
    num_held_out = sum(len(scored) for _, scored in folds)

    def search(reranker: Reranker | None, over: PostIndex = index) -> Searcher:
        return Searcher(over, embeddings=embeddings, reranker=reranker)

    def signs(some: Queries, reranker: Reranker | None) -> Signs:
        known = [Known(text, collection.repeats(collection.right[query])) for query, text in some]
        found = signs_with_and_without(index, lambda over: search(reranker, over), known, now)
        step.advance(len(some))
        return found

    with progress.step("tune", total=2 * len(kept) + 3 * num_held_out, unit="queries") as step:
        judged = _judged(search(None), kept, collection, now, step)

        def trained(on: Queries) -> Reranker:
            return train_reranker([judged[query] for query, _ in on], trained_on=f"{collection.name}, {len(on)} queries", vectors=vectors)

        rerankers = [trained(on) for on, _ in folds]
        pairs: list[tuple[float, float]] = []
        for (_, scored), reranker in zip(folds, rerankers, strict=True):
            ways = search(None), search(reranker)
            pairs += [(_score(ways[0], one, collection, now, step), _score(ways[1], one, collection, now, step)) for one in scored]
        before, after = (sum(scores) / len(pairs) for scores in zip(*pairs, strict=True))
        used = [reranker if after > before else None for reranker in rerankers]
        seen = [signs(scored, reranker) for (_, scored), reranker in zip(folds, used, strict=True)]
        of_kept = [signs(kept, used[0])] if len(folds) == 1 else seen
    return Tuned(
        reranker=trained(kept), num_trained_on=len(kept), num_held_out=num_held_out, how=how, before=before, after=after,
        better=sum(one > other for other, one in pairs), worse=sum(one < other for other, one in pairs), auroc=_held_out(seen, of_kept),
        confidence=train_confidence(
            *_together(of_kept), trained_on=f"{collection.name}, {len(kept)} queries", vectors=vectors, is_reranked=after > before
        ),
    )  # fmt: skip


def _held_out(seen: Sequence[Signs], of_kept: Sequence[Signs]) -> float:
    """How well a confidence tells queries that it has not seen: that of each part, trained on the others."""
    there: list[float] = []
    gone: list[float] = []
    for number, part in enumerate(seen):
        on = of_kept if len(seen) == 1 else [*seen[:number], *seen[number + 1 :]]
        trained = train_confidence(*_together(on), trained_on="the other queries")
        there += [trained.of(one) for one in part[0]]
        gone += [trained.of(one) for one in part[1]]
    return auroc(there, gone)


def _together(parts: Sequence[Signs]) -> Signs:
    return [one for there, _ in parts for one in there], [one for _, gone in parts for one in gone]


def _parts(collection: Collection, queries: Queries) -> tuple[Queries, list[tuple[Queries, Queries]], str]:
    """What the re-ranker that is kept is trained on; pairs of what is trained on and what is scored then; and how that is called."""
    train = collection.queries.get(TRAIN, [])
    others = [one for name, some in collection.queries.items() if name != TRAIN for one in some]
    if train and others:
        return train, [(train, others)], f"splits {', '.join(name for name in collection.queries if name != TRAIN)}"
    fold = {query: zlib.crc32(query.encode()) % FOLDS for query, _ in queries}
    folds: list[tuple[Queries, Queries]] = []
    for number in range(FOLDS):
        scored = [one for one in queries if fold[one[0]] == number]
        if scored:
            folds.append(([one for one in queries if fold[one[0]] != number], scored))
    return queries, folds, f"{FOLDS} folds, each scored by a re-ranker trained on the others"


def _judged(search: Searcher, queries: Queries, collection: Collection, now: datetime, step: Step) -> Mapping[str, Judged]:
    judged = {}
    for query, text in queries:
        ranked = search.rank(read_passage(text), now)
        judged[query] = Judged.of(ranked.found, ranked.compared, collection.repeats(collection.right[query]))
        step.advance(1)
    return judged


def _score(search: Searcher, one: tuple[str, str], collection: Collection, now: datetime, step: Step) -> float:
    """Average precision of one query. Twice as many hits are asked for as count, as repeats are collapsed."""
    query, text = one
    ids = [hit.post["id"] for hit in search.find(text, passage=True, limit=2 * TOP, now=now).hits]
    step.advance(1)
    return average_precision(ids, collection.right[query], collection.first)


__all__ = ["LEAST_QUERIES", "Tuned", "tune"]
