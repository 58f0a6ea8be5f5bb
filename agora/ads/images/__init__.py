"""Pictures of ads: procedural background, the real product, typeset words; PNG and SVG, measured."""

from agora.ads.images.checks import Checks
from agora.ads.images.render import DISCLOSURE, BrandKit, Layout, Picture, render

__all__ = ["DISCLOSURE", "BrandKit", "Checks", "Layout", "Picture", "render"]
