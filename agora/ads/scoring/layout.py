"""How well a layout is made. Goes in: the record of a rendered picture (width, height, boxes in pixels, text sizes). Comes out: parts in
0..1.

Balance, alignment, white space and order of sizes are four of the measures of Ngo, Teo and Byrne 2003 ("Modelling interface aesthetics",
doi:10.1016/S0020-0255(02)00404-8), simplified to the boxes of an advertisement; the score is their weighted mean, less what overlaps.
Not covered: taste, colours, the picture itself. It compares layouts of the same words; it does not say that an advertisement will be
clicked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any, Final

from agora.errors import DataError

WEIGHTS: Final = {"balance": 0.25, "alignment": 0.25, "white_space": 0.25, "hierarchy": 0.25}
_IDEAL_WHITE: Final = (0.35, 0.75)  # share of the canvas without boxes; outside it the part falls to 0 at 0.1 and 0.95
_ORDER: Final = ("headline", "description", "disclosure")  # from the largest text to the smallest
_BESIDE: Final = frozenset({"background", "canvas", "safe_area"})
_LINED_UP: Final = 0.015  # of the longer side: edges this near to each other look like one line


@dataclass(frozen=True, slots=True)
class Rect:
    """Left, top, right, bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def area(self) -> float:
        """Square pixels; 0 for what is turned around."""
        return max(0.0, self.right - self.left) * max(0.0, self.bottom - self.top)

    def overlap(self, other: Rect) -> float:
        """Square pixels that both cover."""
        return Rect(max(self.left, other.left), max(self.top, other.top), min(self.right, other.right), min(self.bottom, other.bottom)).area


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutRecord:
    """What is judged."""

    width: float
    height: float
    boxes: Mapping[str, Rect]
    text_px: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class LayoutScore:
    """Each part in 0..1; `reasons` name what is far from good."""

    score: float
    balance: float
    alignment: float
    white_space: float
    hierarchy: float
    overlap: float
    reasons: tuple[str, ...]


def layout_record(record: Mapping[str, Any], *, where: str = "layout") -> LayoutRecord:
    """A record from JSON: `boxes` are lists of left, top, right, bottom. Raises DataError naming what is wrong."""
    try:
        boxes = {str(name): Rect(*map(float, box)) for name, box in dict(record["boxes"]).items() if box and name not in _BESIDE}
        sizes = {str(name): float(size) for name, size in dict(record.get("text_px") or {}).items()}
        found = LayoutRecord(width=float(record["width"]), height=float(record["height"]), boxes=boxes, text_px=sizes)
    except KeyError as error:
        raise DataError(f"{where}: no {error.args[0]!r}; a layout has width, height, boxes and text_px") from None
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}; boxes are lists of four numbers: left, top, right, bottom") from None
    if found.width <= 0 or found.height <= 0 or not boxes:
        raise DataError(f"{where}: {found.width:g} x {found.height:g} with {len(boxes)} boxes; there is nothing to judge")
    return found


def score_layout(layout: LayoutRecord) -> LayoutScore:
    """All parts and their weighted mean, less the share of the smaller box that two boxes share."""
    boxes = list(layout.boxes.values())
    parts = {
        "balance": _balance(layout, boxes), "alignment": _alignment(layout, boxes), "white_space": _white_space(layout, boxes),
        "hierarchy": _hierarchy(layout),
    }  # fmt: skip
    overlap = max((a.overlap(b) / max(1e-9, min(a.area, b.area)) for a, b in combinations(_texts(layout), 2)), default=0.0)
    mean = sum(WEIGHTS[name] * part for name, part in parts.items())
    reasons = [_REASONS[name] for name, part in parts.items() if part < 0.5] + (["texts or buttons overlap"] if overlap > 0.01 else [])
    return LayoutScore(score=max(0.0, mean - overlap), overlap=overlap, reasons=tuple(reasons), **parts)


_REASONS: Final = {
    "balance": "one side is much heavier than the other", "alignment": "few edges line up", "white_space": "too crowded or too empty",
    "hierarchy": "the headline is not clearly the largest text",
}  # fmt: skip


def _texts(layout: LayoutRecord) -> list[Rect]:
    return [box for name, box in layout.boxes.items() if name in layout.text_px or name == "call_to_action"]


def _balance(layout: LayoutRecord, boxes: Sequence[Rect]) -> float:
    """1 where the centre of all boxes is the centre of the canvas, 0 where it is a third of the side away. The better direction counts
    double: columns and rows are meant to be one-sided in the other."""
    total = sum(box.area for box in boxes) or 1.0
    across = sum(box.area * (box.left + box.right) / 2 for box in boxes) / total / layout.width - 0.5
    down = sum(box.area * (box.top + box.bottom) / 2 for box in boxes) / total / layout.height - 0.5
    good = sorted(max(0.0, 1 - 3 * abs(off)) for off in (across, down))
    return (good[0] + 2 * good[1]) / 3


def _alignment(layout: LayoutRecord, boxes: Sequence[Rect]) -> float:
    """Share of boxes that have a left edge, right edge or middle in common with another, across or down."""
    if len(boxes) < 2:
        return 1.0
    near = _LINED_UP * max(layout.width, layout.height)

    def lines(box: Rect) -> tuple[tuple[float, ...], tuple[float, ...]]:
        across = (box.left, box.right, (box.left + box.right) / 2)
        return across, (box.top, box.bottom, (box.top + box.bottom) / 2)

    def meets(one: Rect, other: Rect) -> bool:
        return any(
            abs(a - b) <= near for first, second in zip(lines(one), lines(other), strict=True) for a, b in zip(first, second, strict=True)
        )

    return sum(any(meets(box, other) for other in boxes if other is not box) for box in boxes) / len(boxes)


def _white_space(layout: LayoutRecord, boxes: Sequence[Rect]) -> float:
    empty = 1 - min(1.0, _covered(boxes) / (layout.width * layout.height))
    low, high = _IDEAL_WHITE
    if empty < low:
        return max(0.0, (empty - 0.1) / (low - 0.1))
    return 1.0 if empty <= high else max(0.0, (0.95 - empty) / (0.95 - high))


def _covered(boxes: Sequence[Rect]) -> float:
    """Area of the union, by the grid of all edges."""
    across, down = (
        sorted({edge for box in boxes for edge in (box.left, box.right)}),
        sorted({edge for box in boxes for edge in (box.top, box.bottom)}),
    )
    area = 0.0
    for left, right in pairwise(across):
        for top, bottom in pairwise(down):
            if any(box.left <= left and right <= box.right and box.top <= top and bottom <= box.bottom for box in boxes):
                area += (right - left) * (bottom - top)
    return area


def _hierarchy(layout: LayoutRecord) -> float:
    """Mean over neighbours in the order of importance: 1 where the more important text is 1.3 times as large or more, 0 where it is
    smaller."""
    sizes = [layout.text_px[name] for name in _ORDER if layout.text_px.get(name)]
    if len(sizes) < 2:
        return 1.0
    steps = [min(1.0, max(0.0, (one / other - 1) / 0.3)) for one, other in pairwise(sizes)]
    return sum(steps) / len(steps)
