"""Text -> a block of lines at the size that fits: widths in em, broken by `linebreak`, placed as outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Literal

from agora.ads.images.fonts import Chain, Face, face
from agora.ads.images.linebreak import Atom, Line, atoms_of, break_lines, hyphenated, raggedness
from agora.ads.images.scene import Box, Step
from agora.ads.images.shaping import Direction, Glyph, Shaped, direction_of, pieces_of, shape, visual_order

Toward = Literal["left", "center", "right"]
_GAP_OF_LINES: Final = 0.10  # em between the ink of neighbouring lines, at least


@dataclass(frozen=True, kw_only=True, slots=True)
class Voice:
    """How a text is set: family, weight, width axis, tracking and leading in em."""

    family: str
    weight: int
    width: int = 100
    tracking: float = 0.0
    leading: float = 1.1

    @property
    def face(self) -> Face:
        """The face."""
        return face(self.family, self.weight, self.width)


class Setter:
    """Shapes the words of one text in one voice, once; `block` breaks them for a width and a size."""

    def __init__(self, text: str, voice: Voice, *, language: str) -> None:
        self.text = " ".join(text.split())
        self.voice, self.language = voice, language
        self.chain = Chain(voice.face, voice.weight)
        self.direction: Direction = direction_of(self.text)
        self.atoms = list(atoms_of(self.text))
        self._shaped: dict[str, Shaped] = {}
        self._inks: dict[str, tuple[float, float]] = {}
        self._space = self._word(" ").width
        self._hyphen = self._word("-").width
        self._in_parts: list[Atom] | None = None
        self.widest = max((self.width_of(atom.text) for atom in self.atoms), default=0.0)

    @property
    def left_out(self) -> set[str]:
        """Pictograms that no font draws."""
        return self.chain.left_out

    def width_of(self, text: str) -> float:
        """Width in em of an atom, its inner spaces included."""
        return sum(self._word(word).width for word in text.split(" ")) + self._space * text.count(" ")

    def _word(self, word: str) -> Shaped:
        if word not in self._shaped:
            runs = [
                (shape(part, self.chain, language=self.language, direction=direction, tracking=self.voice.tracking), direction)
                for part, direction in pieces_of(word, self.direction)
            ]
            self._shaped[word] = _joined(visual_order(runs, self.direction))
        return self._shaped[word]

    def line(self, line: Line) -> Shaped:
        """The glyphs of a line in the order of the eye."""
        words: list[tuple[Shaped, Direction]] = []
        blank = Shaped((), self._space)
        for position, atom in enumerate(line.atoms):
            for number, word in enumerate(atom.text.split(" ")):
                if number or (position and atom.space):
                    words.append((blank, "rtl" if self.direction == "rtl" else "ltr"))
                words.append((self._word(word), direction_of(word, otherwise="ltr" if word[:1].isdigit() else self.direction)))
        if line.hyphen:
            words.append((self._word("-"), self.direction))
        return _joined(visual_order(_spaces_within(words), self.direction))

    def block(self, width_px: float, size: float, *, max_lines: int, divide: bool = False) -> Block | None:
        """The block at a size; None when it does not fit. `divide` allows long words to be hyphenated."""
        width = width_px / size
        atoms: Sequence[Atom] = self.atoms
        if self.widest > width:
            if not divide:
                return None
            atoms = self._divided(width)
        lines = break_lines(atoms, self.width_of, self._space, width, max_lines=max_lines, hyphen=self._hyphen)
        if lines is None:
            return None
        return Block(self, lines, [self.line(line) for line in lines], size)

    def _divided(self, width: float) -> list[Atom]:
        """Atoms that are wider than the line in parts, and these again until they fit or cannot be divided."""
        atoms: list[Atom] = []
        pending = list(self.atoms)
        while pending:
            atom = pending.pop(0)
            if self.width_of(atom.text) + self._hyphen <= width:
                atoms.append(atom)
                continue
            parts = hyphenated(atom, self.language)
            if len(parts) < 2:
                atoms.append(atom)
            else:
                pending = parts + pending
        return atoms


def _spaces_within(words: list[tuple[Shaped, Direction]]) -> list[tuple[Shaped, Direction]]:
    """Spaces between two words of the other direction take that direction (UAX 9, rule N1)."""
    result = list(words)
    for index in range(1, len(words) - 1):
        if not words[index][0].glyphs and words[index - 1][1] == words[index + 1][1]:
            result[index] = (words[index][0], words[index - 1][1])
    return result


def _joined(runs: Sequence[Shaped]) -> Shaped:
    glyphs: list[Glyph] = []
    at = 0.0
    for run in runs:
        glyphs += [Glyph(glyph.face, glyph.index, glyph.x + at, glyph.y) for glyph in run.glyphs]
        at += run.width
    return Shaped(tuple(glyphs), at)


@lru_cache(maxsize=20_000)
def _ink(glyph_face: Face, index: int) -> tuple[float, float, float, float] | None:
    """Left, bottom, right, top of a glyph's outline in em (y upwards); None for a blank."""
    points = [numbers for _, numbers in glyph_face.outline(index) if numbers]
    if not points:
        return None
    xs = [x for numbers in points for x in numbers[::2]]
    ys = [y for numbers in points for y in numbers[1::2]]
    unit = glyph_face.units_per_em
    return min(xs) / unit, min(ys) / unit, max(xs) / unit, max(ys) / unit


def ink_of(shaped: Shaped) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a line's ink in em; of a blank line its width."""
    parts = [(glyph, _ink(glyph.face, glyph.index)) for glyph in shaped.glyphs]
    boxes = [(glyph.x + ink[0], glyph.y + ink[1], glyph.x + ink[2], glyph.y + ink[3]) for glyph, ink in parts if ink is not None]
    if not boxes:
        return 0.0, 0.0, shaped.width, 0.0
    return min(box[0] for box in boxes), min(box[1] for box in boxes), max(box[2] for box in boxes), max(box[3] for box in boxes)


@dataclass(slots=True)
class Block:
    """Lines at a size. Heights run from the top of capitals (or of higher ink) to the lowest ink of the last line."""

    setter: Setter
    lines: list[Line]
    shaped: list[Shaped]
    size: float
    inks: list[tuple[float, float, float, float]] = field(init=False)

    def __post_init__(self) -> None:
        self.inks = [ink_of(line) for line in self.shaped]

    @property
    def leading(self) -> float:
        """Em from one baseline to the next: that of the voice, more where accents or stacked letters would touch."""
        needed = [above[1] * -1 + below[3] + _GAP_OF_LINES for above, below in zip(self.inks, self.inks[1:], strict=False)]
        return max([self.setter.voice.leading, *needed])

    @property
    def _rise(self) -> float:
        return max(self.setter.voice.face.cap_height, self.inks[0][3])

    @property
    def height(self) -> float:
        """Pixels."""
        drop = max(0.0, -self.inks[-1][1])
        return (self._rise + (len(self.lines) - 1) * self.leading + drop) * self.size

    @property
    def optical_height(self) -> float:
        """Pixels from the top of capitals to the last baseline: what the eye centres."""
        return (self._rise + (len(self.lines) - 1) * self.leading) * self.size

    @property
    def width(self) -> float:
        """Pixels of the widest line's ink."""
        return max(ink[2] - ink[0] for ink in self.inks) * self.size

    @property
    def raggedness(self) -> float:
        """How uneven the lines are, 0..1."""
        return raggedness(self.lines)

    @property
    def divides_words(self) -> bool:
        """Whether a hyphen was added."""
        return any(line.hyphen for line in self.lines)

    def place(self, box: Box, *, toward: Toward) -> tuple[tuple[Step, ...], Box]:
        """Outlines from the top of the box down and the box of their ink. Ink, not advance, meets the edge of the box."""
        steps: list[Step] = []
        baseline = box.top + self._rise * self.size
        edges: list[tuple[float, float, float, float]] = []
        for shaped, ink in zip(self.shaped, self.inks, strict=True):
            span = (ink[2] - ink[0]) * self.size
            left = {"left": box.left, "right": box.right - span, "center": (box.left + box.right - span) / 2}[toward]
            origin = left - ink[0] * self.size
            for glyph in shaped.glyphs:
                steps += _moved(glyph, origin, baseline, self.size)
            edges.append((left, baseline - ink[3] * self.size, left + span, baseline - ink[1] * self.size))
            baseline += self.leading * self.size
        lefts, tops, rights, bottoms = zip(*edges, strict=True)
        return tuple(steps), Box(min(lefts), min(tops), max(rights), max(bottoms))


def _moved(glyph: Glyph, x: float, baseline: float, size: float) -> list[Step]:
    """The outline of a glyph in pixels, y downwards."""
    scale = size / glyph.face.units_per_em
    left, base = x + glyph.x * size, baseline - glyph.y * size
    return [
        (kind, tuple(left + number * scale if index % 2 == 0 else base - number * scale for index, number in enumerate(numbers)))
        for kind, numbers in glyph.face.outline(glyph.index)
    ]
