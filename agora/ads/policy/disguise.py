"""Words that hide from rules, written plainly. Goes in: "fr££ g1fts", "N O W", "S-A-L-E", Cyrillic letters in a Latin word,
zero-width marks. Comes out: the plain text, and the words that were disguised.

Not covered: misspellings ("fre gifs") and pictures of words.
"""

from __future__ import annotations

import itertools
import unicodedata
from typing import Final

import regex

_LOOKALIKE: Final = str.maketrans(
    "аеорсухіјѕԁɡһкмтвнАЕОРСУХІЈЅКМТВНαονικρτυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijsdghkmtbhAEOPCYXIJSKMTBHaovikptuABEZHIKMNOPTYX"
)
_DIGIT_FOR_LETTER: Final = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b", "@": "a", "$": "s", "£": "e", "€": "e", "!": "i"}
)
_INVISIBLE: Final = regex.compile(r"[\p{Cf}--[\u200d]]", regex.V1)
_PARTED: Final = regex.compile(r"\p{Latin}+(?:[\u200b\u2060\ufeff]+\p{Latin}+)+")
"""Words with an invisible break inside, or in place of a blank."""
_FRAMED: Final = r"[\U0001F150-\U0001F169\U0001F170-\U0001F189]"
_IN_FRAMES: Final = regex.compile(rf"{_FRAMED}(?=\p{{L}})|(?<=\p{{L}}){_FRAMED}")
"""Letters in black circles and squares inside words; unlike those in white ones they have no plain form."""
_WORD: Final = regex.compile(r"(?<![\p{L}\p{N}$£€@])[\p{L}\p{N}$£€@!]*[\p{L}][\p{L}\p{N}$£€@!]*")
_MIXED: Final = regex.compile(
    r"\p{Latin}*(?:\p{Latin}[\p{Cyrillic}\p{Greek}]|[\p{Cyrillic}\p{Greek}]\p{Latin})[\p{Latin}\p{Cyrillic}\p{Greek}]*"
)
_UNIT: Final = regex.compile(
    r"\d+[a-z]{1,4}|[$£€]\d.*|\d.*[$£€]|[a-z]{1,3}\d+|\p{Lu}+\d+\p{L}?|\d+\p{Lu}+|\p{L}\d\p{L}?|\d\p{L}+", regex.IGNORECASE
)
_SPACED: Final = regex.compile(r"(?<![\p{L}\p{N}'’])(?:\p{L}[ .·_*-]{1,3}){2,}\p{L}(?![\p{L}\p{N}'’])")


def plainly(text: str) -> tuple[str, list[str]]:
    """`text` without disguise, and what was disguised as it stood there."""
    found: list[str] = []
    plain = _IN_FRAMES.sub(lambda match: _noted(match.group(), _bare_letters(match.group()), found), text)
    plain = unicodedata.normalize("NFKC", plain)
    found += [match.group() for match in _PARTED.finditer(plain)]
    bare = _INVISIBLE.sub("", plain)
    plain = _MIXED.sub(lambda match: _noted(match.group(), match.group().translate(_LOOKALIKE), found), bare)
    plain = _WORD.sub(lambda match: _word(match.group(), found), plain)
    return _SPACED.sub(lambda match: _joined(match.group(), found), plain), found


def _bare_letters(framed: str) -> str:
    return "".join(chr(ord("A") + (ord(one) - 0x1F150) % 0x20) for one in framed)


def _noted(written: str, plain: str, found: list[str]) -> str:
    if plain != written:
        found.append(written)
    return plain


def _word(written: str, found: list[str]) -> str:
    """A word with digits or signs for letters: two of them, or one inside a word of four letters."""
    core = written.rstrip("!")
    signs = sum(not character.isalpha() for character in core)
    inside = any(not one.isalpha() for one in core[1:-1])
    if not signs or _UNIT.fullmatch(core) or not (signs >= 2 or (inside and len(core) >= 4)):
        return written
    if not regex.fullmatch(r"[\p{Latin}013457@$£€!]+", core) or signs > len(core) / 2 or not core[0].isalpha():
        return written
    return _noted(written, core.translate(_DIGIT_FOR_LETTER) + written[len(core) :], found)


def _joined(written: str, found: list[str]) -> str:
    letters = regex.findall(r"\p{L}", written)
    separators = set(regex.findall(r"\P{L}+", written))
    in_order = all(ord(other.lower()) == ord(one.lower()) + 1 for one, other in itertools.pairwise(letters))
    if len(separators) > 1 or in_order or (separators == {"."} and len(letters) <= 4):
        return written
    return _noted(written, "".join(letters), found)


__all__ = ["plainly"]
