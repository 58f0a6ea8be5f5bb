"""Fresh weights: any part alone, the same numbers however they are cut, normally distributed."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.model.config import ModelConfig
from agora.model.initial import draw, initial_std
from agora.model.transformer import Norm, Transformer

EXPERTS = ModelConfig(
    vocab_size=96, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=48, tie_embeddings=False, num_experts=4,
    expert_dim=24, dense_layers=(0,),
)  # fmt: skip


@given(st.lists(st.integers(1, 40), min_size=1, max_size=3), st.data())
@settings(max_examples=60, deadline=None)
def test_a_part_is_cut_from_the_whole_to_the_bit(shape: list[int], data: st.DataObject) -> None:
    part = []
    for size in shape:
        start = data.draw(st.integers(0, size))
        part.append(slice(start, data.draw(st.integers(start, size))))
    assert torch.equal(draw(3, "a", shape, std=0.5, part=part), draw(3, "a", shape, std=0.5)[tuple(part)])


def test_parts_longer_than_a_chunk_too() -> None:
    shape = (3, 300, 70)
    whole = draw(1, "big", shape, std=1.0)
    for part in (
        (slice(1, 3), slice(7, 290), slice(0, 70)),
        (slice(0, 3), slice(0, 300), slice(11, 69)),
        (slice(2, 3), slice(0, 300), slice(0, 70)),
    ):
        assert torch.equal(draw(1, "big", shape, std=1.0, part=part), whole[part])


def test_numbers_are_normal_and_neighbours_know_nothing_of_each_other() -> None:
    count = 1 << 20
    x = draw(0, "layers.0.attention.qkv.weight", (1024, 1024), std=1.0).double()
    sampling = 1 / math.sqrt(count)  # standard error of a mean of unit variables; of x^2 sqrt(2), of x^4 sqrt(96) times that
    assert abs(float(x.mean())) < 5 * sampling and abs(float(x.square().mean()) - 1) < 5 * math.sqrt(2) * sampling
    assert abs(float(x.pow(4).mean()) - 3) < 5 * math.sqrt(96) * sampling
    assert 4.5 < float(x.abs().max()) < 6.7
    for other in (x.roll(1, 0), x.roll(1, 1), x.flip(0), draw(1, "layers.0.attention.qkv.weight", (1024, 1024), std=1.0)):
        assert abs(float((x * other).mean())) < 5 * sampling
    assert not torch.equal(x, draw(0, "layers.1.attention.qkv.weight", (1024, 1024), std=1.0).double())


def test_every_parameter_of_a_network_has_its_distribution() -> None:
    model = Transformer(EXPERTS, seed=5)
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Norm)}
    for name, weight in model.named_parameters():
        std = initial_std(EXPERTS, name)
        if name in norms:
            assert std is None and torch.equal(weight, torch.ones_like(weight))
        else:
            assert std is not None and float(weight.detach().std()) == pytest.approx(std, rel=5 / math.sqrt(2 * weight.numel()))
    with pytest.raises(KeyError, match="no initial distribution"):
        initial_std(EXPERTS, "layers.0.attention.bias")
