"""What a layout is made of: texts to be set, wishes of the style, and where each part lies in the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from agora.ads.images.scene import Box
from agora.ads.images.typeset import Block, Setter, Toward


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
    """What the style asks of the layout: preferred side of the text and alignment, a field of colour under a product, shares of the
    button's padding in em."""

    text_first: bool = True
    centered: bool = False
    panel: bool = False
    pad_x: float = 1.2
    pad_y: float = 0.82
    jitter: float = 0.1


@dataclass(frozen=True, slots=True)
class Shown:
    """What an arrangement shows besides headline, call to action and disclosure; `divide`: words may be hyphenated."""

    product: bool
    description: bool
    mark: bool
    divide: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A block of text and where it goes: its first capitals at the top of the box."""

    block: Block
    box: Box
    toward: Toward


@dataclass(slots=True)
class Arrangement:
    """One solution. `focus` is where the picture's weight is. `panel` is a field of colour to the edges of the picture, on which no
    text but the mark stands; `slack` the share of the height that nothing fills."""

    frame: str
    parts: dict[str, Part] = field(default_factory=dict)
    button: Box = field(default_factory=lambda: Box(0, 0, 0, 0))
    product: Box | None = None
    logo: Box | None = None
    panel: Box | None = None
    focus: Box = field(default_factory=lambda: Box(0, 0, 0, 0))
    slack: float = 0.0
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

    def put(self, name: str, block: Block, column: Box, top: float, toward: Toward) -> float:
        """Place a block in a column; gives its lower edge."""
        self.parts[name] = Part(block, aligned(column, block.width, top, block.height, toward), toward)
        return top + block.height

    def mirrored(self, width: float) -> Arrangement:
        """Everything on the other side, for text that is read from the right."""

        def turned(box: Box) -> Box:
            return Box(width - box.right, box.top, width - box.left, box.bottom)

        sides: dict[Toward, Toward] = {"left": "right", "right": "left", "center": "center"}
        return replace(
            self,
            parts={name: Part(part.block, turned(part.box), sides[part.toward]) for name, part in self.parts.items()},
            button=turned(self.button),
            product=turned(self.product) if self.product else None,
            logo=turned(self.logo) if self.logo else None,
            panel=turned(self.panel) if self.panel else None,
            focus=turned(self.focus),
        )


def aligned(area: Box, width: float, top: float, height: float, toward: Toward) -> Box:
    """A box of a size in the width of an area."""
    left = {"left": area.left, "right": area.right - width, "center": (area.left + area.right - width) / 2}[toward]
    return Box(left, top, left + width, top + height)
