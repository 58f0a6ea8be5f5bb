"""A query as members type it. Goes in: text. Comes out: a `Query`, or an error that names the position.

    parse('(flood OR storm) from:ada -filter:replies since:yesterday').root

The grammar stands in grammar.lark and is read from left to right in one pass. Limits keep every input cheap: MAX_CHARACTERS, and MAX_DEPTH
for parentheses and minus signs inside each other. Blanks, quotes, parentheses and signs lose their meaning behind a backslash.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any, Final

from agora.errors import MissingExtraError, QuerySyntaxError
from agora.search.query import syntax
from agora.search.query.dates import DateError, parse_date, parse_length
from agora.search.query.syntax import NAMES, Node, Query, QueryWarning
from agora.text.words import link_words, trimmed_link, words

MAX_CHARACTERS: Final = 4096
"""A post has a few hundred; what is longer is no question."""
MAX_EXCLUDED: Final = 64
"""Minus signs: each takes a look at all posts, since nearly all pass it."""
MAX_DEPTH: Final = 64
"""Nodes inside nodes are walked by calling oneself, and Python allows about a thousand calls."""
EXTRA: Final = "search"

_GRAMMAR: Final = Path(__file__).with_name("grammar.lark")
_ESCAPED: Final = re.compile(r"\\([\s\S])")
_QUOTES: Final = '"“”„'
_SENTENCE_END: Final = ".,!?;:…'’»"
_SHOWN: Final = 60
_BOTH_SIDES: Final = "needs something to search for on both sides"


def parse(text: str, *, now: datetime | None = None) -> Query:
    """Read a query; dates in words count from `now` (default: the clock). Raises QuerySyntaxError (with `position`)."""
    if len(text) > MAX_CHARACTERS:
        raise _error(text, MAX_CHARACTERS, f"a query has at most {MAX_CHARACTERS:,} characters, this one has {len(text):,}; shorten it")
    for position, character in enumerate(text):
        if "\ud800" <= character <= "\udfff":
            raise _error(text, position, "this is no character (the input is not UTF-8)")
    reading = _Reading(text, syntax.utc(now) if now else datetime.now(timezone.utc))
    root = reading.root()
    return Query(root, tuple(sorted(reading.warnings, key=lambda warning: warning.position)), text)


@dataclass(slots=True)
class _Reading:
    """One query on its way through the parser."""

    text: str
    now: datetime
    warnings: list[QueryWarning] = field(default_factory=list)

    def root(self) -> Node | None:
        """Feed the tokens one by one, so that the place of an error is known."""
        parser = _parser()
        driver = parser.parse_interactive()
        last: Any = None
        for token in self._tokens(parser):
            try:
                driver.feed_token(token)
            except _unexpected_token() as error:
                raise self._misplaced(token, last) from error
            last = token
        if last is None:
            return None
        try:
            tree = driver.feed_eof(last)
        except _unexpected_token() as error:
            raise self._error(last.start_pos, f"{last} {_BOTH_SIDES}") from error
        return self._node(tree)

    def _tokens(self, parser: Any) -> Iterator[Any]:
        """The tokens; parentheses are balanced and not too deep."""
        opened: list[tuple[int, int]] = []
        depth = minus = excluded = 0
        try:
            for token in parser.lex(self.text):
                if token.type == "_MINUS":
                    minus, excluded = minus + 1, excluded + 1
                    if excluded > MAX_EXCLUDED:
                        raise self._error(
                            token.start_pos, f"more than {MAX_EXCLUDED} minus signs; leave some out, or write -(one OR other)"
                        )
                elif token.type == "_OPEN":
                    opened.append((token.start_pos, minus + 1))
                    depth, minus = depth + minus + 1, 0
                elif token.type == "_CLOSE":
                    if not opened:
                        raise self._error(token.start_pos, "this ')' closes nothing; remove it or write \\)")
                    depth, minus = depth - opened.pop()[1], 0
                else:
                    minus = 0
                if depth + minus > MAX_DEPTH:
                    raise self._error(token.start_pos, f"more than {MAX_DEPTH} parentheses or minus signs inside each other; simplify it")
                yield token
        except _unexpected_characters() as error:
            raise self._error(error.pos_in_stream, 'this quotation is not closed; add a " or write \\"') from error
        if opened:
            raise self._error(opened[-1][0], "this '(' is not closed; add a ) or write \\(")

    def _misplaced(self, token: Any, last: Any) -> QuerySyntaxError:
        if last is not None and last.type in ("_OR", "_AND"):
            return self._error(last.start_pos, f"{last} {_BOTH_SIDES}")
        if token.type in ("_OR", "_AND"):
            return self._error(token.start_pos, f'{token} {_BOTH_SIDES}; the word itself is written "{token}"')
        return self._error(last.start_pos if last is not None else token.start_pos, "nothing stands between these parentheses")

    def _node(self, tree: Any) -> Node | None:
        """The nodes of a tree; as deep as MAX_DEPTH allows."""
        if tree.data == "term":
            return self._term(tree.children[0])
        below = [node for child in tree.children if (node := self._node(child)) is not None]
        if tree.data == "excluded":
            return syntax.Not(below[0]) if below else None
        if len(below) < 2:
            return below[0] if below else None
        return syntax.Or(tuple(below)) if tree.data == "either" else syntax.And(tuple(below))

    def _term(self, token: Any) -> Node | None:
        raw, position = str(token), int(token.start_pos)
        if token.type == "OPERATOR":
            return self._operator(raw, position)
        if token.type == "QUOTED":
            return self._words(syntax.Phrase, _unescaped(raw[1:-1]), position)
        if token.type == "LINK":
            link = trimmed_link(_unescaped(raw)).strip()
            return syntax.Url(link) if link_words(link) else self._words(syntax.Word, link, position)
        if "\\" not in raw and (sign := unicodedata.normalize("NFKC", raw[0])) in _SIGNS:
            build, pattern = _SIGNS[sign]
            name = raw[1:].rstrip(_SENTENCE_END)
            if pattern.fullmatch(name):
                return build(name)
        if raw == "NOT":
            self._warn(position, 'NOT is searched as a word; to exclude a word write -word, to search for NOT write "NOT"')
        return self._words(syntax.Word, _unescaped(raw), position)

    def _words(self, build: Callable[[str], Node], text: str, position: int) -> Node | None:
        if words(text):
            return build(text)
        shown = f"{_printable(text[:_SHOWN])!r} holds no word and" if text.strip() else "an empty quotation"
        self._warn(position, f"{shown} is left out")
        return None

    def _operator(self, raw: str, position: int) -> Node | None:
        name, _, value = raw.partition(":")
        key = name.lower()
        is_quoted = value[:1] in _QUOTES and bool(value)
        value = _unescaped(value[1:-1] if is_quoted else value)
        if key not in NAMES:
            return self._unknown(name, value, is_quoted, position)
        value = value.strip()
        form = next(operator for operator in syntax.OPERATORS if operator.name == key)
        if not value.lstrip("@" if key in ("from", "to") else ""):
            raise self._error(position, f"{key}: needs a value right behind the colon; example: {form.example}")
        return self._built(key, value, position)

    def _unknown(self, name: str, value: str, is_quoted: bool, position: int) -> Node | None:
        if value:
            close = [*difflib.get_close_matches(name.lower(), NAMES, n=1), *filter(None, [syntax.OTHER_NAMES.get(name.lower())])]
            hint = f"did you mean '{close[-1]}:'?" if close else "operators are " + ", ".join(f"{known}:" for known in NAMES)
            self._warn(position, f"{name[:_SHOWN]}: is no operator and is searched as a word; {hint}")
        return self._words(syntax.Phrase if is_quoted else syntax.Word, f"{name}:{value}", position)

    def _built(self, key: str, value: str, position: int) -> Node:
        at = position + len(key) + 1
        match key:
            case "from" | "to":
                return (syntax.From if key == "from" else syntax.To)(value.lstrip("@"))
            case "url":
                if not link_words(value):
                    raise self._error(at, f"url:{_printable(value)} holds no word of a link; example: url:example.org/news")
                return syntax.Url(value)
            case "lang":
                code = value.lower().replace("_", "-")
                if not syntax.LANGUAGE.fullmatch(code):
                    raise self._error(at, f"{_printable(value)!r} is no language code; write en, pt-br, or und for posts without one")
                return syntax.Lang(code)
            case "since" | "until" | "within_time":
                return self._time(key, value, at)
            case "filter" | "label":
                return self._choice(key, value, at)
            case "conversation_id":
                return syntax.Conversation(value)
        return self._count(key, value, at)

    def _time(self, key: str, value: str, at: int) -> Node:
        try:
            if key == "within_time":
                return syntax.WithinTime(parse_length(value))
            moment = parse_date(value, self.now)
        except DateError as error:
            raise self._error(at, _printable(str(error))) from error
        return syntax.Since(moment) if key == "since" else syntax.Until(moment)

    def _choice(self, key: str, value: str, at: int) -> Node:
        allowed = syntax.FILTERS if key == "filter" else syntax.LABELS
        chosen = _OTHER_FILTERS.get(value.lower(), value.lower())
        for one in allowed:
            if one == chosen:
                return syntax.Has(one) if key == "filter" else syntax.Labelled()  # type: ignore[arg-type]
        close = difflib.get_close_matches(value.lower(), allowed, n=1)
        hint = f"did you mean {key}:{close[0]}?" if close else "it takes " + ", ".join(allowed)
        raise self._error(at, f"{key}: cannot be {_printable(value[:_SHOWN])!r}; {hint}")

    def _count(self, key: str, value: str, at: int) -> Node:
        what = next(what for what in syntax.COUNTED if key == f"min_{what}")
        if not value.isdecimal() or len(value) > 10 or int(value) > syntax.MAX_COUNT:
            raise self._error(at, f"{key}: needs a whole number up to {syntax.MAX_COUNT:,}, not {_printable(value[:_SHOWN])!r}")
        return syntax.AtLeast(what, int(value))

    def _warn(self, position: int, message: str) -> None:
        self.warnings.append(QueryWarning(position, message))

    def _error(self, position: int, message: str) -> QuerySyntaxError:
        return _error(self.text, position, message)


_SIGNS: Final[dict[str, tuple[Callable[[str], Node], re.Pattern[str]]]] = {
    "#": (syntax.Hashtag, syntax.TAG), "@": (syntax.Mention, syntax.MENTIONED), "$": (syntax.Cashtag, syntax.CASHTAG),
}  # fmt: skip
_OTHER_FILTERS: Final = {"retweets": "reposts", "nativeretweets": "reposts", "link": "links", "reply": "replies", "repost": "reposts"}
"""How other platforms call a filter; each means exactly ours."""


def _unescaped(raw: str) -> str:
    return _ESCAPED.sub(r"\1", raw) if "\\" in raw else raw


def _error(text: str, position: int, message: str) -> QuerySyntaxError:
    """The message with the part of the query around the position, and a caret below it."""
    start = max(0, position - _SHOWN // 2)
    before, after = _printable(text[start:position]), _printable(text[position : start + _SHOWN])
    lead, tail = "..." if start else "", "..." if len(text) > start + _SHOWN else ""
    width = len(lead) + sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in before)
    return QuerySyntaxError(f"query, character {position + 1}: {message}\n  {lead}{before}{after}{tail}\n  {' ' * width}^", position)


def _printable(text: str) -> str:
    """One line that shows on any terminal: what has no width or moves the cursor becomes a dot."""
    return "".join(character if character.isprintable() and not unicodedata.combining(character) else "." for character in text)


@cache
def _parser() -> Any:
    try:
        import lark
    except ImportError as error:
        raise MissingExtraError("lark", EXTRA, "the query language") from error
    return lark.Lark(_GRAMMAR.read_text(encoding="utf-8"), parser="lalr", lexer="basic")


def _unexpected_token() -> Any:
    import lark

    return lark.UnexpectedToken


def _unexpected_characters() -> Any:
    import lark

    return lark.UnexpectedCharacters


__all__ = ["MAX_CHARACTERS", "MAX_DEPTH", "MAX_EXCLUDED", "parse"]
