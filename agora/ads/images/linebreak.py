"""Where lines break: text -> atoms that stay whole, and the breaks that make the lines even (least raggedness, dynamic programming).

The cost of a line is the square of the width it leaves free (Knuth and Plass 1981, "Breaking paragraphs into lines", without
stretching); the last line counts too, so a headline is balanced. Breaks that read badly cost more: a number never leaves its unit, a
line should not end with a small word, a word alone on the last line is a widow. Chinese and Japanese break between characters
except before closing and after opening marks (JIS X 4051, kinsoku); a word in katakana is divided only where it is wider than the line.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Final

from agora.ads.images.shaping import clusters

_NOT_FIRST: Final = set("、。，．,.！？!?：；:;）)」』】〉》］]｝}・ーぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ々〜…‥％%℃”’»›")
_NOT_LAST: Final = set("（(「『【〈《［[｛{“‘«‹¥￥$€£#")
_PLACES: Final = set("県都府道市区町村郡")
_ENDS_OF_WORDS: Final = _PLACES | set("駅店社館部製式用的性化型風産屋園円年月日時分秒個本台枚人名")
_TORN: Final = 0.6  # cost of a break within a Japanese phrase
_NUMBER: Final = re.compile(r"^[\(\[\"'“«]*[~≈<>≤≥+\-−–]?[$€£¥₹₽]?[~+\-−]?\d[\d.,:/'’\u00a0\u202f–-]*[kKmM]?[$€£¥₹₽%‰°]?$")
_CURRENCY: Final = re.compile(r"^(?:[$€£¥₹₽]|USD|EUR|GBP|CHF|JPY|Rs\.?|Nr\.?|No\.?|n°|№|#)$", re.IGNORECASE)
_SMALL: Final = frozenset(
    [
        "a",
        "an",
        "and",
        "as",
        "at",
        "by",
        "for",
        "from",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "off",
        "on",
        "or",
        "our",
        "so",
        "than",
        "the",
        "to",
        "up",
        "vs",
        "we",
        "with",
        "you",
        "your",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "des",
        "ein",
        "eine",
        "einen",
        "einem",
        "einer",
        "und",
        "oder",
        "mit",
        "von",
        "vom",
        "zu",
        "zum",
        "zur",
        "im",
        "in",
        "an",
        "am",
        "auf",
        "für",
        "bei",
        "aus",
        "ohne",
        "le",
        "la",
        "les",
        "un",
        "une",
        "des",
        "du",
        "de",
        "et",
        "ou",
        "à",
        "au",
        "aux",
        "en",
        "sur",
        "par",
        "pour",
        "sans",
        "el",
        "los",
        "las",
        "y",
        "o",
        "con",
        "por",
        "para",
        "sin",
        "il",
        "lo",
        "gli",
        "e",
        "di",
        "da",
    ]
)
_SHORT: Final = 12
"""Letters of a word that keeps its hyphens on one line: "pour-over"."""
_MAX_ATOMS: Final = 400


@dataclass(frozen=True, slots=True)
class Atom:
    """What is never divided. `space`: a space stands before it on the same line. `penalty`: what a break before it costs, in shares
    of a line's width; `hyphen`: a break before it puts a hyphen at the end of the line."""

    text: str
    space: bool
    penalty: float = 0.0
    hyphen: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """Atoms of one line and whether it ends with a hyphen that the text does not have."""

    atoms: tuple[Atom, ...]
    hyphen: bool
    width: float

    @property
    def text(self) -> str:
        """The line as it is read."""
        joined = "".join((" " if atom.space and position else "") + atom.text for position, atom in enumerate(self.atoms))
        return joined + ("-" if self.hyphen else "")

    @property
    def is_torn(self) -> bool:
        """Whether it begins within a Japanese phrase."""
        return self.atoms[0].penalty >= _TORN


def atoms_of(text: str) -> list[Atom]:
    """Words with what belongs to them; Chinese and Japanese in characters."""
    words = [word for word in re.split(r"[ \t\r\n\u3000]+", text.strip()) if word]
    joined: list[list[str]] = []
    for position, word in enumerate(words):
        if position and _stay_together(words[position - 1], word):
            joined[-1].append(word)
        else:
            joined.append([word])
    atoms: list[Atom] = []
    for group in joined:
        if len(group) > 1:
            atoms.append(Atom(" ".join(group), True, _break_cost(atoms)))
        else:
            atoms += _of_word(group[0], _break_cost(atoms))
    return atoms


def _stay_together(before: str, after: str) -> bool:
    """A number and what it counts, a sign of currency and its number, a mark that stands alone and the word before it."""
    if _CURRENCY.match(before) and after[0].isdigit():
        return True
    if _NUMBER.match(before) and len(clusters(after)) <= 12 and not _is_wide(after[0]):
        return not before.endswith((",", ".", ":")) and not _NUMBER.match(after)
    return all(unicodedata.category(letter)[0] == "P" for letter in after) and after not in ("-", "–", "—", "/", "&", "·", "|")


def _break_cost(atoms: Sequence[Atom]) -> float:
    """What a break after the last atom costs: dear after a small word, cheap after a mark."""
    if not atoms:
        return 0.0
    last = atoms[-1].text
    if last.casefold() in _SMALL:
        return 0.10
    return -0.06 if last[-1] in ".,;:!?–—…·|" else 0.0


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF" and not ("\uac00" <= letter <= "\ud7af") and ord(letter) < 0x1F000


def _of_word(word: str, penalty: float) -> list[Atom]:
    """A word as one atom; one with Chinese or Japanese characters, or a long one with hyphens and slashes inside, as several."""
    if len(word) <= _SHORT and not any(map(_is_wide, word)):
        return [Atom(word, True, penalty)]
    parts: list[str] = []
    for cluster in clusters(word):
        if not parts or _may_divide(parts[-1], cluster):
            parts.append(cluster)
        else:
            parts[-1] += cluster
    is_japanese = any(_kana_or_kanji(letter) in ("hiragana", "katakana") for letter in word)
    atoms, run = [Atom(parts[0], True, penalty)], 1
    for before, part, after in zip(parts, parts[1:], [*parts[2:], ""], strict=False):
        run = run + 1 if before[-1] not in _PLACES and _kana_or_kanji(before[-1]) == "kanji" else 1
        cost = _divide_cost(before[-1], part[0], after[:1])
        if is_japanese and _kana_or_kanji(before[-1]) == _kana_or_kanji(part[0]) == "kanji":
            cost = _kanji_cost(before[-1], part[0], run - 1)
        atoms.append(Atom(part, False, cost))
    return atoms


def _kanji_cost(last: str, first: str, before: int) -> float:
    """What a break between two kanji of a Japanese text costs; `before`: kanji in a row before it. Compounds are made of pairs, a place
    ends with its kind, and what ends a word never begins a line."""
    if first in _ENDS_OF_WORDS:
        return _TORN
    return 0.1 if last in _PLACES else 0.2 if before % 2 == 0 else _TORN


def _divide_cost(last: str, first: str, second: str) -> float:
    """What a break between two characters costs. Japanese phrases end with hiragana (particles, endings) and begin with something
    else, or with an honorific o or go before a kanji; a break before other hiragana tears a phrase."""
    kinds = [_kana_or_kanji(letter) for letter in (last, first, second)]
    if last in "、。，！？":
        return -0.03
    if last in "-–/":
        return 0.3
    if kinds[0] == kinds[1] == "kanji":
        return 0.2
    if last in "おご" and kinds[1] == "kanji":
        return _TORN
    if kinds[1] == "hiragana":
        return 0.0 if first in "おご" and kinds[2] == "kanji" else _TORN
    return 0.0 if kinds[0] == "hiragana" else 0.05


def _kana_or_kanji(letter: str) -> str:
    if "\u3041" <= letter <= "\u309f":
        return "hiragana"
    return "katakana" if "\u30a0" <= letter <= "\u30ff" else "kanji" if "\u4e00" <= letter <= "\u9fff" else ""


def _may_divide(before: str, after: str) -> bool:
    last, first = before[-1], after[0]
    if first in _NOT_FIRST or last in _NOT_LAST:
        return False
    if last in "-–/" and len(before) > 2 and first.isalpha():
        return True
    if last.isdigit() or (last in ".,%" and before[:1].isdigit()):
        return False  # a number and its unit: 3個, 20分
    if _kana_or_kanji(first) == "katakana" and _kana_or_kanji(last) == "katakana" and last != "・":
        return False  # a word from abroad
    return _is_wide(last) or _is_wide(first)


def hyphenated(atom: Atom, language: str) -> list[Atom]:
    """A long word in syllables; a word of a language without patterns in clusters, which no mark of the wrong kind begins or ends. Groups
    of words come apart at their spaces, compounds at their own hyphens."""
    if " " in atom.text:
        words = atom.text.split(" ")
        return [replace(atom, text=words[0]), *(Atom(word, True, 0.5) for word in words[1:])]
    compound = re.split(r"(?<=[^\W\d_][-–/])(?=[^\W\d_])", atom.text)
    if len(compound) > 1:
        return [replace(atom, text=compound[0]), *(Atom(part, False, 0.3) for part in compound[1:])]
    positions = _syllables(atom.text, language)
    if positions:
        edges = [0, *positions, len(atom.text)]
        parts = [atom.text[start:end] for start, end in itertools.pairwise(edges)]
        return [replace(atom, text=parts[0]), *(Atom(part, False, 0.22, hyphen=True) for part in parts[1:])]
    pieces: list[str] = []
    for cluster in clusters(atom.text):
        if pieces and (cluster[0] in _NOT_FIRST or pieces[-1][-1] in _NOT_LAST):
            pieces[-1] += cluster
        else:
            pieces.append(cluster)
    if len(pieces) < 2:
        return [atom]
    latin = atom.text.isalpha() and unicodedata.bidirectional(atom.text[0]) == "L" and not _is_wide(atom.text[0])
    return [replace(atom, text=pieces[0]), *(Atom(piece, False, 0.6, hyphen=latin) for piece in pieces[1:])]


def _syllables(word: str, language: str) -> list[int]:
    """Positions where the word may take a hyphen."""
    patterns = _patterns(language)
    core = word.strip("\"'“”„«»()[].,;:!?…")
    if patterns is None or len(core) < 6 or not core.replace("-", "").replace("\u00ad", "").isalpha():
        return []
    shift = word.index(core)
    return [shift + int(position) for position in patterns.positions(core) if 2 <= position <= len(core) - 3]


@cache
def _patterns(language: str) -> Any:
    try:
        import pyphen
    except ImportError:
        return None
    known = pyphen.language_fallback(language.replace("-", "_"))
    return pyphen.Pyphen(lang=known) if known else None


def break_lines(
    atoms: Sequence[Atom], width_of: Callable[[str], float], space: float, width: float, *, max_lines: int, hyphen: float = 0.3
) -> list[Line] | None:
    """The fewest lines that hold the atoms, broken evenly; None when they do not fit. All widths in the same unit.

    `width_of` gives the width of an atom's text, `space` and `hyphen` those of a space and a hyphen.
    """
    atoms = atoms[:_MAX_ATOMS]
    widths = [width_of(atom.text) for atom in atoms]
    if not atoms or max(widths) > width:
        return None
    ruler = _Ruler(atoms, widths, space, hyphen)
    fewest = _fewest_lines(ruler, width)
    for num_lines in range(fewest, max_lines + 1):
        lines = _even_lines(ruler, width, num_lines)
        if lines is not None:
            return lines
    return None


class _Ruler:
    """Widths of lines from sums that were made once."""

    def __init__(self, atoms: Sequence[Atom], widths: Sequence[float], space: float, hyphen: float) -> None:
        self.atoms = atoms
        self._until = [0.0]
        self._own = [0.0]
        for atom, width in zip(atoms, widths, strict=True):
            gap = space if atom.space else 0.0
            self._until.append(self._until[-1] + width + gap)
            self._own.append(gap)
        self._hyphen = [hyphen if atom.hyphen else 0.0 for atom in atoms] + [0.0]

    def width(self, start: int, end: int) -> float:
        """The width of a line of the atoms start..end-1, with its hyphen."""
        return self._until[end] - self._until[start] - self._own[start + 1] + self._hyphen[end]


def _fewest_lines(ruler: _Ruler, width: float) -> int:
    """Lines when each takes as much as it can."""
    count, start = 0, 0
    while start < len(ruler.atoms):
        end = start + 1
        while end < len(ruler.atoms) and ruler.width(start, end + 1) <= width:
            end += 1
        start, count = end, count + 1
    return count


def _even_lines(ruler: _Ruler, width: float, num_lines: int) -> list[Line] | None:
    """Exactly `num_lines` lines with the least sum of costs; best[k][j] is the cost of the first j atoms on k lines."""
    atoms = ruler.atoms
    count = len(atoms)
    if num_lines > count:
        return None
    target = min(width, ruler.width(0, count) / num_lines * 1.04)
    never = float("inf")
    best = [[never] * (count + 1) for _ in range(num_lines + 1)]
    cut = [[0] * (count + 1) for _ in range(num_lines + 1)]
    best[0][0] = 0.0
    for line in range(1, num_lines + 1):
        for end in range(line, count - (num_lines - line) + 1):
            for start in range(end - 1, line - 2, -1):
                length = ruler.width(start, end)
                if length > width + 1e-9:
                    if length > width * 1.5:
                        break
                    continue  # its hyphen may be what does not fit
                if best[line - 1][start] == never:
                    continue
                cost = best[line - 1][start] + _cost(atoms, length, start, end, target)
                if cost < best[line][end]:
                    best[line][end], cut[line][end] = cost, start
    if best[num_lines][count] == never:
        return None
    lines: list[Line] = []
    end = count
    for line in range(num_lines, 0, -1):
        start = cut[line][end]
        lines.append(Line(tuple(atoms[start:end]), end < count and atoms[end].hyphen, ruler.width(start, end)))
        end = start
    return lines[::-1]


def _cost(atoms: Sequence[Atom], length: float, start: int, end: int, target: float) -> float:
    """Squared difference from the even width, the cost of the break before the line, and of a line that is left nearly empty."""
    cost = ((length - target) / target) ** 2 + (atoms[start].penalty if start else 0.0)
    if length < 0.4 * target:
        cost += 0.35 if end == len(atoms) and start else 0.15
    return cost


def raggedness(lines: Sequence[Line]) -> float:
    """0 = all lines equally wide; the mean share that the widest line has more."""
    widest = max(line.width for line in lines)
    return sum(1 - line.width / widest for line in lines) / len(lines)
