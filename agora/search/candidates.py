"""Posts that may answer a query, before they are ranked. Goes in: an index, words, a vector, filters. Comes out: two lists (by words, by
meaning) in which every campaign has one post at most, with what is compared of each post.

However many posts a campaign has, it must not fill the lists and push others out of sight, another campaign no more than anybody. So where
labels hold, posts without and with a label are asked for apart, each list gets the best post per campaign only, and ranks are counted after
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.voice import Voices
from agora.search.index.interface import Hits, Match, PostIndex
from agora.search.query.matching import MatchContext, matches
from agora.search.query.syntax import And, From, Labelled, Node, Not, Or, is_account
from agora.search.wording import Text, Weights, word_scores

DEPTH: Final = 100
"""Posts per list. On the relevance benchmark the wanted post is in one of two lists of this length for 99.5% of queries (docs/log.md)."""
WORDS_DEPTH: Final = 200
"""Posts of the list by words where there is no other. Neither depends on how many hits are asked for, so that "+37 alike" does not."""
_MOST_CAMPAIGN_PAGES: Final = 16
"""How often labelled posts are asked for anew, without the campaigns that fill a list."""

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for: `words` with `match` under the filter `where_words`; what is near to `vector` under `where` and holds `must`."""

    text: str
    words: Sequence[str]
    match: Match
    where_words: Node | None
    where: Node | None
    vector: Vector | None
    by_voice: bool
    must: Node | None = None


@dataclass(frozen=True, slots=True)
class Candidates:
    """`by_words` and `by_meaning` name posts best first, with the index's score, `by_time` those that were not looked for by what they
    say. `posts` also holds those that follow behind another post of their campaign and are in no list. `is_cut`: there may be more."""

    posts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_words: Mapping[str, float] = field(default_factory=dict)
    by_meaning: Mapping[str, float] = field(default_factory=dict)
    by_time: Mapping[str, float] = field(default_factory=dict)
    is_cut: bool = False

    def ids(self) -> list[str]:
        """All that are in a list, the first of each list first."""
        places: dict[str, int] = {}
        for ranking in (self.by_words, self.by_meaning, self.by_time):
            for place, one in enumerate(ranking):
                places[one] = min(place, places.get(one, place))
        return sorted(places, key=lambda one: places[one])

    def only(self, ids: Iterable[str]) -> Candidates:
        """The same lists with these posts alone."""
        kept = frozenset(ids)
        words, meaning, time = (
            {one: score for one, score in ranking.items() if one in kept} for ranking in (self.by_words, self.by_meaning, self.by_time)
        )
        return Candidates({one: post for one, post in self.posts.items() if one in kept}, words, meaning, time, self.is_cut)


def find_candidates(
    index: PostIndex, wanted: Wanted, voices: Voices, *, times: int = 1, without: Node | None = None, now: datetime | None = None
) -> Candidates:
    """Look for posts by words and by meaning, `times` as deep as usual, leaving out what matches `without`."""
    depth = times * (WORDS_DEPTH if wanted.vector is None else DEPTH)
    others = Not(without) if without is not None else None
    speakers = voices if wanted.by_voice else Voices()
    by_words: list[Hits] = []
    by_meaning: list[Hits] = []
    vector = wanted.vector
    if wanted.words:
        by_words = _apart(
            index, lambda where: index.find_text(wanted.words, where, depth, match=wanted.match, now=now),
            both(wanted.where_words, others), depth, speakers,
        )  # fmt: skip
    if vector is not None:
        by_meaning = _apart(
            index, lambda where: index.find_near(vector, where, depth, now=now), both(wanted.where, others), depth, speakers
        )
    is_cut = any(len(hits.ids) == depth for hits in (*by_words, *(by_meaning if wanted.must is None else ())))
    words, meaning = _merged(by_words), _merged(by_meaning)
    posts = _read(index, [*words, *meaning])
    if wanted.must is not None:
        at = MatchContext()
        meaning = {one: score for one, score in meaning.items() if one in words or (one in posts and matches(wanted.must, posts[one], at))}
        posts = {one: post for one, post in posts.items() if one in words or one in meaning}
    lists = [one_per_campaign((one for one in ranking if one in posts), posts, speakers) for ranking in (words, meaning)]
    return Candidates(posts, {one: words[one] for one in lists[0]}, {one: meaning[one] for one in lists[1]}, is_cut=is_cut)


def find_latest(
    index: PostIndex, root: Node | None, voices: Voices, depth: int, *, without: Node | None = None, now: datetime | None = None
) -> Candidates:
    """The newest posts that match, a campaign by its newest alone; a flood hides neither others nor another flood."""
    where = both(root, Not(without) if without is not None else None)
    pages = _apart(index, lambda node: index.latest(node, depth, now=now), where, depth, voices)
    posts = _read(index, [one for page in pages for one in page.ids])
    order = list(posts) if len(pages) == 1 else sorted(posts, key=lambda one: posts[one]["created_at"], reverse=True)
    ids = one_per_campaign(order, posts, voices)
    is_cut = any(len(page.ids) == depth for page in pages)
    return Candidates(posts, by_time={one: posts[one]["created_at"].timestamp() for one in ids}, is_cut=is_cut)


def _apart(index: PostIndex, ask: Callable[[Node | None], Hits], where: Node | None, depth: int, voices: Voices) -> list[Hits]:
    """Posts without and with a label, asked for apart where labels hold. Where a campaign fills the list, it is left out and the others
    are asked for, until every campaign that matches was heard."""
    if not voices:
        return [ask(where)]
    pages = [ask(both(where, Not(Labelled()))), ask(both(where, Labelled()))]
    heard: set[str] = set()
    for _ in range(_MOST_CAMPAIGN_PAGES):
        if len(pages[-1].ids) < depth:
            break
        fresh = {voices.accounts.get(author) for author in index.get(pages[-1].ids)["author"].to_pylist()} - heard - {None}
        if not fresh:
            break
        heard |= {campaign for campaign in fresh if campaign is not None}
        accounts = [account for account, campaign in voices.accounts.items() if campaign in heard and is_account(account)]
        if not accounts:  # no filter can name any of them
            break
        pages.append(ask(both(both(where, Labelled()), Not(any_of([From(account) for account in accounts])))))
    return pages


def any_of(nodes: Sequence[Node]) -> Node:
    """A filter that asks for one of these."""
    return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))


def both(left: Node | None, right: Node | None) -> Node | None:
    """A filter that asks for both."""
    nodes = [part for node in (left, right) if node is not None for part in (node.nodes if isinstance(node, And) else (node,))]
    if len(nodes) < 2:
        return nodes[0] if nodes else None
    return And(tuple(nodes))


def _read(index: PostIndex, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {row["id"]: row for row in index.get(list(dict.fromkeys(ids))).to_pylist()}


def _merged(hits: Sequence[Hits]) -> dict[str, float]:
    """One list from several with scores of one kind, best first."""
    scored = [(float(score), one) for some in hits for one, score in zip(some.ids, some.scores, strict=True)]
    return {one: score for score, one in sorted(scored, key=lambda pair: -pair[0])}


def one_per_campaign(ids: Iterable[str], posts: Mapping[str, Mapping[str, Any]], voices: Voices) -> list[str]:
    """The ids but for those that follow behind another post of their campaign."""
    kept: list[str] = []
    seen: set[str] = set()
    for one in ids:
        campaign = voices.accounts.get(posts[one]["author"])
        if campaign is None or campaign not in seen:
            kept.append(one)
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
