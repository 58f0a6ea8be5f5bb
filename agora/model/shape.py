"""The sizes that every count needs, also of networks that Agora does not build itself (shared experts, latent attention).

Goes in: sizes, or a ModelConfig. Comes out: a frozen ModelShape, or many of them side by side as one whose sizes are arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from agora.errors import ConfigError
from agora.model.config import ModelConfig

Size: TypeAlias = Any
"""An int, or an integer array with one value per row when shapes stand side by side (`stack_shapes`)."""


_FLAGS = ("gated", "qk_norm", "tie_embeddings")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelShape:
    """Sizes of a decoder. Raises ConfigError for sizes that do not fit together.

    hidden_dim          width of a dense feed-forward block; unused where every layer has experts
    gated               three matrices in a feed-forward block (SwiGLU) instead of two
    num_experts         routed experts of a layer; 0 = dense
    experts_per_token   how many of them a token visits
    expert_dim          width of one expert
    num_shared_experts  experts that every token visits
    expert_groups_per_token  groups of experts (one for each node) that a token visits at most; 0 = any
    num_dense_layers    layers without experts (all, when num_experts is 0)
    query_latent, kv_latent, rope_dim, value_dim   latent attention; head_dim is then the whole width of a query head
    window              keys that a windowed layer sees; 0 = none
    num_windowed_layers layers with that window
    num_positions       rows of a learned position table; 0 = rotary
    """

    name: str = ""
    vocab_size: Size
    dim: Size
    num_layers: Size
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    hidden_dim: Size
    gated: Size = True
    qk_norm: Size = False
    tie_embeddings: Size = False
    num_positions: Size = 0
    num_experts: Size = 0
    experts_per_token: Size = 0
    expert_dim: Size = 0
    num_shared_experts: Size = 0
    expert_groups_per_token: Size = 0
    num_dense_layers: Size = 0
    query_latent: Size = 0
    kv_latent: Size = 0
    rope_dim: Size = 0
    value_dim: Size = 0
    window: Size = 0
    num_windowed_layers: Size = 0

    def __post_init__(self) -> None:
        if not isinstance(self.dim, int):
            return  # stacked rows were checked one by one
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in ("name", *_FLAGS) and (isinstance(value, bool) or value < 0):
                raise ConfigError(f"shape.{field.name}={value!r} must be a whole number that is not negative")
            if field.name in _FLAGS and not isinstance(value, bool):
                raise ConfigError(f"shape.{field.name}={value!r} must be true or false")
        if (self.window > 0) != (self.num_windowed_layers > 0):
            raise ConfigError(
                f"shape.window={self.window} and shape.num_windowed_layers={self.num_windowed_layers} need each other; set both, or neither"
            )
        if self.num_windowed_layers > self.num_layers:
            raise ConfigError(f"shape.num_windowed_layers={self.num_windowed_layers} must be at most num_layers={self.num_layers}")
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "num_kv_heads", "head_dim"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"shape.{name}={getattr(self, name)} must be above 0")
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"shape.num_heads={self.num_heads} must be a multiple of shape.num_kv_heads={self.num_kv_heads}")
        if self.num_experts and not 0 < self.experts_per_token <= self.num_experts:
            raise ConfigError(f"shape.experts_per_token={self.experts_per_token} must be between 1 and num_experts={self.num_experts}")
        if self.num_experts and self.expert_dim <= 0:
            raise ConfigError(f"shape.expert_dim={self.expert_dim} must be above 0 where num_experts={self.num_experts}")
        if not 0 <= self.num_dense_layers <= self.num_layers:
            raise ConfigError(f"shape.num_dense_layers={self.num_dense_layers} must be between 0 and num_layers={self.num_layers}")

    @property
    def query_dim(self) -> Size:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_dim(self) -> Size:
        """Width of all key heads together (the same for values); not for latent attention."""
        return self.num_kv_heads * self.head_dim

    @property
    def output_dim(self) -> Size:
        """Width of what attention hands to its output projection."""
        value = (self.kv_latent > 0) * self.value_dim + (self.kv_latent == 0) * self.head_dim
        return self.num_heads * value

    @property
    def num_expert_layers(self) -> Size:
        """Layers with experts."""
        return (self.num_experts > 0) * (self.num_layers - self.num_dense_layers)


def shape_of(config: ModelConfig | ModelShape) -> ModelShape:
    """The sizes of a ModelConfig; a ModelShape comes back as it is."""
    if isinstance(config, ModelShape):
        return config
    return ModelShape(
        vocab_size=config.vocab_size, dim=config.dim, num_layers=config.num_layers, num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads, head_dim=config.head_dim, hidden_dim=config.hidden_dim, gated=True, qk_norm=True,
        tie_embeddings=config.tie_embeddings, **_expert_sizes(config),
    )  # fmt: skip


def _expert_sizes(config: ModelConfig) -> dict[str, Size]:
    if not config.num_experts:
        return {}
    return {
        "num_experts": config.num_experts, "experts_per_token": config.experts_per_token, "expert_dim": config.expert_dim,
        "num_dense_layers": config.num_layers - config.num_expert_layers,
    }  # fmt: skip


def stack_shapes(shapes: Sequence[ModelShape]) -> ModelShape:
    """Many shapes as one whose sizes are arrays, for counts over rows."""
    import numpy as np

    names = [field.name for field in fields(ModelShape) if field.name != "name"]
    return ModelShape(name="rows", **{name: np.array([getattr(shape, name) for shape in shapes], dtype=np.int64) for name in names})
