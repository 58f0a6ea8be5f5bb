"""What a query is made of. Goes in: words and values, already checked for their form. Comes out: nodes, equal when they say the same.

Every node that can be built can be printed and parsed again (printing.py): a value that no query could name is refused with ValueError.
What a node means for a post stands in matching.py. Names of operators are kept here once, for the parser, the printer and the docs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Final, Literal, TypeAlias

from agora.text.words import MARKS, link_words, words

Filter: TypeAlias = Literal["links", "media", "replies", "reposts"]
Counted: TypeAlias = Literal["faves", "reposts", "replies"]

FILTERS: Final[tuple[Filter, ...]] = ("links", "media", "replies", "reposts")
COUNTED: Final[tuple[Counted, ...]] = ("faves", "reposts", "replies")
LABELS: Final = ("coordinated",)
MAX_COUNT: Final = 1_000_000_000
MAX_SECONDS: Final = 100 * 366 * 86_400

TAG: Final = re.compile(rf"[{MARKS}]*\w[\w{MARKS}]*")
CASHTAG: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,9}(?:[._][A-Za-z]{1,4})?")
MENTIONED: Final = re.compile(r"\w(?:[\w.\-:@/+]*\w)?")
LANGUAGE: Final = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,3}")


def _check(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ValueError(f"{value!r} is no {what}")


def is_text(value: str) -> bool:
    """Whether a text is valid Unicode (no half of a surrogate pair)."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


@dataclass(frozen=True, slots=True)
class Word:
    """What was typed as one word. What it holds several words of stands in a row in the post: `state-of-the-art`."""

    text: str

    def __post_init__(self) -> None:
        _check(is_text(self.text) and bool(words(self.text)), "word", self.text)


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words in a row; tags, names and links among them stand anywhere in the post."""

    text: str

    def __post_init__(self) -> None:
        _check(is_text(self.text) and bool(words(self.text)), "phrase", self.text)


@dataclass(frozen=True, slots=True)
class Not:
    node: Node


@dataclass(frozen=True, slots=True)
class And:
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check(len(self.nodes) >= 2, "group of at least two nodes", self.nodes)


@dataclass(frozen=True, slots=True)
class Or:
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        _check(len(self.nodes) >= 2, "group of at least two nodes", self.nodes)


@dataclass(frozen=True, slots=True)
class From:
    """Written by the account."""

    account: str

    def __post_init__(self) -> None:
        _check(is_account(self.account), "account", self.account)


@dataclass(frozen=True, slots=True)
class To:
    """A reply to the account."""

    account: str

    def __post_init__(self) -> None:
        _check(is_account(self.account), "account", self.account)


@dataclass(frozen=True, slots=True)
class Mention:
    """Addresses the account, wherever in the post."""

    account: str

    def __post_init__(self) -> None:
        _check(MENTIONED.fullmatch(self.account) is not None, "account to mention", self.account)


@dataclass(frozen=True, slots=True)
class Hashtag:
    tag: str

    def __post_init__(self) -> None:
        _check(is_text(self.tag) and TAG.fullmatch(self.tag) is not None, "tag", self.tag)


@dataclass(frozen=True, slots=True)
class Cashtag:
    tag: str

    def __post_init__(self) -> None:
        _check(CASHTAG.fullmatch(self.tag) is not None, "cashtag", self.tag)


@dataclass(frozen=True, slots=True)
class Url:
    """A link whose words hold these words in a row: `example.org`, `example.org/news`, `news`."""

    text: str

    def __post_init__(self) -> None:
        _check(is_value(self.text) and bool(link_words(self.text)), "part of a link", self.text)


@dataclass(frozen=True, slots=True)
class Lang:
    """Declared language; `en` holds for `en-GB`, `und` for posts that declare none."""

    code: str

    def __post_init__(self) -> None:
        _check(LANGUAGE.fullmatch(self.code) is not None, "language code", self.code)


@dataclass(frozen=True, slots=True)
class Since:
    """Posted then or later (UTC)."""

    at: datetime

    def __post_init__(self) -> None:
        _check(self.at.utcoffset() == timedelta(0), "time in UTC", self.at)


@dataclass(frozen=True, slots=True)
class Until:
    """Posted before then (UTC)."""

    at: datetime

    def __post_init__(self) -> None:
        _check(self.at.utcoffset() == timedelta(0), "time in UTC", self.at)


@dataclass(frozen=True, slots=True)
class WithinTime:
    """Posted at most so long before now."""

    seconds: int

    def __post_init__(self) -> None:
        _check(0 < self.seconds <= MAX_SECONDS, "length of time in seconds", self.seconds)


@dataclass(frozen=True, slots=True)
class Has:
    """`links`, `media`: holds some. `replies`, `reposts`: is one."""

    what: Filter

    def __post_init__(self) -> None:
        _check(self.what in FILTERS, "filter", self.what)


@dataclass(frozen=True, slots=True)
class AtLeast:
    what: Counted
    count: int

    def __post_init__(self) -> None:
        _check(self.what in COUNTED and 0 <= self.count <= MAX_COUNT, "count", (self.what, self.count))


@dataclass(frozen=True, slots=True)
class Conversation:
    """The post with this id, and replies below it."""

    id: str

    def __post_init__(self) -> None:
        _check(is_value(self.id), "id of a post", self.id)


@dataclass(frozen=True, slots=True)
class Labelled:
    """The post or its author carries a label of agora/integrity."""

    label: Literal["coordinated"] = "coordinated"

    def __post_init__(self) -> None:
        _check(self.label in LABELS, "label", self.label)


Node: TypeAlias = (
    Word | Phrase | Not | And | Or | From | To | Mention | Hashtag | Cashtag | Url | Lang | Since | Until | WithinTime | Has | AtLeast
    | Conversation | Labelled
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class QueryWarning:
    """What was read otherwise than it may have been meant. `position` counts characters of the query from 0."""

    position: int
    message: str


@dataclass(frozen=True, slots=True)
class Query:
    """`root` is None when nothing is asked for (an empty query, or only signs): then every post matches."""

    root: Node | None
    warnings: tuple[QueryWarning, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Operator:
    """One line of docs/search_query.md. `form` is how it is written, `example` a query that parses."""

    name: str
    form: str
    example: str
    meaning: str


OPERATORS: Final = (
    Operator("from", "from:account", "from:ada", "written by the account"),
    Operator("to", "to:account", "to:ada", "a reply to the account"),
    Operator("url", "url:part", "url:example.org/news", "a link that holds these words in a row"),
    Operator("lang", "lang:code", "lang:en", "language as declared; `und` for none"),
    Operator("since", "since:time", 'since:"last monday"', "posted then or later"),
    Operator("until", "until:time", "until:2026-11-22", "posted before then"),
    Operator("within_time", "within_time:length", "within_time:2h", "posted at most so long ago"),
    Operator("filter", "filter:what", "filter:media", "`links`, `media`: holds some; `replies`, `reposts`: is one"),
    Operator("min_faves", "min_faves:number", "min_faves:10", "favourites it has, at least"),
    Operator("min_reposts", "min_reposts:number", "min_reposts:5", "voices that reposted it, at least"),
    Operator("min_replies", "min_replies:number", "min_replies:3", "voices that replied to it, at least"),
    Operator("conversation_id", "conversation_id:post", "conversation_id:1453", "the post with this id, and replies below it"),
    Operator("label", "label:coordinated", "label:coordinated", "the post or its author is labelled as coordinated"),
)
"""Every operator, in the order of the docs."""

NAMES: Final = tuple(operator.name for operator in OPERATORS)
OTHER_NAMES: Final = {
    "min_likes": "min_faves", "min_favs": "min_faves", "min_retweets": "min_reposts", "min_rts": "min_reposts",
    "conversation": "conversation_id",
    "has": "filter", "is": "filter", "author": "from", "user": "from", "link": "url", "domain": "url", "language": "lang",
    "after": "since", "since_time": "since", "before": "until", "until_time": "until", "labelled": "label",
}  # fmt: skip
"""How other platforms call an operator; a warning names ours."""


def is_account(value: str) -> bool:
    """Whether an operator can name this account."""
    return is_value(value) and not value.startswith("@")


def is_value(value: str) -> bool:
    """Whether an operator can carry this value: text without blanks around it."""
    return bool(value) and value == value.strip() and is_text(value)


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    yield node
    for below in _below(node):
        yield from walk(below)


def wanted_words(node: Node) -> list[str]:
    """Words that a post is ranked by: of all terms and operators that name words and are not excluded, each once, in order."""
    return list(dict.fromkeys(_wanted(node)))


def _wanted(node: Node) -> Iterator[str]:
    match node:
        case Word(text) | Phrase(text) | Url(text):
            yield from words(text)
        case Hashtag(text):
            yield from words(f"#{text}")
        case Cashtag(text):
            yield from words(f"${text}")
        case Mention(text):
            yield from words(f"@{text}")
        case And(nodes) | Or(nodes):
            for below in nodes:
                yield from _wanted(below)


def _below(node: Node) -> tuple[Node, ...]:
    if isinstance(node, (And, Or)):
        return node.nodes
    return (node.node,) if isinstance(node, Not) else ()


def utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a zone is taken as UTC."""
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
