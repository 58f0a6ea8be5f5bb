"""What is measured on a finished picture: boxes, type sizes, contrast on its pixels, bytes. A picture that fails says what and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from agora.ads.images.color import luminance
from agora.ads.images.scene import Box, Group, Scene, coverage

MIN_CONTRAST: Final = 4.5  # WCAG 2.2, success criterion 1.4.3
_RING_PX: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Checks:
    """Results. `contrast` is by name of text: of the letters' colour with the worst hundredth of the pixels around them."""

    contrast: dict[str, float]
    smallest_text_px: float
    min_text_px: float
    size_kb: float
    max_kb: float
    overlaps: tuple[str, ...]
    outside: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """In words; empty when the picture may be used."""
        found = [f"overlap: {pair}" for pair in self.overlaps] + [f"outside the safe area: {name}" for name in self.outside]
        found += [
            f"contrast of {name} is {value:.2f}, below {MIN_CONTRAST}" for name, value in self.contrast.items() if value < MIN_CONTRAST
        ]
        if self.smallest_text_px < self.min_text_px - 1e-6:
            found.append(f"text of {self.smallest_text_px:.1f} px, below {self.min_text_px:g} px")
        if self.size_kb > self.max_kb:
            found.append(f"{self.size_kb:.0f} kB, above {self.max_kb:g} kB")
        return tuple(found)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"problems": self.problems, "passed": self.passed}


def overlaps(boxes: Mapping[str, Box]) -> tuple[str, ...]:
    """Pairs of boxes that share more than half a pixel; the call to action lies on its button by design."""
    names = [name for name in boxes if name != "call_to_action"]
    return tuple(
        f"{one} and {other}"
        for index, one in enumerate(names)
        for other in names[index + 1 :]
        if boxes[one].overlaps(boxes[other], tolerance=0.5)
    )


def outside(boxes: Mapping[str, Box], safe: Box, canvas: Box) -> tuple[str, ...]:
    """Texts, button and logo that leave the safe area, and a product that leaves the picture."""
    return tuple(name for name, box in boxes.items() if not box.inside(canvas if name == "product" else safe))


def text_contrast(pixels: np.ndarray, scene: Scene, group: Group, box: Box, *, within: Group | None = None) -> float:
    """Contrast of one text on the finished pixels [height, width, 3].

    The letters' colour is the median of the pixels they cover fully (or most, where strokes are thinner than a pixel); it is
    compared with every pixel within 3 px of the text's box that no letter touches, and the worst hundredth counts. Pixels that
    the shapes of `within`, such as a button, do not cover are not looked at.
    """
    top, bottom = max(0, int(box.top) - _RING_PX), min(scene.height, int(box.bottom) + 1 + _RING_PX)
    left, right = max(0, int(box.left) - _RING_PX), min(scene.width, int(box.right) + 1 + _RING_PX)
    covered = coverage(scene, group)[top:bottom, left:right]
    part = pixels[top:bottom, left:right]
    if not covered.any():
        return 21.0  # a text without visible letters
    core = part[covered >= min(242, int(covered.max() * 0.95))]
    around = covered == 0
    if within is not None:
        around &= coverage(scene, within)[top:bottom, left:right] == 255
    free = part[around]
    if not len(free):
        free = part[covered <= np.percentile(covered, 5)]
    own = float(luminance(np.median(core, axis=0).round().astype(np.uint8)))
    light = luminance(free)
    ratios = (np.maximum(own, light) + 0.05) / (np.minimum(own, light) + 0.05)
    return float(np.percentile(ratios, 1))


def smallest(sizes: Sequence[float]) -> float:
    """The smallest type size, rounded to a hundredth so that a size equal to the limit counts as equal."""
    return round(min(sizes), 2)
