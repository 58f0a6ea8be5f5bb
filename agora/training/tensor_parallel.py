"""Layers whose matrices lie on several ranks: tensor parallel (Shoeybi et al. 2019, section 3) with sequence parallel (Korthikanti et al.
2022), and attention over some of the heads or positions. Goes in: layers and ends of a Stage, and the ranks that divide them. Comes
out: the same, of which each rank computes its part. Which ranks those are, parallelize.py decides.

Shapes as in agora.model.transformer.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor

from agora.model import fast, operations
from agora.model.cache import KVCache
from agora.model.transformer import Attention, FeedForward, Layer, Norm, Positions
from agora.training.divided_loss import divided_cross_entropy
from agora.training.ring_attention import ring_attention
from agora.training.stage import Maps, Product, Stage


class TensorRanks:
    """The ranks that divide every matrix, as the one axis of `mesh`. The stream between layers is divided by position (sequence parallel)
    or whole on each rank."""

    def __init__(self, mesh: Any, *, sequence_parallel: bool) -> None:
        self.mesh, self.group = mesh, mesh.get_group()
        self.rank, self.size = mesh.get_local_rank(), mesh.size()
        self.stream: Placement = Shard(1) if sequence_parallel else Replicate()

    def enter(self, x_BTC: Tensor) -> Tensor:
        """From the stream to what a divided product reads: all positions, whose gradients are parts to be added."""
        wide = DTensor.from_local(x_BTC, self.mesh, [self.stream], run_check=False).redistribute(placements=[Replicate()])
        return wide.to_local(grad_placements=[Partial()])

    def leave(self, x_BTC: Tensor) -> Tensor:
        """From the parts that divided products give to the stream."""
        parts = DTensor.from_local(x_BTC, self.mesh, [Partial()], run_check=False)
        return parts.redistribute(placements=[self.stream]).to_local()

    def place(self, module: nn.Module, name: str, placement: Placement) -> None:
        """Make a parameter a DTensor; every rank has the whole one, so each takes its part."""
        whole = getattr(module, name)
        divided = distribute_tensor(whole.detach(), self.mesh, [placement], src_data_rank=None)
        module.register_parameter(name, nn.Parameter(divided))

    def divide_layer(self, layer: Layer, attention: DividedAttention) -> None:
        """Columns of the products that read the stream, rows of those that write to it (Shoeybi et al. 2019, section 3)."""
        for norm in (layer.attention_norm, layer.feed_forward_norm):
            self.divide_norm(norm)
        for norm in (attention.query_norm, attention.key_norm):
            self.place(norm, "weight", Replicate())
        divisible = attention.num_kv_heads % self.size == 0
        attention.qkv = _DividedMaps(attention.qkv, self, [True, divisible, divisible], attention.config.head_dim)
        attention.out = _DividedRows(attention.out, self)
        attention.take_heads(self.size)
        if isinstance(layer.feed_forward, FeedForward):
            layer.feed_forward.gate_up = _DividedMaps(layer.feed_forward.gate_up, self, [True, True], 1)  # type: ignore[assignment]
            layer.feed_forward.down = _DividedRows(layer.feed_forward.down, self)  # type: ignore[assignment]

    def divide_norm(self, norm: Norm) -> None:
        """A norm of the stream: every rank has the weight, and sees the gradient of its positions."""
        self.place(norm, "weight", Replicate())
        norm.forward = partial(self._norm, norm)  # type: ignore[method-assign]

    def _norm(self, norm: Norm, x_BTC: Tensor, delta_BTC: Tensor | None) -> tuple[Tensor, Tensor]:
        weight = norm.weight
        assert isinstance(weight, DTensor)
        here = weight.to_local(grad_placements=[Partial() if self.stream.is_shard() else Replicate()])
        return fast.add_rms_norm(x_BTC, delta_BTC, here, norm.eps)

    def divide_ends(self, stage: Stage) -> None:
        """Tables by rows."""
        for name in ("embedding", "head"):
            if name in stage._parameters:
                self.place(stage, name, Shard(0))
        if isinstance(stage.norm, Norm):
            self.divide_norm(stage.norm)
        stage.ends = _DividedEnds(self)


class _DividedEnds:
    """Tables whose rows lie on several ranks."""

    def __init__(self, tensor: TensorRanks) -> None:
        self._tensor = tensor

    def embed(self, tokens_BT: Tensor, table_VC: Tensor) -> Tensor:
        """Each rank gives the rows it has and zeros for the others; the sum is the stream."""
        assert isinstance(table_VC, DTensor)
        here_VC = table_VC.to_local()
        local_BT = tokens_BT - self._first_row(table_VC)
        is_here_BT = (local_BT >= 0) & (local_BT < here_VC.shape[0])
        rows_BTC = F.embedding(torch.where(is_here_BT, local_BT, 0), here_VC)
        return self._tensor.leave(rows_BTC * is_here_BT[:, :, None])

    def loss(self, hidden_BTC: Tensor, table_VC: Tensor, targets_BT: Tensor, divisor: float) -> Tensor:
        """The same on every rank of the tensor axis."""
        assert isinstance(table_VC, DTensor)
        hidden_NC = self._tensor.enter(hidden_BTC).flatten(0, 1)
        return divided_cross_entropy(
            hidden_NC, table_VC.to_local(), targets_BT.flatten(), first_row=self._first_row(table_VC), group=self._tensor.group,
            divisor=divisor,
        )  # fmt: skip

    def _first_row(self, table_VC: DTensor) -> int:
        return int(self._tensor.rank * (table_VC.shape[0] // self._tensor.size))


class _DividedMaps(nn.Module):
    """Maps that read the stream: each rank has some of the rows of each. A map that is not to be divided (key and value heads, when there
    are more ranks than heads) is whole on every rank, which uses the rows of its head."""

    def __init__(self, maps: Any, tensor: TensorRanks, is_divided: list[bool], rows_each: int) -> None:
        super().__init__()
        assert isinstance(maps, Maps)
        self._tensor, self._is_divided, self._rows_each = tensor, is_divided, rows_each
        self.product: Product = fast.linear
        self.weight = maps.weight
        for index, divided in enumerate(is_divided):
            tensor.place(self.weight, str(index), Shard(0) if divided else Replicate())

    def forward(self, x_BTC: Tensor) -> Tensor:
        """The stream -> this rank's part of each map, side by side, for all positions."""
        wide_BTC = self._tensor.enter(x_BTC)
        parts = zip(self.weight, self._is_divided, strict=True)
        return torch.cat([self.product(wide_BTC, self._rows(weight, divided)) for weight, divided in parts], dim=-1)

    def _rows(self, weight: Any, is_divided: bool) -> Tensor:
        assert isinstance(weight, DTensor)
        if is_divided:
            return weight.to_local()
        head = self._tensor.rank * (weight.shape[0] // self._rows_each) // self._tensor.size
        return weight.to_local(grad_placements=[Partial()])[head * self._rows_each : (head + 1) * self._rows_each]


class _DividedRows(nn.Module):
    """A product that writes to the stream: each rank has some of the columns, and its result is a part of a sum."""

    def __init__(self, linear: Any, tensor: TensorRanks) -> None:
        super().__init__()
        self.weight = linear.weight
        self.product: Product = fast.linear
        self._tensor = tensor
        tensor.place(self, "weight", Shard(1))

    def forward(self, x: Tensor) -> Tensor:
        """This rank's channels -> the stream."""
        weight = self.weight
        assert isinstance(weight, DTensor)
        return self._tensor.leave(self.product(x, weight.to_local()))


class DividedAttention(nn.Module):
    """Attention over this rank's heads, and, in a ring, this rank's positions."""

    def __init__(self, attention: Attention, tensor: TensorRanks | None, ring: dist.ProcessGroup | None) -> None:
        super().__init__()
        self.config = attention.config
        self.qkv: nn.Module = attention.qkv
        self.out: nn.Module = attention.out
        self.query_norm, self.key_norm = attention.query_norm, attention.key_norm
        self.num_heads, self.num_kv_heads = attention.config.num_heads, attention.config.num_kv_heads
        self._ring = ring

    def take_heads(self, num_ranks: int) -> None:
        """Only this rank's share of the heads from now on."""
        self.num_heads, self.num_kv_heads = self.num_heads // num_ranks, max(1, self.num_kv_heads // num_ranks)

    def forward(self, x_BTC: Tensor, positions: Positions, cache: KVCache | None, layer: int) -> Tensor:
        """Mix positions; training only, so without a cache."""
        assert cache is None
        query_norm_D, key_norm_D = _every_head(self.query_norm.weight), _every_head(self.key_norm.weight)
        arguments = (self.qkv(x_BTC), query_norm_D, key_norm_D, positions.cos_BTR, positions.sin_BTR)
        sizes: dict[str, Any] = {"num_heads": self.num_heads, "num_kv_heads": self.num_kv_heads, "eps": self.config.norm_eps}
        if self._ring is None:
            mixed_BTX = fast.causal_attention(*arguments, positions.documents, **sizes)
        else:
            starts_BT = None if positions.documents is None else positions.documents.starts_BT
            mixed_BTX = ring_attention(*operations.split_heads(*arguments, **sizes), starts_BT, self._ring).flatten(-2)
        return self.out(mixed_BTX)  # type: ignore[no-any-return]


def _every_head(weight: Tensor) -> Tensor:
    """The norm of heads: each rank has the weight and some of the heads, so its gradient is a part of a sum."""
    return weight.to_local(grad_placements=[Partial()]) if isinstance(weight, DTensor) else weight
