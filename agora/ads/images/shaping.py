"""Text -> placed glyphs of one line, through HarfBuzz: ligatures, kerning, joined letters, right-to-left, letters from other fonts.

Sizes are in em (1 = the font size), so a text is shaped once and scaled. Words are the pieces; `visual_order` puts those of a line in
the order of the eye. That is the Unicode bidirectional algorithm (UAX 9) for runs of words without explicit embeddings or isolates,
which advertising lines do not have: not covered are nested quotations of the other direction.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agora.ads.images.fonts import Chain, Face, _harfbuzz

Direction = Literal["ltr", "rtl"]


@dataclass(frozen=True, slots=True)
class Glyph:
    """A glyph at x, y (y upwards) in em from the start of its piece."""

    face: Face
    index: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Shaped:
    """Glyphs and the width in em."""

    glyphs: tuple[Glyph, ...]
    width: float


def clusters(text: str) -> list[str]:
    """The text in pieces that are never divided: a letter with its marks, an emoji with its modifiers and joiners, a flag."""
    pieces: list[str] = []
    for letter in text:
        if pieces and (_extends(letter) or pieces[-1].endswith("\u200d") or _completes_flag(pieces[-1], letter)):
            pieces[-1] += letter
        else:
            pieces.append(letter)
    return pieces


def _extends(letter: str) -> bool:
    return (
        unicodedata.category(letter) in ("Mn", "Me", "Mc")
        or letter in "\u200d\ufe0e\ufe0f"
        or 0x1F3FB <= ord(letter) <= 0x1F3FF
        or 0xE0020 <= ord(letter) <= 0xE007F
    )


def _completes_flag(piece: str, letter: str) -> bool:
    return len(piece) == 1 and all(0x1F1E6 <= ord(part) <= 0x1F1FF for part in (piece, letter))


def direction_of(text: str, *, otherwise: Direction = "ltr") -> Direction:
    """The direction of the first letter that has one (UAX 9, rules P2 and P3)."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("L", "R", "AL"):
            return "ltr" if kind == "L" else "rtl"
    return otherwise


def shape(text: str, chain: Chain, *, language: str = "en", direction: Direction = "ltr", tracking: float = 0.0) -> Shaped:
    """One word, or a piece of one that has one direction. Pictograms that no font draws are left out."""
    runs: list[tuple[Face, str]] = []
    for cluster in clusters(text):
        face = chain.face_for(cluster)
        if face is None:
            continue
        if runs and runs[-1][0] is face:
            runs[-1] = (face, runs[-1][1] + cluster)
        else:
            runs.append((face, cluster))
    glyphs: list[Glyph] = []
    at = 0.0
    for face, part in reversed(runs) if direction == "rtl" else runs:
        at = _shape_run(face, part, language, direction, tracking, glyphs, at)
    return Shaped(tuple(glyphs), at)


def _shape_run(face: Face, text: str, language: str, direction: Direction, tracking: float, glyphs: list[Glyph], at: float) -> float:
    harfbuzz = _harfbuzz()
    buffer = harfbuzz.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.direction, buffer.language = direction, language
    harfbuzz.shape(face.font, buffer, {"kern": True, "liga": True})
    spread = 0.0 if any(unicodedata.bidirectional(letter) == "AL" for letter in text) else tracking  # joined letters must touch
    for info, position in zip(buffer.glyph_infos, buffer.glyph_positions, strict=True):
        unit = face.units_per_em
        glyphs.append(Glyph(face, info.codepoint, at + position.x_offset / unit, position.y_offset / unit))
        at += position.x_advance / unit + spread
    return at


def pieces_of(word: str, base: Direction) -> list[tuple[str, Direction]]:
    """A word in runs of one direction, in the order of reading; neutral letters at its ends follow the base direction."""
    runs: list[tuple[str, Direction]] = []
    pending = ""
    for cluster in clusters(word):
        kind = unicodedata.bidirectional(cluster[0])
        own: Direction | None = "rtl" if kind in ("R", "AL") else "ltr" if kind in ("L", "EN", "AN") else None
        if own is None:
            pending += cluster
        elif runs and runs[-1][1] == own:
            runs[-1] = (runs[-1][0] + pending + cluster, own)
            pending = ""
        else:
            if pending and (own == base or not runs) and not (_is_number_mark(pending) and kind in ("EN", "AN")):
                if own == base:
                    runs.append((pending + cluster, own))
                else:
                    runs += [(pending, base), (cluster, own)]
            elif pending and runs and runs[-1][1] == base:
                runs[-1] = (runs[-1][0] + pending, base)
                runs.append((cluster, own))
            else:
                runs.append((pending + cluster, own))
            pending = ""
    if pending:
        if runs and (runs[-1][1] == base or (_is_number_mark(pending) and runs[-1][0][-1:].isdigit())):
            runs[-1] = (runs[-1][0] + pending, runs[-1][1])
        else:
            runs.append((pending, base))
    return runs


def _is_number_mark(text: str) -> bool:
    """Signs that stay with a number: UAX 9 classes ET and CS."""
    return all(unicodedata.bidirectional(letter) in ("ET", "CS", "ES") for letter in text)


def visual_order(runs: Sequence[tuple[Any, Direction]], base: Direction) -> list[Any]:
    """Runs in the order of reading -> in the order of the eye, from left to right (UAX 9, rule L2)."""
    if base == "ltr":
        return _turned(runs, "rtl")
    return list(reversed(_turned(runs, "ltr")))


def _turned(runs: Sequence[tuple[Any, Direction]], which: Direction) -> list[Any]:
    """Neighbours of the direction `which` in reverse order, the others as they stand."""
    result: list[Any] = []
    group: list[Any] = []
    for run, direction in runs:
        if direction == which:
            group.append(run)
            continue
        result += [*reversed(group), run]
        group = []
    return result + list(reversed(group))
