"""Search. Goes in: a query and an index. Comes out: hits, best first (or newest first), each with the parts of its score.

    searcher = Searcher(index, embeddings=load_minilm(), voices=voices(labels), labels=labels)
    searcher.find('flood warning from:ada', limit=10).hits

Words and meaning name candidates (candidates.py), their wording is compared (wording.py), ranks are fused (fusion.py) or a trained
re-ranker decides (rerank.py), fresh posts and known authors gain a little, near-duplicates become one hit and each campaign has one at
most (ranking.py). The slow obvious twin of filters is agora/search/query/matching.py.

Not covered: floods of accounts that no label names, unless they repeat each other's words; judging whether a post is true.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.errors import UsageError
from agora.integrity.labels import ACCOUNT, POST
from agora.integrity.voice import Voices, count_voices
from agora.integrity.voice import voices as voices_of
from agora.search.candidates import Candidates, Compared, Wanted, add_by_words, both, find_candidates, look_closer, one_per_campaign
from agora.search.confidence import Confidence, signs
from agora.search.fusion import fuse
from agora.search.index.interface import PostIndex
from agora.search.query.syntax import Labelled, Not, Query, QueryWarning
from agora.search.ranking import Group, RankingConfig, boosted, near_duplicates, one_voice, query_type
from agora.search.request import Matching, Request, read_passage, read_query
from agora.search.rerank import FEATURES, Reranker, features
from agora.text.embeddings import Embeddings

log = logging.getLogger(__name__)

Mode = Literal["top", "latest"]
MAX_LIMIT: Final = 1000
_POOL: Final = 3
"""Near-duplicates are looked for among so many times the hits that are asked for, and no fewer than `_POOL_LEAST`."""
_POOL_LEAST: Final = 60


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `score` is the sum of `parts`. `alike`: how many other voices say nearly the same ("+37 alike"), `alike_ids` their posts
    and those of the same account. `scored_by`: whose parts these are, the post's own or its best near-duplicate's.
    `voice`: `account:NAME`, or `campaign:ID` for whoever acts as one. `label`: why it is labelled."""

    post: Mapping[str, Any]
    score: float
    parts: Mapping[str, float]
    alike: int
    voice: str
    label: str | None
    alike_ids: tuple[str, ...] = ()
    scored_by: str = ""
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """`total`: posts that match strictly. `voices`: how many voices the posts that were looked at are. `confidence`: chance that the first
    hit is what was asked for, None in `latest` or without weights for it."""

    query: Query
    warnings: tuple[QueryWarning, ...]
    hits: tuple[Hit, ...]
    total: int
    voices: int
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """Candidates in order: the parts of each score, without boosts."""

    found: Candidates
    compared: Compared
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Searcher:
    """Search over one index. `labels` (LABEL_SCHEMA) hold in the index from now on and give the reasons shown; `voices`, who speaks as one,
    by default as the labels say. `authority`: how much an account is referred to, from 0 to 1 (agora/search/authority.py)."""

    def __init__(
        self,
        index: PostIndex,
        *,
        embeddings: Embeddings | None = None,
        voices: Voices | None = None,
        labels: pa.Table | None = None,
        reranker: Reranker | None = None,
        confidence: Confidence | None = None,
        authority: Mapping[str, float] | None = None,
        config: RankingConfig | None = None,
    ) -> None:
        self._index, self._embeddings = index, embeddings
        self._voices = voices if voices is not None else Voices() if labels is None else voices_of(labels)
        self._reranker, self._confidence = reranker, confidence
        self._authority, self._config = authority or {}, config or RankingConfig()
        self._reasons: dict[tuple[str, str], str] = {}
        if labels is not None:
            index.set_labels(labels)
            self._reasons = {(row["kind"], row["id"]): row["reason"] for row in labels.select(["kind", "id", "reason"]).to_pylist()}

    def find(
        self,
        text: str,
        *,
        mode: Mode = "top",
        limit: int = 10,
        now: datetime | None = None,
        explain: bool = False,
        match: Matching = "auto",
        passage: bool = False,
    ) -> Results:
        """The best or the latest posts for a query. Raises QuerySyntaxError naming the position.

        `match`: posts must hold `all` plain words, `any` of them, or `auto`, all where enough posts do. With `passage` the text is no query
        but a post or a question: nothing in it is an operator.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise UsageError(f"limit {limit} must lie between 1 and {MAX_LIMIT}")
        moment = now or datetime.now(timezone.utc)
        request = read_passage(text) if passage else read_query(text, matching=match, now=moment)
        if mode == "latest" or not (request.words or request.text.strip()):
            return self._latest(request, limit, moment)
        ranked = self.rank(request, limit, moment)
        return self._top(request, ranked, limit, moment, explain)

    def rank(self, request: Request, limit: int, now: datetime) -> Ranked:
        """All candidates, best first. Training and benchmarks read them too."""
        wanted = Wanted(
            request.text,
            request.words,
            request.match,
            request.where_words,
            request.where,
            self._vector(request),
            request.by_voice,
            limit,
        )
        found = find_candidates(self._index, wanted, self._voices, now=now)
        if request.can_loosen and len(found.by_words) < limit:
            found = add_by_words(self._index, found, wanted, self._voices, now=now)
        compared = look_closer(self._index, request.text, found)
        if self._reranker is None or not compared.ids:
            return Ranked(found, compared, fuse(_rankings(found, compared)))
        table = self._reranker.parts(features(found, compared))
        order = np.argsort(-table.sum(axis=1), kind="stable").tolist()
        return Ranked(found, compared, {compared.ids[place]: dict(zip(FEATURES, table[place].tolist(), strict=True)) for place in order})

    def _vector(self, request: Request) -> npt.NDArray[np.float32] | None:
        if self._embeddings is None or not request.text.strip():
            return None
        vector = self._embeddings.vectors(pa.array([request.text], pa.large_string()))[0]
        return vector if np.any(vector) else None

    def _top(self, request: Request, ranked: Ranked, limit: int, now: datetime, explain: bool) -> Results:
        found = ranked.found
        kind = query_type(request.root, request.words)
        scores: dict[str, dict[str, float]] = {}
        for one, parts in ranked.parts.items():
            base = 1.0 if self._reranker else sum(parts.values())
            post = found.posts[one]
            scores[one] = boosted(parts, base, post, self._authority.get(post["author"], 0.0), kind, now, self._config)
        order = sorted(scores, key=lambda one: -sum(scores[one].values()))[: max(_POOL * limit, _POOL_LEAST)]
        voices = self._voices if request.by_voice else Voices()
        groups = one_voice(near_duplicates(order, found.posts, voices, at_least=self._config.alike), found.posts, voices)
        place_of = {one: place for place, one in enumerate(ranked.parts, start=1)}
        hits = [self._hit(group, found.posts, scores, voices) for group in groups[:limit]]
        if explain:
            hits = [_explained(hit, place_of[hit.scored_by], found, kind, self._config) for hit in hits]
        total = self._total(request, found, now)
        warnings = request.query.warnings
        if request.can_loosen and total < limit and sum(1 + len(hit.alike_ids) for hit in hits) > total:
            warnings = (*warnings, QueryWarning(0, f"posts with all of this: {total}; other hits hold some of the words, or mean the like"))
        num_voices = count_voices((post["author"] for post in found.posts.values()), self._voices)
        return Results(request.query, warnings, tuple(hits), total, num_voices, self._sure(ranked))

    def _hit(self, group: Group, posts: Mapping[str, Mapping[str, Any]], scores: Mapping[str, Mapping[str, float]], voices: Voices) -> Hit:
        """A group takes the score of its best member: how well it is said late does not make the first to say it worse."""
        post = posts[group.shown]
        best = max((group.shown, *group.others), key=lambda one: sum(scores[one].values()))
        parts = scores[best]
        kind, name = self._voices.of(post["author"])
        label = self._reasons.get((POST, post["id"])) or self._reasons.get((ACCOUNT, post["author"]))
        if label is None and kind == "campaign":
            label = f"The account is labelled as part of campaign {name}."
        return Hit(post, sum(parts.values()), parts, group.alike, f"{kind}:{name}", label, group.others, best)

    def _total(self, request: Request, found: Candidates, now: datetime) -> int:
        """Posts that match; of a passage, which nothing must match, those that were looked at."""
        return self._index.count(request.root, now=now) if request.root is not None else len(found.posts)

    def _sure(self, ranked: Ranked) -> float | None:
        if self._confidence is None:
            return None
        return self._confidence.of(self.signs(ranked))

    def signs(self, ranked: Ranked) -> npt.NDArray[np.float64]:
        """What confidence is judged by."""
        order = list(ranked.parts)
        return signs(ranked.found, ranked.compared, order, [sum(ranked.parts[one].values()) for one in order[:2]])

    def _latest(self, request: Request, limit: int, now: datetime) -> Results:
        """Strictly by time; a campaign shows its newest post only, whatever it posts meanwhile."""
        by_voice = bool(self._voices) and request.by_voice
        voices = self._voices if by_voice else Voices()
        ids = self._index.latest(request.root, limit if not by_voice else limit * _POOL, now=now).ids
        posts = {row["id"]: row for row in self._index.get(ids).to_pylist()}
        ids = [one for one in ids if one in posts]
        if by_voice:
            ids = self._newest_by_voice(request, ids, posts, limit, now)
        hits = tuple(
            self._hit(Group(one, (), 0), posts, {one: {"time": posts[one]["created_at"].timestamp()}}, voices) for one in ids[:limit]
        )
        total = self._index.count(request.root, now=now)
        return Results(
            request.query, request.query.warnings, hits, total, count_voices((p["author"] for p in posts.values()), self._voices)
        )

    def _newest_by_voice(
        self, request: Request, ids: Sequence[str], posts: dict[str, Mapping[str, Any]], limit: int, now: datetime
    ) -> list[str]:
        """The newest posts, one per campaign; where a flood fills the list, posts without a label are asked for apart."""
        if len(ids) == limit * _POOL:
            ordinary = self._index.latest(both(request.root, Not(Labelled())), limit, now=now).ids
            posts |= {row["id"]: row for row in self._index.get([one for one in ordinary if one not in posts]).to_pylist()}
            ids = sorted({one for one in (*ids, *ordinary) if one in posts}, key=lambda one: posts[one]["created_at"], reverse=True)
        return one_per_campaign(ids, posts, self._voices)


def _rankings(found: Candidates, compared: Compared) -> dict[str, Mapping[str, float]]:
    """Candidates by each list: those that have none of the words are in no list of words."""
    lists = {"words": compared.words, "beginnings": compared.beginnings}
    held = {name: {one: score for one, score in zip(compared.ids, scores, strict=True) if score > 0} for name, scores in lists.items()}
    return {**held, "meaning": found.by_meaning}


def _explained(hit: Hit, place: int, found: Candidates, kind: str, config: RankingConfig) -> Hit:
    """The hit with its reasons in words."""
    one = hit.scored_by
    why = [f"place {place} before boosts" + ("" if one == hit.post["id"] else f", by its near-duplicate {one}")]
    if one in found.by_words:
        why.append(f"place {list(found.by_words).index(one) + 1} by words in the index (BM25 {found.by_words[one]:.2f})")
    if one in found.by_meaning:
        why.append(f"place {list(found.by_meaning).index(one) + 1} by meaning (cosine {found.by_meaning[one]:.2f})")
    why.append(f"freshness halves every {getattr(config, f'{kind}_s') / 3600:g} h for this type of query ({kind})")
    if hit.alike_ids:
        why.append(f"stands for {len(hit.alike_ids)} near-duplicates by {hit.alike} other voices, as the earliest without a label")
    if hit.label is not None:
        why.append(f"labelled: {hit.label}")
    return replace(hit, why=tuple(why))


__all__ = ["Hit", "Ranked", "Results", "Searcher"]
