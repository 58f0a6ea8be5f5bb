"""Any network on any device, in plain torch, with its keys and values in pages. Goes in: a Transformer. Comes out: logits of rows.

The twin of native.py, and what runs on GPUs (bfloat16), with experts, and where there is no compiler. The sums of a matrix product may be
ordered differently for another number of rows, so that here a row's logits depend on the rest of a step, in the last bits.

Shapes: N rows, S sequences, J positions of the longest of them, L layers, H query heads, K key-value heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from agora.engine.pages import PAGE_TOKENS
from agora.engine.step import StepRows
from agora.model.operations import rotary_tables, split_heads
from agora.model.transformer import Layer, Transformer


@dataclass(frozen=True, slots=True)
class _Group:
    """Sequences with equally many rows in this step, so that they can be attended to together.

    `rows` (S, T): places of their rows; `slots` (S, J): places of their keys; `mask` (S, 1, T, J): what a row sees.
    """

    rows: Tensor
    slots: Tensor
    mask: Tensor


class PlainNetwork:
    """The network with its pages. Not safe for several threads at once: one scheduler calls it."""

    def __init__(self, model: Transformer, *, num_pages: int, max_rows: int) -> None:
        self.model, self.config = model.eval(), model.config
        self.num_pages, self.max_rows = num_pages, max_rows
        config = model.config
        shape = (config.num_layers, num_pages * PAGE_TOKENS, config.num_kv_heads, config.head_dim)
        self._device = model.embedding.device
        self._keys, self._values = (torch.zeros(shape, dtype=model.embedding.dtype, device=self._device) for _ in range(2))

    @torch.no_grad()
    def run(self, rows: StepRows) -> Float[Tensor, "N V"]:
        """Write keys and values of `rows` and return the logits of `rows.wanted`, float32, on the device."""
        assert 0 < len(rows.tokens) <= self.max_rows
        config, model = self.config, self.model
        positions = torch.tensor(rows.positions)
        sequence = torch.tensor(rows.sequence)
        places = (rows.tables[sequence, positions // PAGE_TOKENS] * PAGE_TOKENS + positions % PAGE_TOKENS).to(self._device)
        groups = _groups(rows, self._device)
        cos, sin = rotary_tables(config.head_dim, config.rope_theta, config.max_seq_len, self._device)
        turned = positions.to(self._device)
        cos_BTR, sin_BTR = cos[None, turned], sin[None, turned]
        x_BTC = F.embedding(torch.tensor([rows.tokens], device=self._device), model.embedding)
        delta_BTC: Tensor | None = None
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            x_BTC, normed_BTC = layer.attention_norm(x_BTC, delta_BTC)
            q_BTHD, k_BTKD, v_BTKD = split_heads(
                layer.attention.qkv(normed_BTC), layer.attention.query_norm.weight, layer.attention.key_norm.weight, cos_BTR, sin_BTR,
                num_heads=config.num_heads, num_kv_heads=config.num_kv_heads, eps=config.norm_eps,
            )  # fmt: skip
            self._keys[index, places], self._values[index, places] = k_BTKD[0], v_BTKD[0]
            mixed_BTX = self._attend(index, q_BTHD[0], groups).flatten(-2)[None]
            x_BTC, normed_BTC = layer.feed_forward_norm(x_BTC, layer.attention.out(mixed_BTX))
            delta_BTC = layer.feed_forward(normed_BTC)
        _, hidden_BTC = model.norm(x_BTC, delta_BTC)
        return model.logits(hidden_BTC[0, torch.tensor(rows.wanted, device=self._device)]).float()

    def _attend(self, index: int, q_NHD: Tensor, groups: list[_Group]) -> Tensor:
        mixed_NHD = torch.empty_like(q_NHD)
        for group in groups:
            q_SHTD = q_NHD[group.rows].transpose(1, 2)
            k_SKJD, v_SKJD = (kept[index, group.slots].transpose(1, 2) for kept in (self._keys, self._values))
            is_shared = q_SHTD.shape[1] != k_SKJD.shape[1]
            out_SHTD = F.scaled_dot_product_attention(q_SHTD, k_SKJD, v_SKJD, attn_mask=group.mask, enable_gqa=is_shared)
            mixed_NHD[group.rows] = out_SHTD.transpose(1, 2)
        return mixed_NHD


def _groups(rows: StepRows, device: torch.device) -> list[_Group]:
    runs: dict[int, list[int]] = {}  # number of rows -> first row of each sequence
    first = 0
    for _, members in itertools.groupby(rows.sequence):
        length = len(list(members))
        runs.setdefault(length, []).append(first)
        first += length
    made = []
    for length, starts in runs.items():
        rows_ST = torch.tensor(starts)[:, None] + torch.arange(length)
        positions_ST = torch.tensor(rows.positions)[rows_ST]
        num_seen = int(positions_ST.max()) + 1
        reach_J = torch.arange(num_seen)
        tables = rows.tables[torch.tensor(rows.sequence)[rows_ST[:, 0]]]
        slots_SJ = tables[:, reach_J // PAGE_TOKENS] * PAGE_TOKENS + reach_J % PAGE_TOKENS
        mask_STJ = reach_J <= positions_ST[..., None]
        # what lies beyond a shorter sequence is masked, and must be a place that exists
        made.append(_Group(rows_ST.to(device), slots_SJ.to(device), mask_STJ[:, None].to(device)))
    return made
