"""May this ad run? Goes in: its texts, the brief, the targeting. Comes out: findings, each with rule, place and reason.

    findings = check(copy, brief, targeting)

Rules are files: patterns (data/*.toml), and concepts that break a rule together (data/frames.toml, data/concepts: one file a language).
Words in disguise are read plainly. Where MiniLM is installed, what is near in meaning to a known violation is held for a person
(likeness.py).
`block` means that it does not run; `review` that a person has to look.
Not covered: pictures, the page behind the link, irony, languages without concepts (numbers, marks and shouting are found in all).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from agora.ads.brief import Brief
from agora.ads.copywriting.claims import blocked_in, unsupported
from agora.ads.copywriting.copies import Copy
from agora.ads.copywriting.language import language_named
from agora.ads.copywriting.shorten import without_emoji
from agora.ads.copywriting.symbols import unsupported_signs
from agora.ads.copywriting.words import NAMES
from agora.ads.policy import likeness
from agora.ads.policy.concepts import in_digits
from agora.ads.policy.disguise import plainly
from agora.ads.policy.frames import read_frames
from agora.ads.policy.rules import RULES, SPECIAL, Rule, Severity, in_language, read_table, rule_named
from agora.ads.policy.special import WHAT, Targeting, categories_of, texts_sha256
from agora.ads.sensitive import touches

NUMBER, QUANTITY, SHOUTING, SUPERLATIVE, TRADEMARK = "number", "quantity", "shouting", "superlative", "trademark"
NUMBER_REASON = "A number needs a proof: no fact of the brief has it with this unit. Correct it, or add the fact with its source."
_SENTENCE = regex.compile(r"(?<=[.!?。！？])\s*")
_COMPARED = regex.compile(r"\b(?:wie|als|statt)$", regex.IGNORECASE)
_NOUNS = frozenset(["Orange", "Polo", "Diesel", "Mini", "Coach", "Mars", "Boss", "Shell", "Galaxy", "Visa"])
"""Ambiguous marks that are common nouns in German, where every noun has a capital."""
_REACH = 20
"""Characters between "works with" and the mark that it works with."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that a rule has against an ad. `span` is the part of the text; of targeting, its name."""

    rule: str
    severity: Severity
    field: str
    span: str
    reason: str

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {"rule": self.rule, "severity": self.severity, "field": self.field, "span": self.span, "reason": self.reason}


def check(
    copy: Copy | Mapping[str, str],
    brief: Brief,
    targeting: Targeting | None = None,
    *,
    language: str | None = None,
    by_meaning: bool = True,
    campaign: Sequence[str] = (),
) -> list[Finding]:
    """All findings, in the order of the rules; each part of a text once per rule. `by_meaning` false: by the rules alone, also where
    MiniLM is installed. `campaign`: special categories that the campaign was declared as, or that other ads of it are about; they hold for
    this ad too."""
    texts = copy.texts() if isinstance(copy, Copy) else dict(copy)
    aimed = targeting or Targeting()
    is_released = aimed.release is not None and aimed.release.texts_sha256 == texts_sha256(texts)
    spoken = language or (copy.language if isinstance(copy, Copy) else brief.languages[0])
    found: dict[tuple[str, str], Finding] = {}
    for field, written in texts.items():
        text, disguised = plainly(written)
        for one in unsupported(written, brief.statements(), spoken):
            _note(found, Finding(rule=NUMBER, severity="block", field=field, span=one.text, reason=NUMBER_REASON))
        for sign in unsupported_signs(written, brief.statements(), language_named(spoken)):
            name, reason = (NUMBER, NUMBER_REASON) if sign.kind == "number" else (SUPERLATIVE, rule_named(SUPERLATIVE).reason)
            _note(found, Finding(rule=name, severity="block", field=field, span=sign.text, reason=reason))
        for span in disguised:
            _note(found, Finding(rule=SHOUTING, severity="block", field=field, span=span, reason=rule_named(SHOUTING).reason))
        for name in RULES:
            rule = rule_named(name)
            looked_at = _without_innocent(rule, written if name == SHOUTING else without_emoji(text), spoken)
            for span in itertools.chain(_FINDERS.get(name, _matches)(rule, looked_at, spoken), _by_frames(rule, looked_at, spoken, brief)):
                if not _allowed_by_fact(rule, span, looked_at, brief, spoken):
                    _note(found, Finding(rule=name, severity=rule.severity, field=field, span=span.strip(), reason=rule.reason))
    meant: dict[str, tuple[str, str]] = {}
    if by_meaning and likeness.is_available(spoken) and not is_released:
        topics = copy.topics if isinstance(copy, Copy) else ()
        traced = [field for field, text in texts.items() if not blocked_in(text, brief.statements(spoken), spoken, topics=topics)]
        meant = _by_meaning(texts, found, traced)
    categories = {one: ("campaign", one) for one in campaign} | meant | _categories(texts, spoken, brief)
    return [*found.values(), *_special(categories, aimed, is_released=is_released)]


def special_categories(copy: Copy, brief: Brief) -> tuple[str, ...]:
    """The special categories of an ad: the brief's own, and what its texts are about, whether they were released or not."""
    return tuple(_categories(copy.texts(), copy.language, brief))


def special_by_meaning(brief: Brief) -> tuple[str, ...]:
    """The special category that a brief as a whole is near to in meaning, where MiniLM is installed and facts are in English."""
    statements = [one.text for one in (*brief.offers, *brief.facts) if one.language == likeness.LANGUAGE]
    if not statements or not likeness.is_available(likeness.LANGUAGE):
        return ()
    found = likeness.special_of([brief.product, *statements])
    return () if found is None else (found,)


def _categories(texts: Mapping[str, str], language: str, brief: Brief) -> dict[str, tuple[str, str]]:
    return categories_of({field: plainly(text)[0] for field, text in texts.items()}, language, brief.special_category)


def is_blocked(findings: Sequence[Finding]) -> bool:
    """Whether the ad must not run as it is."""
    return any(finding.severity == "block" for finding in findings)


def _note(found: dict[tuple[str, str], Finding], finding: Finding) -> None:
    found.setdefault((finding.rule, finding.span.casefold()), finding)


def _without_innocent(rule: Rule, text: str, language: str) -> str:
    """`text` with a dash for each letter of a phrase that this rule lets pass."""
    for pattern in in_language(rule.innocent, language):
        text = pattern.sub(lambda match: "-" * len(match.group()), text)
    return text


def _by_meaning(texts: Mapping[str, str], found: dict[tuple[str, str], Finding], traced: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Notes texts near in meaning to known violations, where no rule found anything. Returns the special categories they are near to.
    `traced`: fields that facts carry; a rule that facts can allow says nothing of them."""
    categories: dict[str, tuple[str, str]] = {}
    is_clean = not found
    for field, text in texts.items():
        probabilities = likeness.meaning_of(text)
        near = likeness.nearest_rule(probabilities)
        for name, probability in probabilities.items():
            if near is not None and name.startswith(f"{SPECIAL}:") and (name == near or probability >= likeness.LEAST_OTHER):
                categories.setdefault(name.removeprefix(f"{SPECIAL}:"), (field, text))
        if near is not None and is_clean and not near.startswith(f"{SPECIAL}:") and not (_allows_facts(near) and field in traced):
            reason = likeness.LIKENESS_REASON.format(rule=near)
            _note(found, Finding(rule=near, severity="review", field=field, span=text, reason=reason))
    return categories


def _allows_facts(name: str) -> bool:
    return name == TRADEMARK or rule_named(name).unless_in_brief


def _by_frames(rule: Rule, text: str, language: str, brief: Brief) -> Iterator[str]:
    """Concepts that break the rule together. Of a rule that a fact can allow: where no single fact says all of them."""
    known = {one.text.casefold() for one in brief.statements() if one.id in NAMES}
    for reading in read_frames(text, language, rule.name):
        if rule.name == TRADEMARK and any(
            part.casefold() in known or _allowed_by_fact(rule, part, text, brief, language) for part in reading.parts
        ):
            continue
        if not (
            rule.unless_in_brief and any(all(_says(fact.text, part, language) for part in reading.parts) for fact in brief.statements())
        ):
            yield reading.span


def _allowed_by_fact(rule: Rule, span: str, text: str, brief: Brief, language: str) -> bool:
    """Whether a fact says this, where a fact can allow it. A mark is allowed only as what the product fits, by text and fact alike."""
    if rule.name == TRADEMARK:
        return _fits(rule, span, text, language) and any(_fits(rule, span, one.text, language) for one in brief.statements())
    return rule.unless_in_brief and any(_says(one.text, span, language) for one in brief.statements())


def _fits(rule: Rule, mark: str, text: str, language: str) -> bool:
    """Whether a text names a mark, each time, as what the product works with."""
    marks = [match.span() for match in regex.finditer(regex.escape(mark.strip()), text, regex.IGNORECASE)]
    fitting = [match for pattern in in_language(rule.parts["compatible"], language) for match in pattern.finditer(text)]
    return bool(marks) and all(any(_near(one, start, end) for one in fitting) for start, end in marks)


def _near(fitting: regex.Match[str], start: int, end: int) -> bool:
    """Whether the words of fitting stand just before a mark (or, in Japanese, behind it)."""
    return bool(0 <= start - fitting.end() <= _REACH or 0 <= fitting.start() - end <= 1)


def _says(fact: str, words: str, language: str) -> bool:
    """Whether a fact holds these words; "five litres" and "5 litres" are the same."""
    sought, whole = (" ".join(in_digits(text, language).split()) for text in (words, fact))
    return sought in whole


def _matches(rule: Rule, text: str, language: str) -> Iterator[str]:
    for pattern in in_language(rule.patterns, language):
        for match in pattern.finditer(text):
            yield match.group()


def _medical(rule: Rule, text: str, language: str) -> Iterator[str]:
    """Promises by themselves, and a verb of healing in one sentence with an illness."""
    yield from _matches(rule, text, language)
    for sentence in _SENTENCE.split(text):
        verb = next((match for pattern in in_language(rule.parts["verbs"], language) if (match := pattern.search(sentence))), None)
        ill = [match.group() for pattern in in_language(rule.parts["conditions"], language) if (match := pattern.search(sentence))]
        ill += [touch.word for touch in touches(sentence, languages=[language]) if touch.topic == "health"]
        if verb is not None and ill:
            yield sentence.strip()


def _personal(rule: Rule, text: str, language: str) -> Iterator[str]:
    """A private matter and the reader in one or two neighbouring sentences, or a private matter as a question."""
    yield from _matches(rule, text, language)
    address = in_language(rule.parts["address"], language)
    sentences = [sentence for sentence in _SENTENCE.split(text) if sentence.strip()]
    for number, sentence in enumerate(sentences):
        private = next(touches(sentence, languages=[language]), None)
        if private is None:
            continue
        near = " ".join(sentences[max(0, number - 1) : number + 2])
        if sentence.rstrip().endswith(("?", "？")) or any(pattern.search(near) for pattern in address):
            yield private.word


def _trademark(rule: Rule, text: str, language: str) -> Iterator[str]:
    yield from _matches(rule, text, language)
    assert rule.marks is not None and rule.ambiguous is not None
    for match in rule.marks.finditer(text):
        yield match.group()
    for match in rule.ambiguous.finditer(text):
        before = text[: match.start()].rstrip()
        is_compared = _COMPARED.search(before) is not None and match.group() not in _NOUNS
        if is_compared if language == "de" else before and before[-1] not in ".!?:;–—|":
            yield match.group()


def _special(categories: Mapping[str, tuple[str, str]], targeting: Targeting, *, is_released: bool) -> Iterator[Finding]:
    table = read_table(SPECIAL)
    for category, (field, span) in categories.items():
        for name in targeting.forbidden():
            reason = table["reason_targeting"].format(category=category, what=WHAT[name])
            yield Finding(rule=f"{SPECIAL}:{category}", severity="block", field="targeting", span=name, reason=reason)
        if not is_released:
            reason = table["reason_release"].format(category=category)
            yield Finding(rule=f"{SPECIAL}:{category}", severity="review", field=field, span=span, reason=reason)


_FINDERS = {"medical": _medical, "personal": _personal, "trademark": _trademark}

__all__ = ["NUMBER", "QUANTITY", "Finding", "check", "is_blocked", "special_by_meaning", "special_categories"]
