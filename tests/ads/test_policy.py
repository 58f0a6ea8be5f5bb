"""What may not run, and why."""

from __future__ import annotations

import pytest

from agora.ads.brief import Brand, Brief, Fact
from agora.ads.policy import Release, Targeting, allowed_targeting, categories_of, check, is_blocked, texts_sha256
from agora.ads.policy.rules import RULES, rule_named
from agora.ads.sensitive import any_sensitive, is_sensitive, topics
from benchmarks.ads_policy import BENCHMARK


def brief_of(*facts: str, category: str | None = None) -> Brief:
    made = tuple(Fact(id=f"f{at}", text=text, source=f"b:{at}", language="en") for at, text in enumerate(facts))
    return Brief(
        product="Lynx",
        brand=Brand(name="Norrland"),
        facts=made,
        landing_page="https://a.example",
        languages=("en",),
        special_category=category,
    )


def rules_of(text: str, brief: Brief | None = None, targeting: Targeting | None = None) -> set[str]:
    return {finding.rule for finding in check({"headline": text}, brief or brief_of(), targeting)}


def test_the_policy_suite_holds_its_bars() -> None:
    result = BENCHMARK.run(False, {})
    assert result.holds, result.details


def test_a_superlative_or_number_needs_a_fact_that_says_it_of_the_same_thing() -> None:
    assert rules_of("The fastest lamp, 40 hours") == {"superlative", "number"}
    assert rules_of("The fastest lamp, 40 hours", brief_of("fastest lamp of the test", "40 hours of light")) == set()
    assert rules_of("The fastest desk, 40 days", brief_of("fastest lamp of the test", "40 hours of light")) == {"superlative", "number"}


def test_every_rule_says_why_and_has_words_in_several_languages() -> None:
    for name in RULES:
        rule = rule_named(name)
        assert len(rule.reason) > 40 and (name == "shouting" or len(rule.patterns) >= 8), name


def test_a_special_category_is_found_without_being_declared_and_needs_a_release_of_these_texts() -> None:
    texts = {"headline": "Two-room flat to let"}
    brief = brief_of("two-room flat")
    held = check(texts, brief)
    assert [(one.rule, one.severity) for one in held] == [("special:housing", "review")] and not is_blocked(held)
    given = Release(by="A. Person", at="2026-01-01T00:00:00+00:00", texts_sha256=texts_sha256(texts))
    assert check(texts, brief, Targeting(release=given)) == []
    assert check({"headline": "Three-room flat to let"}, brief_of("three-room flat"), Targeting(release=given))


@pytest.mark.parametrize("field", [{"ages": (25, 40)}, {"sexes": ("female",)}, {"postcodes": ("10115",)}, {"lookalike": True}])
@pytest.mark.parametrize("category", ["housing", "jobs", "credit", "politics"])
def test_special_categories_lose_targeting_even_with_a_release(field: dict[str, object], category: str) -> None:
    texts = {"headline": "Come and see"}
    given = Release(by="A. Person", at="2026-01-01T00:00:00+00:00", texts_sha256=texts_sha256(texts))
    targeting = Targeting(release=given, **field)  # type: ignore[arg-type]
    assert is_blocked(check(texts, brief_of(category=category), targeting))
    assert not allowed_targeting(targeting, [category]).forbidden() and allowed_targeting(targeting, []) == targeting
    assert check(texts, brief_of(), targeting) == []  # ordinary goods may be targeted


def test_categories_come_with_the_words_that_show_them() -> None:
    assert categories_of({"headline": "We are hiring cooks"}, "en") == {"jobs": ("headline", "We are hiring")}
    assert categories_of({"headline": "Rent a bike by the lake"}, "en") == {}


def test_the_fast_look_for_sensitive_words_agrees_with_the_slow_one() -> None:
    texts = [
        "my insulin pump",
        "a trade union meeting",
        "union jack flags",
        "Gewerkschaftstag heute",
        "bread and butter",
        "the gun control debate",
        "assinsulin",
    ]
    for text in texts:
        assert any_sensitive(text.casefold().split()) == is_sensitive(text), text
    assert is_sensitive("うつ病の話") and len(topics()) == 8
