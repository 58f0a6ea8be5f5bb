"""Colours: hex text, contrast by WCAG 2.2, and the palette of a picture made from the colours of a brand.

Tints and shades are made in OKLCH (Ottosson 2020, https://bottosson.github.io/posts/oklab/), where equal steps look equal; the
brand's own colours are used exactly as given.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from agora.errors import UsageError

Scheme = Literal["light", "tint", "bold", "dark"]
SCHEMES: Final[tuple[Scheme, ...]] = ("light", "tint", "bold", "dark")
_HEX = re.compile(r"#?([0-9a-fA-F]{6}|[0-9a-fA-F]{3})")
_GROUNDS: Final = {"dark": (0.12, 0.34), "light": (0.94, 1.0)}
"""Lightness (OKLCH) of a colour that may be the ground of a scheme."""
_NEAR: Final = 0.22  # distance of colours below which a product is lost on its ground
_DEFAULT: Final = ("#1f4fd8", "#ff7a45")  # of a brief without colours


def rgb(color: str) -> tuple[int, int, int]:
    """'#1f4fd8' or '#abc' as three numbers of 0..255. Raises UsageError naming the value."""
    found = _HEX.fullmatch(color.strip())
    if not found:
        raise UsageError(f"colour {color!r} is not of the form #rrggbb; write for example #1f4fd8")
    digits = found[1] if len(found[1]) == 6 else "".join(digit * 2 for digit in found[1])
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)


def hex_color(red: float, green: float, blue: float) -> str:
    """Three numbers of 0..255 as '#rrggbb'; what is outside is clipped."""
    return "#" + "".join(f"{min(255, max(0, round(part))):02x}" for part in (red, green, blue))


def luminance(pixels: np.ndarray) -> np.ndarray:
    """Relative luminance (WCAG 2.2) of pixels [..., 3] of 0..255, as [...] of 0..1."""
    light: np.ndarray = _LINEAR[np.asarray(pixels, dtype=np.uint8)] @ np.array([0.2126, 0.7152, 0.0722])
    return light


_SRGB = np.arange(256) / 255
_LINEAR: Final = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1..21 (WCAG 2.2, 'contrast ratio')."""
    first, second = (float(luminance(np.array(rgb(color)))) for color in (one, other))
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


def contrasts(color: str, pixels: np.ndarray) -> np.ndarray:
    """Contrast ratio of a colour with each of pixels [..., 3]."""
    own, others = float(luminance(np.array(rgb(color)))), luminance(pixels)
    ratios: np.ndarray = (np.maximum(own, others) + 0.05) / (np.minimum(own, others) + 0.05)
    return ratios


def oklch(color: str) -> tuple[float, float, float]:
    """Lightness 0..1, chroma 0..0.37, hue in degrees."""
    red, green, blue = (float(_LINEAR[part]) for part in rgb(color))
    long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
    middle = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
    short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
    light = 0.2104542553 * long + 0.7936177850 * middle - 0.0040720468 * short
    a = 1.9779984951 * long - 2.4285922050 * middle + 0.4505937099 * short
    b = 0.0259040371 * long + 0.7827717662 * middle - 0.8086757660 * short
    return light, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360


def from_oklch(light: float, chroma: float, hue: float) -> str:
    """The colour; chroma is lowered until sRGB holds it, so the hue stays."""
    for share in np.linspace(1, 0, 41):
        parts = _linear_from_oklch(light, chroma * float(share), hue)
        if all(-1e-4 <= part <= 1 + 1e-4 for part in parts):
            break
    gamma = [12.92 * part if part <= 0.0031308 else 1.055 * max(part, 0.0) ** (1 / 2.4) - 0.055 for part in parts]
    return hex_color(*(255 * part for part in gamma))


def _linear_from_oklch(light: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (light + 0.3963377774 * a + 0.2158037573 * b) ** 3
    middle = (light - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (light - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
    )


def shade(color: str, light: float, *, chroma: float = 1.0, turn: float = 0.0) -> str:
    """The colour at another lightness, with its chroma multiplied and its hue turned by degrees."""
    _, own, hue = oklch(color)
    return from_oklch(light, own * chroma, hue + turn)


def mix(one: str, other: str, share: float) -> str:
    """`share` of `other` over `one`, mixed as the renderers mix (in sRGB)."""
    return hex_color(*(a + (b - a) * share for a, b in zip(rgb(one), rgb(other), strict=True)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """Roles of colours in one picture. `shapes` are for the background, from quiet to loud; `carrier` and `other` are the brand's own
    colours, exactly as given."""

    carrier: str
    other: str | None
    ground: str
    ink: str
    muted: str
    accent: str
    on_accent: str
    shapes: tuple[str, ...]
    is_dark: bool


def palette(colours: Sequence[str], scheme: Scheme) -> Palette:
    """The palette of a scheme: the first colour carries the picture, the second (or the first) calls to action. A brand's own dark or light
    colour is the ground of the dark or light scheme."""
    given = [hex_color(*rgb(color)) for color in (colours or _DEFAULT)]
    carrier = next((color for color in given if oklch(color)[1] > 0.04), given[0])
    beside = [color for color in given if color != carrier]
    ground = next((color for color in beside if scheme in _GROUNDS and _GROUNDS[scheme][0] <= oklch(color)[0] <= _GROUNDS[scheme][1]), None)
    other = next((color for color in beside if color != ground and contrast(color, carrier) >= 1.25), None)
    if ground is not None:
        return _palette(ground, carrier, other, dark=scheme == "dark")
    if scheme == "light":
        return _palette(shade(carrier, 0.975, chroma=0.10), carrier, other, dark=False)
    if scheme == "tint":
        return _palette(shade(carrier, 0.915, chroma=0.42), carrier, other, dark=False)
    if scheme == "dark":
        return _palette(shade(carrier, 0.21, chroma=0.42), carrier, other, dark=True)
    light = oklch(carrier)[0]
    return _palette(carrier, carrier, other, dark=light < 0.68)


def _palette(ground: str, carrier: str, other: str | None, *, dark: bool) -> Palette:
    ink = shade(carrier, 0.985, chroma=0.06) if dark else shade(carrier, 0.22, chroma=0.5)
    if contrast(ink, ground) < 5.5:  # a carrier of middle lightness: black or white, whichever reads better
        ink = max(("#ffffff", "#000000"), key=lambda color: contrast(color, ground))
        dark = ink == "#ffffff"
    muted = mix(ink, ground, 0.18)
    if contrast(muted, ground) < 5.5:
        muted = ink
    accent = _accent(ground, carrier, other, ink)
    on_accent = max((shade(accent, 0.985, chroma=0.05), shade(accent, 0.17, chroma=0.4)), key=lambda color: contrast(color, accent))
    if contrast(on_accent, accent) < 5:
        on_accent = max(("#ffffff", "#000000"), key=lambda color: contrast(color, accent))
    return Palette(
        carrier=carrier, other=other, ground=ground, ink=ink, muted=muted, accent=accent, on_accent=on_accent,
        shapes=_shapes(ground, carrier, other, dark), is_dark=dark,
    )  # fmt: skip


def on_field(base: Palette, *, apart_from: str | None = None) -> Palette:
    """The palette of a field of colour that lies beside the ground of `base`: exactly a colour of the brand, where one stands out.

    `apart_from` is the colour of a product that lies on the field: of the brand's colours the one that is less like it is taken.
    """
    known = [color for color in (base.carrier, base.other) if color is not None and contrast(color, base.ground) >= 1.35]
    light = oklch(base.ground)[0]
    field = known[0] if known else shade(base.carrier, light + (0.13 if light < 0.6 else -0.13))
    if apart_from is not None and known and distance(field, apart_from) < _NEAR:
        field = max((*known, base.shapes[1]), key=lambda color: distance(color, apart_from))
    partner = base.carrier if field != base.carrier else base.other
    made = _palette(field, field, partner, dark=oklch(field)[0] < 0.68)
    light = oklch(field)[0]
    up = 1 if light < 0.88 else -1
    near, mid = (shade(field, light + up * step, chroma=0.9) for step in (0.05, 0.11))
    loud = partner or shade(field, light + 0.24 if light < 0.6 else light - 0.24)
    fourth = next(color for color in (base.ground, base.ink, made.ink) if color not in (loud, field))
    return replace(made, shapes=(near, mid, loud, fourth))


def distance(one: str, other: str) -> float:
    """How unlike two colours look, 0..1: their distance in OKLab."""
    (light, chroma, hue), (light2, chroma2, hue2) = oklch(one), oklch(other)
    a, b = (chroma * part(math.radians(hue)) - chroma2 * part(math.radians(hue2)) for part in (math.cos, math.sin))
    return math.sqrt((light - light2) ** 2 + a**2 + b**2)


def _accent(ground: str, carrier: str, other: str | None, ink: str) -> str:
    """What stands out from the ground: a colour of the brand if one does (a grey only where it does so strongly), else the ink."""
    known = [color for color in (other, carrier) if color is not None]
    standing = [color for color in known if contrast(color, ground) >= (2.4 if oklch(color)[1] > 0.04 else 6)]
    return max(standing, key=lambda color: min(5.0, contrast(color, ground)) + 4 * oklch(color)[1], default=ink)


def _shapes(ground: str, carrier: str, other: str | None, dark: bool) -> tuple[str, ...]:
    light, chroma, _ = oklch(ground)
    up = dark or light < 0.75  # darker tones of a full colour look like dirt
    step = 0.055 if up else -0.05
    near = shade(carrier, min(0.95, max(0.1, light + step)), chroma=0.95 if chroma > 0.05 else 0.5)
    mid = shade(carrier, min(0.9, max(0.15, light + 2.4 * step)), chroma=1.05, turn=10)
    loud = carrier if contrast(carrier, ground) >= 1.5 else shade(carrier, light + (0.22 if up else -0.24), turn=-14)
    return near, mid, loud, other or shade(carrier, min(0.85, max(0.35, oklch(carrier)[0] + 0.12)), turn=48)
