"""Backgrounds from a text-to-image pipeline of `diffusers` in a local folder, in place of the procedural ones. Never words.

    painter = diffusion_painter(Path("models/flux"), scene="soft morning light on a wooden table")
    render(..., painter=painter)

The pipeline paints no letters: the prompt asks for an empty scene in the brand's colours, and all words are typeset over it by `render`,
which measures contrast on what was painted. On one machine the same seed gives the same picture; another accelerator may round
otherwise. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from agora.ads.images.color import Palette
from agora.ads.images.render import Painter
from agora.ads.placements import Placement
from agora.errors import MissingExtraError, ModelError

_AVOID: Final = "text, letters, words, numbers, logo, watermark, signature, people, hands"
_MULTIPLE: Final = 16  # sides that every pipeline takes
_AREA: Final = 1024 * 1024  # pixels that such models are trained for; more is painted smaller and enlarged


def diffusion_painter(folder: Path, *, scene: str, steps: int = 28, device: str | None = None, area: int = _AREA) -> Painter:
    """A painter for `render`. `folder` holds a pipeline as `save_pretrained` writes it (safetensors).

    Raises MissingExtraError without diffusers, ModelError when the folder is not a pipeline.
    """
    pipeline = _load(folder, device)

    def paint(place: Placement, colors: Palette, seed: int) -> np.ndarray:
        import torch

        width, height = _painted_size(place, area)
        tones = ", ".join((colors.ground, *colors.shapes))
        asked = dict[str, Any](
            prompt=f"{scene}, empty background for an advertisement, colours {tones}, plain space for text",
            width=width,
            height=height,
            num_inference_steps=steps,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
        )
        if _takes(pipeline, "negative_prompt"):
            asked["negative_prompt"] = _AVOID
        with torch.inference_mode():
            painted = pipeline(**asked).images[0]
        return _cover(np.clip(np.nan_to_num(painted) * 255 + 0.5, 0, 255).astype(np.uint8), place)

    return paint


def _takes(pipeline: Any, name: str) -> bool:
    import inspect

    return name in inspect.signature(pipeline.__call__).parameters


def _load(folder: Path, device: str | None) -> Any:
    try:
        import torch
        from diffusers import DiffusionPipeline
    except ImportError:
        raise MissingExtraError("diffusers", "ads-diffusion", "a painted background") from None
    if not (folder / "model_index.json").exists():
        raise ModelError(f"{folder} holds no diffusers pipeline (no model_index.json); give a folder that save_pretrained has written")
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.bfloat16 if chosen.startswith("cuda") else torch.float32
    try:
        pipeline = DiffusionPipeline.from_pretrained(str(folder), torch_dtype=kind, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder} cannot be loaded as a diffusers pipeline: {error}") from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(chosen)


def _painted_size(place: Placement, area: int) -> tuple[int, int]:
    """Width and height of a placement's proportions (within 1:3) and about `area` pixels."""
    ratio = min(3.0, max(1 / 3, place.width / place.height))
    height = (area / ratio) ** 0.5
    return max(_MULTIPLE, round(height * ratio / _MULTIPLE) * _MULTIPLE), max(_MULTIPLE, round(height / _MULTIPLE) * _MULTIPLE)


def _cover(pixels: np.ndarray, place: Placement) -> np.ndarray:
    """Scaled to cover the placement; what hangs over is cut off evenly."""
    from PIL import Image

    scale = max(place.width / pixels.shape[1], place.height / pixels.shape[0])
    size = (max(place.width, round(pixels.shape[1] * scale)), max(place.height, round(pixels.shape[0] * scale)))
    large = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    left, top = (size[0] - place.width) // 2, (size[1] - place.height) // 2
    return np.array(large.crop((left, top, left + place.width, top + place.height)))
