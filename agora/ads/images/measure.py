"""The scale of one placement: margins, type sizes that belong together, and the blocks of text at them. All numbers in pixels.

Sizes of small texts follow the square root of the picture's area, so that they read alike when pictures of different proportions are
shown at the same size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from agora.ads.images.arrangement import Shown, Texts, Wish
from agora.ads.images.scene import Box
from agora.ads.images.typeset import Block
from agora.ads.placements import Placement, Shape


@dataclass(frozen=True, slots=True)
class _Headline:
    """Largest headline as a share of `axis` (w or h): beside a product, and alone; preferred and greatest number of lines."""

    axis: str
    share: float
    alone: float
    preferred: int
    most: int


_HEADLINE: Final[dict[Shape, _Headline]] = {
    "story": _Headline("w", 0.15, 0.21, 4, 8),
    "portrait": _Headline("w", 0.135, 0.19, 4, 7),
    "square": _Headline("w", 0.125, 0.165, 3, 6),
    "landscape": _Headline("h", 0.175, 0.235, 3, 6),
    "billboard": _Headline("h", 0.27, 0.33, 2, 4),
    "skyscraper": _Headline("w", 0.235, 0.27, 6, 14),
    "leaderboard": _Headline("h", 0.36, 0.40, 2, 3),
    "banner": _Headline("h", 0.40, 0.44, 2, 3),
}
_STEP: Final = 1.04  # between two sizes that are tried
_IN_A_ROW: Final = ("leaderboard", "banner")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Type sizes that belong to a headline of `headline` pixels, and the gap between the two texts."""

    headline: float
    description: float
    button: float
    gap: float


@dataclass(frozen=True, slots=True)
class Button:
    """The call to action and the size of its button."""

    block: Block
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Mark:
    """The brand's name as a block, or (None) a logo picture, and its size."""

    block: Block | None
    width: float
    height: float


class Measure:
    """What fits where in one placement."""

    def __init__(self, placement: Placement, texts: Texts, wish: Wish, *, product_ratio: float | None, logo_ratio: float | None) -> None:
        self.placement, self.texts, self.wish = placement, texts, wish
        self.product_ratio, self.logo_ratio = product_ratio, logo_ratio
        self.width, self.height, self.shape = placement.width, placement.height, placement.shape
        self.short = float(min(self.width, self.height))
        self.unit = math.sqrt(self.width * self.height)
        self.min_text = float(placement.min_text_px)
        self.is_row = self.shape in _IN_A_ROW
        self.is_wide = self.shape in ("landscape", "billboard")
        self.content = self._content()
        self.step = max(10.0, 0.05 * self.short, 0.024 * self.height)  # between groups
        head = _HEADLINE[self.shape]
        share = head.share if product_ratio is not None else head.alone
        self.preferred_lines, self.max_lines = head.preferred, head.most
        self.largest = max(self.min_text * 1.2, share * (self.width if head.axis == "w" else self.height))
        count = max(2, math.ceil(math.log(self.largest / self.min_text, _STEP)))
        self.sizes = [self.min_text * (self.largest / self.min_text) ** (step / count) for step in range(count + 1)]

    def _content(self) -> Box:
        """The safe area, with equal margins on all sides where the placement asks for no more."""
        left, top, _right, bottom = self.placement.safe_px
        if self.is_row:
            margin = max(left, 0.14 * self.height)
            return Box(margin, top, self.width - margin, bottom)
        margin = max(0.068 * self.short, left)
        return Box(margin, max(top, margin), self.width - margin, min(bottom, self.height - margin))

    def scale(self, headline: float) -> Sizes:
        """Sizes of the other texts for a headline."""
        description = max(self.min_text, min(0.5 * headline, 0.041 * self.unit if self.short > 400 else max(16.0, 0.04 * self.unit)))
        button = max(self.min_text, min(0.5 * headline, 0.035 * self.unit if self.short > 400 else max(15.0, 0.036 * self.unit)))
        return Sizes(headline, max(description, self.small), max(button, self.small), max(0.38 * headline, 0.62 * description, 5.0))

    @property
    def small(self) -> float:
        """Of the disclosure: it has to be read on a telephone, too, where a picture is shown at a third of its size."""
        return max(self.min_text, 0.026 * self.unit if self.short > 400 else 0.0)

    @property
    def has_mark(self) -> bool:
        """Whether there is a logo or a name to show."""
        return self.logo_ratio is not None or self.texts.wordmark is not None

    def headline(self, width: float, size: float, *, divide: bool) -> Block | None:
        """The headline at a size."""
        return self.texts.headline.block(width, size, max_lines=self.max_lines, divide=divide)

    def description(self, sizes: Sizes, width: float) -> Block | None:
        """The description in lines that are not tiring to read; None when it does not fit."""
        setter = self.texts.description
        assert setter is not None
        lines = 8 if self.shape == "skyscraper" else 4
        for measure, divide in ((min(width, sizes.description * 26), False), (min(width, sizes.description * 26), True), (width, True)):
            block = setter.block(measure, sizes.description, max_lines=lines, divide=divide)
            if block is not None:
                return block
        return None

    def button(self, size: float, width: float) -> Button | None:
        """The button, on one line where it fits."""
        setter = self.texts.call_to_action
        for lines, divide in ((1, False), (2, False), (3, True)):
            for factor in (1.0, 0.9, 0.8, 0.7):
                at = max(self.min_text, size * factor)
                pad = min(self.wish.pad_x * at, 0.12 * width)
                block = setter.block(width - 2 * pad, at, max_lines=lines, divide=divide)
                if block is not None:
                    tight = 0.72 if self.is_row else 1.0
                    return Button(block, block.width + 2 * pad, block.optical_height + 2 * at * self.wish.pad_y * tight)
        return None

    def disclosure(self, width: float) -> Block | None:
        """The mark that says what the picture is."""
        for lines in (1, 2, 3):
            block = self.texts.disclosure.block(width, self.small, max_lines=lines, divide=lines == 3)
            if block is not None:
                return block
        return None

    def mark(self, width: float) -> Mark | None:
        """Name or logo; None when there is neither or it does not fit."""
        height = max(self.min_text, 15.0 if self.short > 60 else 0.0, 0.034 * self.unit)
        if self.logo_ratio is not None:
            across = min(width * 0.6, height * 1.6 * self.logo_ratio, height * 6.4)
            return Mark(None, across, across / self.logo_ratio)
        if self.texts.wordmark is None:
            return None
        for factor in (1.0, 0.8, 0.6):
            block = self.texts.wordmark.block(width, max(self.min_text, height * factor), max_lines=1)
            if block is not None:
                return Mark(block, block.width, block.height)
        return None

    def fitted(self, room: Box) -> Box:
        """Where the product lies within its room."""
        ratio = self.product_ratio or 1.0
        width = min(room.width, room.height * ratio)
        height = width / ratio
        x, y = room.center
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def lacks(self, shown: Shown, mark: Mark | None) -> bool:
        """Whether a mark is asked for that does not fit."""
        return shown.mark and mark is None and self.has_mark
