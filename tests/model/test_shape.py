"""Counts of shapes that Agora does not build itself, against published sizes."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from agora.cluster.models import model_names, model_shape
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.counts import attention_flops_per_token, flops_per_token, kv_bytes_per_token, matmul_flops_per_token, num_parameters
from agora.model.shape import ModelShape, shape_of, stack_shapes

# billions: model cards and papers
SIZES = {
    "Llama-2-7B": 6.74,
    "Llama-3-8B": 8.03,
    "Llama-2-70B": 68.98,
    "Llama-3-405B": 405.85,
    "Qwen3-0.6B": 0.596,
    "Qwen3-8B": 8.19,
    "Qwen3-30B-A3B": 30.53,
    "Qwen3-235B-A22B": 235.1,
    "GPT-OSS-120B": 116.8,
    "DeepSeek-V3": 671.03,
    "Grok-1-314B": 315.7,
    "Mixtral-8x7B": 46.70,
    "GPT-3-175B": 174.6,
    "BLOOM-176B": 176.2,
}
ACTIVE = {"Qwen3-30B-A3B": 3.35, "DeepSeek-V3": 37.6, "Mixtral-8x7B": 12.9, "Qwen3-235B-A22B": 22.2}


@pytest.mark.parametrize("name", SIZES)
def test_parameters_are_those_published(name: str) -> None:
    assert num_parameters(model_shape(name)).total == pytest.approx(SIZES[name] * 1e9, rel=0.005)


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_those_published(name: str) -> None:
    assert num_parameters(model_shape(name)).active == pytest.approx(ACTIVE[name] * 1e9, rel=0.02)


def test_a_config_and_its_shape_count_the_same() -> None:
    config = ModelConfig()
    assert num_parameters(config) == num_parameters(shape_of(config))
    assert flops_per_token(config, 1024) == flops_per_token(shape_of(config), 1024)
    assert num_parameters(config).active == num_parameters(config).total


def test_stacked_shapes_count_row_by_row() -> None:
    shapes = [model_shape(name) for name in model_names()]
    rows = stack_shapes(shapes)
    parameters = [num_parameters(shape) for shape in shapes]
    for field in fields(parameters[0]):
        assert np.array_equal(getattr(num_parameters(rows), field.name), [getattr(one, field.name) for one in parameters])
    assert np.allclose(matmul_flops_per_token(rows), [matmul_flops_per_token(shape) for shape in shapes])
    assert np.allclose(attention_flops_per_token(rows, 4096), [attention_flops_per_token(shape, 4096) for shape in shapes])
    assert np.allclose(kv_bytes_per_token(rows), [kv_bytes_per_token(shape) for shape in shapes])


def test_latent_attention_caches_its_latent_only() -> None:
    assert kv_bytes_per_token(model_shape("DeepSeek-V3")) == 61 * (512 + 64) * 2


def test_a_window_as_long_as_the_row_changes_nothing() -> None:
    sizes = {"vocab_size": 8, "dim": 8, "num_layers": 4, "num_heads": 2, "num_kv_heads": 2, "head_dim": 4, "hidden_dim": 8}
    plain, windowed = ModelShape(**sizes), ModelShape(**sizes, window=64, num_windowed_layers=2)
    assert attention_flops_per_token(windowed, 64) == attention_flops_per_token(plain, 64)
    brute = sum(min(position + 1, 16) for position in range(64)) / 64
    narrow = ModelShape(**sizes, window=16, num_windowed_layers=4)
    assert attention_flops_per_token(narrow, 64) == pytest.approx(attention_flops_per_token(plain, 64) * brute / 32.5)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"num_experts": 4}, "experts_per_token=0 must be between 1"),
        ({"num_experts": 4, "experts_per_token": 2}, "expert_dim=0 must be above 0"),
        ({"num_kv_heads": 3}, "must be a multiple"),
        ({"dim": 0}, "must be above 0"),
        ({"num_dense_layers": 9}, "between 0 and num_layers=4"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(sizes: dict[str, int], reason: str) -> None:
    whole = {"vocab_size": 8, "dim": 8, "num_layers": 4, "num_heads": 2, "num_kv_heads": 2, "head_dim": 4, "hidden_dim": 8, **sizes}
    with pytest.raises(ConfigError, match=reason):
        ModelShape(**whole)
