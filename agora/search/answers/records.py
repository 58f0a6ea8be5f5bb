"""What an answer is made of. Goes in: hits of a search. Comes out: sentences, each with the posts that it rests on.

A writer makes drafts; only what `support.py` lets through becomes a `Sentence`. Nothing here is trusted because of who made it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

_SPEAKER_CHARS: Final = 60


class Found(Protocol):
    """One hit of a search, as `agora/search/find.py` gives it."""

    @property
    def post(self) -> Mapping[str, Any]:
        """The row of the post (POST_SCHEMA)."""

    @property
    def score(self) -> float:
        """Higher is better; comparable within one search only."""

    @property
    def alike(self) -> int:
        """How many near-duplicates this hit stands for besides itself."""

    @property
    def voice(self) -> str:
        """Who speaks: equal for all accounts that act as one."""

    @property
    def label(self) -> str | None:
        """Why the post or its account is labelled, or None."""


class FoundMany(Protocol):
    """What a search gives back, as far as it is read here."""

    @property
    def hits(self) -> Sequence[Found]:
        """Best first."""


class Finder(Protocol):
    """What answers are searched with: `agora/search/find.py` Searcher, or anything alike."""

    def find(self, text: str, *, limit: int = 10, now: datetime | None = None, match: Literal["all", "any", "auto"] = "auto") -> FoundMany:
        """The posts that `text` (a query, see agora/search/query) finds. `match`: whether one of its plain words is enough."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A post that an answer may rest on. `number` names it to a writer; `alike`: near-duplicates that it stands for."""

    number: int
    id: str
    author: str
    created_at: datetime
    text: str
    kind: str
    ref_id: str | None
    ref_author: str | None
    voice: str
    label: str | None
    alike: int
    score: float

    @property
    def speaker(self) -> str:
        """The account's name on one line, without anything that could pass for a quotation."""
        return re.sub(r"[^\w.\-:@/+~%]+", " ", self.author).strip()[:_SPEAKER_CHARS].strip() or "somebody"

    @property
    def day(self) -> str:
        """When it was written, as sentences tell it."""
        return self.created_at.strftime("%Y-%m-%d")


@dataclass(frozen=True, slots=True)
class Quote:
    """Words of a post, character by character: `text` is `post.text[start : start + len(text)]`."""

    text: str
    post_id: str
    start: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What a writer proposes. `quotes` are those that it made itself; those that stand in quotation marks in `text` are found anyway."""

    text: str
    post_ids: tuple[str, ...]
    quotes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sentence:
    """One checked sentence. `labelled` are those of its posts that are labelled as coordinated."""

    text: str
    post_ids: tuple[str, ...]
    quotes: tuple[Quote, ...] = ()
    labelled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A draft that was not let through, and why."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`abstained` says why there is no answer and what would support one; then there are no sentences."""

    question: str
    query: str
    writer: str
    sentences: tuple[Sentence, ...]
    evidence: tuple[Evidence, ...]
    abstained: str | None = None
    warnings: tuple[str, ...] = ()
    refused: tuple[Refused, ...] = ()
    confidence: float = 0.0

    @property
    def cited(self) -> tuple[Evidence, ...]:
        """The evidence that sentences rest on, in the order in which they name it."""
        order = list(dict.fromkeys(post_id for sentence in self.sentences for post_id in sentence.post_ids))
        by_id = {one.id: one for one in self.evidence}
        return tuple(by_id[post_id] for post_id in order)
