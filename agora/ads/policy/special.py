"""Housing, jobs, credit, politics. Goes in: texts, brief, targeting. Comes out: which category they are, and what is not allowed there.

The category is the brief's own word, or what the texts are found to be about: whoever does not say it is found all the same. Such an ad
loses targeting by age, sex, postcode and lookalikes, and needs a person's release of these very texts.

Not covered: law. Other categories and stricter rules hold in many places, and a release is no legal advice.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import regex

from agora.ads.brief import SPECIAL_CATEGORIES
from agora.ads.policy.frames import read_frames
from agora.ads.policy.rules import SPECIAL, in_language, joined, read_table

WHAT: Final = {"ages": "age", "sexes": "sex", "postcodes": "postcode", "lookalike": "likeness (a lookalike audience)"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A person's word that these texts may run. `texts_sha256` names them: other texts need another release. `pictures_sha256`: what the
    pictures showed then (pixels); one that is changed later needs another release too."""

    by: str
    at: str
    texts_sha256: str
    note: str = ""
    pictures_sha256: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Targeting:
    """Who is to see an ad. Empty means everybody."""

    audience: str = ""
    ages: tuple[int, ...] = ()
    sexes: tuple[str, ...] = ()
    postcodes: tuple[str, ...] = ()
    lookalike: bool = False
    release: Release | None = None

    def forbidden(self) -> tuple[str, ...]:
        """Names of what is set here and not allowed in a special category."""
        return tuple(name for name in WHAT if getattr(self, name))


def allowed_targeting(targeting: Targeting, categories: Sequence[str]) -> Targeting:
    """`targeting` without what the categories forbid; unchanged where there is none."""
    return replace(targeting, ages=(), sexes=(), postcodes=(), lookalike=False) if categories else targeting


def categories_of(texts: Mapping[str, str], language: str, declared: str | None = None) -> dict[str, tuple[str, str]]:
    """Special categories, each with the field and the words that show it; the declared one first."""
    found = {declared: ("brief", declared)} if declared else {}
    for category in SPECIAL_CATEGORIES:
        for pattern in in_language(_patterns()[category], language):
            for field, text in texts.items():
                if category not in found and (match := pattern.search(text)):
                    found[category] = (field, match.group())
        for field, text in texts.items():
            if category not in found and (reading := next(read_frames(text, language, f"{SPECIAL}.{category}"), None)):
                found[category] = (field, reading.span)
    return found


def texts_sha256(texts: Mapping[str, str]) -> str:
    """What a release names."""
    return hashlib.sha256(json.dumps(dict(sorted(texts.items())), ensure_ascii=False).encode()).hexdigest()


@functools.cache
def _patterns() -> dict[str, dict[str, regex.Pattern[str]]]:
    table = read_table(SPECIAL)
    return {category: {language: joined(some) for language, some in table[category].items()} for category in SPECIAL_CATEGORIES}


__all__ = ["WHAT", "Release", "Targeting", "allowed_targeting", "categories_of", "texts_sha256"]
