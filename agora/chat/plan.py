"""What is to be done with a message. Goes in: the turns of a conversation. Comes out: a plan: posts or none, which questions, which time.

    make_plan(remembered, now=now).kind      'posts', or 'calculation', 'talk', 'about', 'clock', 'trends', 'explain', 'free'

By rules over the person's own words: neither a model nor a post decides whether posts are asked. In doubt, posts are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any, Final

from agora.chat.calculator import is_expression
from agora.chat.events import Kind
from agora.chat.followup import follow_up, is_more
from agora.chat.memory import Remembered

_LISTS: Final = tomllib.loads(resources.files("agora.chat").joinpath("phrases.toml").read_text(encoding="utf-8"))
_PARTS: Final = {
    "{hello}": f"(?:{'|'.join(_LISTS['hello'])})",
    "{polite}": "|".join(_LISTS["polite"]),
    "{you}": r"(?:\s+(?:there|all|everyone|folks|friend|agora|assistant|bot|again|you))*",
    "{when}": "(?: (?:right now|now|today|tonight|here|lately|at the moment|currently|this (?:hour|morning|week|evening)))*",
}


def _pattern(section: str, name: str, before: str = "") -> re.Pattern[str]:
    text = "|".join(_LISTS[section][name])
    for part, words in _PARTS.items():
        text = text.replace(part, words)
    return re.compile(f"{before}(?:{text})", re.IGNORECASE)


_ASKED: Final = rf"(?:(?:{_PARTS['{polite}']})\W+)*"
_TALK: Final = {name: _pattern("talk", name) for name in _LISTS["talk"]}
_KINDS: Final = {name: _pattern("kinds", name, _ASKED) for name in _LISTS["kinds"]}
_FREE: Final = _pattern("begins", "free", rf"^\W*{_ASKED}")
_ON_POSTS: Final = _pattern("holds", "posts")
_OPINION: Final = _pattern("holds", "opinion")
_EXPLAIN: Final = _pattern("shown", "explain")
_COUNT: Final = _pattern("shown", "sum")
_DATE: Final = re.compile(r"\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4}|[\d\s-]+|\d+/\d+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """`questions` stand alone, best first; each is tried until posts answer one. `subject`: the expression, the post, or the kind of talk.
    `is_opinion`: it asks what people think, which a coordinated group alone cannot answer. `skip`: posts that were shown already, where
    more is asked for. `before`: the question to posts before it, as it was understood."""

    kind: Kind
    questions: tuple[str, ...]
    subject: str = ""
    is_opinion: bool = False
    skip: frozenset[str] = frozenset()
    before: str | None = None


def make_plan(remembered: Remembered, *, now: datetime) -> Plan:
    """Read the last message after those before it."""
    said = " ".join(remembered.said.split())
    if plan := _without_posts(said, remembered.turns):
        return plan
    before = _last_question(remembered.turns, now)
    questions = follow_up(said, before, now)
    skip = _shown(remembered.turns) if is_more(said) else frozenset[str]()
    return Plan(kind="posts", questions=questions, is_opinion=any(_OPINION.search(one) for one in questions), skip=skip, before=before)


def _without_posts(said: str, turns: Sequence[Mapping[str, Any]]) -> Plan | None:
    """The plan of a message that asks for no posts, or not for a search."""
    bare = said.strip(" ?!.,…:;)(")
    for talk, pattern in _TALK.items():
        if pattern.fullmatch(bare):
            return Plan(kind="talk", questions=(said,), subject=talk)
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(bare):
            return Plan(kind=kind, questions=(said,))  # type: ignore[arg-type]
    if expression := _expression(said):
        return Plan(kind="calculation", questions=(said,), subject=expression)
    if (match := _EXPLAIN.search(said)) and (post := _post_meant(match, turns)):
        return Plan(kind="explain", questions=(said,), subject=post)
    if _FREE.match(said) and not _ON_POSTS.search(said):
        return Plan(kind="free", questions=(said,))
    return None


def _expression(said: str) -> str | None:
    match = _COUNT.match(said)
    text = match.group("sum") if match else ""
    if not any(character.isdigit() for character in text) or _DATE.fullmatch(text):
        return None
    return text if is_expression(text) else None


def _post_meant(match: re.Match[str], turns: Sequence[Mapping[str, Any]]) -> str | None:
    """The post that is named, by its id or by its number in the last answer; without either, the only one that answer cites."""
    cited = _cited(turns)
    number = match.group("number") or match.group("nth")
    if number and int(number) in cited:
        return cited[int(number)]
    if match.group("id"):
        return match.group("id").strip("[]\"'“”")
    if number:
        return number if match.group("nth") else None
    return next(iter(cited.values())) if len(cited) == 1 else None


def _cited(turns: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """The posts of the last answer by their numbers, where the messages carry them (`citations`, as in Reply)."""
    last = next((turn for turn in reversed(turns) if turn["role"] == "assistant"), None)
    return dict(_citations(last)) if last is not None else {}


def _citations(turn: Mapping[str, Any]) -> list[tuple[int, str]]:
    found = []
    for one in turn.get("citations") or ():
        if isinstance(one, Mapping) and isinstance(one.get("number"), int) and isinstance(one.get("post_id"), str):
            found.append((one["number"], one["post_id"]))
    return found


def _shown(turns: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    return frozenset(post for turn in turns if turn["role"] == "assistant" for _, post in _citations(turn))


def _last_question(turns: Sequence[Mapping[str, Any]], now: datetime) -> str | None:
    """The last question to posts, as it was understood after those before it."""
    question: str | None = None
    for turn in turns:
        if turn["role"] != "user" or not turn["content"].strip():
            continue
        said = " ".join(turn["content"].split())
        if len(said) <= _MAX and _without_posts(said, ()) is None:
            question = follow_up(said, question, now)[0]
    return question if question is None or len(question) <= _MAX else None


_MAX: Final = 1_000
"""A longer turn is no question to refer back to."""

__all__ = ["Plan", "make_plan"]
