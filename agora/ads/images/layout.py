"""The layout solver: texts, product and logo -> boxes that do not touch, inside the safe area, with the largest headline that reads well.

For the shape of a placement a few arrangements are tried (text beside the product, above it, below it, in a row, alone), each at the
largest headline that fits, and scored: large type and product, even lines, few divided words, nothing left out. What does not fit is
left out in this order: the description, the product, the name of the brand. Call to action and disclosure are never left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import numpy as np

from agora.ads.images.scene import Box
from agora.ads.images.typeset import Block, Setter, Toward
from agora.ads.placements import Placement, Shape

# By shape: the largest headline as a share of the width (w) or height (h), preferred and greatest number of lines.
_HEADLINE: Final[dict[Shape, tuple[str, float, int, int]]] = {
    "story": ("w", 0.135, 4, 8),
    "portrait": ("w", 0.128, 4, 7),
    "square": ("w", 0.118, 3, 6),
    "landscape": ("h", 0.155, 3, 6),
    "billboard": ("h", 0.25, 2, 4),
    "skyscraper": ("w", 0.215, 6, 14),
    "leaderboard": ("h", 0.36, 2, 3),
    "banner": ("h", 0.40, 2, 3),
}
_STEP: Final = 1.04  # between two sizes that are tried
_STEPS_BACK: Final = 9  # sizes that are tried below the largest for the sake of even lines


@dataclass(frozen=True, kw_only=True, slots=True)
class Texts:
    """What is typeset, shaped once for all sizes."""

    headline: Setter
    description: Setter | None
    call_to_action: Setter
    disclosure: Setter
    wordmark: Setter | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What the style asks of the layout: preferred side of the text and alignment; shares of the button's padding in em."""

    text_first: bool = True
    centered: bool = False
    pad_x: float = 1.15
    pad_y: float = 0.72
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Part:
    """A block of text and where it goes: its first capitals at the top of the box."""

    block: Block
    box: Box
    toward: Toward


@dataclass(slots=True)
class Arrangement:
    """One solution. `focus` is where the picture's weight is, `quiet` where the text is."""

    frame: str
    parts: dict[str, Part] = field(default_factory=dict)
    button: Box = field(default_factory=lambda: Box(0, 0, 0, 0))
    product: Box | None = None
    logo: Box | None = None
    focus: Box = field(default_factory=lambda: Box(0, 0, 0, 0))
    left_out: tuple[str, ...] = ()
    score: float = -math.inf

    @property
    def text_boxes(self) -> tuple[Box, ...]:
        """All that is read, the button as a whole."""
        return (*(part.box for name, part in self.parts.items() if name != "call_to_action"), self.button)

    @property
    def quiet(self) -> Box:
        """Around headline and description."""
        boxes = [part.box for name, part in self.parts.items() if name in ("headline", "description")]
        return Box(min(b.left for b in boxes), min(b.top for b in boxes), max(b.right for b in boxes), max(b.bottom for b in boxes))


@dataclass(frozen=True, slots=True)
class Sizes:
    """Type sizes in pixels that belong to a headline of `headline` pixels."""

    headline: float
    description: float
    button: float
    gap: float


class Solver:
    """Finds the arrangement for one placement."""

    def __init__(
        self,
        placement: Placement,
        texts: Texts,
        wish: Wish,
        *,
        product_ratio: float | None,
        logo_ratio: float | None,
        rng: np.random.Generator,
    ) -> None:
        self.placement, self.texts, self.wish = placement, texts, wish
        self.product_ratio, self.logo_ratio, self.rng = product_ratio, logo_ratio, rng
        self.width, self.height = placement.width, placement.height
        self.short = float(min(self.width, self.height))
        self.min_text = float(placement.min_text_px)
        self.shape = placement.shape
        self.content = self._content()
        axis, share, self.preferred_lines, self.max_lines = _HEADLINE[self.shape]
        self.largest = max(self.min_text * 1.2, share * (self.width if axis == "w" else self.height))
        count = max(2, math.ceil(math.log(self.largest / self.min_text, _STEP)))
        self.sizes = [self.min_text * (self.largest / self.min_text) ** (step / count) for step in range(count + 1)]

    def _content(self) -> Box:
        """The safe area, with generous margins where there is room."""
        left, top, right, bottom = self.placement.safe_px
        if self.shape in ("leaderboard", "banner"):
            return Box(left + 0.06 * self.height, top, right - 0.06 * self.height, bottom)
        margin = 0.068 * self.short
        return Box(max(left, margin), max(top, margin), min(right, self.width - margin), min(bottom, self.height - margin))

    # sizes

    def scale(self, headline: float) -> Sizes:
        """Sizes of the other texts for a headline."""
        least = max(self.min_text, 0.025 * self.short)
        description = max(least, min(0.42 * headline, 0.05 * self.short if self.short > 400 else 17.0))
        button = max(least if self.short > 400 else self.min_text, min(0.4 * headline, 0.044 * self.short if self.short > 400 else 16.0))
        return Sizes(headline, description, button, max(0.36 * headline, 0.62 * description, 5.0))

    @property
    def _small(self) -> float:
        return max(self.min_text, 0.0175 * self.short)

    def _button(self, size: float, width: float) -> tuple[Block, float, float] | None:
        """The block of the call to action and the size of its button."""
        cta = self.texts.call_to_action
        for lines, divide in ((1, False), (2, False), (3, True)):
            for factor in (1.0, 0.88, 0.76, 0.66):
                at = max(self.min_text, size * factor)
                pad = min(self.wish.pad_x * at, 0.12 * width)
                block = cta.block(width - 2 * pad, at, max_lines=lines, divide=divide)
                if block is not None:
                    tight = self.shape in ("banner", "leaderboard")
                    return block, block.width + 2 * pad, block.optical_height + 2 * at * self.wish.pad_y * (0.72 if tight else 1.0)
        return None

    def _disclosure(self, width: float) -> Block | None:
        for lines in (1, 2, 3):
            block = self.texts.disclosure.block(width, self._small, max_lines=lines, divide=lines == 3)
            if block is not None:
                return block
        return None

    def _mark(self, width: float) -> tuple[Block | None, float, float] | None:
        """The wordmark's block, or the size of the logo picture; None when there is neither or it does not fit."""
        height = max(self.min_text, 0.046 * self.short) * (1.5 if self.logo_ratio is not None else 1.0)
        if self.logo_ratio is not None:
            across = min(width * 0.6, height * self.logo_ratio, height * 4)
            return None, across, across / self.logo_ratio
        if self.texts.wordmark is None:
            return None
        for factor in (1.0, 0.8, 0.6):
            block = self.texts.wordmark.block(width, max(self.min_text, height * 0.86 * factor), max_lines=1)
            if block is not None:
                return block, block.width, block.height
        return None

    # search

    def solve(self) -> Arrangement | None:
        """The best arrangement; None when even the smallest type does not fit."""
        has_product, has_text = self.product_ratio is not None, self.texts.description is not None
        best: Arrangement | None = None
        for divide in (False, True):
            for product, description, mark in self._levels(has_product, has_text):
                for found in self._arrangements(product, description, mark, divide):
                    self._rate(found, product, description)
                    if best is None or found.score > best.score:
                        best = found
            if best is not None and best.parts["headline"].block.size >= max(self.min_text, 0.42 * self.largest):
                break  # no need to look at divided words
        if best is None:
            return None
        return self._mirrored(best) if self.texts.headline.direction == "rtl" else best

    def _levels(self, product: bool, description: bool) -> Iterator[tuple[bool, bool, bool]]:
        """What is shown: everything first, then less and less."""
        seen: set[tuple[bool, bool, bool]] = set()
        for level in ((1, 1, 1), (1, 0, 1), (0, 1, 1), (0, 0, 1), (1, 0, 0), (0, 0, 0)):
            chosen = (bool(level[0]) and product, bool(level[1]) and description, bool(level[2]))
            if chosen not in seen:
                seen.add(chosen)
                yield chosen

    def _arrangements(self, product: bool, description: bool, mark: bool, divide: bool) -> Iterator[Arrangement]:
        makers: list[Callable[[bool, bool, bool], Arrangement | None]]
        both = (True, False)
        if self.shape in ("leaderboard", "banner"):
            makers = [partial(self._row, product, foot=foot) for foot in both]
        elif not product:
            wide = self.shape in ("landscape", "billboard")
            makers = [partial(self._beside, False, share=share, text_first=True) for share in ((0.64, 0.76, 0.9) if wide else (1.0,))]
        elif self.shape in ("landscape", "billboard"):
            shares: tuple[float, ...] = (0.50, 0.56, 0.63) if self.shape == "landscape" else (0.6, 0.7)
            makers = [partial(self._beside, True, share=share, text_first=first) for share in shares for first in both]
        else:
            shares = (0.34, 0.42, 0.52) if self.shape != "skyscraper" else (0.34, 0.44, 0.54)
            makers = [partial(self._stacked, share=share, text_first=first) for share in shares for first in both]
            if self.shape != "skyscraper":
                makers += [partial(self._poster, share=share) for share in (0.46, 0.56)]
            if (self.product_ratio or 1) < 0.75 and self.shape in ("square", "portrait"):
                makers += [partial(self._beside, True, share=share, text_first=first) for share in (0.56, 0.66) for first in both]
        for make in makers:
            found = make(description, mark, divide)
            if found is not None:
                yield found

    def _rate(self, found: Arrangement, product: bool, description: bool) -> None:
        head = found.parts["headline"].block
        score = 1.25 * math.log(head.size / self.largest) - 0.9 * head.raggedness
        score -= 0.07 * max(0, len(head.lines) - self.preferred_lines)
        score -= 0.32 * sum(line.width < 0.42 * max(other.width for other in head.lines) for line in head.lines)
        score -= 0.14 * sum(line.text.endswith(("-", "–", "/")) for line in head.lines[:-1])
        score -= 0.8 * sum(line.hyphen for line in head.lines)
        missing = []
        if self.product_ratio is not None and not product:
            score -= 1.6
            missing.append("product")
        if self.texts.description is not None and not description:
            score -= 0.5 if self.short > 400 else 0.15
            missing.append("description")
        if (self.logo_ratio is not None or self.texts.wordmark is not None) and found.logo is None and "wordmark" not in found.parts:
            score -= 0.3
            missing.append("wordmark")
        if found.product is not None:
            seen = self._fit(found.product)
            tall = 0.42 if self.height > 1.15 * self.width else 0.78
            wide = 0.42 if self.width > 1.15 * self.height else 0.72
            score += 0.75 * min(0.0, math.log(max(1e-6, seen.height / (tall * self.height), seen.width / (wide * self.width))))
        if "first" in found.frame or "last" in found.frame:
            score += 0.18 if ("first" in found.frame) == self.wish.text_first else 0.0
        found.score = score + self.wish.jitter * float(self.rng.random())
        found.left_out = tuple(missing)

    def _fit(self, room: Box) -> Box:
        """Where the product lies within its room."""
        ratio = self.product_ratio or 1.0
        width = min(room.width, room.height * ratio)
        height = width / ratio
        x, y = room.center
        return Box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def _largest(self, make: Callable[[float], Arrangement | None]) -> Arrangement | None:
        """The arrangement at the largest headline for which there is one."""
        low, high, found = 0, len(self.sizes) - 1, None
        while low <= high:
            middle = (low + high) // 2
            made = make(self.sizes[middle])
            if made is not None:
                found, low = made, middle + 1
            else:
                high = middle - 1
        if found is None or not _is_uneven(found):
            return found
        for step in range(high - 1, max(-1, high - _STEPS_BACK), -1):  # a little smaller may break much better
            made = make(self.sizes[step])
            if made is not None and not _is_uneven(made):
                return made
        return found

    # text beside the product, or alone

    def _beside(self, product: bool, description: bool, mark: bool, divide: bool, *, share: float, text_first: bool) -> Arrangement | None:
        content = self.content
        gutter = 0.045 * self.width if product else 0.0
        span = content.width * share
        column = Box(content.left, content.top, content.left + span, content.bottom)
        room = Box(column.right + gutter, 0.075 * self.height, content.right, 0.925 * self.height)
        if not text_first:
            column = Box(content.right - span, content.top, content.right, content.bottom)
            room = Box(content.left, room.top, column.left - gutter, room.bottom)
        centered = self.wish.centered and not product
        if centered:
            column = Box((self.width - span) / 2, content.top, (self.width + span) / 2, content.bottom)
        found = self._largest(lambda size: self._column(column, size, description, mark, divide, centered=centered))
        if found is None:
            return None
        found.frame = f"{'beside' if product else 'alone'}-{'first' if text_first else 'last'}"
        if product:
            found.product = self._fit(room)
            found.focus = found.product
        else:
            found.focus = self._free(found)
        return found

    def _free(self, found: Arrangement) -> Box:
        """Where a picture without a product has its weight: around a point away from the text, as far as no text is touched."""
        if self.shape in ("leaderboard", "banner"):
            middle = (found.parts["headline"].box.right + found.button.left) / 2
            points = [(middle, 0.5 * self.height)]
        elif self.width >= self.height * 1.15:
            points = [(share * self.width, tall * self.height) for share in (0.82, 0.9, 0.98) for tall in (0.5, 0.2, 0.85)]
        else:
            points = [(across * self.width, share * self.height) for share in (0.30, 0.2, 0.1) for across in (0.62, 0.82, 0.96)]
        room = [(min(_distance(point, box) for box in found.text_boxes), point) for point in points]
        reach, (x, y) = max(room, key=lambda pair: pair[0])
        half = max(0.1 * self.short, min(0.84 * reach, 0.44 * max(self.width, self.height)))
        return Box(x - half, y - half, x + half, y + half)

    def _column(self, column: Box, size: float, description: bool, mark: bool, divide: bool, *, centered: bool) -> Arrangement | None:
        """Mark above; headline, description and button as one group; disclosure below."""
        sizes = self.scale(size)
        head = self.texts.headline.block(column.width, size, max_lines=self.max_lines, divide=divide)
        button, small = self._button(sizes.button, column.width), self._disclosure(column.width)
        if head is None or button is None or small is None:
            return None
        text = self._described(sizes, column.width) if description else None
        sign = self._mark(column.width) if mark else None
        if (description and text is None) or (mark and sign is None and self._wants_mark):
            return None
        step = max(0.042 * self.height, 6.0) if self.shape != "skyscraper" else 10.0
        gap_button = max(sizes.gap * 1.25, 0.8 * sizes.button)
        group = head.height + (sizes.gap + text.height if text else 0.0) + gap_button + button[2]
        above = sign[2] + step if sign else 0.0
        below = small.height + step
        free = column.height - above - below - group
        if free < 0:
            return None
        toward: Toward = "center" if centered else "left"
        found = Arrangement("column")
        if sign:
            self._put_mark(found, sign, Box(column.left, column.top, column.right, column.top + sign[2]), toward)
        anchor = 0.5 if sign else 0.42
        if self._stands_at_foot(column):
            anchor = 1.0
        top = column.top + above + free * anchor
        top = self._put(found, "headline", head, column, top, toward)
        if text:
            top = self._put(found, "description", text, column, top + sizes.gap, toward)
        self._put_button(found, button, column, top + gap_button, toward)
        self._put(found, "disclosure", small, column, column.bottom - small.height, toward)
        return found

    def _stands_at_foot(self, column: Box) -> bool:
        """Whether the group stands at the foot of a tall picture that has no product: the free space above is the design."""
        return column.width > 0.75 * self.width and column.height > 0.6 * self.height and self.height >= self.width * 0.9

    @property
    def _wants_mark(self) -> bool:
        return self.logo_ratio is not None or self.texts.wordmark is not None

    def _described(self, sizes: Sizes, width: float) -> Block | None:
        assert self.texts.description is not None
        lines = 8 if self.shape == "skyscraper" else 4
        measure = min(width, sizes.description * 26)  # a longer line is tiring to read
        for divide in (False, True):
            block = self.texts.description.block(measure, sizes.description, max_lines=lines, divide=divide)
            if block is not None:
                return block
        return self.texts.description.block(width, sizes.description, max_lines=lines, divide=True)

    def _put(self, found: Arrangement, name: str, block: Block, column: Box, top: float, toward: Toward) -> float:
        """Place a block in a column; gives its lower edge."""
        found.parts[name] = Part(block, _aligned(column, block.width, top, block.height, toward), toward)
        return top + block.height

    def _put_button(self, found: Arrangement, button: tuple[Block, float, float], column: Box, top: float, toward: Toward) -> float:
        block, width, height = button
        found.button = _aligned(column, width, top, height, toward)
        inner = found.button.top + (height - block.optical_height) / 2
        found.parts["call_to_action"] = Part(block, Box(found.button.left, inner, found.button.right, inner + block.height), "center")
        return top + height

    def _put_mark(self, found: Arrangement, sign: tuple[Block | None, float, float], area: Box, toward: Toward) -> None:
        block, width, height = sign
        box = _aligned(area, width, area.top, height, toward)
        if block is None:
            found.logo = box
        else:
            found.parts["wordmark"] = Part(block, box, toward)

    # text above or below the product

    def _stacked(self, description: bool, mark: bool, divide: bool, *, share: float, text_first: bool) -> Arrangement | None:
        return self._largest(lambda size: self._stack(size, description, mark, divide, share, text_first))

    def _stack(self, size: float, description: bool, mark: bool, divide: bool, share: float, text_first: bool) -> Arrangement | None:
        content, sizes = self.content, self.scale(size)
        toward: Toward = "center" if self.wish.centered or (self.shape == "skyscraper" and self.wish.text_first) else "left"
        head = self.texts.headline.block(content.width, size, max_lines=self.max_lines, divide=divide)
        text = self._described(sizes, content.width * (0.94 if toward == "left" else 0.9)) if description else None
        sign = self._mark(content.width) if mark else None
        if head is None or (description and text is None) or (mark and sign is None and self._wants_mark):
            return None
        step = max(0.03 * self.height, 8.0)
        block_height = head.height + (sizes.gap + text.height if text else 0.0)
        found = Arrangement(f"stacked-{'first' if text_first else 'last'}")
        foot = self._foot(found, sizes, toward)
        if foot is None or block_height > share * content.height:
            return None
        above = content.top + (sign[2] + step if sign else 0.0)
        if sign:
            self._put_mark(found, sign, Box(content.left, content.top, content.right, content.top + sign[2]), toward)
        if text_first:
            low = above + block_height + step
            room = Box(content.left, low, content.right, foot - step * 0.9)
            top = above
        else:
            top = foot - step * 1.15 - block_height
            room = Box(content.left, above, content.right, top - step)
        if room.height < 0.16 * content.height:
            return None
        top = self._put(found, "headline", head, content, top, toward)
        if text:
            self._put(found, "description", text, content, top + sizes.gap, toward)
        found.product = self._fit(room)
        found.focus = found.product
        return found

    def _poster(self, description: bool, mark: bool, divide: bool, *, share: float) -> Arrangement | None:
        """All text above, the product alone below it and down to the lower edge, where a story keeps no words."""
        content = self.content
        column = Box(content.left, content.top, content.right, content.top + share * (0.96 * self.height - content.top))
        found = self._largest(lambda size: self._column(column, size, description, mark, divide, centered=self.wish.centered))
        if found is None:
            return None
        found.frame = "poster-first"
        lowest = max(part.box.bottom for part in found.parts.values())
        beneath = (0.93 if self.shape == "story" else 0.955) * self.height
        found.product = self._fit(Box(content.left, lowest + 0.03 * self.height, content.right, beneath))
        found.focus = found.product
        return found

    def _foot(self, found: Arrangement, sizes: Sizes, toward: Toward) -> float | None:
        """Button and disclosure at the lower edge, side by side where there is room; gives their upper edge."""
        content = self.content
        button, small = self._button(sizes.button, content.width), self._disclosure(content.width)
        if button is None or small is None:
            return None
        if toward == "left" and button[1] + small.width + 0.05 * content.width <= content.width:
            top = content.bottom - max(button[2], small.height)
            self._put_button(found, button, content, content.bottom - button[2], "left")
            self._put(found, "disclosure", small, content, content.bottom - small.height, "right")
            return top
        gap = max(0.018 * self.height, 7.0)
        self._put(found, "disclosure", small, content, content.bottom - small.height, toward)
        top = content.bottom - small.height - gap - button[2]
        self._put_button(found, button, content, top, toward)
        return top

    # one row

    def _row(self, product: bool, description: bool, mark: bool, divide: bool, *, foot: bool) -> Arrangement | None:
        found = self._largest(lambda size: self._cells(size, product, description, mark, divide, foot))
        return found

    def _cells(self, size: float, product: bool, description: bool, mark: bool, divide: bool, foot: bool) -> Arrangement | None:
        """Product or mark | headline and description | button; the disclosure under the button, or under the text (`foot`)."""
        content, sizes = self.content, self.scale(size)
        gap = max(0.2 * self.height, 8.0)
        limit = 0.34 * content.width
        button, small = self._button(sizes.button, limit), self._disclosure(0.5 * content.width if foot else limit)
        if button is None or small is None:
            return None
        inner = max(5.0, 0.07 * self.height)
        found = Arrangement("row-foot" if foot else "row")
        side = button[1] if foot else max(button[1], small.width)
        stack = button[2] if foot else button[2] + inner + small.height
        if stack > content.height:
            return None
        cell = Box(content.right - side, content.top, content.right, content.bottom)
        top = content.top + (content.height - stack) / 2
        top = self._put_button(found, button, cell, top, "center")
        if not foot:
            self._put(found, "disclosure", small, cell, top + inner, "center")
        left = self._lead(found, product, mark, gap)
        if left is None:
            return None
        column = Box(left, content.top, cell.left - gap, content.bottom)
        if column.width < 0.18 * self.width or not self._row_text(found, column, sizes, description, divide, small if foot else None):
            return None
        found.focus = found.product or self._free(found)
        return found

    def _lead(self, found: Arrangement, product: bool, mark: bool, gap: float) -> float | None:
        """What stands first in a row; gives where the text begins."""
        content = self.content
        left = content.left
        if product:
            height = min(0.9 * self.height, self.height - 4)
            across = min(height * 1.5, height * (self.product_ratio or 1.0))
            found.product = self._fit(Box(left, (self.height - height) / 2, left + across, (self.height + height) / 2))
            left += across + gap * (1.0 if self.shape == "banner" else 1.3)
        if mark and self._wants_mark:
            sign = self._mark(0.2 * content.width)
            if sign is None or sign[2] > content.height or (product and self.shape == "banner"):
                return None
            area = Box(left, content.top + (content.height - sign[2]) / 2, left + sign[1], content.bottom)
            self._put_mark(found, sign, area, "left")
            left += sign[1] + gap * 1.1
        return left

    def _row_text(self, found: Arrangement, column: Box, sizes: Sizes, description: bool, divide: bool, small: Block | None) -> bool:
        head = self.texts.headline.block(column.width, sizes.headline, max_lines=self.max_lines, divide=divide)
        if head is None:
            return False
        text = None
        if description:
            assert self.texts.description is not None
            text = self.texts.description.block(column.width, max(self.min_text, 0.55 * sizes.headline), max_lines=2)
            if text is None:
                return False
        gap = max(0.28 * sizes.headline, 3.0)
        lower = max(4.0, 0.09 * self.height)
        group = head.height + (gap + text.height if text else 0.0) + (lower + small.height if small else 0.0)
        if group > column.height:
            return False
        top = column.top + (column.height - group) / 2
        top = self._put(found, "headline", head, column, top, "left")
        if text:
            top = self._put(found, "description", text, column, top + gap, "left")
        if small:
            self._put(found, "disclosure", small, column, top + lower, "left")
        return True

    # right to left

    def _mirrored(self, found: Arrangement) -> Arrangement:
        """Everything on the other side, for text that is read from the right."""

        def turned(box: Box) -> Box:
            return Box(self.width - box.right, box.top, self.width - box.left, box.bottom)

        sides: dict[Toward, Toward] = {"left": "right", "right": "left", "center": "center"}
        return replace(
            found,
            parts={name: Part(part.block, turned(part.box), sides[part.toward]) for name, part in found.parts.items()},
            button=turned(found.button),
            product=turned(found.product) if found.product else None,
            logo=turned(found.logo) if found.logo else None,
            focus=turned(found.focus),
        )


def _distance(point: tuple[float, float], box: Box) -> float:
    """From a point to the nearest point of a box, in pixels."""
    return math.hypot(max(box.left - point[0], 0.0, point[0] - box.right), max(box.top - point[1], 0.0, point[1] - box.bottom))


def _is_uneven(found: Arrangement) -> bool:
    """Whether a line of the headline is nearly empty beside the others, or ends within a compound."""
    lines = found.parts["headline"].block.lines
    widest = max(line.width for line in lines)
    return any(line.width < 0.45 * widest or line.text.endswith(("-", "–", "/")) for line in lines[:-1]) or lines[-1].width < 0.3 * widest


def _aligned(area: Box, width: float, top: float, height: float, toward: Toward) -> Box:
    """A box of a size in the width of an area."""
    left = {"left": area.left, "right": area.right - width, "center": (area.left + area.right - width) / 2}[toward]
    return Box(left, top, left + width, top + height)
