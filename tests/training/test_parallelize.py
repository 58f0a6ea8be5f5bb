"""What parallelize refuses, how it cuts stages, and what the pieces are, on one process."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.operations import attention, document_starts
from agora.model.transformer import Transformer
from agora.training.parallelize import check, stage_layers
from agora.training.ring_attention import positions_of
from agora.training.stage import Stage, fuse, split

CONFIG = ModelConfig(vocab_size=64, dim=32, num_layers=5, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=48, max_seq_len=64)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(tensor=3), "nearest possible is tensor=2"),
        (Layout(shard=64), r"nearest possible is shard=16 with replicate=4"),
        (Layout(context=3, micro_batch=1), "nearest possible is context=2"),
        (Layout(pipeline=6), "nearest possible is pipeline=5"),
        (Layout(expert=2), "dense model"),
    ],
)
def test_an_impossible_layout_is_refused_with_the_nearest(layout: Layout, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(CONFIG, layout, seq_len=32, global_batch=layout.data * 8)


def test_a_row_that_a_ring_cannot_cut_names_the_nearest_length() -> None:
    with pytest.raises(ConfigError, match=r"try training\.seq_len=32"):
        check(CONFIG, Layout(context=2), seq_len=34, global_batch=8)


@pytest.mark.parametrize(("num_layers", "num_stages"), [(5, 1), (5, 2), (5, 3), (5, 5), (126, 16)])
def test_stages_hold_every_layer_once_and_differ_by_one_at_most(num_layers: int, num_stages: int) -> None:
    stages = [stage_layers(num_layers, num_stages, index) for index in range(num_stages)]
    assert [layer for stage in stages for layer in stage] == list(range(num_layers))
    sizes = [len(stage) for stage in stages]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("num_stages", [1, 2, 5])
@pytest.mark.parametrize("tied", [False, True])
def test_stages_one_after_the_other_are_the_model(num_stages: int, tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tie_embeddings=tied)
    model = Transformer(config, seed=3)
    tokens, targets = torch.randint(64, (2, 16)), torch.randint(64, (2, 16))
    documents = torch.tensor([[0] * 9 + [1] * 7, [0] * 4 + [1] * 12])
    whole = model.loss(tokens, targets, documents)
    parts = [Stage.cut(copy.deepcopy(model), stage_layers(5, num_stages, index)) for index in range(num_stages)]
    x = tokens
    for stage in parts:
        x = stage(x, targets_BT=targets, starts_BT=document_starts(documents), divisor=32.0)
    assert torch.equal(x, whole)


def test_names_of_stages_fuse_to_names_of_the_model_and_back() -> None:
    model = Transformer(CONFIG, seed=3)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    parts = dict(Stage.cut(model, range(5)).named_parameters())
    assert parts.keys() == split(weights, CONFIG).keys()
    fused = fuse(parts, CONFIG)
    assert fused.keys() == weights.keys() and all(torch.equal(fused[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_a_ring_holds_every_position_once_and_the_same_share_of_the_causal_half(num_ranks: int) -> None:
    places = [positions_of(rank, num_ranks, 64) for rank in range(num_ranks)]
    assert sorted(torch.cat(places).tolist()) == list(range(64))
    assert len({int(place.sum()) for place in places}) == 1


def test_ring_attention_on_one_rank_is_attention(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import torch.distributed as dist

    from agora.model.operations import attention_mask
    from agora.training.ring_attention import ring_attention

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        q, k, v = (torch.randn(2, 16, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
        starts = document_starts(torch.tensor([[0] * 9 + [1] * 7, [0] * 4 + [1] * 12]))
        group = dist.group.WORLD
        assert group is not None
        ring, plain = ring_attention(q, k, v, starts, group), attention(q, k, v, attention_mask(starts))
        assert torch.allclose(ring, plain, rtol=1e-5, atol=1e-6)  # scores are float32 in the ring
        weight = torch.randn_like(plain)
        for one, other in zip(*(torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (ring, plain)), strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
    finally:
        dist.destroy_process_group()
