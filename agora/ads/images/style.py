"""The look of a variant, from its seed and the brand: typeface, scheme of colours, background, shape of the button, side of the text.

One seed gives one look in all placements, so the pictures of a variant belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from agora.ads.images.arrangement import Wish
from agora.ads.images.background import KINDS
from agora.ads.images.color import SCHEMES, Scheme
from agora.ads.images.fonts import Family, families_for, family_named
from agora.ads.images.typeset import Voice
from agora.ads.placements import Shape
from agora.errors import UsageError

_BODY: Final = {"Fraunces": "Hanken Grotesk", "Space Grotesk": "Hanken Grotesk"}  # display families take a quieter one for small text
_LONG: Final = 15  # letters of a word that leaves room for little else in a line


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """What a variant looks like. `corner` is the button's radius as a share of its height."""

    family: Family
    body: Family
    scheme: Scheme
    background: str
    corner: float
    wish: Wish

    def headline(self, shape: Shape, text: str) -> Voice:
        """The voice of the headline; narrow where there is little room or a word is long."""
        tight = shape in ("skyscraper", "leaderboard", "banner") or len(text) > 70 or max(len(word) for word in text.split()) > _LONG
        width = max(self.family.narrow, 82) if tight else 100
        leading = 1.02 if self.family.name != "Fraunces" else 1.04
        return Voice(family=self.family.name, weight=self.family.heavy, width=width, tracking=self.family.tracking, leading=leading)

    def condensed(self) -> Voice:
        """The voice of a headline that does not fit in any other."""
        return Voice(family="Archivo", weight=640, width=62, leading=1.02)

    def description(self, small: bool) -> Voice:
        """The voice of the description; a little heavier where it is small."""
        return Voice(family=self.body.name, weight=500 if small else 430, leading=1.34 if not small else 1.22)

    def button(self) -> Voice:
        """The voice of the call to action."""
        return Voice(family=self.body.name, weight=680, tracking=0.002, leading=1.2)

    def disclosure(self, px: float) -> Voice:
        """The voice of the disclosure: strokes of small letters must be wide enough to keep their colour."""
        return Voice(family=self.body.name, weight=700 if px < 12 else 600 if px < 18 else 480, tracking=0.006, leading=1.2)

    def wordmark(self) -> Voice:
        """The voice of the brand's name."""
        return Voice(family=self.family.name, weight=self.family.heavy, tracking=self.family.tracking, leading=1.1)


def style_of(
    seed: int,
    texts: Sequence[str],
    fonts: Sequence[str] = (),
    *,
    scheme: str | None = None,
    background: str | None = None,
    font: str | None = None,
) -> Style:
    """The style of a seed; what is given by name is taken. Raises UsageError for a name that there is not."""
    rng = np.random.default_rng([seed, 8])
    families = families_for(texts)
    most = families_for(texts)[: 3 if any(ord(letter) > 0x24F for text in texts for letter in text if letter.isalpha()) else len(families)]
    drawn = most[int(rng.integers(len(most)))]
    named = [family_named(font)] if font else [_known(name) for name in fonts]
    family = next((found for found in named if found is not None), drawn)
    body = family_named(_BODY.get(family.name, family.name))
    schemes, kinds = list(SCHEMES), list(KINDS)
    drawn_scheme, drawn_kind = schemes[int(rng.integers(len(schemes)))], kinds[int(rng.integers(len(kinds)))]
    if scheme is not None and scheme not in schemes:
        raise UsageError(f"scheme {scheme!r} is not one of {', '.join(schemes)}")
    if background is not None and background not in kinds:
        raise UsageError(f"background {background!r} is not one of {', '.join(kinds)}")
    wish = Wish(text_first=bool(rng.random() < 0.72), centered=bool(rng.random() < 0.25), panel=bool(rng.random() < 0.5))
    corner = float(rng.choice([0.5, 0.5, 0.22, 0.0]))
    return Style(
        family=family,
        body=body,
        scheme=next((known for known in SCHEMES if known == scheme), drawn_scheme),
        background=background or drawn_kind,
        corner=corner,
        wish=wish,
    )


def _known(name: str) -> Family | None:
    """A family of the brand kit, if it is one of ours: brands name fonts that are not free, too."""
    try:
        return family_named(name)
    except UsageError:
        return None
