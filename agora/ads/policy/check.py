"""May this ad run? Goes in: its texts, the brief, the targeting. Comes out: findings, each with rule, place and reason.

    findings = check(copy, brief, targeting)

Rules are files (data/*.toml): add a language or a pattern there. `block` means that it does not run; `review` that a person has to look.
Not covered: pictures, the page behind the link, irony, languages without patterns (numbers, marks and shouting are found in all).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import regex

from agora.ads.brief import Brief
from agora.ads.copywriting.claims import unsupported
from agora.ads.copywriting.copies import Copy
from agora.ads.copywriting.shorten import without_emoji
from agora.ads.policy.rules import RULES, SPECIAL, Rule, Severity, in_language, read_table, rule_named
from agora.ads.policy.special import WHAT, Targeting, categories_of, texts_sha256
from agora.ads.sensitive import touches

NUMBER = "number"
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
    allowed = [" ".join(one.text.casefold().split()) for one in brief.statements()]
    found: dict[tuple[str, str], Finding] = {}
    for field, text in texts.items():
        for one in unsupported(text, brief.statements(), spoken):
            _note(found, Finding(rule=NUMBER, severity="block", field=field, span=one.text, reason=NUMBER_REASON))
        for name in RULES:
            rule = rule_named(name)
            for span in _FINDERS.get(name, _matches)(rule, without_emoji(text) if name != "shouting" else text, spoken):
                if not (rule.unless_in_brief and any(" ".join(span.casefold().split()) in said for said in allowed)):
                    _note(found, Finding(rule=name, severity=rule.severity, field=field, span=span.strip(), reason=rule.reason))
    return [*found.values(), *_special(texts, brief, targeting or Targeting(), spoken)]


def is_blocked(findings: Sequence[Finding]) -> bool:
    """Whether the ad must not run as it is."""
    return any(finding.severity == "block" for finding in findings)


def _note(found: dict[tuple[str, str], Finding], finding: Finding) -> None:
    found.setdefault((finding.rule, finding.span.casefold()), finding)


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


def _special(texts: Mapping[str, str], brief: Brief, targeting: Targeting, language: str) -> Iterator[Finding]:
    table = read_table(SPECIAL)
    for category, (field, span) in categories_of(texts, language, brief.special_category).items():
        for name in targeting.forbidden():
            reason = table["reason_targeting"].format(category=category, what=WHAT[name])
            yield Finding(rule=f"{SPECIAL}:{category}", severity="block", field="targeting", span=name, reason=reason)
        if targeting.release is None or targeting.release.texts_sha256 != texts_sha256(texts):
            reason = table["reason_release"].format(category=category)
            yield Finding(rule=f"{SPECIAL}:{category}", severity="review", field=field, span=span, reason=reason)


_FINDERS = {"medical": _medical, "personal": _personal, "trademark": _trademark}

__all__ = ["NUMBER", "Finding", "check", "is_blocked"]
