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
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from agora.search.candidates import WORDS_DEPTH, Candidates, Compared, Wanted, find_candidates, find_latest, look_closer
from agora.search.confidence import Confidence, signs
from agora.search.fusion import K, fuse
from agora.search.index.interface import PostIndex
from agora.search.pages import Page, fetched
from agora.search.query.syntax import Node, Query, QueryWarning
from agora.search.ranking import Group, QueryType, RankingConfig, boosted, query_type
from agora.search.request import Matching, Request, read_passage, read_query
from agora.search.rerank import FEATURES, Reranker, features
from agora.text.embeddings import Embeddings

log = logging.getLogger(__name__)

Mode = Literal["top", "latest"]
MAX_LIMIT: Final = 1000


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `score` is the sum of `parts`. `alike`: how many other voices say nearly the same ("+37 alike"), `alike_ids` their posts
    and those of the same account. `scored_by`: whose parts these are, the post's own or its best near-duplicate's.
    `voice`: `account:NAME`, or `campaign:ID` for whoever acts as one. `label`: why it is labelled. `alike_is_least`: there may be more, as
    only so many candidates are looked at. `is_loose`: need not hold all of the query's words."""

    post: Mapping[str, Any]
    score: float
    parts: Mapping[str, float]
    alike: int
    voice: str
    label: str | None
    alike_ids: tuple[str, ...] = ()
    scored_by: str = ""
    why: tuple[str, ...] = ()
    alike_is_least: bool = False
    is_loose: bool = False


@dataclass(frozen=True, slots=True)
class Results:
    """`total`: posts that match strictly. `voices`: how many voices the posts that were looked at are. `confidence`: chance that the first
    hit is what was asked for, None in `latest` or without weights for it. `notes`: what else is to be said about the query."""

    query: Query
    warnings: tuple[QueryWarning, ...]
    hits: tuple[Hit, ...]
    total: int
    voices: int
    confidence: float | None = None
    notes: tuple[str, ...] = ()


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

        `match`: posts must hold `all` plain words, `any` of them, or `auto`: all, but of a sentence some are enough, behind the rest.
        With `passage` the text is no query but a post or a question: nothing in it is an operator.
        """
        if not 1 <= limit <= MAX_LIMIT:
            raise UsageError(f"limit {limit} must lie between 1 and {MAX_LIMIT}")
        moment = now or datetime.now(timezone.utc)
        request = read_passage(text) if passage else read_query(text, matching=match, now=moment)
        if mode == "latest" or not (request.words or request.text.strip()):
            return self._latest(request, limit, moment)
        return self._top(request, limit, moment, explain)

    def rank(self, request: Request, now: datetime) -> Ranked:
        """All candidates of the usual depth, best first. Training and benchmarks read them."""
        wanted = self._wanted(request)
        return self._ranked(request.text, find_candidates(self._index, wanted, self._voices, now=now))

    def _wanted(self, request: Request) -> Wanted:
        return Wanted(
            request.text,
            request.words,
            request.match,
            request.where_words,
            request.where,
            self._vector(request),
            request.by_voice,
            request.must,
        )

    def _ranked(self, text: str, found: Candidates) -> Ranked:
        compared = look_closer(self._index, text, found)
        if found.by_time:
            return Ranked(found, compared, {one: {"time": 0.0} for one in found.by_time})
        if self._reranker is None or not compared.ids:
            return Ranked(found, compared, _fused(found, compared))
        table = self._reranker.parts(features(found, compared))
        order = np.argsort(-table.sum(axis=1), kind="stable").tolist()
        return Ranked(found, compared, {compared.ids[place]: dict(zip(FEATURES, table[place].tolist(), strict=True)) for place in order})

    def _vector(self, request: Request) -> npt.NDArray[np.float32] | None:
        if self._embeddings is None or not request.text.strip():
            return None
        vector = self._embeddings.vectors(pa.array([request.text], pa.large_string()))[0]
        return vector if np.any(vector) else None

    def _top(self, request: Request, limit: int, now: datetime, explain: bool) -> Results:
        voices = self._voices if request.by_voice else Voices()
        kind = query_type(request.root, request.words)
        page = Page(limit, voices, self._config.alike)
        first: Ranked | None = None
        for found, is_loose in self._found(request, page, voices, now):
            ranked = self._ranked(request.text, found)
            first = ranked if (first is None or not first.parts) and not found.by_time else first
            page.add(found, list(ranked.parts), self._boosted(ranked, kind, now), is_loose=is_loose)
            if page.is_full:
                break
        hits = [self._hit(group, page, voices) for group in page.groups[:limit]]
        if explain:
            hits = [_explained(hit, page, kind, self._config) for hit in hits]
        total = self._index.count(request.root, now=now) if request.root is not None else len(page.posts)
        notes = self._notes(request, hits, total, limit, now)
        num_voices = count_voices((post["author"] for post in page.posts.values()), self._voices)
        sure = None if self._confidence is None else self._sure(first or self._ranked(request.text, Candidates()))
        return Results(request.query, request.query.warnings, tuple(hits), total, num_voices, sure, notes)

    def _found(self, request: Request, page: Page, voices: Voices, now: datetime) -> Iterator[tuple[Candidates, bool]]:
        """Candidates as long as hits are missing: what matches and ranks; what matches and no word or meaning led to (an account beside
        `OR`, a listed link), newest first; then, of a sentence, what holds some of its words."""
        wanted = self._wanted(request)
        for found in fetched(self._by(wanted, now), page):
            yield found, False
        if request.root is not None:
            for found in fetched(
                lambda times, without: find_latest(self._index, request.root, voices, times * WORDS_DEPTH, without=without, now=now), page
            ):
                yield found, False
        if request.can_loosen:
            loose = request.loosened()
            others = replace(wanted, words=loose.words, match=loose.match, where_words=loose.where_words, where=loose.where, must=None)
            for found in fetched(self._by(others, now), page):
                yield found, True

    def _by(self, wanted: Wanted, now: datetime) -> Callable[[int, Node | None], Candidates]:
        return lambda times, without: find_candidates(self._index, wanted, self._voices, times=times, without=without, now=now)

    def _boosted(self, ranked: Ranked, kind: QueryType, now: datetime) -> dict[str, dict[str, float]]:
        scores: dict[str, dict[str, float]] = {}
        for one, parts in ranked.parts.items():
            base = 0.0 if ranked.found.by_time else 1.0 if self._reranker else sum(parts.values())
            post = ranked.found.posts[one]
            scores[one] = boosted(parts, base, post, self._authority.get(post["author"], 0.0), kind, now, self._config)
        return scores

    def _notes(self, request: Request, hits: Sequence[Hit], total: int, limit: int, now: datetime) -> tuple[str, ...]:
        """What is said about words that not all posts hold."""
        if any(hit.is_loose for hit in hits):
            return (f"{_posts(total)} all of this; the others hold some of it, or mean the like (--match all leaves them out)",)
        if request.some is None or total >= limit:
            return ()
        some = self._index.count(request.some, now=now)
        return (
            (f"{_posts(total)} all of this; {some:,} {'holds' if some == 1 else 'hold'} some of it: --match any",) if some > total else ()
        )

    def _hit(self, group: Group, page: Page, voices: Voices) -> Hit:
        """A group takes the score of its best member: how well it is said late does not make the first to say it worse."""
        post = page.posts[group.shown]
        best = max((group.shown, *group.others), key=lambda one: sum(page.scores[one].values()))
        parts = page.scores[best]
        kind, name = self._voices.of(post["author"])
        label = self._reasons.get((POST, post["id"])) or self._reasons.get((ACCOUNT, post["author"]))
        if label is None and kind == "campaign" and post["author"] in self._voices.labelled:
            label = f"The account is labelled as part of campaign {name}."
        is_cut = group.alike > 0 and group.shown in page.counted_in_part
        return Hit(
            post, sum(parts.values()), parts, group.alike, f"{kind}:{name}", label, group.others, best, (), is_cut, best in page.loose
        )

    def _sure(self, ranked: Ranked) -> float | None:
        return None if self._confidence is None else self._confidence.of(self.signs(ranked))

    def signs(self, ranked: Ranked) -> npt.NDArray[np.float64]:
        """What confidence is judged by."""
        order = list(ranked.parts)
        return signs(ranked.found, ranked.compared, order, [sum(ranked.parts[one].values()) for one in order[:2]])

    def _latest(self, request: Request, limit: int, now: datetime) -> Results:
        """Strictly by time; a campaign shows its newest post only, whatever it posts meanwhile."""
        voices = self._voices if request.by_voice else Voices()
        found = find_latest(self._index, request.root, voices, limit, now=now)
        page = Page(limit, voices, self._config.alike)
        page.posts.update(found.posts)
        page.scores.update({one: {"time": at} for one, at in found.by_time.items()})
        page.found_in.update({one: (place, found) for place, one in enumerate(found.by_time, start=1)})
        hits = tuple(self._hit(Group(one, (), 0), page, voices) for one in list(found.by_time)[:limit])
        total = self._index.count(request.root, now=now)
        num_voices = count_voices((post["author"] for post in found.posts.values()), self._voices)
        return Results(request.query, request.query.warnings, hits, total, num_voices)


def _posts(count: int) -> str:
    return f"{count:,} {'post holds' if count == 1 else 'posts hold'}"


def _fused(found: Candidates, compared: Compared) -> dict[str, dict[str, float]]:
    """Candidates by fused ranks. Behind them those that the index named by function words alone, which no list weighs."""
    parts = fuse(_rankings(found, compared))
    others = fuse({"words": {one: score for one, score in found.by_words.items() if one not in parts}}, k=K + len(parts))
    return parts | others


def _rankings(found: Candidates, compared: Compared) -> dict[str, Mapping[str, float]]:
    """Candidates by each list: those that have none of the words are in no list of words."""
    lists = {"words": compared.words, "beginnings": compared.beginnings}
    held = {name: {one: score for one, score in zip(compared.ids, scores, strict=True) if score > 0} for name, scores in lists.items()}
    return {**held, "meaning": found.by_meaning}


def _explained(hit: Hit, page: Page, kind: str, config: RankingConfig) -> Hit:
    """The hit with its reasons in words."""
    one = hit.scored_by
    place, found = page.found_in[one]
    why = [f"place {place} before boosts" + ("" if one == hit.post["id"] else f", by its near-duplicate {one}")]
    if one in found.by_words:
        why.append(f"place {list(found.by_words).index(one) + 1} by words in the index (BM25 {found.by_words[one]:.2f})")
    if one in found.by_meaning:
        why.append(f"place {list(found.by_meaning).index(one) + 1} by meaning (cosine {found.by_meaning[one]:.2f})")
    if one in found.by_time:
        why.append("matches, but not by words or meaning that rank: newest first, behind the others")
    if "behind" in hit.parts:
        why.append("fetched later, so it stands behind what was shown")
    if hit.is_loose:
        why.append("holds some of the words only")
    why.append(f"freshness halves every {getattr(config, f'{kind}_s') / 3600:g} h for this type of query ({kind})")
    if hit.alike_ids:
        why.append(f"stands for {len(hit.alike_ids)} near-duplicates by {hit.alike} other voices, as the earliest without a label")
    if hit.label is not None:
        why.append(f"labelled: {hit.label}")
    return replace(hit, why=tuple(why))


__all__ = ["Hit", "Ranked", "Results", "Searcher"]
