# ruff: noqa: E501 - lists of words
"""Does the policy find what must not run, and leave the rest alone? Ads written for this (benchmarks/ads_policy_*.txt), in ten languages.

python -m benchmarks ads_policy [--part A|B|...|N] [--learn yes]

An ad counts as found when any rule speaks; `right_rule` says how often it is the one that the suite names. Parts J and M are sealed: J is one
half of ads written without a look at the rules (I is the other half), M was written when the rules of the second round were done; of both
only totals were looked at, and no rule was changed for them: the figures to expect of ads that nobody has seen. All other parts were there to
work with (B was written beside the rules, C, F, G and H after the rules of their day, and then looked at; K against them; L is the second
round, N Dutch and Polish). The bars are held against A and B, by the rules alone; the sealed parts count in no bar and are measured by the
rules alone and, where the extra `minilm` is installed, with likeness in meaning, which is learnt from the English ads of all other parts
(--learn yes writes it anew). --quick: A and B alone. Precision is over violating and clean ads together.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agora.ads.brief import Brand, Brief, Fact
from agora.ads.policy import Release, Targeting, check, likeness, texts_sha256
from agora.ads.policy.check import NUMBER, QUANTITY
from agora.errors import UsageError
from agora.files import write_atomically
from benchmarks.registry import Benchmark, Result

SUITES = tuple(sorted(Path(__file__).parent.glob("ads_policy_*.txt")))
PARTS, SEALED = "ABCDEFGHIJKLMN", ("J", "M")
IN_BARS = ("A", "B")
NOT_LEARNT = ("shouting", "number")
RECALL_BAR, SPECIAL_BAR, PRECISION_BAR = 0.95, 1.0, 0.90
TARGETING = {
    "age": {"ages": (25, 40)}, "sex": {"sexes": ("female",)}, "postcode": {"postcodes": ("10115",)}, "lookalike": {"lookalike": True}, "-": {},
}  # fmt: skip


def _lines() -> Iterator[tuple[str, str, str, str, str]]:
    """Part, language, rule, what is given, text."""
    for suite in SUITES:
        for line in suite.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                of, language, rule, given, text = line.split("|")
                yield of, language, rule, given, text


def _found(language: str, rule: str, given: str, text: str, *, by_meaning: bool = False) -> list[str]:
    """Names of the rules that speak."""
    is_targeting = rule.startswith("special:") or given.startswith("clean:")
    facts = [] if given == "-" or is_targeting else given.split(";")
    brief = Brief(
        product="Lynx", brand=Brand(name="Norrland"), landing_page="https://shop.example", languages=(language,),
        facts=tuple(Fact(id=f"fact{at}", text=fact.strip(), source=f"suite:{at}", language=language) for at, fact in enumerate(facts)),
    )  # fmt: skip
    targeting = Targeting()
    if rule.startswith("special:"):
        targeting = Targeting(**TARGETING[given])  # type: ignore[arg-type]
    elif given.startswith("clean:"):
        released = Release(by="A. Person", at="2026-11-22T00:00:00+00:00", texts_sha256=texts_sha256({"primary_text": text}))
        targeting = Targeting(release=released)
    findings = check({"primary_text": text}, brief, targeting, language=language, by_meaning=by_meaning)
    return [NUMBER if finding.rule == QUANTITY else finding.rule for finding in findings]


def _learn() -> None:
    """Write what likeness in meaning knows."""
    examples = [
        (rule, text) for of, language, rule, given, text in _lines()
        if language == likeness.LANGUAGE and of not in SEALED and rule not in NOT_LEARNT and not given.startswith("clean:")
    ]  # fmt: skip
    target = Path(likeness.__file__).parent / "data" / likeness.FILE
    write_atomically(target, json.dumps(likeness.learn(examples)) + "\n")


def _run(quick: bool, options: dict[str, str]) -> Result:
    part = options.get("part", "")
    if part not in ("", *PARTS):
        raise UsageError(f"--part {part!r} must be one of {', '.join(PARTS)}")
    if "learn" in options:
        _learn()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    missed, wrong = [], []
    with_meaning = likeness.is_available(likeness.LANGUAGE)
    for of, language, rule, given, text in _lines():
        if part not in ("", of) or (quick and of not in IN_BARS):
            continue
        found = _found(language, rule, given, text)
        for key in ("bars", of) if of in IN_BARS or part else (of,):
            _count(counts[key], rule, found)
        if of in SEALED:
            groups = ("all", "English" if language == likeness.LANGUAGE else "other languages")
            meant = _found(language, rule, given, text, by_meaning=True) if with_meaning else None
            for group in groups:
                _count(counts[f"{of}, {group}, rules alone"], rule, found)
                if meant is not None:
                    _count(counts[f"{of}, {group}, with meaning"], rule, meant)
        if of not in SEALED and rule == "-" and found:
            wrong.append(f"{of} {language} {found}: {text}")
        elif of not in SEALED and rule not in ("-", *found):
            missed.append(f"{of} {language} {rule} (found {found}): {text}")
    figures: dict[str, Any] = {key: _figures(counts[key]) for key in sorted(counts)}
    bars = figures["bars"]
    holds = bars["recall"] >= RECALL_BAR and bars["special_recall"] >= SPECIAL_BAR and bars["precision"] >= PRECISION_BAR
    details = {
        **figures, "bars_are": {"recall": RECALL_BAR, "special_recall": SPECIAL_BAR, "precision": PRECISION_BAR},
        "other_rule_or_missed": missed, "found_in_clean": wrong,
    }  # fmt: skip
    return Result(value=bars["recall"], holds=holds, details=details)


def _count(counts: Counter[str], rule: str, found: list[str]) -> None:
    if rule == "-":
        counts["clean"] += 1
        counts["clean_found"] += bool(found)
        return
    counts["violating"] += 1
    counts["violating_found"] += bool(found)
    counts["right_rule"] += rule in found
    if rule.startswith("special"):
        counts["special"] += 1
        counts["special_found"] += rule in found


def _figures(counts: Counter[str]) -> dict[str, float]:
    flagged = counts["violating_found"] + counts["clean_found"]
    return {
        "violating": counts["violating"], "clean": counts["clean"], "recall": round(counts["violating_found"] / counts["violating"], 4),
        "right_rule": round(counts["right_rule"] / counts["violating"], 4), "precision": round(counts["violating_found"] / max(1, flagged), 4),
        "special_recall": round(counts["special_found"] / max(1, counts["special"]), 4),
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="ads that break a rule and are found, of 225 violating and 200 clean ads written for it", unit="recall",
    bound=">= 0.95 (special categories 1.00), precision >= 0.90", run=_run, options=("part", "learn"),
)  # fmt: skip
