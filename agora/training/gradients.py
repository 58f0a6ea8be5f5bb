"""The gradients of one step. Goes in: what backward leaves, micro-batch by micro-batch. Comes out: their norm, and either one float32
buffer over all parameters or, after a single micro-batch, the tensors themselves, read where they lie.

Holding instead of copying saves two passes over all weights (see HeldAdamW in optimizers.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from agora.model import kernels


class Gradients:
    """Collected gradients of `named` parameters, in this order. `can_hold`: whether the optimizer can read them where they lie."""

    def __init__(self, named: list[tuple[str, nn.Parameter]], *, can_hold: bool) -> None:
        self._can_hold = can_hold
        self._held: dict[str, Tensor] = {}
        self._added: set[str] = set()
        self.scale = 1.0  # what held gradients are to be multiplied with
        self.flat = torch.zeros(sum(parameter.numel() for _, parameter in named), device=named[0][1].device)
        pieces = torch.split(self.flat, [parameter.numel() for _, parameter in named])
        self.views = {name: piece.view(parameter.shape) for (name, parameter), piece in zip(named, pieces, strict=True)}
        for name, parameter in named:
            parameter.register_post_accumulate_grad_hook(self._collector(name))  # type: ignore[no-untyped-call]

    @property
    def are_held(self) -> bool:
        """Whether every parameter's gradient is one held tensor."""
        return len(self._held) == len(self.views)

    def held(self, names: Iterable[str]) -> Iterator[Tensor]:
        """The held gradients of the named parameters."""
        return (self._held[name] for name in names)

    def clear(self) -> None:
        """Forget everything collected."""
        self._held.clear()
        self._added.clear()
        self.scale = 1.0

    def clip(self, max_norm: float | None) -> float:
        """Scale the gradients down to `max_norm`; returns their norm before."""
        if self.are_held:
            norm = math.sqrt(sum(map(_sum_of_squares, self.held(self.views))))
        else:
            self._settle()
            norm = float(torch.linalg.vector_norm(self.flat))
        if max_norm is not None and norm > max_norm:
            self.scale = max_norm / norm
            if not self.are_held:
                self.flat.mul_(self.scale)
        return norm

    def _collector(self, name: str) -> object:
        """Takes a parameter's gradient as soon as backward has made it."""

        def collect(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if self._can_hold and name not in self._added and name not in self._held:
                self._held[name] = parameter.grad
            else:
                self._release(name)
                self._add(name, parameter.grad)
            parameter.grad = None

        return collect

    def _settle(self) -> None:
        """Bring everything into the float32 buffer; parameters without a gradient get zeros."""
        for name in self.views:
            self._release(name)
            if name not in self._added:
                self.views[name].zero_()

    def _release(self, name: str) -> None:
        if name in self._held:
            self._add(name, self._held.pop(name))

    def _add(self, name: str, grad: Tensor) -> None:
        if name in self._added:
            self.views[name].add_(grad)
        else:
            self.views[name].copy_(grad)
            self._added.add(name)


def _sum_of_squares(grad: Tensor) -> float:
    """In double precision, summed per thread: the same for the same number of threads."""
    sums = torch.zeros(torch.get_num_threads(), dtype=torch.float64)
    kernels.call("sum_squares", grad, sums, grad.numel())
    return float(sums.sum())
