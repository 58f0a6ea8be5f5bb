"""Does a post match a query? Goes in: a node, a post (a row of POST_SCHEMA), and what else is known. Comes out: yes or no.

This is the slow twin of every index, and what alerts ask of each new post. Words are those of agora/text/words.py: a term of one
word stands among the words of the text; a term of several, or a phrase, stands in a row. Tags, names and links count from the text and
from the post's own lists. Accounts compare without case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

from agora.integrity.voice import Voices
from agora.posts.schema import REPLY, REPOST
from agora.search.query import syntax
from agora.search.query.syntax import Node
from agora.text.words import account_key, fold, link_words, links, marks, ordered_words, plain_words

_KEPT: Final = 1 << 16
"""Terms whose words are kept: the same few thousand saved searches are asked of every post."""
_account = lru_cache(_KEPT)(account_key)
_folded = lru_cache(_KEPT)(fold)

MEDIA_LINK: Final = "link"
"""A card of a link is listed among media; `filter:media` does not mean it."""


@dataclass(frozen=True, slots=True)
class Engagement:
    """How often a post was favoured, and how many voices passed it on and answered."""

    faves: int = 0
    reposts: int = 0
    replies: int = 0


def _no_engagement(post_id: str) -> Engagement:
    return Engagement()


def _nothing_above(post_id: str) -> Collection[str]:
    return ()


def _clock() -> datetime:
    return datetime.now(timezone.utc)


@dataclass(frozen=True, slots=True)
class MatchContext:
    """What a post does not say itself. `above`: id of a post -> ids of the posts above it in its thread (default: none, so that only
    direct replies belong to a conversation)."""

    now: datetime = field(default_factory=_clock)
    labelled_accounts: frozenset[str] = frozenset()
    labelled_posts: frozenset[str] = frozenset()
    engagement: Callable[[str], Engagement] = _no_engagement
    above: Callable[[str], Collection[str]] = _nothing_above

    @classmethod
    def of(cls, voices: Voices | None, *, now: datetime | None = None) -> MatchContext:
        """A context that knows the labels of a workspace."""
        known = voices or Voices()
        return cls(now=syntax.utc(now) if now else _clock(), labelled_accounts=known.labelled, labelled_posts=known.posts)


class ReadPost:
    """A post whose words were looked at once, for many queries."""

    __slots__ = ("_links", "in_row", "post", "tokens")

    def __init__(self, post: Mapping[str, Any]) -> None:
        text = post["text"]
        in_order, others = ordered_words(text)
        self.post = post
        self.in_row = f" {' '.join(in_order)} "
        tags = [f"#{fold(tag)}" for tag in post.get("hashtags") or ()]
        names = [f"@{account_key(name)}" for name in post.get("mentions") or ()]
        self.tokens = frozenset([*in_order, *others, *tags, *names])
        self._links: list[str] | None = None

    def links(self) -> list[str]:
        """The words of each link, listed or in the text."""
        if self._links is None:
            found = dict.fromkeys([*(self.post.get("urls") or ()), *links(self.post["text"])])
            self._links = [f" {' '.join(link_words(link))} " for link in found]
        return self._links


def matches(node: Node | None, post: Mapping[str, Any] | ReadPost, context: MatchContext) -> bool:
    """Whether the post matches; without a node every post does."""
    if node is None:
        return True
    read = post if isinstance(post, ReadPost) else ReadPost(post)
    return _holds(node, read, context)


def _holds(node: Node, read: ReadPost, context: MatchContext) -> bool:
    match node:
        case syntax.And(nodes):
            return all(_holds(below, read, context) for below in nodes)
        case syntax.Or(nodes):
            return any(_holds(below, read, context) for below in nodes)
        case syntax.Not(below):
            return not _holds(below, read, context)
        case syntax.Word(text) | syntax.Phrase(text):
            one, row, named = _asked(text)
            return (one in read.tokens if one else row in read.in_row) and read.tokens.issuperset(named)
        case syntax.Hashtag(tag):
            return f"#{_folded(tag)}" in read.tokens
        case syntax.Cashtag(tag):
            return f"${_folded(tag)}" in read.tokens
        case syntax.Mention(account):
            return f"@{_account(account)}" in read.tokens or f"@{_folded(account)}" in read.tokens
        case syntax.Url(text):
            part = _asked_of_links(text)
            return any(part in link for link in read.links())
    return _fits(node, read.post, context)


@lru_cache(_KEPT)
def _asked(text: str) -> tuple[str, str, frozenset[str]]:
    """What a term asks for: one word, or else a row of words (a blank when there is none), and marks."""
    row = plain_words(text)
    return row[0] if len(row) == 1 else "", f" {' '.join(row)} " if row else " ", frozenset(marks(text))


@lru_cache(_KEPT)
def _asked_of_links(text: str) -> str:
    return f" {' '.join(link_words(text))} "


def _fits(node: Node, post: Mapping[str, Any], context: MatchContext) -> bool:
    """What is no matter of words."""
    match node:
        case syntax.From(account):
            return _account(post["author"]) == _account(account)
        case syntax.To(account):
            return post["kind"] == REPLY and _account(post.get("ref_author") or "") == _account(account)
        case syntax.Lang(code):
            declared = (post.get("lang") or "und").lower().replace("_", "-")
            return declared == code or declared.startswith(f"{code}-")
        case syntax.Since(at):
            return bool(post["created_at"] >= at)
        case syntax.Until(at):
            return bool(post["created_at"] < at)
        case syntax.WithinTime(seconds):
            return bool(post["created_at"] >= context.now - timedelta(seconds=seconds))
        case syntax.Has(what):
            return _has(what, post)
        case syntax.AtLeast(what, count):
            return count <= _count(what, post, context)
        case syntax.Conversation(root):
            return _is_in_conversation(root, post, context)
        case syntax.Labelled():
            return post["id"] in context.labelled_posts or post["author"] in context.labelled_accounts
    raise AssertionError(node)


def _has(what: syntax.Filter, post: Mapping[str, Any]) -> bool:
    match what:
        case "links":
            return bool(post.get("urls")) or bool(links(post["text"]))
        case "media":
            return any(medium["kind"] != MEDIA_LINK for medium in post.get("media") or ())
        case "replies":
            return bool(post["kind"] == REPLY)
    return bool(post["kind"] == REPOST)


def _count(what: syntax.Counted, post: Mapping[str, Any], context: MatchContext) -> int:
    """What is known of others, or what the source said of favourites."""
    known = context.engagement(post["id"])
    match what:
        case "faves":
            return max(known.faves, post.get("num_likes") or 0)
        case "reposts":
            return known.reposts
    return known.replies


def _is_in_conversation(root: str, post: Mapping[str, Any], context: MatchContext) -> bool:
    if post["id"] == root or (post["kind"] == REPLY and post.get("ref_id") == root):
        return True
    return post["kind"] == REPLY and root in context.above(post["id"])


__all__ = ["Engagement", "MatchContext", "ReadPost", "matches"]
