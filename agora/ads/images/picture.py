"""What a picture is made for and what comes out: the brand's kit, the record of the layout, the files and what was measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from agora.ads.images.checks import Checks
from agora.ads.images.scene import Box


class BrandKit(Protocol):
    """What a picture needs of a brand."""

    @property
    def name(self) -> str:
        """Set as a wordmark where there is no logo."""

    @property
    def colours(self) -> tuple[str, ...]:
        """Hex, the most important first."""

    @property
    def fonts(self) -> tuple[str, ...]:
        """Names; those of docs/ads_fonts.md are used."""

    @property
    def logo(self) -> Path | None:
        """A picture with transparent ground."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Where everything lies, in pixels. `boxes` hold ink, not line heights; `text_px` and `colors` are by name of text."""

    placement: str
    width: int
    height: int
    boxes: dict[str, Box]
    lines: dict[str, tuple[str, ...]]
    text_px: dict[str, float]
    colors: dict[str, str]
    frame: str
    family: str
    scheme: str
    background: str
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"boxes": {name: [round(v, 1) for v in (b.left, b.top, b.right, b.bottom)] for name, b in self.boxes.items()}}


@dataclass(frozen=True, slots=True)
class Picture:
    """The finished picture."""

    png: bytes
    svg: str
    layout: Layout
    checks: Checks
