"""The rule files as objects. Each names severity, reason and patterns per language; `any` holds for every language.

A match that stands in a statement of the brief word for word is allowed where the rule says `unless_in_brief`.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Literal

import regex

Severity = Literal["block", "review"]
SPECIAL: Final = "special"
RULES: Final = ("superlative", "quantity", "before_after", "income", "medical", "personal", "trademark", "shouting")
_PARTS: Final = ("verbs", "conditions", "address", "compatible")
_CASED: Final = ("shouting",)
Patterns = Mapping[str, regex.Pattern[str]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """`patterns`: one per language. `parts`: what else the rule's file holds (verbs and conditions, address, words of fitting, marks).
    `innocent`: phrases that are read no further."""

    name: str
    severity: Severity
    reason: str
    unless_in_brief: bool
    patterns: Patterns
    parts: Mapping[str, Patterns]
    innocent: Patterns
    marks: regex.Pattern[str] | None = None
    ambiguous: regex.Pattern[str] | None = None


@functools.cache
def rule_named(name: str) -> Rule:
    """A rule of data/NAME.toml."""
    table = read_table(name)
    cased = name in _CASED
    patterns = {language: joined(some, cased=cased) for language, some in table.get("patterns", {}).items()}
    innocent = {language: joined(some) for language, some in table.get("innocent", {}).items()}
    given = {key: table[key] for key in _PARTS if key in table}
    parts: dict[str, Patterns] = {key: {lang: joined([one]) for lang, one in some.items()} for key, some in given.items()}
    return Rule(
        name=name, severity=table["severity"], reason=table["reason"], unless_in_brief=table.get("unless_in_brief", False),
        patterns=patterns, parts=parts, innocent=innocent, marks=_names(table.get("marks")), ambiguous=_names(table.get("ambiguous")),
    )  # fmt: skip


def read_table(name: str) -> dict[str, Any]:
    """A rule file as it is."""
    return tomllib.loads(files("agora.ads.policy").joinpath(f"data/{name}.toml").read_text(encoding="utf-8"))


def joined(patterns: list[str], *, cased: bool = False) -> regex.Pattern[str]:
    """One pattern that finds what any of them finds."""
    return regex.compile("|".join(f"(?:{one})" for one in patterns), 0 if cased else regex.IGNORECASE)


def in_language(patterns: Patterns, language: str) -> list[regex.Pattern[str]]:
    """What holds for a text in `language`."""
    return [patterns[key] for key in (language, "any") if key in patterns]


def _names(names: list[str] | None) -> regex.Pattern[str] | None:
    if not names:
        return None
    latin = [regex.escape(name) for name in names if name[0].isascii()]
    others = [regex.escape(name) for name in names if not name[0].isascii()]
    return regex.compile("|".join([rf"(?<![\p{{Latin}}\p{{N}}])(?:{'|'.join(latin)})(?![\p{{Latin}}\p{{N}}])", *others]))


__all__ = ["RULES", "SPECIAL", "Rule", "Severity", "in_language", "joined", "read_table", "rule_named"]
