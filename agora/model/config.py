"""The shape of one network. Goes in: sizes. Comes out: a checked, frozen ModelConfig; anything impossible is a ConfigError."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from agora.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A dense Qwen3-compatible decoder. Raises ConfigError for sizes that do not fit together.

    vocab_size      tokens the embedding knows
    dim             width of the residual stream
    num_layers      blocks of attention and feed-forward
    num_heads       query heads; num_heads * head_dim need not equal dim
    num_kv_heads    key and value heads; divides num_heads (grouped-query attention)
    head_dim        width of a head
    hidden_dim      width of the feed-forward block
    max_seq_len     positions
    rope_theta      base of the rotary embedding
    norm_eps        added under the root of every norm
    tie_embeddings  one matrix for input and output
    init_std        spread of fresh embeddings
    """

    vocab_size: int = 8192
    dim: int = 256
    num_layers: int = 8
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 64
    hidden_dim: int = 768
    max_seq_len: int = 1024
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    tie_embeddings: bool = True
    init_std: float = 0.02

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "tie_embeddings" and not 0 < value < math.inf:
                raise ConfigError(f"model.{field.name}={value} must be above 0 and not infinite")
        if self.num_heads % self.num_kv_heads:
            lower = max(n for n in range(1, self.num_kv_heads + 1) if self.num_heads % n == 0)
            raise ConfigError(f"model.num_heads={self.num_heads} must be a multiple of model.num_kv_heads={self.num_kv_heads}; try {lower}")
        if self.head_dim % 2:
            raise ConfigError(f"model.head_dim={self.head_dim} must be even (rotary embedding turns pairs); try {self.head_dim + 1}")

    @property
    def query_dim(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads together (the same for values)."""
        return self.num_kv_heads * self.head_dim
