"""Colours of texts by the contrast that they have with the pixels under them, and what is put behind a text where none has enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from agora.ads.images.checks import text_contrast
from agora.ads.images.color import Palette, contrast, contrasts
from agora.ads.images.scene import Box, Fill, Group, Linear, Scene, Solid, Stop, coverage, rectangle

AIM: Final = 4.9  # contrast that is aimed at before drawing, so that smoothing and fewer colours keep 4.5
_WHITE, _BLACK = "#ffffff", "#000000"
_STANDS_OUT: Final = 1.9  # contrast of a button with its surroundings


def region(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The pixels of a box, as far as they are in the picture, [n, channels]."""
    top, left = max(0, int(box.top)), max(0, int(box.left))
    part = pixels[top : max(top + 1, int(box.bottom) + 1), left : max(left + 1, int(box.right) + 1)]
    return part.reshape(-1, pixels.shape[2])


def readable_color(around: np.ndarray, preferred: list[str]) -> str | None:
    """The first of the colours, or white or black, that reads well on pixels [n, 3]; None when none does."""
    for color in [*preferred, _WHITE, _BLACK]:
        if float(np.percentile(contrasts(color, around), 0.5)) >= AIM:
            return color
    return None


def button_colors(around: np.ndarray, palette: Palette) -> tuple[str, str]:
    """Fill and text of the button: the accent; the ink, white or black where it would not stand out from pixels [n, 3]."""
    if float(np.median(contrasts(palette.accent, around))) >= _STANDS_OUT:
        return palette.accent, palette.on_accent
    others = [(palette.ink, palette.ground), (_WHITE, "#0b0b0f"), ("#0b0b0f", _WHITE)]
    readable = [(fill, text) for fill, text in others if contrast(fill, text) >= AIM]
    return max(readable, key=lambda pair: min(3.0, float(np.median(contrasts(pair[0], around)))))


def soft_field(ink: Box, scene: Scene, color: str) -> Fill:
    """A field of `color` from the edge of the picture that a text is near, over the text, and softly out behind it."""
    width, height = scene.width, scene.height
    across = ink.width < 0.72 * width and width >= height
    full = float(width if across else height)
    start, end = (ink.left, ink.right) if across else (ink.top, ink.bottom)
    from_start = start + end <= full
    solid = end + 0.02 * full if from_start else full - start + 0.02 * full
    fade = min(1.0, (solid + 0.22 * full) / full)
    eased = [(0.0, 0.96), (solid / full, 0.96)]
    eased += [(solid / full + (fade - solid / full) * part, 0.96 * (1 - part) ** 2 * (1 + 2 * part)) for part in (0.25, 0.5, 0.75, 1.0)]
    stops = tuple(Stop(min(1.0, at), color, alpha) for at, alpha in eased)
    ends = ((0.0, 0.0), (full, 0.0) if across else (0.0, full))
    if not from_start:
        ends = ((full, 0.0) if across else (0.0, full), (0.0, 0.0))
    return Fill(rectangle(Box(0, 0, width, height)), Linear(ends[0], ends[1], stops))


def small_panel(ink: Box, size: float, safe: Box, palette: Palette) -> tuple[Fill, str]:
    """A panel of the ground's colour behind one text of type `size`, and the text's colour: the last resort, which always reads."""
    panel = ink.grown(0.45 * size)
    panel = Box(max(panel.left, min(ink.left, safe.left)), panel.top, min(panel.right, max(ink.right, safe.right)), panel.bottom)
    color = max((palette.ink, _WHITE, "#0b0b0f"), key=lambda candidate: contrast(candidate, palette.ground))
    return Fill(rectangle(panel, 0.3 * size), Solid(palette.ground)), color


def measured(scene: Scene, group: Group, box: Box, pixels: np.ndarray) -> float:
    """Contrast of a text on the finished pixels; that of the call to action within its button."""
    within = next(other for other in scene.groups if other.name == "button") if group.name == "call_to_action" else None
    return round(text_contrast(pixels, scene, group, box, within=within), 2)


def mended(scene: Scene, group: Group, box: Box, pixels: np.ndarray) -> tuple[Group, str]:
    """A text whose smoothed letters read too weakly, in black or white; and which of them."""
    free = coverage(scene, group) == 0  # not the letters themselves
    around = region(np.dstack([pixels, free]), box.grown(2))
    around = around[around[:, 3] > 0][:, :3]
    color = max((_WHITE, _BLACK), key=lambda candidate: float(np.percentile(contrasts(candidate, around), 2)))
    items = tuple(replace(item, paint=Solid(color)) if isinstance(item, Fill) else item for item in group.items)
    return replace(group, items=items), color


def opposite(color: str) -> str:
    """Black behind white, white behind anything else."""
    return _BLACK if color == _WHITE else _WHITE
