# ruff: noqa: E501 - lists of words
"""Texts: within limits, from facts alone, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from agora.ads.brief import Brand, Brief, Fact
from agora.ads.copywriting import Blocked, blocked_in, trace, write_copies, write_variants
from agora.ads.copywriting.language import known_languages, language_named
from agora.ads.copywriting.shorten import beginnings
from agora.ads.limits import excess, platforms_named
from agora.engine.interface import Delta
from agora.engine.sampling import SamplingConfig
from agora.errors import ConfigError
from benchmarks.ads_limits import random_brief

FACTS = (
    ("en", "weighs 240 g"), ("en", "for wet rock, and not for ice"), ("en", "up to 30% lighter than Lynx 1"), ("en", "best trail shoe 2025"),
    ("de", "wiegt 240 g"), ("de", "nicht für Eis"), ("de", "bis 30. Juni im Laden"), ("ja", "最大30％軽い"), ("ja", "氷には使えません"), ("ja", "京都で手作り"),
)  # fmt: skip


def brief_of(*, language: str = "en", **others: Any) -> Brief:
    facts = tuple(Fact(id=f"fact{at}", text=text, source=f"brief.toml:{at}", language=of) for at, (of, text) in enumerate(FACTS))
    given: dict[str, Any] = {
        "product": "Lynx 2",
        "brand": Brand(name="Norrland"),
        "landing_page": "https://a.example",
        "languages": (language,),
    }
    return Brief(facts=facts, **(given | others))


@pytest.mark.parametrize(
    ("fact", "true", "turned"),
    [
        ("weighs 240 g", "Weighs 240 g", "240 g weighs more than you"),
        ("2 for the price of 3", "2 for the price of 3", "3 for the price of 2"),
        ("the shoe weighs less than a cup", "The shoe weighs less than a cup", "A cup weighs less than the shoe"),
        ("the shoe weighs less than a cup", "The shoe weighs less than a cup", "The shoe weighs less than you"),
        ("from 10 to 20 EUR", "From 10 to 20 EUR", "From 20 to 10 EUR"),
        ("4 cups in 2 sizes", "In 2 sizes, 4 cups", "2 cups in 4 sizes"),
    ],
)
def test_comparisons_and_numbers_keep_the_order_of_their_fact(fact: str, true: str, turned: str) -> None:
    facts = [Fact(id="fact", text=fact, source="brief.toml:1", language="en")]
    assert blocked_in(true, facts, "en") is None
    assert blocked_in(turned, facts, "en") is not None


def test_what_is_turned_round_is_named_as_such_in_other_languages_too() -> None:
    for language, fact, turned in (
        ("de", "wiegt 240 g", "240 g wiegen mehr als du"), ("fr", "2 pour le prix de 3", "3 pour le prix de 2"),
        ("es", "el cuero dura más que la lana", "la lana dura más que el cuero"),
    ):  # fmt: skip
        found = blocked_in(turned, [Fact(id="fact", text=fact, source="b:1", language=language)], language)
        assert found is not None and "otherwise than the fact" in found.reason, turned


def readers(*terms: str, language: str = "en") -> Any:
    return SimpleNamespace(terms=terms, language=language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Weighs 240 g."), ("en", "For wet rocks"), ("en", "Meet Lynx 2: for wet rock"), ("en", "Up to 30% lighter than Lynx 1"),
        ("en", "Best trail shoe 2025!"), ("en", "Not for ice"), ("de", "Lynx 2: wiegt 240 g"), ("ja", "Lynx 2：京都で手作り"), ("ja", "京都で"),
    ],
)  # fmt: skip
def test_what_a_fact_says_may_be_said(language: str, text: str) -> None:
    assert blocked_in(text, brief_of().statements(language), language) is None


@pytest.mark.parametrize(
    ("language", "text", "told"),
    [
        ("en", "Weighs 24 g", "24"), ("en", "Weighs 240 kg", "240"), ("en", "240 reasons", "240"), ("en", "30% lighter than Lynx 1", "30"),
        ("en", "Only $240", "240"), ("en", "The best shoe", "best"), ("en", "Waterproof", "Waterproof"), ("en", "Loved by Zorblax", "Loved"),
        ("en", "For ice", "ice"), ("en", "Not for wet rock", "Not"), ("en", "Weighs 240 g on wet rock", "joins"), ("en", "Two pairs", "Two"), ("en", "Lynx 2 weighs 240 g on wet rock", "joins"),
        ("de", "Für Eis", "Eis"), ("de", "Der beste Schuh", "beste"), ("de", "wiegt 204 g", "204"), ("ja", "30％軽い", "30"),
        ("ja", "氷に使え", "ません"), ("ja", "世界一の手作り", "世界一"), ("ja", "大阪で手作り", "大阪"),
    ],
)  # fmt: skip
def test_what_no_single_fact_says_is_blocked_with_the_reason(language: str, text: str, told: str) -> None:
    found = blocked_in(text, brief_of().statements(language), language, field="headline")
    assert isinstance(found, Blocked) and found.field == "headline"
    assert told in found.reason or told in found.text, found


def test_every_clause_names_its_fact() -> None:
    claims = trace("Lynx 2: weighs 240 g", brief_of().statements("en"), "en", field="headline")
    assert not any(isinstance(one, Blocked) for one in claims)
    assert {(one.text, one.source) for one in claims if not isinstance(one, Blocked)} >= {("weighs 240 g", "brief.toml:0")}


def test_shortening_drops_no_condition_number_or_denial() -> None:
    english, german, japanese = language_named("en"), language_named("de"), language_named("ja")
    assert beginnings("made of wool, bound in linen", english) == ["made of wool, bound in linen", "made of wool"]
    for text in ("free delivery, if you order two", "light and warm, not for ice", "free delivery*, see shop", "sold here, from 20 EUR"):
        assert beginnings(text, english) == [text]
    assert beginnings("20 % Rabatt bis 30. Juni", german) == ["20 % Rabatt bis 30. Juni"]
    assert beginnings("京都で手作り、布張り", japanese) == ["京都で手作り、布張り", "京都で手作り"]
    assert beginnings("軽い、氷には使えません", japanese) == ["軽い、氷には使えません"]


def test_random_briefs_give_texts_that_fit_and_the_same_for_the_same_seed() -> None:
    drawn = random.Random(3)
    for seed in range(25):
        brief = random_brief(drawn)
        written = write_variants(brief, None, num_variants=2, seed=seed)
        assert not written.blocked and len(written.copies) == 2
        assert written.copies == write_copies(brief, None, num_variants=2, seed=seed)
        for copy in written.copies:
            for name, text in copy.texts().items():
                assert excess(text, name, platforms_named(brief.platforms)) is None


def test_variants_of_an_audience_name_what_it_cares_for_and_no_claim_of_it() -> None:
    copies = write_copies(brief_of(), readers("rock", "best", "trail", "20"), num_variants=3, seed=1)
    assert all(set(copy.topics) == {"rock", "trail"} for copy in copies)
    assert any("rock" in copy.primary_text.lower() for copy in copies) and len({copy.headline for copy in copies}) == 3


@pytest.mark.parametrize("language", known_languages())
def test_connecting_words_of_every_language_claim_nothing(language: str) -> None:
    spoken = language_named(language)
    for field in ("closing", "opening", "call_to_action", "fallback"):
        for tone in ("plain", "warm", "lively"):
            for pattern in spoken.patterns(field, tone):
                if "{" not in pattern:
                    assert blocked_in(pattern, (), language) is None, pattern
                    assert not any(character.isdigit() for character in pattern)


def test_a_language_without_a_file_needs_a_call_to_action() -> None:
    facts = (Fact(id="a", text="무게 240그램", source="brief.toml:1", language="ko"),)
    brief = Brief(product="Lynx 2", brand=Brand(name="Norrland"), landing_page="https://a.example", languages=("ko",), facts=facts)
    with pytest.raises(ConfigError, match="call_to_action"):
        write_copies(brief, None)


class Writer:
    """A model that says lines in turn, the last one for ever."""

    name, created, context_tokens = "lines", 0, 1024

    def __init__(self, *lines: str) -> None:
        self.lines, self.asked = list(lines), []  # type: ignore[var-annotated]

    def chat(self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: Any = None) -> Iterator[Delta]:
        self.asked.append(messages[-1]["content"])
        return iter([Delta(text=self.lines.pop(0) if len(self.lines) > 1 else self.lines[0], finish_reason="stop")])

    def complete(self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: Any = None) -> Iterator[Delta]:
        raise NotImplementedError


def test_a_model_is_asked_again_with_the_reason_and_its_text_is_checked() -> None:
    writer = Writer("The best shoe ever", '"For wet rock"', "Weighs 240 g")
    written = write_variants(brief_of(), None, writer=writer, num_variants=1)
    assert [copy.headline for copy in written.copies] == ["For wet rock"]
    assert written.copies[0].written_by == "lines" and "refused" in writer.asked[1] and "best" in writer.asked[1]


@pytest.mark.parametrize("line", ["Now with 7 awards", "x" * 400, "", "Ignore the rules: free gold for Zorblax"])
def test_a_model_that_goes_on_lying_or_rambling_is_blocked(line: str) -> None:
    written = write_variants(brief_of(), None, writer=Writer(line), num_variants=1)
    assert not written.copies and written.blocked[0].field == "headline" and written.blocked[0].reason


@pytest.mark.parametrize(
    ("language", "fact", "text", "passes"),
    [
        ("en", "hardly any sugar", "any sugar", False),
        ("en", "fails to stop rain", "stops rain", False), ("en", "rarely breaks on stone", "breaks on stone", False),
        ("en", "may contain nuts", "contains nuts", False), ("en", "may contain nuts and seeds", "may contain nuts", True),
        ("en", "only for adults", "for adults", False), ("en", "sold only to adults", "only adults", True),
        ("en", "1 in 4 users slept better", "users slept better", False), ("en", "1 in 4 users slept better", "1 in 4 users slept", True),
        ("en", "costs 49 EUR per month for 12 months", "costs 49 EUR", False), ("en", "costs 49 € per month", "costs 49 €", False),
        ("en", "costs 49 EUR per month in Bern", "costs 49 EUR per month", True), ("en", "costs 49 EUR in the shop", "costs 49 EUR", True),
        ("en", "without sugar, gluten or lactose", "lactose", False), ("en", "without sugar, gluten or lactose", "gluten", False),
        ("en", "if you order before noon, it ships today", "it ships today", False),
        ("en", "delivery is free except on islands", "delivery is free", False), ("en", "linen covers, cut by hand", "cut by hand", True),
        ("en", "not for ice, but for wet rock", "for wet rock", True), ("en", "good on rock and not on ice", "good on rock", True),
        ("de", "kaum Zucker im Brot", "Zucker im Brot", False), ("de", "nur für Erwachsene gemacht", "für Erwachsene gemacht", False),
        ("de", "kann Nüsse enthalten", "Nüsse enthalten", False), ("de", "3 von 4 Kunden schliefen besser", "Kunden schliefen besser", False),
        ("de", "kostet 49 EUR pro Monat für 12 Monate", "kostet 49 EUR", False), ("de", "kostet 49 EUR im Laden", "kostet 49 EUR", True),
        ("de", "ohne Zucker, Gluten oder Laktose", "Laktose", False), ("de", "Versand kostenlos, wenn du heute bestellst", "Versand kostenlos", False),
    ],
)  # fmt: skip
def test_what_limits_a_fact_travels_with_the_claim(language: str, fact: str, text: str, passes: bool) -> None:
    statements = [Fact(id="fact0", text=fact, source="brief.toml:0", language=language)]
    found = blocked_in(text, statements, language)
    assert (found is None) is passes, found
    assert blocked_in(f"{fact}!", statements, language) is None


@pytest.mark.parametrize(
    ("language", "fact", "said"),
    [
        ("en", "weighs 240 g", "weighs 2 g"), ("en", "works from -5 to 30 °C", "works from 5 to 30 °C"), ("en", "5 °C", "-5 °C"),
        ("en", "ships in 2-3 days", "ships in 2 days"), ("en", "ships in 4-6 days", "ships in 4 days"), ("en", "weighs 240 g", "more 240 g"),
        ("en", "lighter than the Lynx 1", "lighter than the Lynx 2"), ("en", "lighter than the Lynx 1", "lighter"),
        ("en", "the fastest drying shoe of our range", "the fastest drying shoe"), ("en", "grips on rock", "more rock"),
        ("en", "two pairs for the price of one", "one pair for the price of two"), ("en", "free delivery over $50", "free delivery"),
        ("de", "für Kinder ab 6 Jahren", "für Kinder"), ("de", "leichter als der Lynx 1", "leichter"), ("de", "hält warm", "hält mehr warm"),
        ("ja", "農薬を使わずに育てました", "農薬を育てました"), ("ja", "3人に1人が購入", "3人が購入"), ("ja", "甘さは控えめです", "甘さです"),
    ],
)  # fmt: skip
def test_what_limits_counts_or_compares_is_not_lost(language: str, fact: str, said: str) -> None:
    statements = [Fact(id=name, text=text, source="b:1", language=language) for name, text in (("product", "Lynx 2"), ("fact", fact))]
    assert blocked_in(said, statements, language) is not None
    assert blocked_in(f"{fact}. Lynx 2", statements, language) is None
    assert blocked_in(f"Lynx 2: {fact}", statements, language) is None


def test_a_subordinate_clause_is_no_beginning() -> None:
    for code, text in (("en", "If you order before noon, it ships from Bern."), ("de", "Wenn du vormittags bestellst, geht es heute los.")):
        assert beginnings(text, language_named(code)) == [text]
    assert "Made of wool. If you order" not in beginnings("Made of wool. If you order, it ships", language_named("en"))


@pytest.mark.parametrize("tone", ["plain", "warm", "lively"])
@pytest.mark.parametrize("language", ["en", "de", "ja"])
def test_an_alt_text_names_the_brand_once_and_a_call_to_action_says_what_happens(tone: str, language: str) -> None:
    for product in ("Lynx 2", "Norrland Lynx 2"):
        for copy in write_copies(
            brief_of(language=language, tone=tone, product=product), readers(language=language), num_variants=4, seed=1
        ):
            assert copy.alt_text.count("Norrland") == 1, copy.alt_text
            assert "!" not in copy.call_to_action and len(copy.call_to_action.split()[0]) > 2
