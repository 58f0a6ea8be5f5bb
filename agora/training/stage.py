"""A consecutive piece of the network that one rank can hold. Goes in: a plain Transformer and a range of its layers. Comes out: a module
that turns tokens (or what the piece before it sends) into what the next piece needs, or into the loss.

    stage = Stage.cut(model, range(0, 16))

Which rank holds what, and how weights are divided, is decided in parallelize.py; a whole model on one rank is the piece of all layers.
Parameters keep the names they have in the Transformer, but a fused matrix becomes one parameter for each linear map in it
(`attention.qkv.weight.0`): each is then divided over ranks, and orthogonalised by Muon, by itself.

Shapes as in agora.model.transformer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agora.model import fast
from agora.model.config import ModelConfig
from agora.model.loss import chunked_cross_entropy
from agora.model.operations import Documents
from agora.model.transformer import Positions, Transformer, fused_rows
from agora.training.preference_loss import Pairs, answer_log_probabilities, preference_loss

Product = Callable[[Tensor, Tensor], Tensor]  # (..., I), (O, I) -> (..., O); float8.py has another one than fast.linear


class Maps(nn.Module):
    """Several linear maps of the same input; their results lie side by side."""

    def __init__(self, weight_OI: Tensor, rows: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.ParameterList(nn.Parameter(part) for part in torch.split(weight_OI.detach(), list(rows)))
        self.product: Product = fast.linear

    def forward(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., sum of rows)."""
        return torch.cat([self.product(x, weight) for weight in self.weight], dim=-1)


class Ends(Protocol):
    """How a piece reads its tables; parallelize.py has one for tables divided over ranks."""

    def embed(self, tokens_BT: Tensor, table_VC: Tensor) -> Tensor:
        """The row of each token."""

    def loss(self, hidden_BTC: Tensor, table_VC: Tensor, targets_BT: Tensor, divisor: float) -> Tensor:
        """Sum of the cross-entropies over `divisor`."""


class WholeEnds:
    """Tables that are whole on this rank."""

    def embed(self, tokens_BT: Tensor, table_VC: Tensor) -> Tensor:
        """The row of each token."""
        return fast.embedding(tokens_BT, table_VC)

    def loss(self, hidden_BTC: Tensor, table_VC: Tensor, targets_BT: Tensor, divisor: float) -> Tensor:
        """Sum of the cross-entropies over `divisor`."""
        return chunked_cross_entropy(hidden_BTC.flatten(0, 1), table_VC, targets_BT.flatten(), divisor=divisor)


class Stage(nn.Module):
    """Layers `first` to `last - 1`, with the embedding before layer 0 and the head after the last layer."""

    def __init__(self, config: ModelConfig, layers: Mapping[int, nn.Module], tables: Mapping[str, nn.Parameter], norm: nn.Module | None):
        super().__init__()
        self.config = config
        self.is_first = 0 in layers
        self.is_last = config.num_layers - 1 in layers
        for name, table in tables.items():
            self.register_parameter(name, table)
        self.layers = nn.ModuleDict({str(index): layer for index, layer in layers.items()})
        self.norm = norm
        self.ends: Ends = WholeEnds()
        self.keeps_mask = True  # see Documents
        self.positions_T: Tensor | None = None  # where this rank's tokens stand in their row; None when it holds whole rows

    @classmethod
    def cut(cls, model: Transformer, layers: range) -> Stage:
        """Take `layers` out of `model`, which must not be used afterwards. With tied tables both ends hold the embedding."""
        config = model.config
        is_first, is_last = layers.start == 0, layers.stop == config.num_layers
        tables = {}
        if is_first or (is_last and config.tie_embeddings):
            tables["embedding"] = model.embedding
        if is_last and model.head is not None:
            tables["head"] = model.head
        chosen = {index: model.layers[index] for index in layers}
        for layer in chosen.values():
            _split_fused(layer, fused_rows(config))
        return cls(config, chosen, tables, model.norm if is_last else None)

    @property
    def head_weight(self) -> Tensor:
        """The output head's matrix."""
        table = self.embedding if self.config.tie_embeddings else self.head
        assert isinstance(table, Tensor)
        return table

    def forward(
        self, x: Tensor, *, targets_BT: Tensor, starts_BT: Tensor | None = None, divisor: float | None = 1.0, pairs: Pairs | None = None
    ) -> Tensor:
        """Tokens_BT on the first piece, the stream_BTC elsewhere -> the stream after these layers, or the loss on the last piece.
        `starts_BT` says where each token's document begins in the row. With `pairs` the loss is that of preferences, which needs tables
        that are whole; without a divisor it is the log-probabilities of their answers."""
        where = None if self.positions_T is None else self.positions_T[None]
        positions = Positions(self.config, targets_BT, where, None, None)
        positions.documents = None if starts_BT is None else Documents(starts_BT, keeps_mask=self.keeps_mask)
        if self.is_first:
            assert isinstance(self.embedding, Tensor)
            x = self.ends.embed(x, self.embedding)
        delta_BTC: Tensor | None = None
        for index, layer in self.layers.items():
            x, delta_BTC = layer(x, delta_BTC, positions, None, int(index))
        if self.norm is None:
            assert delta_BTC is not None
            return x + delta_BTC
        _, hidden_BTC = self.norm(x, delta_BTC)
        if pairs is None:
            assert divisor is not None
            return self.ends.loss(hidden_BTC, self.head_weight, targets_BT, divisor)
        if divisor is None:
            return answer_log_probabilities(hidden_BTC, self.head_weight, targets_BT, pairs)
        return preference_loss(hidden_BTC, self.head_weight, targets_BT, pairs, divisor=divisor)


def _split_fused(layer: nn.Module, rows: Mapping[str, tuple[int, ...]]) -> None:
    for name, sizes in rows.items():
        parent_name, _, child = name.removesuffix(".weight").rpartition(".")
        parent = layer.get_submodule(parent_name)
        fused: Any = getattr(parent, child, None)  # a layer of experts has no gate_up
        if fused is not None:
            setattr(parent, child, Maps(fused.weight, sizes))


def fuse(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights by the names of pieces -> weights by the names of a Transformer."""
    result: dict[str, Tensor] = {}
    parts: dict[str, dict[int, Tensor]] = {}
    fused = fused_rows(config)
    for name, weight in weights.items():
        base, _, index = name.rpartition(".")
        if ".".join(base.split(".")[2:]) in fused:
            parts.setdefault(base, {})[int(index)] = weight
        else:
            result[name] = weight
    for base, pieces in parts.items():
        result[base] = torch.cat([pieces[index] for index in sorted(pieces)])
    return result


def split(weights: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """The way back from `fuse`."""
    result: dict[str, Tensor] = {}
    fused = fused_rows(config)
    for name, weight in weights.items():
        rows = fused.get(".".join(name.split(".")[2:]))
        if rows is None:
            result[name] = weight
        else:
            result.update({f"{name}.{index}": part for index, part in enumerate(torch.split(weight, list(rows)))})
    return result


def place_in_model(name: str, config: ModelConfig) -> tuple[str, int, int | None]:
    """Where a piece's parameter stands: the Transformer's parameter, the first row in it, and its rows in all (None: no others)."""
    base, _, index = name.rpartition(".")
    rows = fused_rows(config).get(".".join(base.split(".")[2:]))
    return (name, 0, None) if rows is None else (base, sum(rows[: int(index)]), sum(rows))
