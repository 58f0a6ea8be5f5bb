"""Posts that may answer a query, before they are ranked. Goes in: an index, words, a vector, filters. Comes out: two lists (by words, by
meaning) in which every campaign has one post at most, with what is compared of each post.

However many posts a campaign has, it must not fill the lists and push others out of sight. So where labels hold, posts without and with a
label are asked for apart, each list gets the best post per campaign only, and ranks are counted after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.voice import Voices
from agora.search.index.interface import Hits, Match, PostIndex
from agora.search.query.syntax import And, Labelled, Node, Not
from agora.search.wording import Text, Weights, word_scores

DEPTH: Final = 100
"""Posts per list. On the relevance benchmark the wanted post is in one of two lists of this length for 99.5% of queries (docs/log.md)."""
WORDS_DEPTH: Final = 200
"""Posts of the list by words where there is no other."""

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: `words` with `match` under the filter `where_words`, and what is near to `vector` under `where`."""

    text: str
    words: Sequence[str]
    match: Match
    where_words: Node | None
    where: Node | None
    vector: Vector | None
    by_voice: bool


@dataclass(frozen=True, slots=True)
class Candidates:
    """Posts by id; `by_words` and `by_meaning` name them best first, with the index's score; `seconds` are those that follow behind another
    post of their campaign, by the id of that campaign."""

    posts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_words: Mapping[str, float] = field(default_factory=dict)
    by_meaning: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, frozenset[str]] = field(default_factory=dict)


def find_candidates(index: PostIndex, wanted: Wanted, voices: Voices, *, now: datetime | None = None) -> Candidates:
    """Look for posts by words and by meaning."""
    apart = bool(voices) and wanted.by_voice
    depth = WORDS_DEPTH if wanted.vector is None else DEPTH
    sides: tuple[Node | None, ...] = (Not(Labelled()), Labelled()) if apart else (None,)
    by_words = [
        index.find_text(wanted.words, both(wanted.where_words, side), depth, match=wanted.match, now=now) for side in sides if wanted.words
    ]
    by_meaning = [index.find_near(wanted.vector, both(wanted.where, side), depth, now=now) for side in sides if wanted.vector is not None]
    return _collected(index, by_words, by_meaning, voices if apart else Voices())


def add_by_words(index: PostIndex, found: Candidates, wanted: Wanted, voices: Voices, *, now: datetime | None = None) -> Candidates:
    """The same with posts behind them that hold some of the words."""
    loose = Wanted(wanted.text, wanted.words, "any", wanted.where, wanted.where, None, wanted.by_voice)
    more = find_candidates(index, loose, voices, now=now)
    by_words = {**found.by_words, **{one: score for one, score in more.by_words.items() if one not in found.by_words}}
    campaigns = {**more.seconds, **found.seconds}
    seconds = {name: found.seconds.get(name, frozenset()) | more.seconds.get(name, frozenset()) for name in campaigns}
    return Candidates({**more.posts, **found.posts}, by_words, found.by_meaning, seconds)


def both(left: Node | None, right: Node | None) -> Node | None:
    """A filter that asks for both."""
    nodes = [part for node in (left, right) if node is not None for part in (node.nodes if isinstance(node, And) else (node,))]
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    return And(tuple(nodes))


def _collected(index: PostIndex, by_words: Sequence[Hits], by_meaning: Sequence[Hits], voices: Voices) -> Candidates:
    words, meaning = _merged(by_words), _merged(by_meaning)
    rows = index.get(list(dict.fromkeys([*words, *meaning]))).to_pylist()
    posts = {row["id"]: row for row in rows}
    seconds: dict[str, set[str]] = {}
    lists = [_one_per_campaign((one for one in ranking if one in posts), posts, voices, seconds) for ranking in (words, meaning)]
    shown = {one for ranking in lists for one in ranking}
    return Candidates(
        posts,
        {one: words[one] for one in lists[0]},
        {one: meaning[one] for one in lists[1]},
        {campaign: frozenset(ids - shown) for campaign, ids in seconds.items()},
    )


def _merged(hits: Sequence[Hits]) -> dict[str, float]:
    """One list from several with scores of one kind, best first."""
    scored = [(float(score), one) for some in hits for one, score in zip(some.ids, some.scores, strict=True)]
    return {one: score for score, one in sorted(scored, key=lambda pair: -pair[0])}


def _one_per_campaign(
    ids: Iterable[str], posts: Mapping[str, Mapping[str, Any]], voices: Voices, seconds: dict[str, set[str]]
) -> list[str]:
    kept: list[str] = []
    seen: set[str] = set()
    for one in ids:
        campaign = voices.accounts.get(posts[one]["author"])
        if campaign is None or campaign not in seen:
            kept.append(one)
        else:
            seconds.setdefault(campaign, set()).add(one)
        if campaign is not None:
            seen.add(campaign)
    return kept


@dataclass(frozen=True, slots=True)
class Compared:
    """The candidates of a query beside its words; `words` and `beginnings` are BM25 scores in the order of `ids`."""

    query: Text
    ids: tuple[str, ...]
    texts: tuple[Text, ...]
    weights: Weights
    words: tuple[float, ...]
    beginnings: tuple[float, ...]


def look_closer(index: PostIndex, text: str, found: Candidates) -> Compared:
    """Compare the wording of all candidates with the query's text."""
    query = Text.of(text)
    ids = tuple(dict.fromkeys([*found.by_words, *found.by_meaning]))
    texts = tuple(Text.of(found.posts[one]["text"]) for one in ids)
    weights = Weights.of(query, texts, index.document_frequency, index.num_posts)
    words, beginnings = word_scores(query, texts, weights)
    return Compared(query, ids, texts, weights, tuple(words), tuple(beginnings))
