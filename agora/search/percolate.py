"""Which of many saved queries does a new post match? Goes in: queries, then posts. Comes out: for each post the names of its queries.

Every query is filed under keys of which a matching post must have one: a word of each term, an author, a tag, a word of a link. A post
looks up its own keys, and only the queries found there are asked (matching.py). A query that no key covers (`-flood`, `lang:en`) is asked
every time. What this finds is what asking every query finds, only sooner.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agora.search.query import syntax
from agora.search.query.matching import MatchContext, ReadPost, matches
from agora.search.query.syntax import Node
from agora.text.words import account_key, fold, link_words, words

Keys = frozenset[str]

_RARE: Final = 1e-7
"""Cost of a key that names an account, a tag, a link or a thread: such are rarer than any word."""


class Percolator:
    """Queries by name. `put` and `remove` at any time."""

    def __init__(self, queries: Mapping[str, Node] | None = None) -> None:
        self._nodes: dict[str, Node] = {}
        self._filed: dict[str, Keys | None] = {}
        self._by_key: dict[str, dict[str, None]] = {}
        self._always: dict[str, None] = {}
        for name, node in (queries or {}).items():
            self.put(name, node)

    def __len__(self) -> int:
        return len(self._nodes)

    def put(self, name: str, node: Node) -> None:
        """Add a query, or replace the one of this name."""
        self.remove(name)
        self._nodes[name] = node
        keys = self._filed[name] = required_keys(node)
        for place in [self._always] if keys is None else [self._by_key.setdefault(key, {}) for key in keys]:
            place[name] = None

    def remove(self, name: str) -> None:
        """Forget a query; nothing happens when there is none of this name."""
        if self._nodes.pop(name, None) is None:
            return
        keys = self._filed.pop(name)
        self._always.pop(name, None)
        for key in keys or ():
            self._by_key[key].pop(name, None)
            if not self._by_key[key]:
                del self._by_key[key]

    def queries_of(self, post: Mapping[str, Any], context: MatchContext) -> list[str]:
        """Names of the queries that the post matches, in order."""
        read = ReadPost(post)
        asked = dict(self._always)
        for key in _keys_of(read, context):
            if names := self._by_key.get(key):
                asked.update(names)
        return sorted(name for name in asked if matches(self._nodes[name], read, context))


def required_keys(node: Node) -> Keys | None:
    """Keys of which every matching post has at least one; None when there is no such set."""
    match node:
        case syntax.And(nodes):
            covers = [keys for below in nodes if (keys := required_keys(below)) is not None]
            return min(covers, key=_cost) if covers else None
        case syntax.Or(nodes):
            parts = [required_keys(below) for below in nodes]
            return frozenset().union(*(keys for keys in parts if keys is not None)) if None not in parts else None
        case syntax.Not(syntax.Not(below)):
            return required_keys(below)
    key = _key(node)
    return None if key is None else frozenset([key])


def _key(node: Node) -> str | None:
    """The rarest key of a leaf."""
    match node:
        case syntax.Word(text) | syntax.Phrase(text):
            return max(words(text), key=len)
        case syntax.Hashtag(tag):
            return f"#{fold(tag)}"
        case syntax.Cashtag(tag):
            return f"${fold(tag)}"
        case syntax.Mention(account):
            return f"mention:{fold(account)}"
        case syntax.Url(text):
            return f"link:{max(link_words(text), key=len)}"
        case syntax.From(account):
            return f"from:{account_key(account)}"
        case syntax.To(account):
            return f"to:{account_key(account)}"
        case syntax.Conversation(post):
            return f"thread:{post}"
    return None


def _keys_of(read: ReadPost, context: MatchContext) -> Iterator[str]:
    """The keys that a post has."""
    post = read.post
    yield from read.tokens
    yield from (f"mention:{fold(token[1:])}" for token in read.tokens if token[0] == "@")
    yield f"from:{account_key(post['author'])}"
    yield f"to:{account_key(post.get('ref_author') or '')}"
    yield from (f"link:{word}" for link in read.links() for word in link.split())
    yield from (f"thread:{name}" for name in (post["id"], post.get("ref_id"), *context.above(post["id"])))


def _cost(keys: Keys) -> float:
    """How many posts will come by, roughly: long words are rarer than short ones."""
    return sum(_RARE if key[0] in "#$" or ":" in key else 4.0 ** -min(len(key), 10) for key in keys)


__all__ = ["Percolator", "required_keys"]
