"""Can the texts be read when the picture is small? Goes in: a PNG and its layout record. Comes out: x-height and contrast per text when
scaled.

A feed shows a picture in some 320 to 400 CSS pixels; a list of ads shows less. x-height is taken as half of the text size (sans-serif faces
have 0.48 to 0.55). Reading needs an x-height of about 0.2 degrees (Legge and Bigelow 2011, doi:10.1167/11.5.8): at 40 cm and 160 pixels per
inch that is 9 pixels; 5 pixels can still be made out. Contrast is that of WCAG 2.2 (1.4.3): 3 for large text, 4.5 for other.
Not covered: what is behind the phone (glare), ages of eyes, scripts with dense characters, which need more.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.ads.scoring.layout import LayoutRecord, Rect
from agora.errors import DataError, MissingExtraError

Pixels = npt.NDArray[np.float64]
THUMBNAIL_WIDTH: Final = 360
_X_HEIGHT, _READABLE_PX, _GUESSABLE_PX = 0.5, 9.0, 5.0
_ENOUGH_CONTRAST, _LEAST_CONTRAST = 4.5, 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Legible:
    """One text when scaled. `score` is the worse of size and contrast, each 0 at what cannot be made out and 1 at what reads well."""

    text: str
    x_height_px: float
    contrast: float
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Legibility:
    """`score`: of the headline and the call to action, the worse one (of all texts where there is neither)."""

    score: float
    width: int
    texts: tuple[Legible, ...]


def score_legibility(png: bytes, layout: LayoutRecord, *, width: int = THUMBNAIL_WIDTH) -> Legibility:
    """Judge the pixels after scaling to `width` (pictures that are narrower stay as they are). Raises DataError for what is no picture."""
    pixels = _read(png)
    if abs(pixels.shape[1] / pixels.shape[0] - layout.width / layout.height) > 0.02 * layout.width / layout.height:
        raise DataError(f"the picture is {pixels.shape[1]} x {pixels.shape[0]}, its layout {layout.width:g} x {layout.height:g}")
    shown = min(width, round(layout.width))
    scale = shown / layout.width
    small = _scaled(pixels, shown, max(1, round(layout.height * scale)))
    texts = tuple(
        _legible(name, size * scale * _X_HEIGHT, small, layout.boxes[name], scale)
        for name, size in layout.text_px.items()
        if name in layout.boxes
    )
    if not texts:
        raise DataError("the layout names no text with a box")
    main = [one.score for one in texts if one.text in ("headline", "call_to_action")] or [one.score for one in texts]
    return Legibility(score=min(main), width=shown, texts=texts)


def _legible(name: str, x_height: float, small: Pixels, box: Rect, scale: float) -> Legible:
    top, bottom = int(box.top * scale), max(int(box.top * scale) + 1, round(box.bottom * scale))
    left, right = int(box.left * scale), max(int(box.left * scale) + 1, round(box.right * scale))
    inside = small[top:bottom, left:right].reshape(-1, 3)
    contrast = contrast_within(inside) if len(inside) else 1.0
    size_part = (x_height - _GUESSABLE_PX / 2) / (_READABLE_PX - _GUESSABLE_PX / 2)
    contrast_part = (contrast - _LEAST_CONTRAST) / (_ENOUGH_CONTRAST - _LEAST_CONTRAST)
    score = float(np.clip(min(size_part, contrast_part), 0, 1))
    return Legible(text=name, x_height_px=round(x_height, 2), contrast=round(contrast, 2), score=score)


def contrast_within(pixels: Pixels) -> float:
    """WCAG contrast between ink and ground of a box of text: the 97th or 3rd percentile of luminance (whichever is farther away) against
    the
    median, which is the ground, as letters cover less than half."""
    light = luminance(pixels)
    ground, dark, bright = np.percentile(light, (50, 3, 97))
    return float(max((ground + 0.05) / (dark + 0.05), (bright + 0.05) / (ground + 0.05)))


def luminance(pixels: Pixels) -> Pixels:
    """Relative luminance of sRGB colours in 0..255, one per row (WCAG 2.2, definition)."""
    part = pixels / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    found: Pixels = linear @ np.array([0.2126, 0.7152, 0.0722])
    return found


def _read(png: bytes) -> Pixels:
    image_library = _pillow()
    try:
        with image_library.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB"), dtype=np.float64)
    except (OSError, ValueError, image_library.DecompressionBombError) as error:
        raise DataError(f"no picture ({error})") from None


def _scaled(pixels: Pixels, width: int, height: int) -> Pixels:
    """Area means, as browsers scale down."""
    image_library = _pillow()
    image = image_library.fromarray(pixels.astype(np.uint8)).resize((width, height), image_library.Resampling.BOX)
    return np.asarray(image, dtype=np.float64)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "ads", "judging pictures") from None
    return Image


def as_values(legibility: Legibility) -> Mapping[str, Any]:
    """For JSON."""
    texts = {one.text: {"x_height_px": one.x_height_px, "contrast": one.contrast, "score": round(one.score, 3)} for one in legibility.texts}
    return {
        "score": round(legibility.score, 3), "width": legibility.width,
        "texts": texts,
    }  # fmt: skip
