"""Signs that claim something without a word: a gold medal, five stars, "#1". Goes in: a text and the statements of a brief. Comes out:
signs that no statement carries.

    unsupported_signs("🥇 Lynx 2", statements, language_named("en"))     # [Sign(text="🥇", kind="superlative", ...)]

A statement carries a sign that it shows itself, or whose meaning it says in words ("winner of ...", "4.8 stars", "100 %", "free").
Not covered: signs in pictures, and decoration that only a reader takes for a claim.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import regex

from agora.ads.brief import Fact
from agora.ads.copywriting.language import RANK, Language
from agora.ads.copywriting.shorten import without_emoji

_RANK: Final = regex.compile(
    r"(?:[#＃№]\s?|(?<![\p{L}\p{N}])(?:no|nr|num)(?:\.\s?|\s(?=[1１]))|(?<![\p{L}\p{N}])n[°ºo]\.?\s?(?=[1１])"
    r"|(?<![\p{L}\p{N}])(?:number|nummer|numéro|número|numero|numer)\s)(?:[1１]|one|eins|een|één|uno|une?|um|jeden)(?![\p{L}\p{N}]|[.,/:-]\p{N}|-\p{L}|\s?%)",
    regex.IGNORECASE,
)


SignKind = Literal["superlative", "number"]


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign as it stands in a text, what kind of claim it makes and what it says."""

    text: str
    kind: SignKind
    says: str


_MEANINGS: Final[tuple[tuple[regex.Pattern[str], SignKind, str, regex.Pattern[str]], ...]] = (
    (
        regex.compile(r"[🥇🥈🥉🏆🏅🎖👑🔝]"), "superlative", "that something won or is the best",
        regex.compile(
            r"(?i)award|prize|winn(?:er|ing)|\bwon\b|medal|champion|crown|\btop\b|preis(?!e\b)|sieg|gewonnen|gewinner|medaille|ausgezeichnet"
            r"|auszeichnung|\bprix\b|lauréat|médaille|gagnant|premi(?:o|ad|at)|galardon|ganador|medalla|prêmi|vencedor|medalha|vincitor|medaglia|prijs|winnaar"
            r"|nagrod|zwyci|賞|優勝|金メダル|[一1]位|奖|冠军|金牌|第一"
        ),
    ),
    (
        regex.compile(r"(?:[⭐🌟★✪✯☆]\ufe0f?\s?){2,}|\p{N}\s?[⭐🌟★]"), "number", "that something has stars",
        regex.compile(r"(?i)\bstars?\b|stern|étoile|estrella|estrela|\bstell[ae]|\bsterren|gwiazd|星|つ星|\p{N}\s?/\s?(?:5|10)\b"),
    ),
    (
        regex.compile(r"💯"), "number", "a hundred percent",
        regex.compile(r"(?i)(?<!\p{N})100\s?(?:[%％]|percent|per cent|prozent|pour cent|por ciento|por cento|procent)|百分之百"),
    ),
    (
        regex.compile(r"🆓"), "number", "that something is free",
        regex.compile(r"(?i)\bfree\b|kostenlos|gratis|umsonst|gratuit|offert|grátis|無料|免费|darmow|bezpłat"),
    ),
)  # fmt: skip


def plain_signs(text: str) -> str:
    """A text without emoji, and with "No. 1", "nr. 1", "number one" and the like as one word."""
    return without_emoji(_RANK.sub(RANK, text))


def unsupported_signs(text: str, statements: Sequence[Fact], language: Language) -> list[Sign]:
    """Signs of a text that none of the statements carries, each once."""
    found: dict[str, Sign] = {}
    for pattern, kind, says, words in _MEANINGS:
        for match in pattern.finditer(text):
            sign = match.group().strip()
            if not any(_shows(one.text, sign) or words.search(one.text) or _is_raised(one.text, kind, language) for one in statements):
                found.setdefault(sign, Sign(sign, kind, says))
    return list(found.values())


def _shows(statement: str, sign: str) -> bool:
    return "".join(sign.split()).replace("\ufe0f", "") in "".join(statement.split()).replace("\ufe0f", "")


def _is_raised(statement: str, kind: str, language: Language) -> bool:
    """Whether a statement says in words that something is above others."""
    plain = unicodedata.normalize("NFKC", plain_signs(statement)).casefold()
    return kind == "superlative" and any(language.is_superlative(word) for word in regex.findall(rf"{RANK}|\p{{L}}+", plain))


__all__ = ["Sign", "SignKind", "plain_signs", "unsupported_signs"]
