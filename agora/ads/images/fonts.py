"""Font families, all under the SIL Open Font Licence and installed as Python packages, and what stands in for letters they lack.

Families and their licences are listed in docs/ads_fonts.md. Nothing is downloaded while a picture is made.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import uharfbuzz

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One family. `file` stands in the installed `module`; `{weight}` in it is filled for families with one file per weight.
    `tracking` is added between letters of headlines, in em; `width` is the narrowest width axis, 100 where there is none."""

    name: str
    package: str
    module: str
    file: str
    license: str = "OFL-1.1"
    tracking: float = 0.0
    heavy: int = 700
    narrow: int = 100
    axes: tuple[tuple[str, float], ...] = ()
    weights: tuple[int, int] = (400, 700)


def _packaged(name: str, variable: str = "wght", **look: Any) -> Family:
    """A family as the packages fontpkg-* hold it: one file with the axes in its name."""
    package = f"fontpkg-{name.lower().replace(' ', '-')}"
    file = f"files/{name.replace(' ', '')}[{variable}].ttf"
    return Family(name=name, package=package, module=package.replace("-", "_"), file=file, **{"weights": (100, 900), **look})


FAMILIES: Final[dict[str, Family]] = {
    family.name: family
    for family in (
        _packaged("Archivo", "wdth,wght", tracking=-0.012, heavy=800, narrow=62),
        _packaged("Hanken Grotesk", tracking=-0.022, heavy=750),
        Family(
            name="Manrope",
            package="font-manrope",
            module="font_manrope",
            file="files/Manrope-VariableFont_wght.ttf",
            tracking=-0.028,
            heavy=750,
            weights=(200, 800),
        ),
        _packaged("Fraunces", "SOFT,WONK,opsz,wght", tracking=-0.014, heavy=600, axes=(("opsz", 72.0), ("SOFT", 0.0), ("WONK", 0.0))),
        _packaged("Space Grotesk", tracking=-0.03, weights=(300, 700)),
    )
}
# For letters that the families lack; tried in this order, then the fonts of the system.
_ARABIC: Final = _packaged("Noto Sans Arabic", "wdth,wght")
_CJK: Final = {
    is_bold: Family(
        name=f"Noto Sans CJK {weight}",
        package=f"noto-cjk-sans-jp-{weight.lower()}",
        module=f"noto_cjk_sans_jp_{weight.lower()}",
        file=f"NotoSansCJKjp-{weight}.otf",
    )
    for is_bold, weight in ((True, "Bold"), (False, "Regular"))
}


class Face:
    """A font at one weight: outlines and shaping through HarfBuzz, in units of the font."""

    def __init__(self, file: Path, variations: dict[str, float], *, name: str, index: int = 0) -> None:
        harfbuzz = _harfbuzz()
        self.name = name
        self._face = harfbuzz.Face(harfbuzz.Blob.from_file_path(str(file)), index)
        self.font: uharfbuzz.Font = harfbuzz.Font(self._face)
        axes = {axis.tag for axis in self._face.axis_infos}
        self.font.set_variations({tag: value for tag, value in variations.items() if tag in axes})
        self.units_per_em: int = self._face.upem
        self._known: frozenset[int] = frozenset(self._face.unicodes)
        self._outlines: dict[int, tuple[tuple[str, tuple[float, ...]], ...]] = {}
        extents = self.font.get_font_extents("ltr")
        self.ascent, self.descent = extents.ascender / self.units_per_em, -extents.descender / self.units_per_em
        self.cap_height = self._top("H", 0.7)
        self.x_height = self._top("x", 0.5)

    def _top(self, letter: str, otherwise: float) -> float:
        glyph = self.font.get_nominal_glyph(ord(letter))
        extents = self.font.get_glyph_extents(glyph) if glyph else None
        return extents.y_bearing / self.units_per_em if extents else otherwise

    def has(self, cluster: str) -> bool:
        """Whether every letter of the cluster can be drawn."""
        return all(ord(letter) in self._known or _is_joiner(letter) for letter in cluster)

    def outline(self, glyph: int) -> tuple[tuple[str, tuple[float, ...]], ...]:
        """The drawing steps of a glyph ('M', 'L', 'Q', 'C', 'Z' with coordinates, y upwards), in units of the font."""
        if glyph not in self._outlines:
            steps: list[tuple[str, tuple[float, ...]]] = []
            self.font.draw_glyph(glyph, _draw_functions(), steps)
            self._outlines[glyph] = tuple(steps)
        return self._outlines[glyph]


@cache
def _draw_functions() -> Any:
    functions = _harfbuzz().DrawFuncs()
    functions.set_move_to_func(lambda x, y, steps: steps.append(("M", (x, y))))
    functions.set_line_to_func(lambda x, y, steps: steps.append(("L", (x, y))))
    functions.set_quadratic_to_func(lambda a, b, x, y, steps: steps.append(("Q", (a, b, x, y))))
    functions.set_cubic_to_func(lambda a, b, c, d, x, y, steps: steps.append(("C", (a, b, c, d, x, y))))
    functions.set_close_path_func(lambda steps: steps.append(("Z", ())))
    return functions


def _harfbuzz() -> Any:
    try:
        import uharfbuzz
    except ImportError:
        raise MissingExtraError("uharfbuzz", "ads", "typesetting a picture") from None
    return uharfbuzz


def _is_joiner(letter: str) -> bool:
    return letter in "\u200b\u200c\u200d\u2060\ufe0e\ufe0f\u00ad" or unicodedata.category(letter) in ("Cf", "Cc")


def is_emoji(cluster: str) -> bool:
    """Whether a cluster is a pictogram: it may be left out of a picture, with a warning, where no font draws it."""
    first = ord(cluster[0])
    return (
        0x1F000 <= first <= 0x1FAFF
        or 0x2600 <= first <= 0x27BF
        or 0x2B00 <= first <= 0x2BFF
        or "\ufe0f" in cluster
        or first in (0x231A, 0x231B)
    )


def family_named(name: str) -> Family:
    """A family by name, whatever its case. Raises UsageError naming those that there are."""
    for family in FAMILIES.values():
        if family.name.casefold() == name.strip().casefold():
            return family
    raise UsageError(f"font {name!r} is not one of {', '.join(FAMILIES)}; docs/ads_fonts.md lists them")


def font_file(family: Family) -> Path | None:
    """Where the installed package holds the font; None when it is not installed."""
    spec = importlib.util.find_spec(family.module)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / family.file
    return path if path.exists() else None


@lru_cache(maxsize=64)
def face(name: str, weight: int, width: int = 100) -> Face:
    """A face of a family. Raises MissingExtraError when its package is not installed."""
    family = family_named(name)
    file = font_file(family)
    if file is None:
        raise MissingExtraError(family.package, "ads", f"the font {family.name}")
    least, most = family.weights
    variations = dict(family.axes) | {"wght": float(min(most, max(least, weight))), "wdth": float(max(family.narrow, width))}
    return Face(file, variations, name=family.name)


@lru_cache(maxsize=16)
def _stand_in(family: Family, weight: int) -> Face | None:
    file = font_file(family)
    return Face(file, {"wght": float(weight)}, name=family.name) if file else None


@dataclass(frozen=True, slots=True)
class Chain:
    """A face and those that stand in for letters it lacks."""

    first: Face
    weight: int
    left_out: set[str] = field(default_factory=set, compare=False)

    def face_for(self, cluster: str) -> Face | None:
        """The face that draws a cluster; None for a pictogram that none draws (remembered in `left_out`).

        Raises MissingExtraError or UsageError for letters that no installed font has."""
        if self.first.has(cluster):
            return self.first
        found = _fallback(cluster, self.weight)
        if found is None:
            self.left_out.add(cluster)
        return found


@lru_cache(maxsize=4096)
def _fallback(cluster: str, weight: int) -> Face | None:
    bold = weight >= 550
    for other in (FAMILIES["Manrope"], FAMILIES["Hanken Grotesk"], _ARABIC, _CJK[bold], _CJK[not bold]):
        stand_in = _stand_in(other, weight)
        if stand_in is not None and stand_in.has(cluster):
            return stand_in
    system = _system_face(cluster, bold)
    if system is not None:
        return system
    if is_emoji(cluster):
        _log.warning("no installed font draws %r as an outline; it is left out of the picture (docs/ads_fonts.md)", cluster)
        return None
    raise _missing(cluster)


def _missing(cluster: str) -> UsageError:
    letter = cluster[0]
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    if unicodedata.east_asian_width(letter) in "WF" and any(
        word in name for word in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC")
    ):
        return MissingExtraError(_CJK[True].package, "ads-cjk", f"the letter {letter!r} ({name})")
    if "ARABIC" in name:
        return MissingExtraError(_ARABIC.package, "ads", f"the letter {letter!r} ({name})")
    return UsageError(
        f"no installed font has the letter {letter!r} ({name}); install a font that has it for the whole system "
        "(on Debian and Ubuntu: apt install fonts-noto-core), then make the picture again"
    )


def _system_face(cluster: str, bold: bool) -> Face | None:
    """A font of the system that has the letters, through fontconfig; bitmap fonts have no outlines and are passed over."""
    letters = [letter for letter in cluster if not _is_joiner(letter)]
    found = [_system_font(ord(letter), bold) for letter in letters[:1]]
    if not found or found[0] is None:
        return None
    return found[0] if found[0].has(cluster) else None


@lru_cache(maxsize=2048)
def _system_font(letter: int, bold: bool) -> Face | None:
    if shutil.which("fc-list") is None:
        return None
    query = f":charset={letter:x}:scalable=true" + (":outline=true")
    listed = subprocess.run(["fc-list", query, "file", "style", "index"], capture_output=True, text=True, check=False, timeout=20).stdout
    fonts = sorted(line for line in listed.splitlines() if "Mono" not in line and "olor" not in line)
    styles = ("Bold",) if bold else ("Regular", "Book")
    upright = [line for line in fonts if "Italic" not in line and "Oblique" not in line and "Condensed" not in line]
    preferred = [line for line in upright if any(f"style={style}" in line for style in styles)]
    for line in preferred + upright + fonts:
        path = Path(line.split(":", 1)[0])
        if path.suffix.lower() in (".ttf", ".otf", ".ttc"):
            return _open(path)
    return None


@lru_cache(maxsize=64)
def _open(path: Path) -> Face:
    return Face(path, {}, name=path.stem)


def families_for(texts: Sequence[str]) -> list[Family]:
    """Installed families, those that have most letters of the texts first (equals in the order of the list)."""
    letters = {letter for text in texts for letter in text if letter.isalnum()}
    found = [family for family in FAMILIES.values() if font_file(family) is not None]
    if not found:
        raise MissingExtraError(FAMILIES["Archivo"].package, "ads", "typesetting a picture")
    lacking = {family.name: sum(not face(family.name, 400).has(letter) for letter in letters) for family in found}
    return sorted(found, key=lambda family: lacking[family.name])
