"""Parameters, FLOPs and bytes of a ModelConfig, from sizes alone (no tensor is made). The planner and the trainer read these.

    agora model counts dim=512 num_layers=12

A multiply-add counts as two FLOPs. Element-wise work (norms, rotary, softmax, SwiGLU) is not counted, as is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

from agora.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCounts:
    """`embedding` counts the input table and an untied output head; `non_embedding` is everything else."""

    total: int
    embedding: int
    non_embedding: int


def num_parameters(config: ModelConfig) -> ParameterCounts:
    """Count the parameters; a tied output head is counted once."""
    attention = config.dim * (config.query_dim + 2 * config.kv_dim) + config.query_dim * config.dim + 2 * config.head_dim
    feed_forward = 3 * config.dim * config.hidden_dim
    non_embedding = config.num_layers * (attention + feed_forward + 2 * config.dim) + config.dim
    embedding = config.vocab_size * config.dim * (1 if config.tie_embeddings else 2)
    return ParameterCounts(total=embedding + non_embedding, embedding=embedding, non_embedding=non_embedding)


def matmul_flops_per_token(config: ModelConfig) -> int:
    """Forward FLOPs of the weight products of one token, output head included."""
    attention = config.dim * (config.query_dim + 2 * config.kv_dim) + config.query_dim * config.dim
    feed_forward = 3 * config.dim * config.hidden_dim
    return 2 * (config.num_layers * (attention + feed_forward) + config.dim * config.vocab_size)


def attention_flops_per_token(config: ModelConfig, seq_len: int, *, causal: bool = True) -> float:
    """Forward FLOPs of scores and weighted values, mean over the positions of a row of `seq_len` tokens.

    `causal` counts only the keys that a position may see, (seq_len + 1) / 2 on average; without it the full square.
    """
    keys = (seq_len + 1) / 2 if causal else float(seq_len)
    return 4 * config.num_layers * config.query_dim * keys


def flops_per_token(config: ModelConfig, seq_len: int, training: bool = True, *, causal: bool = True) -> float:
    """FLOPs one token needs at `seq_len`: forward, and with `training` the backward pass too (two products per product)."""
    forward = matmul_flops_per_token(config) + attention_flops_per_token(config, seq_len, causal=causal)
    return 3 * forward if training else forward


def kv_bytes_per_token(config: ModelConfig, dtype_bytes: int = 2) -> int:
    """Bytes that one token occupies in the key-value cache."""
    return 2 * config.num_layers * config.kv_dim * dtype_bytes
