"""Where ads are shown: sizes, safe areas, smallest text and largest file, read from data/placements.toml with their sources."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from agora.errors import UsageError

Shape = Literal["story", "portrait", "square", "landscape", "billboard", "skyscraper", "leaderboard", "banner"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SafeArea:
    """Insets of the edges: shares of the width (left, right) or the height (top, bottom)."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """One size. `max_kb` counts 1,000 bytes; `basis` says what of it was looked up and what is our own choice."""

    name: str
    width: int
    height: int
    safe_area: SafeArea
    min_text_px: int
    max_kb: int
    platform: str
    source: str
    date: str
    basis: str

    @property
    def size(self) -> str:
        """'1200x628'."""
        return f"{self.width}x{self.height}"

    @property
    def safe_px(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of the safe area in pixels from the top left corner."""
        inset = self.safe_area
        return inset.left * self.width, inset.top * self.height, (1 - inset.right) * self.width, (1 - inset.bottom) * self.height

    @property
    def shape(self) -> Shape:
        """What kind of layout suits the proportions."""
        ratio = self.width / self.height
        if self.height <= 60:
            return "banner"
        if ratio >= 6:
            return "leaderboard"
        if ratio >= 2.6:
            return "billboard"
        if ratio >= 1.15:
            return "landscape"
        if ratio >= 0.9:
            return "square"
        if ratio >= 0.7:
            return "portrait"
        return "story" if ratio >= 0.4 else "skyscraper"


@cache
def placements() -> dict[str, Placement]:
    """All placements by name, in the order of the data file."""
    tables = tomllib.loads(files("agora.ads").joinpath("data/placements.toml").read_text(encoding="utf-8"))
    return {name: Placement(name=name, **table | {"safe_area": SafeArea(**table["safe_area"])}) for name, table in tables.items()}


def placement_named(name: str) -> Placement:
    """A placement by its name ('story') or its size ('1080x1920'). Raises UsageError with the nearest name."""
    known = placements() | {placement.size: placement for placement in placements().values()}
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(placements())}"
    raise UsageError(f"placement {name!r} is not known; {hint}")
