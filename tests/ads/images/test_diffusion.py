"""The painted background: the whole path with a tiny pipeline of random weights, made here."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from agora.ads.images import render
from agora.ads.images.color import palette
from agora.ads.images.diffusion import diffusion_painter
from agora.ads.placements import placement_named
from agora.errors import ModelError


@dataclass(frozen=True)
class Kit:
    name: str = "Nordkaffee"
    colours: tuple[str, ...] = ("#0f4c3a", "#ff7a45")
    fonts: tuple[str, ...] = ()
    logo: None = None


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent diffusion pipeline of a few thousand random weights, as save_pretrained writes it."""
    pytest.importorskip("diffusers", reason="needs agora[ads-diffusion]")
    folder = tmp_path_factory.mktemp("pipeline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        torch.manual_seed(0)
        words = tmp_path_factory.mktemp("words")
        letters = [chr(code) for code in range(33, 127)]
        vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
        (words / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
        (words / "merges.txt").write_text("#version: 0.2\n")
        tokenizer = CLIPTokenizer(str(words / "vocab.json"), str(words / "merges.txt"), model_max_length=32)
        size = len(vocabulary)
        text = CLIPTextConfig(
            hidden_size=16,
            intermediate_size=16,
            num_attention_heads=2,
            num_hidden_layers=1,
            vocab_size=size,
            max_position_embeddings=32,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            pad_token_id=size - 1,
        )
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            block_out_channels=(8, 8),
            layers_per_block=1,
            norm_num_groups=4,
            cross_attention_dim=16,
            attention_head_dim=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )
        vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4, sample_size=16)
        pipeline = StableDiffusionPipeline(
            vae=vae,
            text_encoder=CLIPTextModel(text),
            tokenizer=tokenizer,
            unet=unet,
            scheduler=DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_painted_background_is_seeded_and_the_picture_over_it_is_sound(pipeline_folder: Path) -> None:
    painter = diffusion_painter(pipeline_folder, scene="morning light", steps=2, device="cpu", area=64 * 64)
    place, colors = placement_named("medium-rectangle"), palette(("#0f4c3a",), "dark")
    first, again, other = (painter(place, colors, seed) for seed in (1, 1, 2))
    assert first.shape == (250, 300, 3) and np.array_equal(first, again) and not np.array_equal(first, other)
    picture = render(headline="Slow mornings", call_to_action="Order now", brand=Kit(), placement=place, seed=1, painter=painter)
    assert picture.checks.passed, picture.checks.problems


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="needs agora[ads-diffusion]")
    with pytest.raises(ModelError, match=r"model_index\.json"):
        diffusion_painter(tmp_path, scene="morning light")
