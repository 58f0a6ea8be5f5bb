"""Pixels -> a PNG file under a limit: all colours where they fit, else as few as it takes, the brand's own among them unchanged."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from agora.ads.images.color import rgb
from agora.ads.images.scene import encode_png

_COLORS: Final = (256, 192, 128, 96, 64, 48, 32, 24, 16)  # of a palette, until the file is small enough
_QUICK_LEVEL: Final = 2  # of zlib, where the limit is in megabytes: a third of the time of 6, and a hundredth larger
_LARGE: Final = 1_000_000  # bytes


def encoded(pixels: np.ndarray, max_bytes: int, *, keep: Iterable[str] = ()) -> tuple[bytes, np.ndarray]:
    """The file of pixels [height, width, 3] and the pixels that it holds. Colours of `keep` that are there stay as they are."""
    from PIL import Image

    png = encode_png(pixels, level=6 if max_bytes < _LARGE else _QUICK_LEVEL)
    if len(png) <= max_bytes:
        return png, pixels
    image = Image.fromarray(pixels)
    for count in _COLORS:
        dither = Image.Dither.NONE if count < 128 else Image.Dither.FLOYDSTEINBERG
        few = image.quantize(count, method=Image.Quantize.MEDIANCUT, dither=dither)
        _pin(few, pixels, keep)
        file = io.BytesIO()
        few.save(file, "PNG", compress_level=9)
        png = file.getvalue()
        if len(png) <= max_bytes:
            break
    return png, np.array(few.convert("RGB"))


def _pin(few: Any, pixels: np.ndarray, keep: Iterable[str]) -> None:
    """Give each colour of `keep` the entry of the palette that stands for most of its pixels; the first colours come first."""
    indices, table = np.asarray(few), list(few.getpalette())
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    taken = set[int]()
    for color in dict.fromkeys(keep):
        red, green, blue = rgb(color)
        here = indices[packed == (red << 16 | green << 8 | blue)]
        if len(here):
            entry = int(np.bincount(here).argmax())
            if entry not in taken:
                taken.add(entry)
                table[3 * entry : 3 * entry + 3] = (red, green, blue)
    few.putpalette(table)
