"""The picture of the real product: cut out from a plain background, scaled, with a soft shadow. Nothing of it is invented or redrawn.

A picture with transparent parts is taken as it is. Otherwise what has the colour of the border and is connected to it is removed.
Where the border is not plain the picture is kept whole and shown as a photograph with round corners.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from agora.ads.images.color import hex_color, rgb
from agora.ads.images.scene import Raster
from agora.errors import DataError, MissingExtraError

_PLAIN: Final = 14.0  # mean distance (0..255 per channel) of border pixels from their median, above which a border is not plain
_ALIKE: Final = 26.0  # distance from the border's colour that still counts as background
_MAX_SIDE: Final = 2000  # pixels; larger pictures are made smaller first
_MAX_PIXELS: Final = 60_000_000  # a larger file is refused: it may be made to fill the memory


@dataclass(frozen=True, slots=True)
class Product:
    """Pixels [height, width, 4], cropped to what is seen. `kind`: as_given (it was transparent), cut_out or photograph."""

    pixels: np.ndarray
    kind: str

    @property
    def ratio(self) -> float:
        """Width divided by height."""
        return float(self.pixels.shape[1] / self.pixels.shape[0])

    @property
    def color(self) -> str:
        """The mean colour of what is seen, as hex."""
        seen = self.pixels[self.pixels[..., 3] > 128][:, :3]
        return hex_color(*(seen.mean(axis=0) if len(seen) else (128.0, 128.0, 128.0)))


def read_picture(source: Path | bytes, *, what: str) -> np.ndarray:
    """Pixels [height, width, 4] of a PNG, JPEG or WebP file. Raises DataError naming the file."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise MissingExtraError("pillow", "ads", "reading a picture") from None
    name = str(source) if isinstance(source, Path) else "the given bytes"
    try:
        with Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=("PNG", "JPEG", "WEBP", "GIF")) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise DataError(f"{what} {name} has {image.width} x {image.height} pixels; make it smaller than {_MAX_PIXELS:,} pixels")
            upright: Any = ImageOps.exif_transpose(image).convert("RGBA")
            upright.thumbnail((_MAX_SIDE, _MAX_SIDE), Image.Resampling.LANCZOS)
            return np.array(upright)
    except FileNotFoundError:
        raise DataError(f"{what} {name} does not exist") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{what} {name} is too large; make it smaller than {_MAX_PIXELS:,} pixels ({error})") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{what} {name} cannot be read as a PNG, JPEG, WebP or GIF picture: {error}") from None


def read_product(source: Path | bytes) -> Product:
    """The product, cut out."""
    pixels = read_picture(source, what="product picture")
    if (pixels[..., 3] < 250).mean() > 0.02:
        return Product(_cropped(pixels, name=str(source)[:120]), "as_given")
    alpha = _foreground(pixels[..., :3].astype(np.float32))
    if alpha is None:
        return Product(pixels, "photograph")
    cut = pixels.copy()
    cut[..., 3] = alpha
    return Product(_cropped(_without_fringe(cut), name=str(source)[:120]), "cut_out")


def _cropped(pixels: np.ndarray, *, name: str) -> np.ndarray:
    rows, columns = np.nonzero(pixels[..., 3].max(axis=1) > 8)[0], np.nonzero(pixels[..., 3].max(axis=0) > 8)[0]
    if not len(rows):
        raise DataError(f"product picture {name} is wholly transparent; give a picture that shows the product")
    return np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _ndimage() -> Any:
    try:
        from scipy import ndimage
    except ImportError:
        raise MissingExtraError("scipy", "ads", "cutting out a product") from None
    return ndimage


def _foreground(colors: np.ndarray) -> np.ndarray | None:
    """Alpha 0..255 of what is not background; None when the border is not plain or nothing would be left."""
    ndimage = _ndimage()
    border = np.concatenate([colors[0], colors[-1], colors[:, 0], colors[:, -1]])
    median = np.median(border, axis=0)
    distance = np.abs(border - median).max(axis=1)
    if np.mean(np.minimum(distance, 60)) > _PLAIN:
        return None
    alike = np.abs(colors - median).max(axis=2) < _ALIKE
    labels, _ = ndimage.label(alike)
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    background = np.isin(labels, touching[touching > 0])
    share = 1 - background.mean()
    if not 0.01 <= share <= 0.97:
        return None
    solid = ndimage.binary_opening(~background, iterations=1)
    soft = ndimage.gaussian_filter(solid.astype(np.float32), 0.8)
    alpha: np.ndarray = np.clip((soft - 0.35) / 0.5 * 255, 0, 255).astype(np.uint8)
    return alpha


def _without_fringe(pixels: np.ndarray) -> np.ndarray:
    """Half transparent edge pixels take the colour of the nearest solid pixel, so nothing of the old background shines through."""
    ndimage = _ndimage()
    solid = ndimage.binary_erosion(pixels[..., 3] > 250, iterations=1)
    if not solid.any():
        return pixels
    nearest = ndimage.distance_transform_edt(~solid, return_distances=False, return_indices=True)
    edge = (pixels[..., 3] > 0) & ~solid
    result = pixels.copy()
    result[edge, :3] = pixels[nearest[0][edge], nearest[1][edge], :3]
    return result


def fitted(pixels: np.ndarray, width: float, height: float) -> np.ndarray:
    """The picture at the largest size within width x height pixels."""
    from PIL import Image

    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    straight = pixels.astype(np.float32)
    straight[..., :3] *= straight[..., 3:] / 255  # scaled with its alpha, so hidden colours do not bleed in
    image = Image.fromarray(np.clip(straight + 0.5, 0, 255).astype(np.uint8), "RGBA").resize(size, Image.Resampling.LANCZOS)
    small = np.array(image).astype(np.float32)
    small[..., :3] = np.where(small[..., 3:] > 0, small[..., :3] * 255 / np.maximum(small[..., 3:], 1), 0)
    result: np.ndarray = np.clip(small + 0.5, 0, 255).astype(np.uint8)
    return result


def rounded(pixels: np.ndarray, radius: float) -> np.ndarray:
    """A photograph with round corners."""
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width] + 0.5
    away = np.hypot(
        np.maximum(np.abs(x - width / 2) - (width / 2 - radius), 0), np.maximum(np.abs(y - height / 2) - (height / 2 - radius), 0)
    )
    result = pixels.copy()
    result[..., 3] = (result[..., 3] * np.clip(radius - away + 0.5, 0, 1)).astype(np.uint8)
    return result


def shadow(pixels: np.ndarray, left: int, top: int, color: str, *, strength: float, floor: bool) -> list[Raster]:
    """Soft shadows under a picture that lies at left, top: a wide one below and, on a `floor`, a narrow one where it stands."""
    ndimage = _ndimage()
    height, width = pixels.shape[:2]
    unit = max(2.0, 0.045 * min(width, height))
    margin = round(unit * 3.2)
    alpha = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
    alpha[margin : margin + height, margin : margin + width] = pixels[..., 3] / 255
    wide = ndimage.gaussian_filter(alpha, unit) * strength
    layers = [_tinted(wide, rgb(color), left - margin, top - margin + round(unit * 0.8))]
    if floor:
        flat = _contact(pixels[..., 3], unit)
        across = flat.shape[1]
        layers.append(
            _tinted(
                flat * min(0.85, strength * 1.7),
                rgb(color),
                left + width // 2 - across // 2,
                top + height - flat.shape[0] // 2 - round(unit * 0.1),
            )
        )
    return layers


def _contact(alpha: np.ndarray, unit: float) -> np.ndarray:
    """An ellipse as wide as the foot of the picture."""
    foot = alpha[-max(2, round(alpha.shape[0] * 0.06)) :].max(axis=0) > 90
    span = max(8.0, float(foot.sum()))
    half_width, half_height = span * 0.56, max(2.0, min(unit * 0.7, span * 0.06))
    pad = round(half_height * 3) + 2
    height, width = 2 * round(half_height) + 2 * pad, 2 * round(half_width) + 2 * pad
    y, x = np.mgrid[0:height, 0:width] + 0.5
    inside = (((x - width / 2) / half_width) ** 2 + ((y - height / 2) / half_height) ** 2 < 1).astype(np.float32)
    return np.asarray(_ndimage().gaussian_filter(inside, half_height * 0.8))


def _tinted(alpha: np.ndarray, color: tuple[int, int, int], left: int, top: int) -> Raster:
    pixels = np.empty((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = color
    pixels[..., 3] = np.clip(alpha * 255 + 0.5, 0, 255)
    return Raster(pixels, left, top)
