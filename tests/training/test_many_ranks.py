"""What one rank after the other of a world that is not there reads and writes: PyTorch's fake groups answer at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.parallelize import make_axes
from agora.training.sharded_checkpoint import pieces_of, pieces_to_write
from agora.training.sharded_step import ShardedStep
from tests.training.parity.test_parity import FOUR, FOUR_EXPERTS, TWO, TWO_EXPERTS

DENSE = ModelConfig(
    vocab_size=64, dim=32, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=48, max_seq_len=64, tie_embeddings=False
)
LAYOUTS = {**TWO, **FOUR, **TWO_EXPERTS, **FOUR_EXPERTS, "all": {"replicate": 2, "shard": 2, "tensor": 2, "pipeline": 2, "context": 2}}


@contextmanager
def _as_rank(rank: int, size: int) -> Iterator[None]:
    dist.init_process_group("fake", rank=rank, world_size=size)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]  # its meshes are equal to the next rank's, but their groups are gone


@pytest.mark.parametrize("name", LAYOUTS)
def test_under_every_layout_each_share_of_a_step_is_read_once_wherever_rows_and_layers_are_divided(name: str) -> None:
    layout = Layout(**LAYOUTS[name])
    readers: Counter[tuple[int, int, int, int]] = Counter()
    for rank in range(layout.num_accelerators):
        with _as_rank(rank, layout.num_accelerators):
            axes = make_axes(layout, has_experts="experts" in name)
            readers[axes.data_rank, axes.pipeline_rank, axes.context_rank, axes.tensor_rank] += 1
    degrees = (layout.data, layout.pipeline, layout.context, layout.tensor)
    assert set(readers) == {tuple(place) for place in torch.cartesian_prod(*(torch.arange(degree) for degree in degrees)).tolist()}
    assert set(readers.values()) == {1}


@pytest.mark.parametrize(
    ("layout", "experts"),
    [
        ({"replicate": 4, "shard": 2}, {}),
        ({"replicate": 2, "shard": 2, "tensor": 2}, {}),
        ({"shard": 4, "sharding": "none"}, {}),
        ({"tensor": 4, "replicate": 2}, {}),  # every key head on two ranks
        ({"replicate": 2, "shard": 4, "expert": 2}, {"num_experts": 4, "expert_dim": 16}),
    ],
)
def test_of_what_replicas_hold_alike_each_writes_its_part_and_all_together_everything_once(layout: Any, experts: Any) -> None:
    made, written, held = Layout(**layout), Counter[tuple[str, tuple[int, ...]]](), Counter[tuple[str, tuple[int, ...]]]()
    each: list[int] = []
    for rank in range(made.num_accelerators):
        with _as_rank(rank, made.num_accelerators):
            with torch.device("meta"):
                model = Transformer(replace(DENSE, **experts))
            step = ShardedStep(model, OptimizerConfig(name="adamw"), made, seq_len=32)
            state = {name: value for name, value in step.state_dict().items() if value.ndim}
            mine, everything = pieces_to_write(state), pieces_of(state)
        written.update((piece.name, piece.offsets) for piece in mine)
        held.update((piece.name, piece.offsets) for piece in everything)
        each.append(sum(piece.values.nbytes for piece in mine))
    assert written.keys() == held.keys() and set(written.values()) == {1}
    assert max(held.values()) > 1 and max(each) < 1.3 * sum(each) / len(each)
