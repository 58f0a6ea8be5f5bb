"""The shape of one network. Goes in: sizes. Comes out: a checked, frozen ModelConfig; anything impossible is a ConfigError."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Final

from agora.errors import ConfigError

_SWITCHES: Final = frozenset({"tie_embeddings", "norm_topk_prob"})
_MAY_BE_ZERO: Final = frozenset({"num_experts", "balance_loss_weight", "balance_bias_rate"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """A Qwen3-compatible decoder, dense or with a mixture of experts. Raises ConfigError for sizes that do not fit together.

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
    num_experts          experts of a sparse layer; 0 = every layer is dense
    experts_per_token    how many of them a token visits
    expert_dim           width of one expert; hidden_dim is then that of the dense layers
    norm_topk_prob       weights of the visited experts sum to 1
    sparse_step          every sparse_step-th layer has experts
    dense_layers         layers that have none all the same, counted from 0
    balance_loss_weight  how much the imbalance of experts adds to what training minimises; 0 = off
    balance_bias_rate    how fast a bias on their choice follows the imbalance, per step; 0 = no such bias
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
    num_experts: int = 0
    experts_per_token: int = 2
    expert_dim: int = 384
    norm_topk_prob: bool = True
    sparse_step: int = 1
    dense_layers: tuple[int, ...] = ()
    balance_loss_weight: float = 0.001
    balance_bias_rate: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _MAY_BE_ZERO and not 0 <= value < math.inf:
                raise ConfigError(f"model.{field.name}={value} must be 0 or more and not infinite")
            if isinstance(value, (int, float)) and field.name not in _MAY_BE_ZERO | _SWITCHES and not 0 < value < math.inf:
                raise ConfigError(f"model.{field.name}={value} must be above 0 and not infinite")
        if self.num_heads % self.num_kv_heads:
            lower = max(n for n in range(1, self.num_kv_heads + 1) if self.num_heads % n == 0)
            raise ConfigError(
                f"model.num_heads={self.num_heads} must be a multiple of model.num_kv_heads={self.num_kv_heads}; "
                f"try model.num_kv_heads={lower}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"model.head_dim={self.head_dim} must be even (rotary embedding turns pairs); try {self.head_dim + 1}")
        if self.num_experts:
            self._check_experts()

    def _check_experts(self) -> None:
        if self.experts_per_token > self.num_experts:
            raise ConfigError(f"model.experts_per_token={self.experts_per_token} must be at most model.num_experts={self.num_experts}")
        for layer in self.dense_layers:
            if not 0 <= layer < self.num_layers:
                raise ConfigError(f"model.dense_layers names layer {layer}, but layers are 0 to {self.num_layers - 1}")
        if self.num_expert_layers == 0:
            raise ConfigError(
                f"model.num_experts={self.num_experts}, but no layer has experts with model.sparse_step={self.sparse_step} and "
                f"model.dense_layers={list(self.dense_layers)}; try model.sparse_step=1, or model.num_experts=0"
            )

    def is_sparse(self, layer: int) -> bool:
        """Whether that layer has experts."""
        return self.num_experts > 0 and layer not in self.dense_layers and (layer + 1) % self.sparse_step == 0

    @property
    def num_expert_layers(self) -> int:
        """Layers with experts."""
        if self.num_experts == 0:
            return 0
        return self.num_layers // self.sparse_step - sum((layer + 1) % self.sparse_step == 0 for layer in set(self.dense_layers))

    @property
    def query_dim(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_dim(self) -> int:
        """Width of all key heads together (the same for values)."""
        return self.num_kv_heads * self.head_dim
