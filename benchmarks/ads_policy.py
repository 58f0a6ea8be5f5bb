# ruff: noqa: E501 - lists of words
"""Does the policy find what must not run, and leave the rest alone? Ads written for this (benchmarks/ads_policy_suite.txt), in eight languages.

python -m benchmarks ads_policy [--part A|B|C]

An ad counts as found when any rule speaks; `right_rule` says how often it is the one that the suite names. Part A was there when the rules
were written, part B was written in other words at the same time, part C after the rules (no rule was changed for it): it stands apart, counts in no bar, and
is the figure to expect of ads that nobody has seen. Precision is over violating and clean ads together.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from agora.ads.brief import Brand, Brief, Fact
from agora.ads.policy import Release, Targeting, check, texts_sha256
from agora.errors import UsageError
from benchmarks.registry import Benchmark, Result

SUITE = Path(__file__).with_name("ads_policy_suite.txt")
LATER = "C"
RECALL_BAR, SPECIAL_BAR, PRECISION_BAR = 0.95, 1.0, 0.90
TARGETING = {
    "age": {"ages": (25, 40)}, "sex": {"sexes": ("female",)}, "postcode": {"postcodes": ("10115",)}, "lookalike": {"lookalike": True}, "-": {},
}  # fmt: skip


def _found(language: str, rule: str, given: str, text: str) -> list[str]:
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
    from os import environ
    if environ.get('SHOW'): return [(finding.rule+'='+finding.span) for finding in check({"primary_text": text}, brief, targeting, language=language)]
    return [finding.rule for finding in check({"primary_text": text}, brief, targeting, language=language)]


def _run(quick: bool, options: dict[str, str]) -> Result:
    part = options.get("part", "")
    if part not in ("", "A", "B", "C"):
        raise UsageError(f"--part {part!r} must be A, B or C")
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    missed, wrong = [], []
    for line in SUITE.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        of, language, rule, given, text = line.split("|")
        if part and of != part:
            continue
        found = _found(language, rule, given, text)
        for key in (of,) if of == LATER and not part else ("both", of):
            if rule == "-":
                counts[key]["clean"] += 1
                counts[key]["clean_found"] += bool(found)
            else:
                counts[key]["violating"] += 1
                counts[key]["violating_found"] += bool(found)
                counts[key]["right_rule"] += rule in found
                if rule.startswith("special"):
                    counts[key]["special"] += 1
                    counts[key]["special_found"] += rule in found
        if rule == "-" and found:
            wrong.append(f"{of} {language} {found}: {text}")
        elif rule != "-" and rule not in found:
            missed.append(f"{of} {language} {rule} (found {found}): {text}")
    figures: dict[str, Any] = {key: _figures(counts[key]) for key in sorted(counts)}
    both = figures["both"]
    holds = both["recall"] >= RECALL_BAR and both["special_recall"] >= SPECIAL_BAR and both["precision"] >= PRECISION_BAR
    details = {
        **figures, "bars": {"recall": RECALL_BAR, "special_recall": SPECIAL_BAR, "precision": PRECISION_BAR},
        "other_rule_or_missed": missed, "found_in_clean": wrong,
    }  # fmt: skip
    return Result(value=both["recall"], holds=holds, details=details)


def _figures(counts: Counter[str]) -> dict[str, float]:
    flagged = counts["violating_found"] + counts["clean_found"]
    return {
        "violating": counts["violating"], "clean": counts["clean"], "recall": round(counts["violating_found"] / counts["violating"], 4),
        "right_rule": round(counts["right_rule"] / counts["violating"], 4), "precision": round(counts["violating_found"] / flagged, 4),
        "special_recall": round(counts["special_found"] / counts["special"], 4),
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="ads that break a rule and are found, of 225 violating and 200 clean ads written for it", unit="recall",
    bound=">= 0.95 (special categories 1.00), precision >= 0.90", run=_run, options=("part",),
)  # fmt: skip
