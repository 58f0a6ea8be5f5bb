"""Texts, brand and product -> one finished picture: PNG, SVG, where everything lies, and what was measured.

    picture = render(headline="Quiet mornings", call_to_action="Try it", brand=brand, placement="story", seed=7)
    picture.png, picture.svg, picture.layout.boxes, picture.checks.passed

Words are typeset, never drawn by a model. The same arguments give the same bytes.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from agora.ads.images import background as backgrounds
from agora.ads.images.checks import MIN_CONTRAST, Checks, outside, overlaps, smallest, text_contrast
from agora.ads.images.color import Palette, contrast, contrasts, hex_color, mix, palette
from agora.ads.images.disclosure import disclosure_in
from agora.ads.images.layout import Arrangement, Solver, Texts
from agora.ads.images.product import Product, fitted, read_picture, read_product, rounded, shadow
from agora.ads.images.scene import Box, Fill, Group, Item, Linear, Raster, Scene, Solid, Stop, coverage, draw, encode_png, rectangle, to_svg
from agora.ads.images.style import Style, style_of
from agora.ads.images.typeset import Setter
from agora.ads.placements import Placement, placement_named
from agora.errors import UsageError

_AIM: Final = 4.9  # contrast that is aimed at before drawing, so that smoothing and fewer colours keep 4.5
_COLORS: Final = (256, 192, 128, 96, 64, 48, 32, 24, 16)  # of a palette, until the file is small enough
_QUICK_LEVEL: Final = 2  # of zlib, where the limit is in megabytes: a third of the time of 6, and a hundredth larger
_GRAIN_FROM_KB: Final = 400  # grain does not compress, so small files do without

Painter = Callable[[Placement, Palette, int], np.ndarray]


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


def render(
    *,
    headline: str,
    call_to_action: str,
    brand: BrandKit,
    placement: Placement | str,
    seed: int,
    description: str = "",
    disclosure: str | None = None,
    product_picture: Path | bytes | Product | None = None,
    language: str = "en",
    scheme: str | None = None,
    background: str | None = None,
    font: str | None = None,
    painter: Painter | None = None,
) -> Picture:
    """One picture. `disclosure` None: the mark in `language` (disclosure.py).

    `painter` gives the pixels of a background in place of the procedural one (a local diffusion model, a photograph).

    Raises UsageError for a text that is empty or does not fit, an unknown name, a letter that no installed font has; DataError for
    a picture that cannot be read; MissingExtraError for what is not installed.
    """
    mark = disclosure_in(language) if disclosure is None else disclosure
    for what, text in (("headline", headline), ("call to action", call_to_action), ("disclosure", mark)):
        if not text.strip():
            raise UsageError(f"the {what} is empty ({text!r}); a picture is never made without one")
    place = placement_named(placement) if isinstance(placement, str) else placement
    style = style_of(seed, (headline, description, call_to_action), brand.fonts, scheme=scheme, background=background, font=font)
    product = product_picture if isinstance(product_picture, Product) or product_picture is None else read_product(product_picture)
    logo = read_picture(brand.logo, what="logo") if brand.logo is not None else None
    texts = _texts(headline, description, call_to_action, mark, brand.name if logo is None else "", style, place, language)
    rng = np.random.default_rng([seed, zlib.crc32(place.name.encode())])
    found, texts = _arranged(place, style, texts, product, logo, rng)
    work = _Work(place, style, palette(brand.colours, style.scheme), found, rng, product, logo, painter, seed)
    return work.finish(title=f"{brand.name}: {headline}", left_out=_pictograms(texts))


def _arranged(
    place: Placement, style: Style, texts: Texts, product: Product | None, logo: np.ndarray | None, rng: np.random.Generator
) -> tuple[Arrangement, Texts]:
    """The layout, and the texts as they are set in it: in condensed letters where a headline does not fit otherwise."""
    for tried in (texts, None):
        if tried is None:
            tried = replace(texts, headline=Setter(texts.headline.text, style.condensed(), language=texts.headline.language))
        solver = Solver(
            place,
            tried,
            style.wish,
            product_ratio=product.ratio if product else None,
            logo_ratio=logo.shape[1] / logo.shape[0] if logo is not None else None,
            rng=rng,
        )
        found = solver.solve()
        if found is not None:
            return found, tried
    raise UsageError(
        f"the headline {texts.headline.text!r} with the call to action {texts.call_to_action.text!r} does not fit "
        f"{place.name} ({place.size}) at {place.min_text_px} px; give a shorter headline"
    )


def _texts(
    headline: str, description: str, call_to_action: str, disclosure: str, wordmark: str, style: Style, place: Placement, language: str
) -> Texts:
    small = min(place.width, place.height) < 400

    def setter(text: str, voice: Any) -> Setter | None:
        return Setter(text, voice, language=language) if text.strip() else None

    return Texts(
        headline=Setter(headline, style.headline(place.shape, length=len(headline)), language=language),
        description=setter(description, style.description(small)),
        call_to_action=Setter(call_to_action, style.button(), language=language),
        disclosure=Setter(disclosure, style.disclosure(float(place.min_text_px)), language=language),
        wordmark=setter(wordmark, style.wordmark()),
    )


def _pictograms(texts: Texts) -> tuple[str, ...]:
    found: set[str] = set()
    for setter in (texts.headline, texts.description, texts.call_to_action, texts.disclosure, texts.wordmark):
        found |= setter.left_out if setter else set()
    return tuple(f"no installed font draws {cluster!r}: it was left out" for cluster in sorted(found))


class _Work:
    """One picture in the making: scene, colours by contrast, file."""

    def __init__(
        self,
        place: Placement,
        style: Style,
        colors: Palette,
        found: Arrangement,
        rng: np.random.Generator,
        product: Product | None,
        logo: np.ndarray | None,
        painter: Painter | None,
        seed: int,
    ) -> None:
        self.place, self.style, self.palette, self.found = place, style, colors, found
        self.scene = Scene(place.width, place.height)
        self.boxes: dict[str, Box] = {}
        self.colors: dict[str, str] = {}
        self._back(rng, painter, seed)
        if product is not None and found.product is not None:
            self._product(product, found.product)
        self._texts()
        if logo is not None and found.logo is not None:
            self._logo(logo, found.logo)

    def _back(self, rng: np.random.Generator, painter: Painter | None, seed: int) -> None:
        place, items = self.place, list[Item]()
        if painter is not None:
            pixels = painter(place, self.palette, seed)
            opaque = np.full((place.height, place.width, 4), 255, np.uint8)
            opaque[..., :3] = pixels
            items = [Raster(opaque)]
        else:
            stage = backgrounds.Stage(
                width=place.width,
                height=place.height,
                palette=self.palette,
                focus=self.found.focus,
                quiet=self.found.quiet,
                texts=self.found.text_boxes,
                rng=rng,
                grain=place.max_kb >= _GRAIN_FROM_KB,
                has_product=self.found.product is not None,
            )
            items = backgrounds.background(self.style.background, stage)
        self.scene.groups.append(Group("background", tuple(items)))

    def _product(self, product: Product, room: Box) -> None:
        pixels = fitted(product.pixels, room.width, room.height)
        photograph = product.kind == "photograph"
        if photograph:
            pixels = rounded(pixels, 0.05 * min(pixels.shape[:2]))
        left = round(room.center[0] - pixels.shape[1] / 2)
        top = round(room.center[1] - pixels.shape[0] / 2)
        left, top = max(0, left), max(0, top)
        dark = mix(self.palette.ink, "#000000", 0.6) if not self.palette.is_dark else "#000000"
        strength = 0.5 if self.palette.is_dark else 0.34
        under = shadow(pixels, left, top, dark, strength=strength, floor=not photograph and pixels.shape[0] > 60)
        self.scene.groups.append(Group("product-shadow", tuple(under)))
        self.scene.groups.append(Group("product", (Raster(pixels, left, top),)))
        self.boxes["product"] = Box(left, top, left + pixels.shape[1], top + pixels.shape[0])

    # texts and their colours

    def _texts(self) -> None:
        placed = {name: part.block.place(part.box, toward=part.toward) for name, part in self.found.parts.items()}
        base = draw(self.scene)
        free = [name for name in placed if name != "call_to_action"]
        chosen = {name: self._color_for(name, base, placed[name][1]) for name in free}
        failing = [name for name, color in chosen.items() if color is None]
        if failing:
            self._scrim(failing, {name: placed[name][1] for name in free})
            base = draw(self.scene)
            chosen = {name: self._color_for(name, base, placed[name][1]) or self._paneled(name, placed[name][1]) for name in free}
        self._button(base)
        for name, (steps, ink) in placed.items():
            color = chosen.get(name) or self.colors["call_to_action"]
            self.colors[name], self.boxes[name] = color, ink
            text = " ".join(line.text for line in self.found.parts[name].block.lines)
            self.scene.groups.append(Group(name, (Fill(steps, Solid(color)),), title=text))

    def _color_for(self, name: str, base: np.ndarray, ink: Box) -> str | None:
        """The first colour of the palette that reads well on what lies there; None when none does."""
        around = _region(base, ink.grown(4))
        preferred = [self.palette.muted, self.palette.ink] if name in ("description", "disclosure") else [self.palette.ink]
        for color in [*preferred, "#ffffff", "#000000"]:
            if float(np.percentile(contrasts(color, around), 0.5)) >= _AIM:
                return color
        return None

    def _scrim(self, failing: Sequence[str], inks: Mapping[str, Box]) -> None:
        """A soft field of the ground's colour behind the texts that do not read well; below the product, above the background."""
        read = [ink for name, ink in inks.items() if name in failing and name != "disclosure"]  # that one gets a small panel
        items: list[Item] = []
        for ink in read:
            items.append(self._field(ink))
        if items:
            self.scene.groups.insert(1, Group("scrim", tuple(items)))

    def _field(self, ink: Box) -> Fill:
        """From the edge of the picture that a text is near, over the text, and softly out behind it."""
        width, height = self.place.width, self.place.height
        across = ink.width < 0.72 * width and width >= height
        full = float(width if across else height)
        start, end = (ink.left, ink.right) if across else (ink.top, ink.bottom)
        from_start = start + end <= full
        solid = end + 0.02 * full if from_start else full - start + 0.02 * full
        fade = min(1.0, (solid + 0.22 * full) / full)
        eased = [(0.0, 0.96), (solid / full, 0.96)]
        eased += [(solid / full + (fade - solid / full) * part, 0.96 * (1 - part) ** 2 * (1 + 2 * part)) for part in (0.25, 0.5, 0.75, 1.0)]
        stops = tuple(Stop(min(1.0, at), self.palette.ground, alpha) for at, alpha in eased)
        ends = ((0.0, 0.0), (full, 0.0) if across else (0.0, full))
        if not from_start:
            ends = ((full, 0.0) if across else (0.0, full), (0.0, 0.0))
        return Fill(rectangle(Box(0, 0, width, height)), Linear(ends[0], ends[1], stops))

    def _paneled(self, name: str, ink: Box) -> str:
        """A small panel behind one text, and the text's colour: the last resort, which always reads."""
        size = self.found.parts[name].block.size
        safe = Box(*self.place.safe_px)
        panel = ink.grown(0.45 * size)
        panel = Box(max(panel.left, min(ink.left, safe.left)), panel.top, min(panel.right, max(ink.right, safe.right)), panel.bottom)
        color = max((self.palette.ink, "#ffffff", "#0b0b0f"), key=lambda candidate: contrast(candidate, self.palette.ground))
        self.scene.groups.append(Group(f"{name}-panel", (Fill(rectangle(panel, 0.3 * size), Solid(self.palette.ground)),)))
        return color

    @property
    def _corner(self) -> float:
        """The radius of the button; a pill holds one line only."""
        lines = len(self.found.parts["call_to_action"].block.lines)
        return (self.style.corner if lines == 1 else min(self.style.corner, 0.2)) * self.found.button.height

    def _button(self, base: np.ndarray) -> None:
        """The button in the accent; in the ink where the accent would not stand out from what lies there."""
        box = self.found.button
        fill, text = self.palette.accent, self.palette.on_accent
        around = _region(base, box.grown(3))
        others = [(self.palette.ink, self.palette.ground), ("#ffffff", "#0b0b0f"), ("#0b0b0f", "#ffffff")]
        if float(np.median(contrasts(fill, around))) < 1.9:
            readable = [(f, t) for f, t in others if contrast(f, t) >= _AIM]
            fill, text = max(readable, key=lambda pair: min(3.0, float(np.median(contrasts(pair[0], around)))))
        self.scene.groups.append(Group("button", (Fill(rectangle(box, self._corner), Solid(fill)),)))
        self.boxes["button"], self.colors["button"], self.colors["call_to_action"] = box, fill, text

    def _logo(self, logo: np.ndarray, box: Box) -> None:
        pixels = fitted(logo, box.width, box.height)
        left, top = round(box.left), round(box.top)
        seen = pixels[pixels[..., 3] > 128][:, :3]
        base = draw(self.scene)
        items: list[Item] = []
        if len(seen):
            around = _region(base, box)
            own = np.median(seen, axis=0)
            if float(np.median(contrasts(hex_color(*own), around))) < 2.0:
                pad = 0.14 * box.height
                chip = "#ffffff" if float(own.mean()) < 140 else "#111114"
                items.append(Fill(rectangle(box.grown(pad), pad * 1.4), Solid(chip)))
        items.append(Raster(pixels, left, top))
        self.scene.groups.append(Group("logo", tuple(items)))
        self.boxes["logo"] = Box(left, top, left + pixels.shape[1], top + pixels.shape[0])

    def _measured(self, name: str, group: Group, pixels: np.ndarray) -> float:
        within = next(other for other in self.scene.groups if other.name == "button") if name == "call_to_action" else None
        return round(text_contrast(pixels, self.scene, group, self.boxes[name], within=within), 2)

    def _mend(self, name: str, group: Group, pixels: np.ndarray, *, with_panel: bool) -> None:
        """A text whose smoothed letters read too weakly: in black or white, and then on a panel of the opposite."""
        free = coverage(self.scene, group) == 0  # not the letters themselves
        near = self.boxes[name].grown(2)
        around = _region(np.dstack([pixels, free]), near)
        around = around[around[:, 3] > 0][:, :3]
        color = max(("#ffffff", "#000000"), key=lambda candidate: float(np.percentile(contrasts(candidate, around), 2)))
        place = self.scene.groups.index(group)
        items = tuple(replace(item, paint=Solid(color)) if isinstance(item, Fill) else item for item in group.items)
        self.scene.groups[place], self.colors[name] = replace(group, items=items), color
        if with_panel:
            ink, size = self.boxes[name], self.found.parts[name].block.size
            panel = Fill(rectangle(ink.grown(0.4 * size), 0.3 * size), Solid("#000000" if color == "#ffffff" else "#ffffff"))
            if name == "call_to_action":
                panel = Fill(rectangle(self.boxes["button"], self._corner), panel.paint)
            self.scene.groups.insert(place, Group(f"{name}-ground", (panel,)))

    # the file

    def finish(self, *, title: str, left_out: tuple[str, ...]) -> Picture:
        """Draw, write, measure."""
        parts = self.found.parts
        for attempt in range(3):
            png, pixels = _encoded(draw(self.scene), self.place.max_kb * 1000)
            groups = {group.name: group for group in self.scene.groups}
            measured = {name: self._measured(name, groups[name], pixels) for name in parts}
            failing = [name for name, value in measured.items() if value < MIN_CONTRAST]
            if not failing or attempt == 2:
                break
            for name in failing:
                self._mend(name, groups[name], pixels, with_panel=attempt == 1)
        canvas = Box(0, 0, self.place.width, self.place.height)
        checks = Checks(
            contrast=measured,
            smallest_text_px=smallest([part.block.size for part in parts.values()]),
            min_text_px=float(self.place.min_text_px),
            size_kb=round(len(png) / 1000, 1),
            max_kb=float(self.place.max_kb),
            overlaps=overlaps(self.boxes),
            outside=outside(self.boxes, Box(*self.place.safe_px), canvas),
            warnings=left_out + tuple(f"{name} was left out: no room" for name in self.found.left_out),
        )
        layout = Layout(
            placement=self.place.name,
            width=self.place.width,
            height=self.place.height,
            boxes=dict(self.boxes),
            lines={name: tuple(line.text for line in part.block.lines) for name, part in parts.items()},
            text_px={name: round(part.block.size, 2) for name, part in parts.items()},
            colors=dict(self.colors),
            frame=self.found.frame,
            family=self.style.family.name,
            scheme=self.style.scheme,
            background=self.style.background,
            left_out=self.found.left_out,
        )
        return Picture(png, to_svg(self.scene, title=title), layout, checks)


def _region(pixels: np.ndarray, box: Box) -> np.ndarray:
    """The pixels of a box, as far as they are in the picture, [n, channels]."""
    top, left = max(0, int(box.top)), max(0, int(box.left))
    part = pixels[top : max(top + 1, int(box.bottom) + 1), left : max(left + 1, int(box.right) + 1)]
    return part.reshape(-1, pixels.shape[2])


def _encoded(pixels: np.ndarray, max_bytes: int) -> tuple[bytes, np.ndarray]:
    """The PNG file and the pixels that it holds: all colours, or as many as the limit allows."""
    from PIL import Image

    png = encode_png(pixels, level=6 if max_bytes < 1_000_000 else _QUICK_LEVEL)
    if len(png) <= max_bytes:
        return png, pixels
    image = Image.fromarray(pixels)
    for count in _COLORS:
        few = image.quantize(
            count, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE if count < 128 else Image.Dither.FLOYDSTEINBERG
        )
        file = io.BytesIO()
        few.save(file, "PNG", compress_level=9)
        png = file.getvalue()
        if len(png) <= max_bytes:
            break
    return png, np.array(few.convert("RGB"))
