"""A question becomes a query. Goes in: the question as asked. Comes out: queries to try in turn, and what an answer must be about.

Names, numbers, tags, handles, links, quoted phrases and operators (from:, lang:, ...) stay as they were written; time words become
since: and until:. Only the question's frame ("what do people say about") and English function words go: cleaning a query of more than
that costs relevance (issue 4 measured 0.7 to 3.8 points). A question that is nothing but such words is searched as it stands.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agora.errors import UsageError
from agora.search.answers.times import Span, read_times
from agora.search.answers.tokens import Token, keys_of, tokens, word_list

MAX_CHARS: Final = 2_000
"""A longer question is refused: half of what the query language reads, so that times and filters have room beside it."""
_OPERATOR: Final = re.compile(
    r"(?<!\S)-?(?:from|to|lang|since|until|within_time|filter|min_faves|min_reposts|min_replies|conversation_id|label|url):\S+"
    r"|(?<!\S)-[\w#@$]\S*(?<!-)(?!\S)"
)
_PHRASE: Final = re.compile(r'"([^"]{1,200})"|“([^”]{1,200})”|«([^»]{1,200})»')
_SPEAKER: Final = re.compile(
    r"\b(?:did|does|do|has|have|had)\s+(?P<who>@[\w.\-]+)\s+(?:\w+\s+)?(?P<verb>say|said|write|written|wrote|post|posted|tweet|tweeted|think)\b",
    re.IGNORECASE,
)
_NAMED: Final = re.compile(
    r"\b(?:did|does|has|have|had)\s+(?P<who>(?!I\b|They\b|People\b)[A-Z][\w’'-]{0,39}(?![\w’'-])(?:\s+[A-Z][\w’'-]{0,39}(?![\w’'-])){0,3})\s+(?:\w+\s+)?"
    r"(?:say|said|write|written|wrote|post|posted|tweet|tweeted)\b"
)
"""Who is asked about by name, not by account."""
_FRAME: Final = re.compile(
    r"^\W*(?:(?:please|can you|could you|tell me|show me|find|i want to know|do you know)\s+)*"
    r"(?:(?:what|how|why|who|where|when|which)\b(?:'s|’s)?\s*)?"
    r"(?:(?:do|did|does|are|is|was|were|has|have|had|been|the)\s+)*"
    r"(?:(?:people|users|accounts|members|anyone|anybody|everyone|folks|they|posts|tweets)\s+(?:here\s+)?)?"
    r"(?:(?:been|all)\s+)?"
    r"(?:(?:say|said|saying|think|thinking|thought|talk|talking|write|writing|wrote|post|posted|posting|tweet|tweeted|tweeting|feel|complain|"
    r"complaining|report|reported|reporting|known|mention|mentioned|hear|heard|happened|happening|react|reacted|reacting)\b\s*)?"
    r"(?:(?:about|on|of|to|with|regarding|concerning|that)\s+)?",
    re.IGNORECASE,
)
_ASKING: Final = re.compile(
    r"\W*(?:(?:please|can|could|you|tell|me|show|find|i|want|to|know|do|does|anyone|anybody|and|so|but|at|since|until|from|on|in|by|with|for)\s+)*"
    r"(?P<word>how\s+(?:many|much|long|old|far|often)|when|what\s+(?:time|day|date)|which\s+day|where|who|whom|why)\b"
    r"(?:\s+(?:of\s+)?(?:the\b\s*)?)?",
    re.IGNORECASE,
)
"""The word that asks, with only words of asking before it."""
_WHY_SAID: Final = re.compile(
    r"^\W*why\s+(?:are|is|do|does|did|were|have|has)\s+(?:people|users|accounts|members|everyone|everybody|folks|they|so\s+many\s+\w+)\s+(?:all\s+)?"
    r"(?:post|posting|tweet|tweeting|talk|talking|write|writing|say|saying|mention|mentioning|discuss|discussing|complain|complaining)\b",
    re.IGNORECASE,
)
_FRAME_WORDS: Final = word_list("frame")
_FRAME_VERBS: Final = word_list("frame_verb")
_ABOUT: Final = re.compile(r"\s+(?:about|regarding|concerning)\b", re.IGNORECASE)
"""Words of asking, compared as keys. They never decide whether a post is on the question."""
_CONNECTIVES: Final = frozenset(("AND", "OR", "NOT"))


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked. `queries`: best first, the later ones ask for less. `required`: keys of names, numbers, tags, handles and
    phrases, which a post on the question has; `wanted`: keys of the other words that say something. `kind`: what an answer holds."""

    text: str
    queries: tuple[str, ...]
    required: tuple[str, ...]
    wanted: tuple[str, ...]
    span: Span
    author: str | None = None
    kind: str = "any"
    focus: str | None = None
    """Of "how many ...": the key of what is counted, of "who killed ...": of what was done, when it says something."""
    speaker: tuple[str, ...] = ()
    """Of "what did Ada Huber say": the keys of the name; an answer is by such an account or tells what it said."""
    words: tuple[str, ...] = ()
    """The words behind `required` and `wanted` as they were asked, for people to read."""

    @property
    def keys(self) -> tuple[str, ...]:
        return (*self.required, *self.wanted)


def rewrite(question: str, *, now: datetime) -> Question:
    """Read a question as of `now` (UTC). Raises UsageError for one that is too long or no text."""
    text = " ".join(_checked(question).split())
    speaker = _SPEAKER.search(text)
    operators = [match.span() for match in _OPERATOR.finditer(text)]
    phrases = [match.span() for match in _PHRASE.finditer(text)]
    span = read_times(text, now, (*operators, *phrases))
    frame_end = 0 if any(low == 0 for low, _ in (*operators, *phrases)) else _FRAME.match(text).end()  # type: ignore[union-attr]
    if speaker:
        frame_end = 0
    gone = [*span.words, *operators, *([(speaker.start(), speaker.end())] if speaker else [])]
    found = [one for one in tokens(text) if not any(low < one.end and one.start < high for low, high in gone)]
    kept = [one for one in found if _is_asked(one, text, frame_end, phrases)]
    if not kept and len(found) > 1:  # a word of asking is asked about: the last one that says something
        kept = [one for one in found if one.is_content and one.kind == "word"][-1:]
    kept = kept or [one for one in found if one.kind != "link"]
    required = [one for one in kept if _is_required(one, text, phrases)]
    wanted = [one for one in kept if one not in required]
    author = speaker.group("who")[1:] if speaker else _operator(text, "from")
    named = None if author else _NAMED.search(text)
    name = tuple(one.key for one in tokens(named.group("who"))) if named else ()
    queries = _queries(text, kept, phrases, operators, span, speaker.group("who")[1:] if speaker else None)
    if named:
        others = [one for one in kept if not named.start("who") <= one.start < named.end("who")]
        required, wanted = ([one for one in part if one in others] for part in (required, wanted))
        queries = (*queries, *_queries(text, others, phrases, operators, span, None)) if others else queries
    return Question(
        text=text,
        queries=tuple(dict.fromkeys(queries)),
        required=tuple(dict.fromkeys(one.key for one in required)),
        wanted=tuple(dict.fromkeys(one.key for one in wanted)),
        span=span, author=author, kind=_kind(text), focus=_focus(text), speaker=name, words=tuple(dict.fromkeys(one.text for one in kept)),
    )  # fmt: skip


def _checked(question: str) -> str:
    if len(question) > MAX_CHARS:
        raise UsageError(f"the question {question[:40]!r}... has {len(question):,} characters; at most {MAX_CHARS:,} are read: ask shorter")
    place = next((place for place, character in enumerate(question) if "\ud800" <= character <= "\udfff"), None)
    if place is not None:
        raise UsageError(f"the question is no valid UTF-8 at character {place + 1} ({question[:40]!r}); give it in UTF-8")
    return question


def _is_asked(token: Token, text: str, frame_end: int, phrases: list[tuple[int, int]]) -> bool:
    if any(low <= token.start < high for low, high in phrases):
        return True
    if token.kind == "word" and token.text in _CONNECTIVES:
        return False
    if token.kind != "word":
        return True
    if not token.is_content:
        return False
    if token.end <= frame_end or token.key in _FRAME_WORDS:
        return False
    return not (token.key in _FRAME_VERBS and _ABOUT.match(text, token.end))


def _is_required(token: Token, text: str, phrases: list[tuple[int, int]]) -> bool:
    """Names (a capital inside the sentence), numbers, tags, handles and what stands in quotation marks."""
    if token.kind == "link":
        return False
    if token.kind != "word" or any(low <= token.start < high for low, high in phrases):
        return True
    return token.is_capital and token.start > 0


def _operator(text: str, name: str) -> str | None:
    match = re.search(rf"(?<!\S){name}:(\S+)", text)
    return match.group(1).lstrip("@") if match else None


def _queries(
    text: str, kept: list[Token], phrases: list[tuple[int, int]], operators: list[tuple[int, int]], span: Span, author: str | None
) -> tuple[str, ...]:
    """With phrases and times; then phrases as words; then without a bare year, which may be what the question is about."""
    filters = [text[low:high] for low, high in operators]
    filters += [f"from:{author}"] if author else []
    times = [f"since:{_moment(span.since)}"] if span.since else []
    times += [f"until:{_moment(span.until)}"] if span.until else []
    plain = _plain_words(kept)
    said = [" ".join(text[low + 1 : high - 1].replace("\\", " ").replace('"', " ").split()) for low, high in phrases]
    quoted = [f'"{phrase}"' for phrase in said if phrase]
    outside = _plain_words([one for one in kept if not any(low <= one.start < high for low, high in phrases)])
    queries = [[*outside, *quoted, *filters, *times], [*plain, *filters, *times]]
    if span.is_year:
        years = [word for low, high in span.words for word in re.findall(r"\d{4}", text[low:high])]
        queries.append([*plain, *years, *filters])
    return tuple(dict.fromkeys(" ".join(query) for query in queries if query))


def _plain_words(kept: list[Token]) -> list[str]:
    """Words as asked; characters of scripts that do not part their words stay together."""
    words: list[str] = []
    end = -1
    for one in kept:
        word = _plain(one)
        if one.start == end and one.kind == "word" and len(one.text) == 1 and words:
            words[-1] += word
        elif word:
            words.append(word)
        end = one.end if one.kind == "word" and len(one.text) == 1 else -1
    return words


def _plain(token: Token) -> str:
    """The word as a query may hold it: as asked, but never an operator, a minus or an unpaired quotation mark."""
    if token.kind == "link":
        return f'"{token.text}"' if '"' not in token.text and "\\" not in token.text else ""
    return token.text.lower() if token.text in _CONNECTIVES else token.text


def _moment(at: datetime) -> str:
    if at == at.replace(hour=0, minute=0, second=0, microsecond=0):
        return at.strftime("%Y-%m-%d")
    return (at - timedelta(microseconds=at.microsecond)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _kind(text: str) -> str:
    """By the word that asks, where the question begins with it: "what happened when ..." asks for no time. "Why are people posting #tag"
    asks what the posts are about."""
    match = _ASKING.match(text)
    if match is None or _WHY_SAID.match(text):
        return "any"
    asking = " ".join(match.group("word").lower().split())
    kinds = {"when": "time", "where": "place", "who": "person", "whom": "person", "why": "reason"}
    return kinds.get(asking, "count" if asking.startswith("how") else "time")


def _focus(text: str) -> str | None:
    """What a number or name must stand by: of "how many people" what is counted, of "who killed" what was done."""
    if not (match := _ASKING.match(text)):
        return None
    asking = " ".join(match.group("word").lower().split())
    following = next((one for one in tokens(text) if one.start >= match.end()), None)
    if following is None or following.kind != "word" or asking not in ("how many", "who"):
        return None
    return following.key if following.is_content else None


@functools.lru_cache(maxsize=1_024)
def all_keys(text: str) -> frozenset[str]:
    """Every key under which a post can be asked for, function words too."""
    return frozenset(key for token in tokens(text) for key in keys_of(token))
