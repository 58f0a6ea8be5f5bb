"""Parameters, FLOPs and bytes of a ModelConfig or ModelShape, from sizes alone (no tensor is made). The planner and the trainer read these.

    agora model counts dim=512 num_layers=12

A multiply-add counts as two FLOPs. Element-wise work (norms, rotary, softmax, SwiGLU) is not counted, as is usual.
Sizes may be arrays (`stack_shapes`): then every count is an array.
"""

from __future__ import annotations

from dataclasses import dataclass

from agora.model.config import ModelConfig
from agora.model.shape import ModelShape, Size, shape_of


@dataclass(frozen=True, kw_only=True, slots=True)
class ParameterCounts:
    """`embedding` counts the input table and an untied output head; `non_embedding` is everything else; `active` is what one
    token passes through (input and output tables included)."""

    total: Size
    embedding: Size
    non_embedding: Size
    active: Size


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCounts:
    """Parameters of one layer by what a layout does with them. Norms and the router are whole on every tensor rank."""

    attention: Size
    attention_whole: Size
    dense_feed_forward: Size
    routed_experts: Size
    shared_experts: Size
    router: Size
    norms: Size


def layer_parameters(config: ModelConfig | ModelShape) -> LayerCounts:
    """Parameters of one layer. `dense_feed_forward` is that of a layer without experts, the expert figures that of one with them."""
    shape = shape_of(config)
    matrices = 2 + 1 * shape.gated
    latent = shape.kv_latent > 0
    grouped = shape.dim * (shape.query_dim + 2 * shape.kv_dim)
    query_down = shape.dim * shape.query_latent
    query_up = ((shape.query_latent > 0) * shape.query_latent + (shape.query_latent == 0) * shape.dim) * shape.query_dim
    kv_up = shape.kv_latent * shape.num_heads * (shape.head_dim - shape.rope_dim + shape.value_dim)
    whole = latent * (query_down + shape.dim * (shape.kv_latent + shape.rope_dim))
    norms = 2 * shape.dim + shape.qk_norm * 2 * shape.head_dim + latent * (shape.query_latent + shape.kv_latent)
    return LayerCounts(
        attention=(1 - latent) * grouped + latent * (query_up + kv_up) + shape.output_dim * shape.dim,
        attention_whole=whole,
        dense_feed_forward=matrices * shape.dim * shape.hidden_dim,
        routed_experts=shape.num_experts * matrices * shape.dim * shape.expert_dim,
        shared_experts=shape.num_shared_experts * matrices * shape.dim * shape.expert_dim,
        router=shape.num_experts * shape.dim,
        norms=norms,
    )


def num_parameters(config: ModelConfig | ModelShape) -> ParameterCounts:
    """Count the parameters; a tied output head is counted once."""
    shape, layer = shape_of(config), layer_parameters(config)
    sparse = shape.num_expert_layers
    every = layer.attention + layer.attention_whole + layer.norms
    dense = (shape.num_layers - sparse) * layer.dense_feed_forward
    expert_layers = sparse * (layer.shared_experts + layer.router)
    fixed = shape.num_layers * every + dense + expert_layers + shape.dim + shape.num_positions * shape.dim
    non_embedding = fixed + sparse * layer.routed_experts
    embedding = shape.vocab_size * shape.dim * (2 - 1 * shape.tie_embeddings)
    visited = sparse * (shape.experts_per_token * (2 + 1 * shape.gated) * shape.dim * shape.expert_dim)
    return ParameterCounts(
        total=embedding + non_embedding, embedding=embedding, non_embedding=non_embedding, active=embedding + fixed + visited
    )


def matmul_flops_per_token(config: ModelConfig | ModelShape) -> Size:
    """Forward FLOPs of the weight products of one token, output head included; of experts, those that it visits."""
    shape, layer = shape_of(config), layer_parameters(config)
    sparse = shape.num_expert_layers
    visited = shape.experts_per_token * (2 + 1 * shape.gated) * shape.dim * shape.expert_dim
    attention = shape.num_layers * (layer.attention + layer.attention_whole)
    feed_forward = (shape.num_layers - sparse) * layer.dense_feed_forward
    experts = sparse * (layer.shared_experts + layer.router + visited)
    return 2 * (attention + feed_forward + experts + shape.dim * shape.vocab_size)


def attention_flops_per_token(config: ModelConfig | ModelShape, seq_len: Size, *, causal: bool = True) -> Size:
    """Forward FLOPs of scores and weighted values, mean over the positions of a row of `seq_len` tokens.

    `causal` counts only the keys that a position may see, (seq_len + 1) / 2 on average; without it the full square.
    A windowed layer sees `window` keys at most (the ramp at the beginning of a row is counted).
    """
    shape = shape_of(config)
    keys = (seq_len + 1) / 2 if causal else 1.0 * seq_len
    width = shape.query_dim + shape.output_dim
    seen = windowed_keys(shape, seq_len, causal=causal)
    return 2 * width * ((shape.num_layers - shape.num_windowed_layers) * keys + shape.num_windowed_layers * seen)


def windowed_keys(shape: ModelShape, seq_len: Size, *, causal: bool = True) -> Size:
    """Mean number of keys that a position of a windowed layer sees."""
    fits = shape.window < seq_len
    window = fits * shape.window + (1 - 1 * fits) * seq_len
    if not causal:
        return 1.0 * window
    return window - window * (window - 1) / (2 * seq_len)


def flops_per_token(config: ModelConfig | ModelShape, seq_len: Size, training: bool = True, *, causal: bool = True) -> Size:
    """FLOPs one token needs at `seq_len`: forward, and with `training` the backward pass too (two products per product)."""
    forward = matmul_flops_per_token(config) + attention_flops_per_token(config, seq_len, causal=causal)
    return 3 * forward if training else forward


def kv_bytes_per_token(config: ModelConfig | ModelShape, dtype_bytes: int = 2) -> Size:
    """Bytes that one token occupies in the key-value cache."""
    shape = shape_of(config)
    latent = shape.kv_latent > 0
    width = (1 - latent) * 2 * shape.kv_dim + latent * (shape.kv_latent + shape.rope_dim)
    return shape.num_layers * width * dtype_bytes
