"""Keys and values of earlier positions, so that generation computes each position once.

Shapes: L layers, B rows, S positions held, K key-value heads, D head_dim.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from agora.errors import GenerationError
from agora.model.config import ModelConfig


class KVCache:
    """Room for `max_len` positions of `batch` rows that advance together. `length` positions are filled."""

    def __init__(
        self, config: ModelConfig, batch: int, max_len: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        if max_len > config.max_seq_len:
            raise GenerationError(f"cache of {max_len} positions is longer than model.max_seq_len={config.max_seq_len}")
        shape = (config.num_layers, batch, max_len, config.num_kv_heads, config.head_dim)
        self.keys_LBSKD = torch.zeros(shape, dtype=dtype, device=device)
        self.values_LBSKD = torch.zeros(shape, dtype=dtype, device=device)
        self.max_len = max_len
        self.length = 0

    def append(
        self, layer: int, k_BTKD: Float[Tensor, "B T K D"], v_BTKD: Float[Tensor, "B T K D"]
    ) -> tuple[Float[Tensor, "B S K D"], Float[Tensor, "B S K D"]]:
        """Store new positions of one layer; returns all keys and values so far. `advance` moves on after the last layer."""
        end = self.length + k_BTKD.shape[1]
        if end > self.max_len:
            raise GenerationError(f"{end} positions do not fit a cache of {self.max_len}; make it longer or shorten the prompt")
        self.keys_LBSKD[layer, :, self.length : end] = k_BTKD
        self.values_LBSKD[layer, :, self.length : end] = v_BTKD
        return self.keys_LBSKD[layer, :, :end], self.values_LBSKD[layer, :, :end]

    def advance(self, num_positions: int) -> None:
        """Declare the appended positions filled."""
        self.length += num_positions
