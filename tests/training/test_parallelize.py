"""What parallelize refuses, how it cuts stages, and what the pieces are, on one process."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from agora.cluster.layout import Layout
from agora.errors import CheckpointError, ConfigError
from agora.model.config import ModelConfig
from agora.model.loss import chunked_cross_entropy
from agora.model.operations import attention, attention_mask, document_starts
from agora.model.transformer import Transformer
from agora.training.data import ShardBatches, share_of_step
from agora.training.divided_loss import divided_cross_entropy
from agora.training.optimizers import OptimizerConfig
from agora.training.parallelize import check, stage_layers
from agora.training.ring_attention import positions_of, ring_attention
from agora.training.sharded_step import ShardedStep
from agora.training.stage import Stage, fuse, split
from agora.training.step import Batch, TrainingStep
from tests.training.doubles import some_shards

CONFIG = ModelConfig(vocab_size=64, dim=32, num_layers=5, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=48, max_seq_len=64)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(tensor=3), "nearest possible is tensor=2"),
        (Layout(shard=64), r"nearest possible is shard=32 with replicate=2"),
        (Layout(context=3, micro_batch=1), "nearest possible is context=2"),
        (Layout(pipeline=6), "nearest possible is pipeline=5"),
        (Layout(expert=2), "dense model"),
    ],
)
def test_an_impossible_layout_is_refused_with_the_nearest(layout: Layout, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(CONFIG, layout, seq_len=32, global_batch=layout.data * 8)


def test_a_row_that_a_ring_cannot_cut_names_the_nearest_length() -> None:
    with pytest.raises(ConfigError, match=r"nearest possible is training\.seq_len=32 with training\.batch_tokens=256$"):
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


@pytest.fixture
def group(tmp_path: Path) -> Iterator[dist.ProcessGroup]:
    """A group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    assert dist.group.WORLD is not None
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_ring_attention_on_one_rank_is_attention(group: dist.ProcessGroup) -> None:
    q, k, v = (torch.randn(2, 16, heads, 8, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2))
    starts = document_starts(torch.tensor([[0] * 9 + [1] * 7, [0] * 4 + [1] * 12]))
    ring, plain = ring_attention(q, k, v, starts, group), attention(q, k, v, attention_mask(starts))
    assert torch.allclose(ring, plain, rtol=1e-5, atol=1e-6)  # scores are float32 in the ring
    weight = torch.randn_like(plain)
    for one, other in zip(*(torch.autograd.grad((out * weight).sum(), (q, k, v)) for out in (ring, plain)), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num_targets", [0, 5, 12])
def test_divided_loss_on_one_rank_is_the_loss(num_targets: int, group: dist.ProcessGroup) -> None:
    hidden, head = torch.randn(12, 8, requires_grad=True), torch.randn(20, 8, requires_grad=True)
    targets = torch.randint(20, (12,))
    targets[num_targets:] = -100
    one = divided_cross_entropy(hidden, head, targets, first_row=0, group=group, divisor=3.0, chunk_rows=5)
    other = chunked_cross_entropy(hidden, head, targets, divisor=3.0)
    assert torch.allclose(one, other, rtol=1e-6)
    for mine, theirs in zip(torch.autograd.grad(one, (hidden, head)), torch.autograd.grad(other, (hidden, head)), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-6)


class Counted(TorchDispatchMode):
    """Counts operations."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[str(func)] += 1
        return func(*args, **(kwargs or {}))


def _operations(recompute: str) -> Counter[str]:
    layout = Layout(recompute=recompute)  # type: ignore[arg-type]
    step = ShardedStep(Transformer(CONFIG), OptimizerConfig(name="adamw"), layout, seq_len=16, dtype="float32")
    tokens = torch.randint(64, (1, 17))
    with Counted() as counted:
        step.run([Batch(tokens[:, :-1], tokens[:, 1:])])
    return counted.calls


def test_full_recompute_does_products_again_and_selective_only_what_lies_between(group: dist.ProcessGroup) -> None:
    none, selective, full = (_operations(policy) for policy in ("none", "selective", "full"))
    num_layers = CONFIG.num_layers
    assert none["aten.silu.default"] == num_layers
    assert selective["aten.silu.default"] == full["aten.silu.default"] == 2 * num_layers
    assert selective["aten.mm.default"] == none["aten.mm.default"]
    assert full["aten.mm.default"] >= none["aten.mm.default"] + 6 * num_layers  # query, key, value, out, gate, up; the last is not needed


def test_one_rank_of_the_engine_gives_the_numbers_of_the_plain_step(group: dist.ProcessGroup) -> None:
    tokens = torch.randint(64, (4, 17), generator=torch.Generator().manual_seed(1))
    batches = [Batch(tokens[:2, :-1], tokens[:2, 1:]), Batch(tokens[2:, :-1], tokens[2:, 1:])]
    plain = TrainingStep(Transformer(CONFIG), OptimizerConfig(name="adamw"), dtype="float32")
    divided = ShardedStep(Transformer(CONFIG), OptimizerConfig(name="adamw"), Layout(micro_batch=2), seq_len=16, dtype="float32")
    for _ in range(3):
        one, other = plain.run(batches), divided.run(batches)
        assert other.loss == pytest.approx(one.loss, rel=1e-6) and other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert divided.evaluate(batches) == pytest.approx(divided.run(batches).loss, rel=1e-6)


def test_a_state_of_another_model_is_refused(group: dist.ProcessGroup) -> None:
    step = ShardedStep(Transformer(CONFIG), OptimizerConfig(name="adamw"), Layout(), seq_len=16, dtype="float32")
    state = step.state_dict()
    step.load_state_dict(state)
    state.pop("weight.embedding")
    with pytest.raises(CheckpointError, match=r"weight\.embedding"):
        step.load_state_dict(state)


@pytest.mark.parametrize("num_shares", [1, 2, 4])
def test_shares_of_a_step_are_its_micro_batches_in_order_and_all_stand_at_the_same_place(tmp_path: Path, num_shares: int) -> None:
    def source() -> ShardBatches:
        return ShardBatches(some_shards(tmp_path), seq_len=16, micro_batch=2, seed=3)

    alone, shares = source(), [source() for _ in range(num_shares)]
    for _ in range(5):
        whole = [alone.next().tokens_BT for _ in range(4)]
        taken = [batch.tokens_BT for share, each in enumerate(shares) for batch in share_of_step(each, 4, share, num_shares)]
        assert torch.equal(torch.cat(whole), torch.cat(taken))
        assert all(each.state_dict() == alone.state_dict() for each in shares)


@pytest.mark.parametrize("model", [CONFIG, dataclasses.replace(CONFIG, num_experts=4, expert_dim=16, balance_bias_rate=0.01)])
def test_a_model_without_memory_goes_on_from_a_state(model: ModelConfig, group: dist.ProcessGroup) -> None:
    tokens = torch.randint(64, (1, 17))
    batch = Batch(tokens[:, :-1], tokens[:, 1:])
    one = ShardedStep(Transformer(model), OptimizerConfig(name="muon"), Layout(), seq_len=16, dtype="float32")
    one.run([batch])
    with torch.device("meta"):
        empty = Transformer(model)
    other = ShardedStep(empty, OptimizerConfig(name="muon"), Layout(), seq_len=16, dtype="float32")
    other.load_state_dict(one.state_dict())
    assert [one.run([batch]) for _ in range(2)] == [other.run([batch]) for _ in range(2)]
