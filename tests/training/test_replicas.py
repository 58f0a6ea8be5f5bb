"""Who is named when replicas say different things, and how much they say."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training import replicas
from agora.training.optimizers import OptimizerConfig
from agora.training.replicas import Witness, find_held, find_results
from agora.training.sharded_step import ShardedStep

MODEL = ModelConfig(
    vocab_size=64, dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=64, max_seq_len=16, tie_embeddings=False
)


def witnesses() -> list[Witness]:
    """Eight ranks: four read rows of their own, two tensor ranks each; both halves of a replica hold what the other replica holds."""
    return [
        Witness(rank, "here", (0, 0, rank % 2), {f"group {rank % 4}": f"sum {rank % 4}"}, ((1.0, f"gradients {rank % 2}"),))
        for rank in range(8)
    ]


def test_ranks_are_compared_with_those_that_hold_and_do_the_same() -> None:
    said = witnesses()
    assert find_held(said) is None and find_results(said) is None
    said[5] = replace(said[5], held={"group 1": "another sum"})
    assert "rank 1 (on here) and rank 5 (on here) differ" in str(find_held(said))
    said[3] = replace(said[3], results=((1.0, "other gradients"),))
    assert "rank 3 (on here) differ from those of ranks 1, 5, 7" in str(find_results(said))


@pytest.mark.parametrize("layout", [Layout(replicate=256), Layout(shard=128, replicate=2, sharding="none")])
def test_what_a_rank_says_does_not_grow_with_the_number_of_ranks(layout: Layout) -> None:
    """All read what all say: a list of the others in it would be read as often as the square of their number."""
    torch.distributed.init_process_group("fake", store=FakeStore(), rank=5, world_size=layout.num_accelerators)
    try:
        with torch.device("meta"):
            model = Transformer(MODEL)
        step = ShardedStep(model, OptimizerConfig(name="adamw"), layout, seq_len=16, dtype="float32", seed=0)
        held = replicas.checksums(step)
        said = Witness(5, "host", replicas._place(step), held, ((1.0, "gradients"),))
    finally:
        torch.distributed.destroy_process_group()
    assert len(held) == 1 and len(pickle.dumps(said)) < 500
