"""Text that is shown is text. Goes in: words of posts, accounts, models. Comes out: the same to read, with nothing in it that a terminal, a
browser or Markdown would act on, and nothing that reads like a citation.

Whoever shows an answer shows it as plain text; this is the second fence, for those who render Markdown all the same: no link becomes
one that can be clicked, no image is fetched, no tag is a tag, nothing turns the direction of writing or hides. Citations are numbers in
square brackets, which the answer adds afterwards: in words of others, brackets of any script around a number become round ones.
Not covered: marks that other texts cite with, as (1), a bare \u2460 or \u00b9; here they cite nothing.
Characters are replaced one for one by others that look alike, so a quotation keeps its length. The quotation as it was written travels
beside it (`Citation.quote`).
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import Final

from agora.text.words import is_unseen

_HIDDEN: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
_MARKS: Final = str.maketrans("“”„«»", "＂＂＂‹›")
_JOINERS: Final = frozenset("\u200c\u200d")
"""Part of emoji and of some scripts; kept where they stand between characters that use them."""
_PRESENTATION: Final = frozenset("\ufe0e\ufe0f")
"""How the sign before it is drawn; kept once behind one that is drawn in two ways. In rows they carry hidden words."""
_ACTIVE: Final = re.compile(
    r"(?P<tag><(?=[A-Za-z/!?]))|(?P<image>!(?=\[))|(?P<link>\](?=[(\[:]))"
    r"|(?P<scheme>(?<=[A-Za-z]):(?=//))|(?P<script>(?<=javascript):|(?<=vbscript):|(?<=data):(?=[a-z]+/)|(?<=mailto):|(?<=xmpp):)"
    r"|(?P<www>(?<=www)\.)|(?P<fence>`)|(?P<mail>(?<=[\w])@(?=[\w-]+\.[A-Za-z]))|(?P<entity>&(?=#?\w+;))",
    re.IGNORECASE,
)
_INSTEAD: Final = {
    "tag": "‹", "image": "ǃ", "link": "⁆", "scheme": "：", "script": "：", "www": "․", "fence": "ʹ", "mail": "＠",
    "entity": "＆",
}  # fmt: skip


def _brackets(category: str, more: str) -> frozenset[str]:
    """All brackets of one side, but for round ones and quotation marks."""
    found = (chr(code) for code in range(0x10000) if unicodedata.category(chr(code)) == category)
    return frozenset(
        one for one in found if unicodedata.normalize("NFKC", one) not in ("(", ")") and "QUOTATION" not in unicodedata.name(one, "")
    ) | frozenset(more)


_OPENING: Final = _brackets("Ps", "⎡⎢⎣˹˻")
_CLOSING: Final = _brackets("Pe", "⎤⎥⎦˺˼")
_BRACKET: Final = re.compile(f"[{re.escape(''.join(sorted(_OPENING | _CLOSING)))}]")
_SPOKEN: Final = frozenset("「」『』｢｣﹁﹂﹃﹄〈〉《》")
"""Around words, quotation marks of East Asia."""
_DEEPEST: Final = 8
"""Brackets within brackets that are looked into one by one."""
_LIKE_DIGITS: Final = frozenset("lIi|OoІіΙιОоΟοӀǀ")


def safe_text(text: str) -> str:
    """The text with lookalikes for what would act, one for one. Newlines stay; other control characters become U+FFFD."""
    visible = "".join(_seen(text, place) for place in range(len(text)))
    if _BRACKET.search(visible):
        visible = "\n".join(map(_all_uncited, visible.split("\n")))
    return _ACTIVE.sub(lambda match: _INSTEAD[match.lastgroup or "tag"], visible)


def one_line(text: str, most: int = 200) -> str:
    """`safe_text` on one line of at most `most` characters."""
    joined = " ".join(text.split())
    return safe_text(joined if len(joined) <= most else joined[: most - 3] + "...")


def quoted(text: str, most: int = 200) -> str:
    """`one_line` in quotation marks, none inside: a quotation cannot be ended from within."""
    return f"“{one_line(text, most).translate(_MARKS)}”"


def _all_uncited(line: str) -> str:
    """The line with round brackets as far as numbers are nested in others; nobody writes deeper than this but to get through."""
    for _ in range(_DEEPEST):
        before, line = line, _uncited(line)
        if line == before:
            return line
    return _BRACKET.sub(lambda match: "(" if match[0] in _OPENING else ")", line)


def _uncited(line: str) -> str:
    """The line with round brackets for those around something numbered, also where the other one is missing."""
    shown = list(line)
    places = [match.start() for match in _BRACKET.finditer(line)]
    for left, right in pairwise((-1, *places, len(line))):
        opens = left >= 0 and line[left] in _OPENING
        closes = right < len(line) and line[right] in _CLOSING
        if (opens or closes) and _is_numbered(line[left + 1 : right], {line[left]} if opens else {line[right]}):
            if opens:
                shown[left] = "("
            if closes:
                shown[right] = ")"
    return "".join(shown)


def _is_numbered(inside: str, marks: set[str]) -> bool:
    """Whether it holds a number, is nothing but what looks like one, or begins as a footnote's name."""
    letters = [one for one in inside if one.isalnum() or one == "|"]
    if all(one in _LIKE_DIGITS or unicodedata.numeric(one, None) is not None for one in letters):
        return bool(letters) and len(letters) <= 12
    if marks <= _SPOKEN:
        return False
    return inside.startswith("^") or any(unicodedata.category(one)[0] == "N" for one in inside)


def _seen(text: str, place: int) -> str:
    character = text[place]
    if character in "\n\t" or " " <= character <= "~":
        return character
    if unicodedata.category(character) not in _HIDDEN and not is_unseen(character):
        return character
    before, after = text[place - 1 : place] if place else "", text[place + 1 : place + 2]
    if character in _JOINERS and before > "\u02ff" and after > "\u02ff":
        return character
    if character in _PRESENTATION and not is_unseen(before or " ") and (before > "\u02ff" or before in ("©", "®") or after == "\u20e3"):
        return character
    return "\ufffd"


__all__ = ["one_line", "quoted", "safe_text"]
