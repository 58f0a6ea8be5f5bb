"""A question answered from posts. Goes in: the question, something that finds posts, and a writer. Comes out: an `Answer` each of whose
sentences cites the posts it rests on.

    answer = ask("What do people say about the debate?", searcher, now=datetime.now(timezone.utc))

rewrite -> retrieve -> select evidence -> write -> check. Whoever writes, only what `support.judge` lets through is said; when nothing
is, the answer abstains and says what would support one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Final, Protocol

from agora.errors import GenerationError, UsageError
from agora.search.answers.abstain import WHAT, confidence, why_not
from agora.search.answers.addressed import is_addressed
from agora.search.answers.evidence import EvidenceConfig, flooded, is_coordinated, select
from agora.search.answers.extractive import ExtractiveWriter
from agora.search.answers.kinds import gives
from agora.search.answers.records import Answer, Draft, Evidence, Finder, Found, Quote, Refused, Sentence
from agora.search.answers.rewrite import Question, all_keys, rewrite
from agora.search.answers.support import judge

log = logging.getLogger(__name__)

_FOR_A_NAME: Final = 200
"""So many hits are read where somebody's own posts are looked for among those of all: no query names an account by a person's name."""
_ENOUGH: Final = 5
"""So many hits of a query make the next, looser one needless."""


class Writer(Protocol):
    """Who proposes sentences."""

    @property
    def name(self) -> str:
        """Names the writer in answers and in stored answers."""

    def write(self, question: Question, evidence: Sequence[Evidence]) -> list[Draft]:
        """Drafts, best first. May raise GenerationError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AskConfig:
    """hits        posts to retrieve
    sentences   sentences of an answer at most
    least       no answer where few posts hold all words and the search is less sure of its best hit than this, where it says how sure
                it is (agora/search/confidence.py)
    evidence    how evidence is chosen
    fence       keep posts that address the writer (agora/search/answers/addressed.py) from it"""

    hits: int = 50
    sentences: int = 6
    least: float = 0.1
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    fence: bool = True

    def __post_init__(self) -> None:
        for name in ("hits", "sentences"):
            if not 1 <= getattr(self, name) <= 1_000:
                raise UsageError(f"answers.{name}={getattr(self, name)} must be from 1 to 1000")
        if not 0 <= self.least <= 1:
            raise UsageError(f"answers.least={self.least} must be from 0 to 1")


DEFAULTS: Final = AskConfig()


def ask(
    question: str, searcher: Finder, *, writer: Writer | None = None, now: datetime | None = None, config: AskConfig = DEFAULTS
) -> Answer:
    """Answer `question` as of `now` (default: the present). Raises UsageError for a question without a word."""
    chosen = writer or ExtractiveWriter()
    gathered = gather(question, searcher, now=now, config=config)
    sentences, refused, warnings = _written(gathered, chosen, config)
    return finished(gathered, chosen.name, sentences, refused, warnings)


@dataclass(frozen=True, slots=True)
class Gathered:
    """What an answer is written from. `shown` is the evidence that a writer may see; `unsure`: the confidence of a search that found too
    little; `floods`: coordinated voices that wrote much of what was found, with their shares."""

    asked: Question
    hits: Sequence[Found]
    shown: tuple[Evidence, ...]
    warnings: tuple[str, ...]
    unsure: float | None
    floods: tuple[tuple[str, float], ...]


def gather(question: str, searcher: Finder, *, now: datetime | None = None, config: AskConfig = DEFAULTS) -> Gathered:
    """Search and select. Raises UsageError for a question without a word."""
    at = now or datetime.now(timezone.utc)
    asked = rewrite(question, now=at)
    if not asked.queries:
        raise UsageError(f"question {question[:60]!r} has no word to search for; ask about something, e.g. 'What about the trains?'")
    hits, sure = _retrieved(asked, searcher, at, config)
    is_unsure = sure is not None and sure < config.least
    evidence = () if is_unsure else select(hits, asked, config.evidence)
    floods = tuple(flooded(hits, _labelled(asked, hits, searcher, at, config), asked, config.evidence))
    warnings = [_flood_warning(voice, share) for voice, share in floods]
    shown = evidence
    if config.fence and not is_addressed(question):
        shown = tuple(one for one in evidence if not is_addressed(one.text))
        if len(shown) < len(evidence):
            warnings.append(f"posts kept from the writer because they give orders to machines: {len(evidence) - len(shown)}")
    return Gathered(asked, hits, shown, tuple(warnings), sure if is_unsure else None, floods)


def finished(
    gathered: Gathered, writer: str, sentences: Sequence[Sentence], refused: Sequence[Refused], warnings: Sequence[str] = ()
) -> Answer:
    """The answer of what was gathered and what of the writing held."""
    cited = [one for one in gathered.shown if any(one.id in sentence.post_ids for sentence in sentences)]
    said = [*gathered.warnings, *warnings]
    if any(one.label for one in cited):
        said.append(f"cited posts labelled as coordinated: {sum(one.label is not None for one in cited)} of {len(cited)}")
    asked = gathered.asked
    return Answer(
        question=asked.text, query=asked.queries[0], writer=writer, sentences=tuple(sentences), evidence=gathered.shown,
        abstained=why_not(asked, gathered.hits, gathered.shown, sentences, unsure=gathered.unsure),
        warnings=tuple(said), refused=tuple(refused),
        confidence=confidence(asked, cited),
    )  # fmt: skip


def answer_key(question: str, writer: str, *, now: datetime, config: AskConfig = DEFAULTS) -> str:
    """What makes two askings the same, apart from the posts: the question as read at `now`, the writer, the settings."""
    asked = rewrite(question, now=now)
    return json.dumps([asked.text, asked.queries, writer, repr(config)], ensure_ascii=False)


def _retrieved(asked: Question, searcher: Finder, now: datetime, config: AskConfig) -> tuple[list[Found], float | None]:
    """Hits of the first query, and of the looser ones while these are few, each post once; and how sure the surest query is, where the
    searcher says so."""
    hits: dict[str, Found] = {}
    judged: list[float | None] = []
    limit = max(config.hits, _FOR_A_NAME) if asked.speaker else config.hits
    for query in asked.queries:
        if len(hits) >= _ENOUGH and not asked.speaker:
            break
        found = searcher.find(query, limit=limit, now=now, match="any")
        for hit in found.hits:
            hits.setdefault(hit.post["id"], hit)
        if found.hits:
            is_topic = getattr(found, "total", 0) >= _ENOUGH  # confidence is about one post; of a topic many answer, none stands out
            judged.append(None if is_topic else getattr(found, "confidence", None))
    known = [one for one in judged if one is not None]
    return list(hits.values()), max(known) if known and len(known) == len(judged) else None


def _labelled(asked: Question, hits: Sequence[Found], searcher: Finder, now: datetime, config: AskConfig) -> Sequence[Found]:
    """All posts of coordinated groups that the first query finds, where it found one: a search by itself shows one of each group."""
    if not any(is_coordinated(hit.voice, hit.post["author"], hit.label) for hit in hits):
        return ()
    return searcher.find(f"{asked.queries[0]} label:coordinated", limit=config.hits, now=now, match="any").hits


def _written(gathered: Gathered, writer: Writer, config: AskConfig) -> tuple[list[Sentence], list[Refused], list[str]]:
    """The checked sentences, what was refused, and warnings. Quotations stand in for a model that fails or says nothing that holds."""
    asked, shown = gathered.asked, gathered.shown
    if not shown:
        return [], [], []
    refused: list[Refused] = []
    warnings: list[str] = []
    try:
        sentences = checked(writer.write(asked, shown), asked, shown, config, refused)
    except GenerationError as error:
        log.warning("the writer failed: %s", error)
        warnings.append(f"the writer ({writer.name}) failed; posts are quoted instead: {error}")
        return checked(ExtractiveWriter().write(asked, shown), asked, shown, config, refused), refused, warnings
    if refused:
        warnings.append(f"sentences removed because the posts do not support them: {len(refused)}")
    if not sentences and refused and not isinstance(writer, ExtractiveWriter):
        warnings.append("nothing that the writer said is supported; posts are quoted instead")
        sentences = checked(ExtractiveWriter().write(asked, shown), asked, shown, config, refused)
    return sentences, refused, warnings


def checked(
    drafts: Sequence[Draft], asked: Question, shown: Sequence[Evidence], config: AskConfig, refused: list[Refused]
) -> list[Sentence]:
    """The drafts that hold, as sentences; what does not is added to `refused` with the reason."""
    by_id = {one.id: one for one in shown}
    sentences: list[Sentence] = []
    for draft in drafts[: 4 * config.sentences]:
        one = check(draft, asked, by_id, sentences)
        if isinstance(one, Refused):
            refused.append(one)
        elif len(sentences) < config.sentences:
            sentences.append(one)
    return sentences


def check(draft: Draft, asked: Question, by_id: Mapping[str, Evidence], earlier: Sequence[Sentence]) -> Sentence | Refused:
    """One draft as a sentence, or why it is none."""
    verdict = judge(draft, by_id)
    reason = verdict.reason
    if reason is None and asked.keys and not any(key in all_keys(draft.text) for key in asked.keys):
        reason = "it is not about the question"
    if reason is None and not gives(_said(verdict.quotes, draft.text), asked):
        reason = f"it does not say {WHAT[asked.kind]}, which was asked for"
    if reason is None and any(draft.text == other.text for other in earlier):
        reason = "it was said before"
    if reason is not None:
        return Refused(draft.text[:500], reason)
    labelled = tuple(post_id for post_id in verdict.post_ids if by_id[post_id].label is not None)
    return Sentence(draft.text, verdict.post_ids, verdict.quotes, labelled)


def _said(quotes: Sequence[Quote], text: str) -> str:
    """What a sentence says of posts: its quotations, without who wrote them and when, or all of it."""
    return "\n".join(quote.text for quote in quotes) or text


def _flood_warning(voice: str, share: float) -> str:
    return (
        f"{share:.0%} of the posts found come from one coordinated group ({voice}); it counts as one voice, and an answer from these posts "
        "may be what the group wants"
    )


def without_posts(answer: Answer) -> Answer:
    """The answer without the texts of its evidence that it does not cite: enough to show, nothing kept beyond need."""
    return replace(answer, evidence=answer.cited, refused=())
