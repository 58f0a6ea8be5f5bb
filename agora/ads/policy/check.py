"""May this ad run? Goes in: its texts, the brief, the targeting. Comes out: findings, each with rule, place and reason.

    findings = check(copy, brief, targeting)

Rules are files: patterns (data/*.toml), and concepts that break a rule together (data/frames.toml, data/concepts: one file a language). Words in
disguise are read plainly. Where MiniLM is installed, what is near in meaning to a known violation is held for a person (likeness.py).
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
from agora.ads.copywriting.claims import NAMES, unsupported
from agora.ads.copywriting.copies import Copy
from agora.ads.copywriting.shorten import without_emoji
from agora.ads.policy.concepts import in_digits
from agora.ads.policy.disguise import plainly
from agora.ads.policy.frames import read_frames
from agora.ads.policy.likeness import LIKENESS_REASON, nearest_rule
from agora.ads.policy.rules import RULES, SPECIAL, Rule, Severity, in_language, read_table, rule_named
from agora.ads.policy.special import WHAT, Targeting, categories_of, texts_sha256
from agora.ads.sensitive import touches

NUMBER, SHOUTING, TRADEMARK = "number", "shouting", "trademark"
NUMBER_REASON = "A number needs a proof: no fact of the brief has it with this unit. Correct it, or add the fact with its source."
_SENTENCE = regex.compile(r"(?<=[.!?。！？])\s*")


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
    copy: Copy | Mapping[str, str], brief: Brief, targeting: Targeting | None = None, *, language: str | None = None
) -> list[Finding]:
    """All findings, in the order of the rules; each part of a text once per rule."""
    texts = copy.texts() if isinstance(copy, Copy) else dict(copy)
    spoken = language or (copy.language if isinstance(copy, Copy) else brief.languages[0])
    found: dict[tuple[str, str], Finding] = {}
    for field, written in texts.items():
        text, disguised = plainly(written)
        for one in unsupported(written, brief.statements(), spoken):
            _note(found, Finding(rule=NUMBER, severity="block", field=field, span=one.text, reason=NUMBER_REASON))
        for span in disguised:
            _note(found, Finding(rule=SHOUTING, severity="block", field=field, span=span, reason=rule_named(SHOUTING).reason))
        for name in RULES:
            rule = rule_named(name)
            looked_at = _without_innocent(rule, written if name == SHOUTING else without_emoji(text), spoken)
            for span in itertools.chain(_FINDERS.get(name, _matches)(rule, looked_at, spoken), _by_frames(rule, looked_at, spoken, brief)):
                if not (rule.unless_in_brief and _in_brief(span, brief, spoken)):
                    _note(found, Finding(rule=name, severity=rule.severity, field=field, span=span.strip(), reason=rule.reason))
    if not found:
        _note_likeness(texts, spoken, found)
    plain = {field: plainly(text)[0] for field, text in texts.items()}
    return [*found.values(), *_special(texts, plain, brief, targeting or Targeting(), spoken)]


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


def _note_likeness(texts: Mapping[str, str], language: str, found: dict[tuple[str, str], Finding]) -> None:
    """What no rule found and MiniLM, where it is installed, finds near to known violations: for a person to see."""
    for field, text in texts.items():
        near = nearest_rule(text, language)
        if near is not None:
            _note(found, Finding(rule=near, severity="review", field=field, span=text, reason=LIKENESS_REASON.format(rule=near)))


def _by_frames(rule: Rule, text: str, language: str, brief: Brief) -> Iterator[str]:
    """Concepts that break the rule together. Of a rule that a fact can allow: where no single fact says all of them."""
    known = {one.text.casefold() for one in brief.statements() if one.id in NAMES}
    for reading in read_frames(text, language, rule.name):
        if rule.name == TRADEMARK and any(part.casefold() in known for part in reading.parts):
            continue
        if not (rule.unless_in_brief and any(all(_says(fact.text, part, language) for part in reading.parts) for fact in brief.statements())):
            yield reading.span


def _in_brief(span: str, brief: Brief, language: str) -> bool:
    return any(_says(one.text, span, language) for one in brief.statements())


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
        if before and before[-1] not in ".!?:;–—|" and language != "de":
            yield match.group()


def _special(
    texts: Mapping[str, str], plain: Mapping[str, str], brief: Brief, targeting: Targeting, language: str
) -> Iterator[Finding]:
    table = read_table(SPECIAL)
    for category, (field, span) in categories_of(plain, language, brief.special_category).items():
        for name in targeting.forbidden():
            reason = table["reason_targeting"].format(category=category, what=WHAT[name])
            yield Finding(rule=f"{SPECIAL}:{category}", severity="block", field="targeting", span=name, reason=reason)
        if targeting.release is None or targeting.release.texts_sha256 != texts_sha256(texts):
            reason = table["reason_release"].format(category=category)
            yield Finding(rule=f"{SPECIAL}:{category}", severity="review", field=field, span=span, reason=reason)


_FINDERS = {"medical": _medical, "personal": _personal, "trademark": _trademark}

__all__ = ["NUMBER", "Finding", "check", "is_blocked"]
