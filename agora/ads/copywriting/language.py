"""What the studio knows of a language: connecting words between facts, and words that make or limit a claim. Read from data/*.toml.

A language without a file gets data/neutral.toml: facts and punctuation alone.
"""

from __future__ import annotations

import functools
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

NEUTRAL: Final = "neutral"
RANK: Final = "#1"
"""How "No. 1", "number one" and the like are written where claims are checked."""
_SLOT: Final = re.compile(r"\{\w+\}")
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_UNSPACED_LANGUAGES: Final = ("ja", "zh", "th", "lo", "km", "my")
_OTHER_WORDS: Final = (
    "limits", "conditions", "subordinators", "periods", "promises", "manner", "small", "meant_for", "easy", "giving", "passing", "when",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Language:
    """`connecting`: words (unspaced languages: pieces) that claim nothing. `qualifiers` limit what a fact says, so they are never dropped.
    `templates`: field -> patterns of all tones; `toned`: tone -> field -> further patterns."""

    code: str
    is_known: bool
    is_unspaced: bool
    sentence_end: str
    advertisement: str
    templates: Mapping[str, tuple[str, ...]]
    toned: Mapping[str, Mapping[str, tuple[str, ...]]]
    phrases: frozenset[str]
    """Whole clauses of patterns without a slot, folded."""
    connecting: frozenset[str]
    superlatives: frozenset[str]
    superlative_endings: tuple[str, ...]
    not_superlatives: frozenset[str]
    qualifiers: frozenset[str]
    negations: frozenset[str]
    number_words: frozenset[str]
    endings: frozenset[str]
    limits: frozenset[str] = frozenset()
    """Words that weaken or deny what their clause says, besides `negations`."""
    conditions: frozenset[str] = frozenset()
    """Words that limit their whole sentence."""
    subordinators: frozenset[str] = frozenset()
    """Words that begin a clause that is no sentence by itself."""
    periods: frozenset[str] = frozenset()
    """Words behind a price that say for what it is."""
    promises: frozenset[str] = frozenset()
    """What a seller promises ("guarantee"); `*` stands for any letters."""
    manner: frozenset[str] = frozenset()
    """Words before how something is done ("by bike")."""
    small: frozenset[str] = frozenset()
    """Words between things: where one thing ends in a text."""
    meant_for: frozenset[str] = frozenset()
    """Words before what something is meant for, all of its kind."""
    easy: frozenset[str] = frozenset()
    """Words that only add to a promise."""
    giving: frozenset[str] = frozenset()
    """Words before what is given ("includes")."""
    passing: frozenset[str] = frozenset()
    """Words behind a thing that do not name it ("outdoors")."""
    when: frozenset[str] = frozenset()
    """Words for when a number holds ("in November", "at low power")."""

    def patterns(self, field: str, tone: str) -> tuple[str, ...]:
        """The patterns of a field: those of the tone first."""
        return self.toned.get(tone, {}).get(field, ()) + self.templates.get(field, ())

    def is_superlative(self, word: str) -> bool:
        """Whether a word (folded) raises a product above others, or above doubt."""
        if word in self.superlatives or word == RANK:
            return True
        return len(word) > 5 and word.endswith(self.superlative_endings or ("\0",)) and word not in self.not_superlatives


def known_languages() -> tuple[str, ...]:
    """Languages with connecting words of their own."""
    folder = files("agora.ads.copywriting").joinpath("data")
    return tuple(sorted(one.name[:-5] for one in folder.iterdir() if one.name.endswith(".toml") and one.name[:-5] != NEUTRAL))


@functools.cache
def language_named(code: str) -> Language:
    """What is known of a language."""
    is_known = code in known_languages()
    name = code if is_known else NEUTRAL
    table = tomllib.loads(files("agora.ads.copywriting").joinpath(f"data/{name}.toml").read_text(encoding="utf-8"))
    templates = {field: tuple(some) for field, some in table["templates"].items() if isinstance(some, list)}
    toned = {
        tone: {field: tuple(some) for field, some in fields.items()}
        for tone, fields in table["templates"].items()
        if isinstance(fields, dict)
    }
    words = {key: frozenset(text.casefold().split()) for key, text in table["claims"].items()}
    is_unspaced = code in _UNSPACED_LANGUAGES
    phrases = frozenset(
        one.casefold().strip(" .!?¡¿。！？")
        for fields in (templates, *toned.values())
        for some in fields.values()
        for one in some
        if "{" not in one
    )
    connecting = words["connecting"] | _function_words(code)
    patterns = [one for fields in (templates, *toned.values()) for some in fields.values() for one in some]
    if not is_unspaced:
        connecting |= {word.casefold() for one in patterns for word in _WORD.findall(_SLOT.sub(" ", one))}
    return Language(
        code=code, is_known=is_known, is_unspaced=is_unspaced, sentence_end=table["sentence_end"], advertisement=table["advertisement"],
        templates=templates, toned=toned, phrases=phrases, connecting=connecting, superlatives=words["superlatives"],
        superlative_endings=tuple(sorted(words["superlative_endings"])), not_superlatives=words["not_superlatives"],
        qualifiers=words["qualifiers"] | words.get("limits", frozenset()) | words.get("conditions", frozenset()),
        negations=words["negations"], number_words=words["number_words"],
        endings=words["endings"],
        **{key: words.get(key, frozenset()) for key in _OTHER_WORDS},
    )  # fmt: skip


@functools.cache
def _function_words(code: str) -> frozenset[str]:
    """Articles, pronouns, prepositions, as agora.text knows them."""
    tables = json.loads(files("agora.text").joinpath("function_words.json").read_text(encoding="utf-8"))
    found = [words[code] for script in ("latin", "cyrillic", "arabic") if code in (words := tables[script])]
    return frozenset(" ".join(found).casefold().split())


__all__ = ["NEUTRAL", "RANK", "Language", "known_languages", "language_named"]
