"""A page of hits, filled. Goes in: candidates, portion by portion. Comes out: groups of near-duplicates in order, each shown by one post.

A flood that repeats itself may be longer than any list of candidates. So while hits are missing, more candidates are fetched: first
without the sentences that were seen to repeat, then deeper. What was shown stays as it is, so ten hits are the first ten of a hundred, and
"+37 alike" is the same for both.

Not covered: floods without a label of more than `_DEEPEST` times the usual number of posts that are near-duplicates without a row of
`_LEAST_ROW` words in common.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any, Final

from agora.integrity.voice import Voices
from agora.search.candidates import Candidates, any_of
from agora.search.query.syntax import Node, Phrase
from agora.search.ranking import Group, near_duplicates, one_voice
from agora.text.words import plain_words, words

PORTION: Final = 400
"""Candidates that are ranked together; the usual lists are shorter."""
COMPARED: Final = 60
"""Candidates of which each is compared with each, best first, and further ones only while hits are missing: it takes most of the time of a
search. A fixed number, so that "+37 alike" does not depend on how many hits are asked for."""
_DEEPEST: Final = 16
_WITHOUT_REPEATS: Final = (1, 2, 4)
_REPEATED: Final = 5
"""So many near-duplicates make a sentence that is left out when more is fetched."""
_LEAST_ROW: Final = 4
_LONGEST_ROW: Final = 16
_ROW_FROM: Final = 400
"""Words of a post that a row is looked for in: the time grows with their square where a post repeats one word."""
_MOST_ROWS: Final = 20

Fetch = Callable[[int, Node | None], Candidates]
Scores = Mapping[str, Mapping[str, float]]


@dataclass(slots=True)
class Page:
    """What is shown so far. `found_in`: place before boosts, and the candidates, of every post; `loose`: posts that need not hold all;
    `counted_in_part`: posts shown of which there may be more like them."""

    size: int
    voices: Voices
    at_least: float
    groups: list[Group] = field(default_factory=list)
    posts: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    scores: dict[str, Mapping[str, float]] = field(default_factory=dict)
    found_in: dict[str, tuple[int, Candidates]] = field(default_factory=dict)
    loose: set[str] = field(default_factory=set)
    counted_in_part: set[str] = field(default_factory=set)

    @property
    def is_full(self) -> bool:
        """Whether no more hits are asked for."""
        return len(self.groups) >= self.size

    def add(self, found: Candidates, order: Sequence[str], scores: Scores, *, is_loose: bool) -> None:
        """Put further candidates behind those that are here. `order`: before boosts."""
        self.posts.update(found.posts)
        self.found_in.update({one: (place, found) for place, one in enumerate(order, start=1)})
        if is_loose:
            self.loose.update(order)
        self.scores.update(self._behind(scores))
        ids = sorted(scores, key=lambda one: -sum(scores[one].values()))
        for start in range(0, len(ids), COMPARED):
            if not self.is_full:
                self._group(ids[start : start + COMPARED], is_part=found.is_cut or start + COMPARED < len(ids))

    def _group(self, ids: Sequence[str], *, is_part: bool) -> None:
        behind = [group.shown for group in self.groups]
        groups = near_duplicates(ids, self.posts, self.voices, at_least=self.at_least, behind=behind)
        kept = one_voice(groups, self.posts, self.voices, behind=behind)
        self.groups += kept
        self.counted_in_part.update(group.shown for group in kept if group.others and is_part)

    def fresh(self, found: Candidates) -> Iterator[Candidates]:
        """What was not seen yet, in portions."""
        ids = [one for one in found.ids() if one not in self.posts]
        for start in range(0, len(ids), PORTION):
            yield found.only(ids[start : start + PORTION])

    def repeated(self) -> Node | None:
        """The sentences that repeat, as a filter; None where nothing does."""
        rows = [row for group in self.groups if len(group.others) >= _REPEATED and (row := self._row(group))]
        return any_of([Phrase(" ".join(row)) for row in rows[-_MOST_ROWS:]]) if rows else None

    def _row(self, group: Group) -> list[str]:
        """The longest row of words that the group's first and last post have in common; of long posts the beginnings are looked at."""
        left, right = (plain_words(self.posts[one]["text"])[:_ROW_FROM] for one in (group.shown, group.others[-1]))
        found = SequenceMatcher(None, left, right, autojunk=False).find_longest_match()
        best = left[found.a : found.a + min(found.size, _LONGEST_ROW)]
        return best if len(best) >= _LEAST_ROW and words(" ".join(best)) else []

    def _behind(self, scores: Scores) -> Scores:
        """Scores of different portions are no common scale: what came later is lowered below what is shown, in a part of its own."""
        if not self.groups or not scores:
            return scores
        lowest = min(sum(self.scores[one].values()) for group in self.groups for one in (group.shown, *group.others))
        gap = lowest - max(sum(parts.values()) for parts in scores.values())
        return scores if gap >= 0 else {one: {**parts, "behind": gap} for one, parts in scores.items()}


def fetched(fetch: Fetch, page: Page) -> Iterator[Candidates]:
    """Candidates, and more while they are asked for: without what repeats, then deeper."""
    found = fetch(1, None)
    yield from page.fresh(found)
    for times in _WITHOUT_REPEATS if found.is_cut else ():
        repeated = page.repeated()
        if repeated is None:
            break
        others = fetch(times, repeated)
        yield from page.fresh(others)
        if not others.is_cut:
            break
    if found.is_cut:
        yield from page.fresh(fetch(_DEEPEST, None))


__all__ = ["PORTION", "Page", "fetched"]
