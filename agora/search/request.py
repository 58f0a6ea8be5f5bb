"""What is asked of the index. Goes in: a query as typed, or a text whose like is looked for. Comes out: words, filters, and the text that
vectors and wording are compared with.

A query is kept to: its terms must all hold, whether posts were found by words or by meaning. Only where it is a row of plain words as
long as a sentence, or a question, posts that hold some of them may follow behind those that hold all (`loosened`). The text keeps links,
`#` and `@`: stripping them from tweets cost 0.7 to 3.8 points of MAP@5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from agora.search.index.interface import Match
from agora.search.query.parse import parse
from agora.search.query.syntax import And, Cashtag, Hashtag, Labelled, Mention, Node, Or, Phrase, Query, Url, Word, wanted_words
from agora.search.wording import telling_words
from agora.text.words import plain_words, words

Matching = Literal["all", "any", "auto"]

SENTENCE_WORDS: Final = 4
"""From so many plain words on, a query is a sentence of which hardly any post holds every word."""
_WRITTEN_AND: Final = re.compile(r'(?<![^\s()"“”„])AND(?![^\s()"“”„])')
MAX_TEXT: Final = 10_000
"""Characters of a passage that are looked at: no post that is looked for needs more, and the time is bounded."""
MAX_WORDS: Final = 48
"""Words that the index is asked for; more than that, and the first are taken. Posts have fewer."""


@dataclass(frozen=True, slots=True)
class Request:
    """`root` filters strictly (counts, the latest); `words` with `match` under `where_words`, vectors under `where`. `rest`: what filters
    whichever words must be there. `must`: what posts near in meaning must hold as well (looked up in each: a frequent word is a slow
    filter). `some`: what matches when one plain word is enough, None where words are not to be chosen from."""

    query: Query
    root: Node | None
    words: tuple[str, ...]
    match: Match
    where_words: Node | None
    where: Node | None
    text: str
    can_loosen: bool
    rest: Node | None = None
    must: Node | None = None
    some: Node | None = None

    @property
    def by_voice(self) -> bool:
        """Whether campaigns have one voice: not where labelled posts, and no others, were asked for."""
        return self.root is None or not _asks_for_labelled(self.root)

    def loosened(self) -> Request:
        """The same for posts that hold some of the words."""
        return replace(self, words=tuple(telling_words(self.words)), match="any", where_words=self.rest, where=self.rest, must=None)


def read_query(text: str, *, matching: Matching, now: datetime | None) -> Request:
    """A query of the query language. Raises QuerySyntaxError."""
    query = parse(text, now=now)
    root = query.root
    soft, rest = _split(root)
    ranked = telling_words(wanted_words(root)) if root is not None else []
    rows = [node for node in soft if isinstance(node, Word)]
    plain = [word for node in rows for word in words(node.text)] if len(rows) == len(soft) else []
    spoken = " ".join(_spoken(root)) if root is not None else ""
    loosely = tuple(ranked[:MAX_WORDS])
    must = And(tuple(soft)) if len(soft) > 1 else soft[0] if soft else None
    some = And((Or(tuple(soft)), *_nodes(rest))) if rest is not None and len(soft) > 1 else Or(tuple(soft)) if len(soft) > 1 else None
    if matching == "any":
        return Request(query, root, loosely, "any", rest, rest, spoken, False, rest)
    is_row = any(len(plain_words(node.text)) > 1 for node in rows)
    is_sentence = bool(soft) and len(rows) == len(soft) and (len(rows) >= SENTENCE_WORDS or text.rstrip().endswith("?"))
    can_loosen = matching == "auto" and is_sentence and not _WRITTEN_AND.search(text)
    if soft and plain and not is_row and set(plain) >= set(ranked):
        return Request(query, root, tuple(dict.fromkeys(plain)), "all", rest, rest, spoken, can_loosen, rest, must, some)
    return Request(query, root, loosely, "any", root, rest, spoken, can_loosen, rest, must, some)


def read_passage(text: str) -> Request:
    """A text that is no query: a post, a question, a sentence."""
    text = text[:MAX_TEXT].encode(errors="replace").decode()
    ranked = telling_words(dict.fromkeys(words(text)))[:MAX_WORDS]
    return Request(Query(None, (), text), None, tuple(ranked), "any", None, None, text, False)


def _split(root: Node | None) -> tuple[Sequence[Node], Node | None]:
    """What only ranks (words, choices of words), and what filters."""
    nodes = root.nodes if isinstance(root, And) else () if root is None else (root,)
    soft = [node for node in nodes if _is_plain(node)]
    rest = tuple(node for node in nodes if not _is_plain(node))
    return soft, And(rest) if len(rest) > 1 else rest[0] if rest else None


def _is_plain(node: Node) -> bool:
    return isinstance(node, Word) or (isinstance(node, (Or, And)) and all(_is_plain(below) for below in node.nodes))


def _nodes(node: Node | None) -> tuple[Node, ...]:
    return () if node is None else node.nodes if isinstance(node, And) else (node,)


def _asks_for_labelled(node: Node) -> bool:
    """Whether only labelled posts can match."""
    if isinstance(node, Or):
        return all(_asks_for_labelled(below) for below in node.nodes)
    if isinstance(node, And):
        return any(_asks_for_labelled(below) for below in node.nodes)
    return isinstance(node, Labelled)


def _asserted(node: Node) -> Iterator[Node]:
    """The nodes that are not excluded."""
    if isinstance(node, (And, Or)):
        for below in node.nodes:
            yield from _asserted(below)
    else:
        yield node


def _spoken(root: Node) -> Iterator[str]:
    """What of a query is language."""
    for node in _asserted(root):
        match node:
            case Word(text) | Phrase(text) | Url(text):
                yield text
            case Hashtag(tag):
                yield f"#{tag}"
            case Cashtag(tag):
                yield f"${tag}"
            case Mention(account):
                yield f"@{account}"


__all__ = ["Matching", "Request", "read_passage", "read_query"]
