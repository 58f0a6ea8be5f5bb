"""Which concepts together break a rule. Read from data/frames.toml, which holds for every language: "heal condition" is found in
"cures acne" and in "lindert Migraine" alike.

A frame is a list of concepts that stand near each other: in one sentence, or in up to three short ones in a row. `a > b`: in this order.
`-c`: and c is not there. `a/b`: one of them.
"""

from __future__ import annotations

import functools
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import regex

from agora.ads.policy.concepts import Found, find_concepts
from agora.ads.policy.rules import SPECIAL

MOST_CHARACTERS: Final = 150
"""Sentences in a row are read together up to this length."""
_SENTENCE: Final = regex.compile(r"[^.!?。！？…\n]+(?:[.!?。！？…]+(?!\d))?|[.!?。！？…]+")
_WIDTH: Final = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """`parts`: for each, the concepts that will do. `without`: concepts that must not stand there."""

    parts: tuple[frozenset[str], ...]
    without: frozenset[str]
    is_ordered: bool


@dataclass(frozen=True, slots=True)
class Reading:
    """A frame found in a text: what it spans, and the words of each part."""

    span: str
    parts: tuple[str, ...]


def read_frames(text: str, language: str, rule: str) -> Iterator[Reading]:
    """Every frame of a rule that a text holds, each once."""
    frames = frames_of(rule)
    if not frames:
        return
    places = find_concepts(text, language)
    for start, end in windows(text):
        here = [one for one in places if one.start >= start and one.end <= end]
        names = {one.concept for one in here}
        for frame in frames:
            if frame.without & names or not all(part & names for part in frame.parts):
                continue
            chosen = _chosen(frame, here)
            if chosen:
                first, last = min(one.start for one in chosen), max(one.end for one in chosen)
                yield Reading(text[first:last].strip(), tuple(text[one.start : one.end].strip() for one in chosen))


@functools.cache
def frames_of(rule: str) -> tuple[Frame, ...]:
    """The frames of a rule; none where data/frames.toml has none."""
    return tuple(_frame(one) for one in _table().get(rule, ()))


def windows(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of each sentence, and of short sentences in a row."""
    sentences = [match.span() for match in _SENTENCE.finditer(text) if match.group().strip()]
    for first, width in itertools.product(range(len(sentences)), range(_WIDTH)):
        if first + width < len(sentences):
            start, end = sentences[first][0], sentences[first + width][1]
            if width == 0 or end - start <= MOST_CHARACTERS:
                yield start, end


def _chosen(frame: Frame, here: Sequence[Found]) -> tuple[Found, ...]:
    """One place for each part, no two at the same place; the closest together. Empty when there is none."""
    options = [[one for one in here if one.concept in part][:8] for part in frame.parts]
    best: tuple[Found, ...] = ()
    for some in itertools.product(*options):
        apart = all(one.end <= other.start or other.end <= one.start for one, other in itertools.combinations(some, 2))
        if not apart or (frame.is_ordered and any(one.start > other.start for one, other in itertools.pairwise(some))):
            continue
        if not best or _extent(some) < _extent(best):
            best = some
    return best


def _extent(some: Sequence[Found]) -> int:
    return max(one.end for one in some) - min(one.start for one in some)


def _frame(text: str) -> Frame:
    words = text.replace(">", " > ").split()
    parts = [frozenset(word.split("/")) for word in words if word != ">" and not word.startswith("-")]
    return Frame(tuple(parts), frozenset(word[1:] for word in words if word.startswith("-")), ">" in words)


@functools.cache
def _table() -> Mapping[str, Sequence[str]]:
    table = tomllib.loads(files("agora.ads.policy").joinpath("data/frames.toml").read_text(encoding="utf-8"))
    special = table.pop(SPECIAL)
    return {**table, **{f"{SPECIAL}.{category}": frames for category, frames in special.items()}}


__all__ = ["Frame", "Reading", "frames_of", "read_frames", "windows"]
