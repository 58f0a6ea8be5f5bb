"""What may move a post up a little, and which posts are one. Goes in: posts with what each list gave them. Comes out: scores in parts,
groups of near-duplicates, one post per campaign.

Boosts are bounded: by `RankingConfig.recency` and `.authority` of what a post has, never more; by default both together are less than what
parts the first from the second place, so a post that every list names first stays first. What is fresh depends on what is asked: a
half-life per type of query. Near-duplicates are collapsed to the earliest; the earliest that speaks for itself goes before a labelled one,
so that who floods a sentence does not take it from the people who said it.

Not covered: near-duplicates among posts that no list named (`alike` counts posts that were found).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.errors import ConfigError
from agora.integrity.voice import Voices, count_voices
from agora.search.query.syntax import Cashtag, Conversation, From, Hashtag, Mention, Node, Phrase, To, Url, WithinTime, walk
from agora.text.minhash import shingles
from agora.text.normalise import comparison_key

QueryType = Literal["live", "topic", "account", "general", "passage"]

LIVE_WORDS: Final = frozenset(
    ("now", "today", "tonight", "live", "breaking", "latest", "currently", "jetzt", "heute", "maintenant", "ahora", "oggi", "agora", "hoje")
)
"""Words that ask for what is happening."""
PASSAGE_WORDS: Final = 12
"""From so many words on, a text is a passage whose like is looked for, whenever that was said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RankingConfig:
    """How far boosts go, and when two posts are one.

    recency              largest share of its score that a post gains by being fresh
    authority            ... by its author being referred to by many voices
    live_s               half-life of freshness, in seconds, where a query asks for what happens now
    topic_s              ... for a hashtag or cashtag
    account_s            ... for what somebody wrote or was told
    general_s            ... for any other query
    passage_s            ... for a phrase, a link, a conversation or a long text
    alike                Jaccard index of pairs of neighbouring words from which two posts are near-duplicates
    """

    recency: float = 0.06
    authority: float = 0.03
    live_s: float = 6 * 3600.0
    topic_s: float = 3 * 86_400.0
    account_s: float = 14 * 86_400.0
    general_s: float = 30 * 86_400.0
    passage_s: float = 365 * 86_400.0
    alike: float = 0.8

    def __post_init__(self) -> None:
        for name in ("recency", "authority"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise ConfigError(f"search.{name}={getattr(self, name)} must lie between 0 and 0.5: a boost only breaks near-ties")
        for name in ("live_s", "topic_s", "account_s", "general_s", "passage_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"search.{name}={getattr(self, name)} must be above 0 seconds")
        if not 0 < self.alike <= 1:
            raise ConfigError(f"search.alike={self.alike} must lie above 0 and at most at 1; example: search.alike=0.8")


def query_type(root: Node | None, words: Sequence[str]) -> QueryType:
    """What kind of thing is asked for: it decides how fast posts get old."""
    nodes = list(walk(root)) if root is not None else []
    if any(isinstance(node, WithinTime) for node in nodes) or LIVE_WORDS & set(words):
        return "live"
    if any(isinstance(node, (Phrase, Url, Conversation)) for node in nodes) or len(words) >= PASSAGE_WORDS:
        return "passage"
    if any(isinstance(node, (From, To, Mention)) for node in nodes):
        return "account"
    return "topic" if any(isinstance(node, (Hashtag, Cashtag)) for node in nodes) else "general"


def freshness(created_at: datetime, now: datetime, half_life_s: float) -> float:
    """1 for what is posted now, 1/2 after a half-life."""
    return math.pow(0.5, max((now - created_at).total_seconds(), 0.0) / half_life_s)


def boosted(
    parts: Mapping[str, float],
    base: float,
    post: Mapping[str, Any],
    authority: float,
    kind: QueryType,
    now: datetime,
    config: RankingConfig,
) -> dict[str, float]:
    """The parts of a post's score with its boosts, which are shares of `base`. The score is their sum."""
    fresh = freshness(post["created_at"], now, getattr(config, f"{kind}_s"))
    return {**parts, "recency": base * config.recency * fresh, "authority": base * config.authority * min(max(authority, 0.0), 1.0)}


@dataclass(frozen=True, slots=True)
class Group:
    """Near-duplicates: the id that is shown, the others, and how many voices these others are beside it."""

    shown: str
    others: tuple[str, ...]
    alike: int


def near_duplicates(
    ids: Sequence[str], posts: Mapping[str, Mapping[str, Any]], voices: Voices, *, at_least: float, behind: Sequence[str] = ()
) -> list[Group]:
    """`ids`, best first, in groups; a group stands where its best member stood. Posts without words are like nothing. What is like a post
    of `behind` (shown already) is left out."""
    rows = [*behind, *ids]
    keys = comparison_key(pa.array([posts[one]["text"] for one in rows], pa.large_string()))
    has_words = np.asarray(pc.binary_length(keys)) > 0
    similar = (_jaccard(keys) >= at_least) & has_words[:, None] & has_words
    taken = {*range(len(behind)), *np.flatnonzero(similar[: len(behind)].any(axis=0)).tolist()}
    groups = []
    for place in range(len(behind), len(rows)):
        if place not in taken:
            members = [other for other in np.flatnonzero(similar[place]).tolist() if other not in taken and other != place]
            taken.update([place, *members])
            groups.append(_group([rows[one] for one in (place, *members)], posts, voices))
    return groups


def _group(ids: Sequence[str], posts: Mapping[str, Mapping[str, Any]], voices: Voices) -> Group:
    shown = min(ids, key=lambda one: (posts[one]["author"] in voices.accounts, posts[one]["created_at"]))
    others = tuple(one for one in ids if one != shown)
    return Group(shown, others, count_voices((posts[one]["author"] for one in ids), voices) - 1)


def _jaccard(keys: pa.LargeStringArray) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Jaccard index of every two rows over pairs of neighbouring words."""
    sets = shingles(keys)
    sizes = np.diff(sets.offsets)
    row = np.repeat(np.arange(len(sizes)), sizes)
    _, column, counts = np.unique(sets.hashes, return_inverse=True, return_counts=True)
    several = counts[column] > 1  # what one row alone has is shared with nobody
    number = np.cumsum(counts > 1) - 1
    holds = np.zeros((len(sizes), int(number[-1]) + 1 if len(number) else 0), np.float32)
    holds[row[several], number[column[several]]] = 1
    shared = (holds @ holds.T).astype(np.float64)
    union = sizes[:, None] + sizes[None, :] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def one_voice(
    groups: Sequence[Group], posts: Mapping[str, Mapping[str, Any]], voices: Voices, *, behind: Sequence[str] = ()
) -> list[Group]:
    """At most one group per campaign, its best, and none of those of `behind`. Who has no label keeps all."""
    seen = {voices.accounts.get(posts[one]["author"]) for one in behind} - {None}
    kept = []
    for group in groups:
        campaign = voices.accounts.get(posts[group.shown]["author"])
        if campaign is None or campaign not in seen:
            kept.append(group)
        if campaign is not None:
            seen.add(campaign)
    return kept
