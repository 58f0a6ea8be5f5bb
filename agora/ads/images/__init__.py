"""Pictures of ads: procedural background, the real product, typeset words; PNG and SVG, measured."""

from agora.ads.images.checks import Checks
from agora.ads.images.disclosure import disclosure_in
from agora.ads.images.picture import BrandKit, Layout, Picture
from agora.ads.images.render import render

__all__ = ["BrandKit", "Checks", "Layout", "Picture", "disclosure_in", "render"]
