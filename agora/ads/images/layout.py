"""The layout solver: texts, product and logo -> boxes that do not touch, inside the safe area, with the largest headline that reads well.

For the shape of a placement a few arrangements are tried (frames.py), each at the largest headline that fits, and scored: large type
and product, even lines, few divided words, nothing left out. What does not fit is left out in this order: the description, the product,
the name of the brand. Call to action and disclosure are never left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np

from agora.ads.images.arrangement import Arrangement, Shown, Texts, Wish
from agora.ads.images.frames import Frame, frames
from agora.ads.images.measure import Measure
from agora.ads.placements import Placement

_STEPS_BACK: Final = 9  # sizes that are tried below the largest for the sake of even lines
_LEVELS: Final = ((True, True, True), (True, False, True), (False, True, True), (False, False, True), (True, False, False), (False,) * 3)


class Solver:
    """Finds the arrangement for one placement. `product_ratio` and `logo_ratio` are width divided by height."""

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
        self.measure = Measure(placement, texts, wish, product_ratio=product_ratio, logo_ratio=logo_ratio)
        self.rng = rng

    def solve(self) -> Arrangement | None:
        """The best arrangement; None when even the smallest type does not fit."""
        measure = self.measure
        best: Arrangement | None = None
        for divide in (False, True):
            for shown in self._levels(divide):
                for frame in frames(measure, shown):
                    found = largest(frame, measure.sizes)
                    if found is None:
                        continue
                    found.score = rating(measure, shown, found) + measure.wish.jitter * float(self.rng.random())
                    if best is None or found.score > best.score:
                        best = found
            if best is not None and best.parts["headline"].block.size >= max(measure.min_text, 0.55 * measure.largest):
                break  # no need to look at divided words
        if best is None:
            return None
        return best.mirrored(measure.width) if measure.texts.headline.direction == "rtl" else best

    def _levels(self, divide: bool) -> Iterator[Shown]:
        """What is shown: everything first, then less and less."""
        measure, seen = self.measure, set[Shown]()
        for product, description, mark in _LEVELS:
            has_text = measure.texts.description is not None
            shown = Shown(product and measure.product_ratio is not None, description and has_text, mark, divide)
            if shown not in seen:
                seen.add(shown)
                yield shown


def largest(frame: Frame, sizes: list[float]) -> Arrangement | None:
    """The arrangement at the largest of `sizes` (ascending) for which there is one, or a little smaller where that breaks much better."""
    low, high, found = 0, len(sizes) - 1, None
    while low <= high:
        middle = (low + high) // 2
        made = frame(sizes[middle])
        if made is not None:
            found, low = made, middle + 1
        else:
            high = middle - 1
    if found is None or not _is_uneven(found):
        return found
    for step in range(high - 1, max(-1, high - _STEPS_BACK), -1):
        made = frame(sizes[step])
        if made is not None and not _is_uneven(made):
            return made
    return found


def _is_uneven(found: Arrangement) -> bool:
    """Whether a line of the headline is nearly empty beside the others, ends within a compound, or begins within a phrase."""
    lines = found.parts["headline"].block.lines
    widest = max(line.width for line in lines)
    nearly_empty = any(line.width < 0.45 * widest for line in lines[:-1]) or lines[-1].width < 0.3 * widest
    return nearly_empty or any(line.text.endswith(("-", "–", "/")) for line in lines[:-1]) or any(line.is_torn for line in lines[1:])


def rating(measure: Measure, shown: Shown, found: Arrangement) -> float:
    """How good an arrangement is; notes in it what it leaves out."""
    head = found.parts["headline"].block
    score = 1.25 * math.log(head.size / measure.largest) - 0.9 * head.raggedness - 0.9 * found.slack
    score -= 0.07 * max(0, len(head.lines) - measure.preferred_lines)
    score -= 0.32 * sum(line.width < 0.42 * max(other.width for other in head.lines) for line in head.lines)
    score -= 0.14 * sum(line.text.endswith(("-", "–", "/")) for line in head.lines[:-1])
    score -= 0.6 * sum(line.hyphen for line in head.lines) + 0.3 * sum(line.is_torn for line in head.lines[1:])
    missing = []
    if measure.product_ratio is not None and not shown.product:
        score -= 1.6
        missing.append("product")
    if measure.texts.description is not None and not shown.description:
        score -= 0.5 if measure.unit > 400 else 0.2
        missing.append("description")
    if measure.has_mark and found.logo is None and "wordmark" not in found.parts:
        score -= 0.45
        missing.append("wordmark")
    found.left_out = tuple(missing)
    return score + _of_frame(measure, found)


def _of_frame(measure: Measure, found: Arrangement) -> float:
    """What size of the product and kind of frame are worth."""
    score = 0.0
    if found.product is not None:
        seen = measure.fitted(found.product)
        tall = 0.42 if measure.height > 1.15 * measure.width else 0.78
        wide = 0.42 if measure.width > 1.15 * measure.height else 0.72
        score += 0.75 * min(0.0, math.log(max(1e-6, seen.height / (tall * measure.height), seen.width / (wide * measure.width))))
    elif found.panel is None and not measure.is_row:
        score -= 0.7  # half of the picture would stay empty
    elif found.panel is not None and not measure.is_row:
        share = found.panel.width * found.panel.height / (measure.width * measure.height)
        score -= 2.0 * max(0.0, 0.3 - share)
    if "first" in found.frame or "last" in found.frame:
        score += 0.18 if ("first" in found.frame) == measure.wish.text_first else 0.0
    if found.frame == "row":
        score += 0.06
    if found.frame.startswith("poster") and measure.shape == "story":
        score += 0.2  # the product takes the part where a story keeps no words
    return score


__all__ = ["Arrangement", "Solver", "Texts", "Wish", "largest", "rating"]
