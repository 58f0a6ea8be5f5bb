# ruff: noqa: E501 - lists of words
"""Do texts of ads fit, and do they say only what the brief says? 1,000 random briefs in nine languages.

python -m benchmarks ads_limits [--quick] [--briefs N]

Briefs have Chinese, Japanese and Korean, emoji, German compounds of up to 60 letters, prices, percentages, conditions. The grammar writes.
Widths and traces are counted anew here, by other code than the studio's: a width per code point, and what is left of a text when
statements of the brief and connecting words are taken out. Then a writer that lies (one invented number, price, name, superlative or
property in a text that was right) must be blocked every time, and one that says facts word for word should pass.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agora.ads.brief import TONES, Brand, Brief, Fact
from agora.ads.copywriting import TEXT_FIELDS, Copy, write_variants
from agora.ads.copywriting.language import language_named
from agora.ads.limits import platforms
from agora.engine.interface import Delta
from agora.engine.sampling import SamplingConfig
from benchmarks.registry import Benchmark, Result, whole_number

PARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "en": {
        "nouns": ["kettle", "rain jacket", "field notebook", "bicycle lamp", "hiking boots", "standing desk", "espresso grinder"],
        "facts": ["weighs {n} g", "holds {n} litres", "made of recycled wool, washable at {n} degrees", "up to {n}% less noise", "from {n} EUR",
                  "not for dishwashers", "two-year warranty", "handmade in Porto", "charges in {n} minutes ⚡", "free returns within {n} days if unused"],
        "offer": "{n}% off until {n} June", "lies": ["{n} awards", "the best", "Zorblax", "clinically tested", "${n}", "#1", "organic"],
    },
    "de": {
        "nouns": ["Wasserkocher", "Donaudampfschifffahrtsgesellschaftskapitänsmütze", "Fahrradlampe", "Wandschuhe", "Rindfleischetikettierungsgerät"],
        "facts": ["wiegt {n} g", "fasst {n} Liter", "Kraftfahrzeughaftpflichtversicherungsordner aus Filz", "bis zu {n} % leiser", "ab {n} €",
                  "nicht für die Spülmaschine", "zwei Jahre Garantie", "von Hand in Gera genäht", "lädt in {n} Minuten 🔋"],
        "offer": "{n} % Rabatt bis {n}. Juni", "lies": ["{n} Preise", "der beste", "Zorblax", "klinisch geprüft", "{n} €", "biologisch"],
    },
    "fr": {
        "nouns": ["bouilloire", "veste de pluie", "lampe de vélo", "carnet"],
        "facts": ["pèse {n} g", "contient {n} litres", "jusqu'à {n} % de bruit en moins", "à partir de {n} €", "cousu main à Lyon", "livraison offerte dès {n} €"],
        "offer": "-{n} % jusqu'au {n} juin", "lies": ["{n} prix", "le meilleur", "Zorblax", "cliniquement testé", "{n} €", "bio"],
    },
    "es": {
        "nouns": ["hervidor", "chaqueta", "lámpara", "cuaderno"],
        "facts": ["pesa {n} g", "hasta un {n} % menos de ruido", "desde {n} €", "cosido a mano en Vigo", "no apto para lavavajillas"],
        "offer": "{n} % de descuento", "lies": ["{n} premios", "el mejor", "Zorblax", "clínicamente probado", "{n} €", "ecológico"],
    },
    "pt": {
        "nouns": ["chaleira", "casaco", "lâmpada", "caderno"],
        "facts": ["pesa {n} g", "até {n} % menos ruído", "a partir de {n} €", "feito à mão em Braga", "sem plástico"],
        "offer": "{n} % de desconto", "lies": ["{n} prêmios", "o melhor", "Zorblax", "clinicamente testado", "{n} €", "orgânico"],
    },
    "ja": {
        "nouns": ["電気ケトル", "レインジャケット", "自転車ライト", "手帳"],
        "facts": ["重さは{n}グラム", "最大{n}％の省エネ", "京都で手作り", "{n}円から", "食洗機では使えません", "{n}日以内なら返品できます📦"],
        "offer": "6月まで{n}％オフ", "lies": ["{n}冠達成", "最高品質", "ゾルブラックス", "医師推奨", "{n}円", "無添加"],
    },
    "zh": {
        "nouns": ["电热水壶", "雨衣", "自行车灯", "笔记本"],
        "facts": ["重{n}克", "最高节能{n}%", "苏州手工制作", "{n}元起", "不可用洗碗机清洗"],
        "offer": "立减{n}元", "lies": ["{n}项大奖", "最好", "佐布拉克斯", "临床验证", "{n}元", "有机"],
    },
    "ko": {
        "nouns": ["전기 주전자", "비옷", "자전거 전등"],
        "facts": ["무게 {n}그램", "서울에서 손으로 제작", "{n}원부터", "최대 {n}% 절전"],
        "offer": "{n}% 할인", "lies": ["{n}관왕", "조르블락스", "임상시험 완료", "유기농"],
    },
    "it": {
        "nouns": ["bollitore", "giacca", "lampada", "quaderno"],
        "facts": ["pesa {n} g", "fino al {n} % di rumore in meno", "da {n} €", "cucito a mano a Prato"],
        "offer": "{n} % di sconto", "lies": ["{n} premi", "il migliore", "Zorblax", "testato clinicamente", "{n} €", "biologico"],
    },
}  # fmt: skip
BRANDS = ("Norrland", "Kestrel & Sons", "北風商店", "Überwald", "L'Atelier Bleu", "Ánima", "Brume ☁️", "서리꽃")


class _Readers:
    """An audience without a store."""

    def __init__(self, terms: Sequence[str], language: str) -> None:
        self.terms, self.language = terms, language


class _Told:
    """A writer that says what it is told, whatever is asked: facts word for word, with or without a lie."""

    name, created, context_tokens = "told", 0, 4096

    def __init__(self, honest: Mapping[str, str], lie: str, place: str, *, unspaced: bool) -> None:
        blank = "" if unspaced else " "
        self._texts = {**honest, place: f"{lie}{blank}{honest[place]}" if lie else honest[place]}
        self._marks = {"short headline": "headline", "long headline": "long_headline", "very short": "short_description",
                       "one or two": "description", "text of the post": "primary_text", "button": "call_to_action", "picture": "alt_text"}  # fmt: skip

    def chat(self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: Any = None) -> Iterator[Delta]:
        asked = messages[-1]["content"].rpartition("Write ")[2]
        name = next(name for mark, name in self._marks.items() if mark in asked)
        return iter([Delta(text=self._texts[name], finish_reason="stop")])

    def complete(self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: Any = None) -> Iterator[Delta]:
        raise NotImplementedError


def random_brief(drawn: random.Random) -> Brief:
    """A brief that nobody wrote."""
    language = drawn.choice(sorted(PARTS))
    parts = PARTS[language]

    def number(text: str) -> str:
        return re.sub(
            r"\{n\}", lambda _: str(drawn.choice([drawn.randint(2, 99), drawn.randint(100, 9_999), f"{drawn.randint(1, 99)}.5"])), text
        )

    facts = [number(text) for text in drawn.sample(parts["facts"], drawn.randint(1, min(5, len(parts["facts"]))))]
    facts = [text.capitalize() if drawn.random() < 0.2 else text + drawn.choice(["", "", ".", " ✨"]) for text in facts]
    noun, brand = drawn.choice(parts["nouns"]), drawn.choice(BRANDS)
    product = drawn.choice(
        [noun, f"{noun} {drawn.randint(2, 900)}", f"{brand} {noun}", f"{noun} 🎉", f"{noun} {noun} {brand} Pro Max Plus"]
    )
    offer = number(str(parts["offer"])) if drawn.random() < 0.5 else ""
    return Brief(
        product=product, brand=Brand(name=brand), landing_page="https://shop.example/" + "a" * drawn.randint(3, 80), languages=(language,),
        facts=tuple(Fact(id=f"fact{at}", text=text, source=f"brief.toml:{at + 9}", language=language) for at, text in enumerate(facts)),
        offers=(Fact(id="offer", text=offer, source="brief.toml:4", language=language),) if offer else (), tone=drawn.choice(TONES),
        platforms=tuple(drawn.sample(["google", "meta", "x", "openai"], drawn.randint(0, 4))),
        call_to_action={"ko": "자세히 보기"} if language == "ko" else {},
    )  # fmt: skip


def _too_long(copy: Copy, brief: Brief) -> list[str]:
    """Limits broken, by a count of its own."""
    found = []
    for platform in platforms().values():
        if brief.platforms and platform.name not in (*brief.platforms, "image"):
            continue
        for limit in platform.fields:
            text = copy.texts()[limit.copy]
            plain = unicodedata.normalize("NFC", text)
            wide = sum(
                1 + (unicodedata.east_asian_width(one) in "WF" or (unicodedata.category(one) == "So" and one not in "©®™")) for one in plain
            )
            if platform.counting == "weighted":  # never more than `wide`, but for signs above U+10FF that are narrow
                wide = (
                    sum(1 + (ord(one) > 0x10FF and not 0x2010 <= ord(one) <= 0x201F) for one in plain)
                    if not re.search("[\u200d\ufe0f]", plain)
                    else wide
                )
            wide = max(wide, len(plain.encode("utf-16-le")) // 2) if platform.counting == "utf16" else wide
            if wide + (24 if limit.with_link else 0) > limit.max:
                found.append(f"{platform.name} {limit.field} {wide} > {limit.max}: {text}")
            if platform.name == "google" and any(unicodedata.category(one) == "So" and one not in "©®™°" for one in text):
                found.append(f"google {limit.field} has an emoji: {text}")
    return found


def _left_over(copy: Copy, brief: Brief) -> list[str]:
    """What is neither a statement of the brief (or a beginning of one, up to a mark) nor a connecting word."""
    language = language_named(copy.language)
    found = []

    def plain(text: str) -> str:
        kept = "".join(
            one if (unicodedata.category(one)[0] in "LMN" and one != "\ufe0f") or one in "%€$#'&+-" else " "
            for one in unicodedata.normalize("NFKC", text).casefold()
        )
        return " ".join(kept.split())

    pieces = {
        plain(text)
        for one in brief.statements(copy.language)
        for text in (one.text, *re.split(r"[,.;、。，](?!\d)\s*", one.text))
        if plain(text)
    }
    for name, text in copy.texts().items():
        rest = f" {plain(text)} "
        for piece in sorted(pieces, key=len, reverse=True):
            rest = rest.replace(piece, " ") if language.is_unspaced else rest.replace(f" {piece} ", "  ").replace(f" {piece} ", "  ")
        allowed = (
            language.connecting | {word for topic in copy.topics for word in topic.casefold().split()} | {plain(language.advertisement)}
        )
        if language.is_unspaced:
            for piece in sorted(allowed, key=len, reverse=True):
                rest = rest.replace(plain(piece) or "\0", " ")
        left = [word for word in rest.split() if word not in allowed and any(one.isalnum() for one in word)]
        if left:
            found.append(f"{copy.language} {name}: {left} of {text!r}")
    return found


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_briefs = whole_number(options, "briefs", 100 if quick else 1_000, at_least=1)
    drawn = random.Random(8)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    for number in range(num_briefs):
        brief = random_brief(drawn)
        language = brief.languages[0]
        audience = _Readers({"en": ["cycling", "rain"], "de": ["wandern", "kochen"], "ja": ["自転車", "料理"]}.get(language, []), language)
        written = write_variants(brief, audience, num_variants=2, seed=number)
        counts["variants"] += 2
        counts["blocked_of_the_grammar"] += len(written.blocked)
        faults += [f"blocked: {one.reason} {one.text!r}" for one in written.blocked]
        again = write_variants(brief, audience, num_variants=2, seed=number)
        counts["same_seed_other_text"] += again.copies != written.copies
        for copy in written.copies:
            counts["texts"] += len(TEXT_FIELDS)
            long, left = _too_long(copy, brief), _left_over(copy, brief)
            counts["texts_too_long"] += len(long)
            counts["texts_not_traced"] += len(left)
            counts["clauses"] += len(copy.claims)
            faults += long + left
        if written.copies:
            _lie(brief, written.copies[0], drawn, counts, faults)
    bad = sum(
        counts[key] for key in ("texts_too_long", "texts_not_traced", "same_seed_other_text", "lies_passed", "blocked_of_the_grammar")
    )
    details = {"briefs": num_briefs, **counts, "faults": faults[:20], "bars": {"within limits": 1.0, "traceable": 1.0, "lies blocked": 1.0}}
    return Result(value=1 - bad / max(1, counts["texts"]), holds=bad == 0, details=details)


def _lie(brief: Brief, copy: Copy, drawn: random.Random, counts: Counter[str], faults: list[str]) -> None:
    """The same texts through a writer that adds a lie, and through one that does not."""
    language = language_named(copy.language)
    own = " ".join(one.text for one in brief.statements(copy.language)).casefold()
    lies = [re.sub(r"\{n\}", lambda _: str(drawn.randint(10_001, 99_999)), lie) for lie in PARTS[copy.language]["lies"]]
    lie = drawn.choice([lie for lie in lies if lie.casefold() not in own])
    field = drawn.choice(["headline", "description", "primary_text", "alt_text"])
    for said in ("", lie):
        told = _Told(copy.texts(), said, field, unspaced=language.is_unspaced)
        result = write_variants(brief, _Readers(copy.topics, copy.language), writer=told, num_variants=1, seed=1)
        if said:
            counts["lies"] += 1
            counts["lies_passed"] += len(result.copies)
            faults += [f"lie {said!r} passed: {one.texts()[field]!r}" for one in result.copies]
        else:
            counts["honest"] += 1
            counts["honest_passed"] += len(result.copies)


BENCHMARK = Benchmark(
    measures="texts of random briefs within all limits and traced to facts; invented claims blocked", unit="share of texts without fault",
    bound="= 1.0, and every lie blocked", run=_run, options=("briefs",),
)  # fmt: skip
