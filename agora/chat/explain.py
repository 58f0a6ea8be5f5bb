"""A post explained: what it answers, what was made of it, who amplified it, who else says the same, and how it is labelled. Goes in: the
id of a post. Comes out: a `PostExplanation`, every count in accounts and in voices.

Whoever acts as one is one voice, however many accounts pass a post on. Nothing here says that a post is true, or why it was written.

Not covered: amplification by likes (nobody's likes are stored), reposts that the sources did not bring, and near-duplicates beyond those
that a search finds among its hits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from agora.chat.compose import Composition, citation
from agora.chat.events import ChatEvent, Citation, Done, Reply, Said, Step
from agora.chat.shown import one_line, quoted, safe_text
from agora.chat.square import Row, Square, evidence_of
from agora.errors import QuerySyntaxError, UsageError
from agora.integrity.voice import Voices, count_voices
from agora.posts.schema import QUOTE, REPLY, REPOST
from agora.search.answers.evidence import own_words
from agora.search.answers.records import Finder
from agora.search.answers.tokens import content_keys, jaccard

MAX_ABOVE: Final = 20
MAX_SHOWN: Final = 3
ALIKE: Final = 0.7
_LOOKED_AT: Final = 100
_QUERY_WORDS: Final = 12


@dataclass(frozen=True, slots=True)
class Group:
    """Posts of one kind: how many, of how many accounts and voices. `campaigns`: accounts of each that acts as one, largest first.
    `first`: the earliest posts of different voices. `first_at`, `last_at`: ISO times, empty where there is none."""

    posts: int
    accounts: int
    voices: int
    campaigns: tuple[tuple[str, int], ...] = ()
    first: tuple[Citation, ...] = ()
    first_at: str = ""
    last_at: str = ""


@dataclass(frozen=True, slots=True)
class PostExplanation:
    """`above`: the posts it answers, the first of the thread first. `is_cut`: the thread goes on above, but that post is not here.
    `label`, `evidence`: why it or its account is labelled, and where that is shown."""

    post: Citation
    kind: str
    above: tuple[Citation, ...]
    is_cut: bool
    replies: Group
    quotes: Group
    reposts: Group
    alike: Group
    label: str | None
    evidence: str | None
    voice: str

    def as_json(self) -> dict[str, Any]:
        """Plain values; texts are as written."""
        return asdict(self)


def explain_post(post_id: str, square: Square, searcher: Finder, *, now: datetime) -> PostExplanation:
    """Everything that is known about a post. Raises UsageError when there is no such post."""
    found = square.posts([post_id])
    if not found:
        raise UsageError(f"there is no post {post_id[:80]!r} here; it may have been deleted, or the id is another one")
    post, speakers = found[0], square.voices()
    referring = square.referring(post_id)
    above, is_cut = _above(post, square)
    label = square.reason(post_id, post["author"])

    def group(rows: Iterable[Row]) -> Group:
        return _group(list(rows), speakers, square)

    return PostExplanation(
        post=citation(evidence_of(post, square), number=1),
        kind=post["kind"],
        above=tuple(citation(evidence_of(one, square)) for one in above),
        is_cut=is_cut,
        replies=group(one for one in referring if one["kind"] == REPLY),
        quotes=group(one for one in referring if one["kind"] == QUOTE),
        reposts=group(one for one in referring if one["kind"] == REPOST),
        alike=group(_alike(post, searcher, now)),
        label=label[0] if label else None,
        evidence=label[1] if label else None,
        voice=":".join(speakers.of(post["author"])),
    )


def explained(explanation: PostExplanation, name: str, question: str) -> Iterator[ChatEvent]:
    """The explanation as an answer. The last event is Done."""
    made = Composition()
    yield Step("read", f"Reading {one_line(explanation.post.post_id)} and what refers to it")
    for said, cards in _sentences(explanation):
        if not (line := safe_text(said)):  # as one: a bracket that one quotation opens and another closes would hold our numbers
            continue
        for card in cards:
            if card.post_id not in made.numbers:
                yield made.card(card)
        cites = "".join(f" [{made.numbers[card.post_id]}]" for card in cards)
        labelled = tuple(card.post_id for card in cards if card.label is not None)
        made.sentences.append(Said(line, tuple(card.post_id for card in cards), labelled))
        yield made.say(f"{line}{cites}\n")
    yield Done(
        Reply(
            kind="explain", question=question, text=made.text, writer="rules", persona=name, sentences=tuple(made.sentences),
            citations=tuple(made.citations), is_grounded=True, confidence=1.0,
        )
    )  # fmt: skip


def _sentences(one: PostExplanation) -> Iterator[tuple[str, Sequence[Citation]]]:
    """What is to be said, each with the posts it names."""
    yield f"{_told(one.post)}", [one.post]
    if one.label:
        yield f"Label: {quoted(one.label, 500)} Evidence: {quoted(one.evidence or '')}", [one.post]
    if one.above:
        yield f"It answers {_told(one.above[-1])}", [one.above[-1]]
        if len(one.above) > 1:
            yield f"The thread began {len(one.above)} posts above: {_told(one.above[0])}", [one.above[0]]
    if one.is_cut:
        yield "What stands above that is not here: it was deleted, or never came in.", []
    yield _counted(one.reposts, "passed it on", "Nobody passed it on, as far as is known here."), one.reposts.first
    yield _counted(one.quotes, "quoted it", ""), one.quotes.first
    yield _counted(one.replies, "answered it", "There are no answers to it here."), one.replies.first
    yield _counted(one.alike, "posted nearly the same words", ""), one.alike.first


def _told(card: Citation) -> str:
    return f"{card.speaker} wrote on {card.created_at[:10]}: {quoted(card.text, 300)}"


def _counted(group: Group, what: str, nothing: str) -> str:
    if not group.posts:
        return nothing
    accounts = f"{group.accounts:,} account{'s' if group.accounts != 1 else ''}"
    voices = f", which count as {group.voices:,} voice{'s' if group.voices != 1 else ''}" if group.voices != group.accounts else ""
    times = f", from {group.first_at[:16].replace('T', ' ')} to {group.last_at[:16].replace('T', ' ')}" if group.posts > 1 else ""
    parts = [f"{accounts} {what}{voices}{times}."]
    if group.campaigns:
        name, count = group.campaigns[0]
        others = f", and {len(group.campaigns) - 1} more such groups" if len(group.campaigns) > 1 else ""
        parts.append(
            f"{count:,} of them act together as campaign {safe_text(name)}{others}: that is amplification by a group, not by the public."
        )
    return " ".join(parts)


def _above(post: Row, square: Square) -> tuple[list[Row], bool]:
    """The posts it answers up to the first, oldest first, and whether one is missing."""
    found: list[Row] = []
    seen = {post["id"]}
    at = post
    while at["kind"] in (REPLY, QUOTE, REPOST) and at["ref_id"] and at["ref_id"] not in seen and len(found) < MAX_ABOVE:
        rows = square.posts([at["ref_id"]])
        if not rows:
            return list(reversed(found)), True
        at = rows[0]
        seen.add(at["id"])
        found.append(at)
    return list(reversed(found)), False


def _alike(post: Row, searcher: Finder, now: datetime) -> list[Row]:
    """Posts of others with nearly the same words, among those a search for its words finds. A post of other words is none, whatever it
    links to."""
    own = content_keys(own_words(post["text"]))
    words = [one for one in dict.fromkeys(own_words(post["text"]).split()) if one.isalnum() and content_keys(one)]
    query = " ".join(word.lower() if word in ("AND", "OR", "NOT") else word for word in words[:_QUERY_WORDS])
    if len(own) < MAX_SHOWN or not query:
        return []
    rows: dict[str, Row] = {}
    try:
        for more in ("", " label:coordinated"):
            for hit in searcher.find(query + more, limit=_LOOKED_AT, now=now, match="any").hits:
                rows[hit.post["id"]] = hit.post
    except QuerySyntaxError:
        return []
    return [
        row for key, row in rows.items()
        if key != post["id"] and row["kind"] != REPOST and row["ref_id"] != post["id"]
        and jaccard(own, content_keys(own_words(row["text"]))) >= ALIKE
    ]  # fmt: skip


def _group(rows: list[Row], speakers: Voices, square: Square) -> Group:
    rows = sorted(rows, key=lambda row: (row["created_at"], row["id"]))
    if not rows:
        return Group(0, 0, 0)
    accounts = list(dict.fromkeys(row["author"] for row in rows))
    campaigns = Counter(name for kind, name in map(speakers.of, accounts) if kind == "campaign")
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault(speakers.of(row["author"]), row)
    shown = tuple(citation(evidence_of(row, square)) for row in list(first.values())[:MAX_SHOWN])
    return Group(
        len(rows), len(accounts), count_voices(accounts, speakers), tuple(campaigns.most_common()), shown,
        rows[0]["created_at"].isoformat(), rows[-1]["created_at"].isoformat(),
    )  # fmt: skip


__all__ = ["Group", "PostExplanation", "explain_post", "explained"]
