"""Which posts an answer may rest on. Goes in: hits of a search. Comes out: few posts that are on the question, differ, and speak for
different voices.

Posts outside the asked time or of another author go, near-duplicates fold into the earliest, a coordinated group keeps one post, an
account keeps `per_account`. From what is left, maximal marginal relevance (Carbonell and Goldstein, "The use of MMR", 1998) takes
the best post, then each time the one that is good and unlike those already taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agora.errors import ConfigError
from agora.search.answers.records import Evidence, Found
from agora.search.answers.rewrite import Question, all_keys
from agora.search.answers.speaker import is_by, is_by_or_quotes
from agora.search.answers.tokens import content_keys, covered, jaccard

MAX_CHARS: Final = 4_000
"""A longer post is read up to here."""
_STEM: Final = 5
_ENDINGS: Final = re.compile(r"(?:e|ed|er|ers|es|d|r|rs|s|ing|ings|[a-z](?:ed|er|ers|ing)|y|ies|ied|ly|ion|ions|ment|ments)?")
_REPOST: Final = re.compile(r"^\s*RT @[\w.\-]+:\s*")
_ENDING: Final = re.compile(r"\s*(?:…|\.\.\.)\s*(?:https?://\S*)?$")


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidenceConfig:
    """posts            posts that a writer sees, at most
    per_account      of one account, unless the question asks for that account
    alike            posts whose words overlap this much (Jaccard) say the same
    relevance        weight of being on the question against being unlike the others
    coverage         share of the question's words (names and numbers count double) that a post must have ...
    near_best        ... and this share of what the best post has
    warn_share       a warning when one coordinated group wrote more than this share of what was found"""

    posts: int = 8
    per_account: int = 2
    alike: float = 0.7
    relevance: float = 0.7
    coverage: float = 0.6
    near_best: float = 0.75
    warn_share: float = 0.25

    def __post_init__(self) -> None:
        if not (1 <= self.posts <= 50 and self.per_account >= 1):
            raise ConfigError(f"evidence.posts={self.posts} must be from 1 to 50 and per_account={self.per_account} at least 1")
        for name in ("alike", "relevance", "coverage", "near_best", "warn_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"evidence.{name}={getattr(self, name)} must be from 0 to 1")


DEFAULTS: Final = EvidenceConfig()


def select(hits: Sequence[Found], question: Question, config: EvidenceConfig = DEFAULTS) -> tuple[Evidence, ...]:
    """The posts to write from, best first, numbered from 1. Empty when none is on the question."""
    fitting = [one for one in map(_evidence, hits) if _fits(one, question)]
    shares = [on_question(one.text, question) for one in fitting]
    enough = max(config.coverage, config.near_best * max(shares, default=0.0))
    fitting = [one for one, share in zip(fitting, shares, strict=True) if share >= enough]
    if question.speaker:  # who said it comes before those who tell of it
        fitting.sort(key=lambda one: not is_by(one.author, question.speaker))
    folded = _one_voice(_fold(fitting, config.alike), config, per_account=config.posts if question.author else config.per_account)
    chosen = _marginal(folded, question, config)
    return tuple(replace(one, number=number) for number, one in enumerate(chosen, start=1))


def on_question(text: str, question: Question) -> float:
    """Share of the question's words that a text has, names and numbers counting double; 0 when it lacks one of these or too many
    of the others."""
    present = all_keys(text)
    num_wanted = sum(is_held(key, present) for key in question.wanted)
    if covered(question.required, present) < 1 or num_wanted < _needed(len(question.wanted)):
        return 0.0
    total = 2 * len(question.required) + len(question.wanted)
    return (2 * len(question.required) + num_wanted) / total if total else 1.0


def _needed(num_wanted: int) -> int:
    """How many of the plain words a post must have: one and two all, of more all but a third."""
    return num_wanted - num_wanted // 3


def is_held(key: str, present: frozenset[str]) -> bool:
    """Whether a plain word is there, be it with another ending: "delay" in "delayed". Names and numbers are compared whole."""
    if key in present or len(key) < _STEM:
        return key in present
    return any(other[: _STEM - 1] == key[: _STEM - 1] and _same_stem(key, other) for other in present)


def _same_stem(one: str, other: str) -> bool:
    pairs = zip(one, other, strict=False)
    shared = next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(one), len(other)))
    return shared >= _STEM - 1 and all(_ENDINGS.fullmatch(word[shared:]) for word in (one, other))


def flooded(
    hits: Sequence[Found], labelled: Sequence[Found], question: Question, config: EvidenceConfig = DEFAULTS
) -> list[tuple[str, float]]:
    """Coordinated voices that wrote more than `warn_share` of the posts on the question, with their shares.

    A search shows a group once, whatever it posts; `labelled` are all its posts, as `label:coordinated` finds them.
    """
    found = {hit.post["id"]: hit for hit in (*hits, *labelled)}
    counts: Counter[str] = Counter()
    for hit in found.values():
        if on_question(hit.post["text"][:MAX_CHARS], question) >= config.coverage:
            counts[hit.voice] += 1 + hit.alike
    coordinated = {hit.voice for hit in found.values() if is_coordinated(hit.voice, hit.post["author"], hit.label)}
    total = sum(counts.values())
    return [(voice, count / total) for voice, count in counts.most_common() if voice in coordinated and count / total > config.warn_share]


def is_coordinated(voice: str, author: str, label: str | None) -> bool:
    """Whether a post is labelled, or its voice is not its author's own (`account:NAME`)."""
    return label is not None or voice not in (author, f"account:{author}")


def own_words(text: str) -> str:
    """The text without the prefix of an old repost."""
    return _REPOST.sub("", text)


def _evidence(hit: Found) -> Evidence:
    post = hit.post
    return Evidence(
        number=0, id=post["id"], author=post["author"], created_at=post["created_at"], text=post["text"][:MAX_CHARS], kind=post["kind"],
        ref_id=post.get("ref_id"), ref_author=post.get("ref_author"), voice=hit.voice, label=hit.label, alike=hit.alike,
        score=float(hit.score),
    )  # fmt: skip


def _fits(one: Evidence, question: Question) -> bool:
    """The time and author that were asked for, whatever the search made of them."""
    if not question.span.is_year and not question.span.holds(one.created_at):
        return False
    if question.speaker and not is_by_or_quotes(one.author, one.text, question.speaker):
        return False
    return question.author is None or one.author.casefold().lstrip("@") == question.author.casefold()


def _fold(candidates: list[Evidence], alike: float) -> list[Evidence]:
    """One of each set of near-duplicates: the earliest, at the rank of the best, counting the others."""
    groups: list[tuple[frozenset[str], list[Evidence]]] = []
    for one in candidates:
        keys = content_keys(_ENDING.sub("", own_words(one.text)))
        group = next((members for known, members in groups if jaccard(keys, known) >= alike or _is_cut(keys, known)), None)
        if group is None:
            groups.append((keys, [one]))
        else:
            group.append(one)
    folded = []
    for _, members in groups:
        first = min(members, key=lambda one: (one.kind == "repost", one.created_at, one.id))
        label = first.label or next((one.label for one in members if one.label and one.voice == first.voice), None)
        folded.append(replace(first, score=members[0].score, alike=len(members) - 1 + sum(one.alike for one in members), label=label))
    return folded


def _is_cut(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether one text is the other, cut short: nearly all its words, and enough of them to tell."""
    small = min(len(one), len(other))
    return small >= 6 and len(one & other) >= small - 1


def _one_voice(candidates: list[Evidence], config: EvidenceConfig, *, per_account: int) -> list[Evidence]:
    seen: Counter[str] = Counter()
    kept = []
    for one in candidates:
        limit = 1 if is_coordinated(one.voice, one.author, one.label) else per_account
        if seen[one.voice] < limit:
            kept.append(one)
        seen[one.voice] += 1
    return kept


def _marginal(candidates: list[Evidence], question: Question, config: EvidenceConfig) -> list[Evidence]:
    """Greedy maximal marginal relevance over rank and coverage of the question."""
    keys = {one.id: content_keys(one.text) - set(question.keys) for one in candidates}
    value = {
        one.id: 0.5 * on_question(one.text, question) + 0.5 / (1 + rank / 5) - (0.2 if one.label else 0.0)
        for rank, one in enumerate(candidates)
    }  # fmt: skip
    chosen: list[Evidence] = []
    rest = list(candidates)
    while rest and len(chosen) < config.posts:

        def gain(one: Evidence) -> float:
            nearest = max((jaccard(keys[one.id], keys[other.id]) for other in chosen), default=0.0)
            return config.relevance * value[one.id] - (1 - config.relevance) * nearest

        best = max(rest, key=gain)
        chosen.append(best)
        rest.remove(best)
    return chosen
