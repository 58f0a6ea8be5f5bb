"""Does the landing page keep what the advertisement says? Goes in: texts of an ad and the page's HTML. Comes out: what the page does not
hold.

Numbers, prices and names must stand on the page; of other words, most should. Ad systems judge the same ("landing page experience"), and
who clicks and finds something else goes away. Not covered: whether page and ad are true; pages whose text a script writes later.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final

_NUMBER: Final = re.compile(r"[$€£¥]?\s?\d+(?:[.,:]\d+)*\s?(?:%|[$€£¥]|(?:km|kg|h|min|mm|cm|g|ml|l|gb|tb|w|v)\b)?", re.IGNORECASE)
_WORD: Final = re.compile(r"[^\W\d_][\w'’-]*")
_HIDDEN: Final = frozenset({"script", "style", "template", "noscript"})
_SPOKEN_ATTRIBUTES: Final = frozenset({"alt", "title", "content", "aria-label"})
_SHORTEST, _STEM = 4, 5
_CJK: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class LandingScore:
    """`score` in 0..1: half for numbers and names, half for words. Missing ones in the order of the ad."""

    score: float
    missing_numbers: tuple[str, ...]
    missing_names: tuple[str, ...]
    missing_words: tuple[str, ...]


def score_landing(texts: Sequence[str], html: str) -> LandingScore:
    """Compare the texts of one ad with a page."""
    page = page_text(html)
    plain, words = _plain(page), {_stem(word) for word in _WORD.findall(_plain(page))}
    page_numbers = {_digits(number) for number in _NUMBER.findall(plain)}
    numbers = _once(number.strip() for text in texts for number in _NUMBER.findall(_plain(text)))
    names = _once(name for text in texts for name in _names(text))
    others = _once(word for text in texts for word in _WORD.findall(_plain(text)) if len(word) >= _SHORTEST and not _CJK.search(word))
    pieces = _once(piece[at : at + 2] for text in texts for piece in _CJK.findall(text) for at in range(len(piece) - 1))
    missing_numbers = tuple(number for number in numbers if _digits(number) not in page_numbers)
    missing_names = tuple(name for name in names if _plain(name) not in plain)
    missing_words = tuple(word for word in others if _stem(word) not in words) + tuple(piece for piece in pieces if piece not in plain)
    strict, loose = len(numbers) + len(names), len(others) + len(pieces)
    kept = 1 - (len(missing_numbers) + len(missing_names)) / strict if strict else 1.0
    found = 1 - len(missing_words) / loose if loose else 1.0
    return LandingScore(
        score=kept / 2 + found / 2, missing_numbers=missing_numbers, missing_names=missing_names, missing_words=missing_words
    )  # fmt: skip


def page_text(html: str) -> str:
    """What a page says: its visible text, titles, alternative texts and descriptions."""
    reader = _PageReader()
    reader.feed(html)
    reader.close()
    return " ".join(" ".join(reader.found).split())


class _PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        structured = tag == "script" and ("type", "application/ld+json") in attrs
        self._hidden += tag in _HIDDEN and not structured
        self.found += [value for name, value in attrs if value and name in _SPOKEN_ATTRIBUTES]

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN and self._hidden:
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found.append(data)


def _names(text: str) -> list[str]:
    """Words with a capital that do not begin a sentence, where not every word has one (titles, German nouns are then words)."""
    words = list(_WORD.finditer(text))
    capital = [match for match in words[1:] if match[0][0].isupper()]
    if len(capital) > 0.6 * len(words[1:]):
        return []
    return [match[0] for match in capital if match.start() and text[: match.start()].rstrip()[-1:] not in {"", ".", "!", "?", ":", '"'}]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def _stem(word: str) -> str:
    """The beginning of a word stands for its forms."""
    return word if len(word) <= _STEM else word[: max(_STEM, len(word) - 3)]


def _digits(number: str) -> str:
    """'1,299.00 €' and '1299' are one number: separators of thousands and empty decimals go."""
    plain = re.sub(r"[^\d.,%]", "", number)
    plain = re.sub(r"[.,](?=\d{3}\b)", "", plain)
    return re.sub(r"[.,]0+(?=%|$)", "", plain).replace(",", ".")


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
