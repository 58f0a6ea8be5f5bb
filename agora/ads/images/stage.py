"""What a background is drawn for: the area, its colours, where texts and product are; and its ground."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agora.ads.images.color import Palette
from agora.ads.images.scene import Box, Fill, Radial, Solid, Stop, rectangle


@dataclass(frozen=True, slots=True)
class Stage:
    """What a background is drawn for."""

    width: int
    height: int
    palette: Palette
    focus: Box
    quiet: Box
    texts: tuple[Box, ...]
    rng: np.random.Generator
    grain: bool
    has_product: bool = True

    @property
    def short(self) -> float:
        """The shorter side."""
        return float(min(self.width, self.height))

    @property
    def long(self) -> float:
        """The longer side."""
        return float(max(self.width, self.height))

    @property
    def side_by_side(self) -> bool:
        """Whether text and focus are beside each other rather than one above the other."""
        return self.quiet.right <= self.focus.left + 1 or self.focus.right <= self.quiet.left + 1 or self.width >= 1.15 * self.height

    @property
    def all(self) -> Box:
        """The whole picture."""
        return Box(0, 0, self.width, self.height)

    @property
    def reach(self) -> float:
        """A radius that covers the product generously; without one, the room that the text leaves."""
        if not self.has_product:
            return 0.5 * self.focus.width
        return 0.5 * max(min(self.focus.width, self.focus.height), 0.78 * math.sqrt(self.focus.width * self.focus.height), 0.5 * self.short)

    def clear_radius(self, wanted: float) -> float:
        """`wanted`, or less where a disc of it around the focus would reach a text or the button."""
        x, y = self.focus.center
        apart = [math.hypot(max(box.left - x, 0.0, x - box.right), max(box.top - y, 0.0, y - box.bottom)) for box in self.texts]
        return max(0.0, min([wanted, *(distance - 0.02 * self.short for distance in apart)]))


def flat(stage: Stage, color: str | None = None) -> Fill:
    """The ground of the palette, or another colour, everywhere."""
    return Fill(rectangle(stage.all), Solid(color or stage.palette.ground))


def glow(x: float, y: float, radius: float, color: str, alpha: float, stage: Stage) -> Fill:
    """A soft spot without an edge."""
    stops = tuple(Stop(at, color, alpha * (1 - at) ** 2 * (1 + 2 * at)) for at in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
    return Fill(rectangle(stage.all), Radial((x, y), radius, stops))
