"""Texts, brand and product -> one finished picture: PNG, SVG, where everything lies, and what was measured.

    picture = render(headline="Quiet mornings", call_to_action="Try it", brand=brand, placement="story", seed=7)
    picture.png, picture.svg, picture.layout.boxes, picture.checks.passed

Words are typeset, never drawn by a model. The same arguments give the same bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from agora.ads.images import background as backgrounds
from agora.ads.images.arrangement import Arrangement, Texts
from agora.ads.images.checks import MIN_CONTRAST, Checks, outside, overlaps, smallest
from agora.ads.images.color import Palette, contrasts, hex_color, mix, on_field, palette
from agora.ads.images.disclosure import disclosure_in
from agora.ads.images.encode import encoded
from agora.ads.images.layout import Solver
from agora.ads.images.picture import BrandKit, Layout, Picture
from agora.ads.images.product import Product, fitted, read_picture, read_product, rounded, shadow
from agora.ads.images.reading import button_colors, measured, mended, opposite, readable_color, region, small_panel, soft_field
from agora.ads.images.scene import Box, Fill, Group, Item, Raster, Scene, Solid, draw, rectangle, to_svg
from agora.ads.images.stage import Stage
from agora.ads.images.style import Style, style_of
from agora.ads.images.typeset import Setter
from agora.ads.placements import Placement, placement_named
from agora.errors import UsageError

_GRAIN_FROM_KB: Final = 400  # grain does not compress, so small files do without

Painter = Callable[[Placement, Palette, int], np.ndarray]


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
        headline=Setter(headline, style.headline(place.shape, headline), language=language),
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
        shown = product if found.product is not None else None
        self.field = on_field(colors, apart_from=shown.color if shown else None) if found.panel is not None and painter is None else None
        self._back(rng, painter, seed)
        if shown is not None and found.product is not None:
            self._product(shown, found.product)
        self._texts()
        if logo is not None and found.logo is not None:
            self._logo(logo, found.logo)

    def _back(self, rng: np.random.Generator, painter: Painter | None, seed: int) -> None:
        place, found = self.place, self.found
        everything = Box(0, 0, place.width, place.height)
        kind = backgrounds.PLAIN if found.frame.startswith("row") else self.style.background  # a row is full without shapes
        if painter is not None:
            pixels = np.full((place.height, place.width, 4), 255, np.uint8)
            pixels[..., :3] = painter(place, self.palette, seed)
            self.scene.groups.append(Group("background", (Raster(pixels),)))
        elif self.field is None or found.panel is None:
            stage = self._stage(self.palette, everything, found.focus, rng, texts=found.text_boxes)
            self.scene.groups.append(Group("background", tuple(backgrounds.background(kind, stage))))
        else:
            panel = Box(*(round(edge) for edge in (found.panel.left, found.panel.top, found.panel.right, found.panel.bottom)))
            focus = found.product or backgrounds.weight_of(self.style.background, panel, rng)
            inner = Box(focus.left - panel.left, focus.top - panel.top, focus.right - panel.left, focus.bottom - panel.top)
            stage = self._stage(self.field, Box(0, 0, panel.width, panel.height), inner, rng, texts=())
            self.scene.groups.append(Group("background", (Fill(rectangle(everything), Solid(self.palette.ground)),)))
            self.scene.groups.append(Group("field", tuple(backgrounds.background(kind, stage)), frame=panel))

    def _stage(self, colors: Palette, area: Box, focus: Box, rng: np.random.Generator, *, texts: tuple[Box, ...]) -> Stage:
        return Stage(
            width=round(area.width),
            height=round(area.height),
            palette=colors,
            focus=focus,
            quiet=self.found.quiet if texts else Box(0, 0, 0, 0),
            texts=texts,
            rng=rng,
            grain=self.place.max_kb >= _GRAIN_FROM_KB,
            has_product=self.found.product is not None,
        )

    def _product(self, product: Product, room: Box) -> None:
        pixels = fitted(product.pixels, room.width, room.height)
        photograph = product.kind == "photograph"
        if photograph:
            pixels = rounded(pixels, 0.05 * min(pixels.shape[:2]))
        left = max(0, round(room.center[0] - pixels.shape[1] / 2))
        top = max(0, round(room.center[1] - pixels.shape[0] / 2))
        colors = self.field or self.palette
        dark = mix(colors.ink, "#000000", 0.6) if not colors.is_dark else "#000000"
        under = shadow(pixels, left, top, dark, strength=0.5 if colors.is_dark else 0.34, floor=not photograph and pixels.shape[0] > 60)
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
            fields = [soft_field(placed[name][1], self.scene, self.palette.ground) for name in failing if name != "disclosure"]
            if fields:  # below the product, above the background; the disclosure gets a small panel
                self.scene.groups.insert(1, Group("scrim", tuple(fields)))
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
        preferred = [self.palette.muted, self.palette.ink] if name in ("description", "disclosure") else [self.palette.ink]
        if self.field is not None:
            preferred.append(self.field.ink)
        return readable_color(region(base, ink.grown(4)), preferred)

    def _paneled(self, name: str, ink: Box) -> str:
        fill, color = small_panel(ink, self.found.parts[name].block.size, Box(*self.place.safe_px), self.palette)
        self.scene.groups.append(Group(f"{name}-panel", (fill,)))
        return color

    @property
    def _corner(self) -> float:
        """The radius of the button; a pill holds one line only."""
        lines = len(self.found.parts["call_to_action"].block.lines)
        return (self.style.corner if lines == 1 else min(self.style.corner, 0.2)) * self.found.button.height

    def _button(self, base: np.ndarray) -> None:
        box = self.found.button
        fill, text = button_colors(region(base, box.grown(3)), self.palette)
        self.scene.groups.append(Group("button", (Fill(rectangle(box, self._corner), Solid(fill)),)))
        self.boxes["button"], self.colors["button"], self.colors["call_to_action"] = box, fill, text

    def _logo(self, logo: np.ndarray, box: Box) -> None:
        pixels = fitted(logo, box.width, box.height)
        left, top = round(box.left), round(box.top)
        seen = pixels[pixels[..., 3] > 128][:, :3]
        items: list[Item] = []
        if len(seen):
            own = np.median(seen, axis=0)
            if float(np.median(contrasts(hex_color(*own), region(draw(self.scene), box)))) < 2.0:
                pad = 0.14 * box.height
                chip = "#ffffff" if float(own.mean()) < 140 else "#111114"
                items.append(Fill(rectangle(box.grown(pad), pad * 1.4), Solid(chip)))
        items.append(Raster(pixels, left, top))
        self.scene.groups.append(Group("logo", tuple(items)))
        self.boxes["logo"] = Box(left, top, left + pixels.shape[1], top + pixels.shape[0])

    def _mend(self, name: str, group: Group, pixels: np.ndarray, *, with_panel: bool) -> None:
        place = self.scene.groups.index(group)
        self.scene.groups[place], self.colors[name] = mended(self.scene, group, self.boxes[name], pixels)
        if with_panel:
            size, paint = self.found.parts[name].block.size, Solid(opposite(self.colors[name]))
            panel = Fill(rectangle(self.boxes[name].grown(0.4 * size), 0.3 * size), paint)
            if name == "call_to_action":
                panel = Fill(rectangle(self.boxes["button"], self._corner), paint)
            self.scene.groups.insert(place, Group(f"{name}-ground", (panel,)))

    # the file

    def finish(self, *, title: str, left_out: tuple[str, ...]) -> Picture:
        """Draw, write, measure."""
        parts = self.found.parts
        own = [self.palette.carrier, *([self.palette.other] if self.palette.other else []), *self.colors.values(), self.palette.ground]
        for attempt in range(3):
            png, pixels = encoded(draw(self.scene), self.place.max_kb * 1000, keep=own)
            groups = {group.name: group for group in self.scene.groups}
            contrast = {name: measured(self.scene, groups[name], self.boxes[name], pixels) for name in parts}
            failing = [name for name, value in contrast.items() if value < MIN_CONTRAST]
            if not failing or attempt == 2:
                break
            for name in failing:
                self._mend(name, groups[name], pixels, with_panel=attempt == 1)
        return Picture(png, to_svg(self.scene, title=title), self._layout(), self._checks(contrast, len(png), left_out))

    def _checks(self, contrast: dict[str, float], size: int, left_out: tuple[str, ...]) -> Checks:
        return Checks(
            contrast=contrast,
            smallest_text_px=smallest([part.block.size for part in self.found.parts.values()]),
            min_text_px=float(self.place.min_text_px),
            size_kb=round(size / 1000, 1),
            max_kb=float(self.place.max_kb),
            overlaps=overlaps(self.boxes),
            outside=outside(self.boxes, Box(*self.place.safe_px), Box(0, 0, self.place.width, self.place.height)),
            warnings=left_out + tuple(f"{name} was left out: no room" for name in self.found.left_out),
        )

    def _layout(self) -> Layout:
        parts = self.found.parts
        return Layout(
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
