"""What one step computes. Rows of many sequences, each a token at a position, and the pages in which their keys and values lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from agora.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class StepRows:
    """Row i is `tokens[i]` at `positions[i]` of the sequence whose pages are `tables[sequence[i]]`; logits of rows `wanted` are asked for.

    Rows of one sequence stand together, in the order of their positions.
    """

    tokens: list[int]
    positions: list[int]
    sequence: list[int]
    tables: Int[Tensor, "S pages"]
    wanted: list[int]


class Network(Protocol):
    """A network with its pages: native.py or plain.py. One thread calls it at a time."""

    config: ModelConfig
    num_pages: int
    max_rows: int

    def run(self, rows: StepRows) -> Float[Tensor, "N V"]:
        """Write keys and values of `rows` and return the logits of `rows.wanted`, float32, on the device."""
