"""What a word is: ONE definition for the index, for queries and for trends. Goes in: text as typed. Comes out: its words.

    words("Vote #Brexit, caffè @ada https://www.example.org/Two")
    ["vote", "brexit", "caffe", "ada", "example", "org", "two", "#brexit", "@ada", "https://example.org/Two"]

Compatibility forms are unified (NFKC), case and accents folded, invisible characters left out. Scripts that do not part their words
(and Hangul, whose particles stick to words) give overlapping pairs of characters. Each emoji is a word, its skin tone is not. First come
the words in the order of the text, so that a phrase is words in a row; behind them what has no place in that order: the single characters
of the pairs, and marks (`#tag`, `@name`, `$cash`, links in canonical form), whose words also stand in their place.

Not covered: stems (a search for "vote" does not find "voted"), and word boundaries of Chinese, Japanese or Thai.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Final
from urllib.parse import unquote

from agora.text.links import canonical_url

MAX_WORD: Final = 64
"""Characters of a word; the rest of a longer one is not looked at."""

_ACCENT: Final = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
    "\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_EMOJI: Final = "\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2b00-\u2bff\U0001f000-\U0001f3fa\U0001f400-\U0001faff"
_LETTERS: Final = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "ŧ": "t", "æ": "ae", "œ": "oe"})
"""Letters that fold like accents but are no composition in Unicode."""


_OWN_LETTERS: Final = frozenset("йїў")
"""Letters of their own, which Unicode composes of another and an accent."""


def _marks_class() -> str:
    """Combining marks of all scripts, as ranges of a character class: `\\w` leaves them out, and with them half of each Indic word."""
    codes = [code for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(code))[0] == "M"]
    starts = [code for code, before in zip(codes, [0, *codes], strict=False) if code != before + 1]
    ends = [code for code, after in zip(codes, [*codes[1:], 0], strict=False) if after != code + 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


MARKS: Final = _marks_class()
"""Combining marks, for use inside a character class."""
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff"
)
_NOTHING: Final = re.compile(f"[{_ACCENT}{_INVISIBLE}]+")
_UNSEEN: Final = re.compile(f"[{_INVISIBLE}]")
_LONG_MARKS: Final = re.compile(f"([{MARKS}]{{8}})[{MARKS}]+")
"""Nobody writes nine marks on a letter, and putting n of them in order takes n^2 steps."""
_LETTER: Final = rf"[^\W_{_UNSPACED}]"
_TOKEN: Final = re.compile(rf"({_LETTER}+(?:[{MARKS}]+{_LETTER}*)*|[{_EMOJI}])|([{_UNSPACED}]+)")
_ASCII_TOKEN: Final = re.compile("[a-z0-9]+")
_PAIR: Final = re.compile(f"[{_UNSPACED}]")
_LINK: Final = re.compile(r"(?:https?://|www\.)[^\s<>\"“”]+", re.IGNORECASE)
_LINK_END: Final = ".,!?;:'\")]}…“”’"
_SCHEME: Final = re.compile(r"(?<![^\W_])(?:https?://(?:www\.)?|www\.)")
_TAG: Final = re.compile(rf"(?<![\w&])#([\w{MARKS}]+)")
_NAME: Final = re.compile(r"(?<![\w@])@(\w(?:[\w.\-]*\w)?(?:@\w(?:[\w.\-]*\w)?)?)")
_CASH: Final = re.compile(r"(?<![\w$])\$([a-z][a-z0-9]{0,9}(?:[._][a-z]{1,4})?)(?![\w$])")


def words(text: str) -> list[str]:
    """All words of a text: those in its order, then single characters of pairs, then marks."""
    in_order, others = ordered_words(text)
    return in_order + others


def ordered_words(text: str) -> tuple[list[str], list[str]]:
    """The words in the order of the text, and those that have no place in it."""
    folded = fold(text)
    in_order, singles = _in_order(folded)
    return in_order, singles + _marks(text, folded)


def plain_words(text: str) -> list[str]:
    """The words in the order of the text: a phrase is a row of them."""
    return _in_order(fold(text))[0]


def marks(text: str) -> list[str]:
    """`#tag`, `@name` and `$cash` of a text, folded, and its links in canonical form."""
    return _marks(text, fold(text))


def _marks(text: str, folded: str) -> list[str]:
    found = [canonical_url(link) for link in links(text)]
    rest = _LINK.sub(" ", folded) if found else folded
    for sign, pattern in (("#", _TAG), ("@", _NAME), ("$", _CASH)):
        if sign in rest:
            found += [sign + name for name in pattern.findall(rest)]
    return found


def links(text: str) -> list[str]:
    """Links in a text as typed, without the punctuation that ends a sentence. A bracket that was opened inside stays."""
    if "://" not in text and "www." not in text.lower():
        return []
    return [trimmed_link(link) for link in _LINK.findall(text)]


def without_links(text: str) -> str:
    """The text with a blank in place of each link."""
    return _LINK.sub(" ", text) if "://" in text or "www." in text.lower() else text


def is_unseen(character: str) -> bool:
    """Whether a character shows nothing by itself: a filler, a joiner, a mark of direction, a variation selector, a tag."""
    return _UNSEEN.match(character) is not None


def is_pair(word: str) -> bool:
    """Whether a word is a pair of characters, or one, of a script that does not part its words."""
    return _PAIR.match(word) is not None


def link_words(link: str) -> list[str]:
    """The words of a link: host without `www.`, path and query without tracking, percent signs resolved."""
    return plain_words(unquote(canonical_url(link)))


def fold(text: str) -> str:
    """Text in which case, accents, compatibility forms and invisible characters play no role. Idempotent."""
    if text.isascii():
        return text.lower()
    folded = _composed(text).translate(_FOLDED)
    return _composed(folded)


def _composed(text: str) -> str:
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", _LONG_MARKS.sub(r"\1", text))


class _Folds(dict[int, str]):
    """What each character folds to, worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        text, before = chr(code), ""
        while text != before:
            before, text = text, unicodedata.normalize("NFKC", text).casefold()
            if text not in _OWN_LETTERS:
                text = unicodedata.normalize("NFKD", text).translate(_LETTERS)
                text = unicodedata.normalize("NFC", _NOTHING.sub("", text))
        self[code] = text
        return text


_FOLDED: Final = _Folds()


def account_key(name: str) -> str:
    """What decides whether two names mean one account: no leading `@`, case and compatibility forms folded, accents kept."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name.strip().removeprefix("@")).casefold())


def _in_order(folded: str) -> tuple[list[str], list[str]]:
    if "://" in folded or "www." in folded:
        folded = _SCHEME.sub(" ", folded)
    if folded.isascii():
        found = _ASCII_TOKEN.findall(folded)
        return ([word[:MAX_WORD] for word in found] if len(folded) > MAX_WORD else found), []
    found, singles = [], []
    for word, run in _TOKEN.findall(folded):
        if word:
            found.append(word[:MAX_WORD])
        elif len(run) == 1:
            found.append(run)
        else:
            found += map("".join, pairwise(run))
            singles += run
    return found, singles


def trimmed_link(link: str) -> str:
    """A link without the punctuation that ends a sentence."""
    while link and link[-1] in _LINK_END:
        if link[-1] == ")" and link.count("(") >= link.count(")"):
            break
        link = link[:-1]
    return link


__all__ = [
    "MARKS", "MAX_WORD", "account_key", "fold", "is_pair", "is_unseen", "link_words", "links", "marks", "ordered_words", "plain_words",
    "trimmed_link", "without_links", "words",
]  # fmt: skip
