from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from agora.model.cache import KVCache
from agora.model.config import ModelConfig
from agora.model.counts import attention_flops_per_token, flops_per_token, kv_bytes_per_token, matmul_flops_per_token, num_parameters
from agora.model.transformer import Transformer

SHAPES = [
    ModelConfig(vocab_size=97, dim=48, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=16, hidden_dim=80, max_seq_len=64),
    ModelConfig(
        vocab_size=64, dim=32, num_layers=3, num_heads=2, num_kv_heads=2, head_dim=8, hidden_dim=40, max_seq_len=64, tie_embeddings=False
    ),
    ModelConfig(
        vocab_size=64, dim=32, num_layers=3, num_heads=2, num_kv_heads=1, head_dim=8, hidden_dim=40, max_seq_len=64, num_experts=5,
        experts_per_token=3, expert_dim=24, dense_layers=(1,),
    ),
]  # fmt: skip


@pytest.mark.parametrize("config", SHAPES)
def test_parameters_equal_those_of_the_tensors(config: ModelConfig) -> None:
    model = Transformer(config)
    tables = model.embedding.numel() + (0 if model.head is None else model.head.numel())
    counts = num_parameters(config)
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    assert (counts.embedding, counts.non_embedding) == (tables, counts.total - tables)


@pytest.mark.parametrize("config", SHAPES)
def test_active_parameters_are_those_of_a_model_with_only_the_visited_experts(config: ModelConfig) -> None:
    visited = dataclasses.replace(config, num_experts=config.experts_per_token) if config.num_experts else config
    unseen = config.num_expert_layers * (config.num_experts - config.experts_per_token) * config.dim  # the router scores every expert
    assert num_parameters(config).active == num_parameters(visited).total + unseen


@pytest.mark.parametrize("config", SHAPES)
def test_flops_equal_those_that_torch_counts(config: ModelConfig) -> None:
    model, tokens = Transformer(config), torch.zeros(2, 16, dtype=torch.int64)
    # only the plain form of attention is counted by torch on a CPU: the whole square of scores, seen or not
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            model.logits(model(tokens))
        with FlopCounterMode(display=False) as both:
            model.loss(tokens, tokens).backward()
    assert forward.get_total_flops() == 32 * flops_per_token(config, 16, training=False, causal=False)
    assert both.get_total_flops() == 32 * flops_per_token(config, 16, causal=False)
    assert flops_per_token(config, 16, training=False) == matmul_flops_per_token(config) + attention_flops_per_token(config, 16)


def test_causal_rows_cost_half_of_the_square_and_half_a_diagonal() -> None:
    config = SHAPES[0]
    assert attention_flops_per_token(config, 16) * 16 == attention_flops_per_token(config, 1, causal=False) * sum(range(1, 17))


@pytest.mark.parametrize("config", SHAPES)
def test_cache_bytes_equal_those_of_the_cache(config: ModelConfig) -> None:
    cache = KVCache(config, batch=3, max_len=10, dtype=torch.bfloat16)
    assert cache.keys_LBSKD.nbytes + cache.values_LBSKD.nbytes == 30 * kv_bytes_per_token(config, 2)


def test_tied_head_is_counted_once() -> None:
    untied = dataclasses.replace(SHAPES[0], tie_embeddings=False)
    assert num_parameters(untied).total - num_parameters(SHAPES[0]).total == untied.vocab_size * untied.dim
