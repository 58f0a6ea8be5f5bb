"""Muon for many matrices of one shape at once. Goes in: stacks of masters with their gradients. Comes out: stepped masters.

torch.optim.Muon takes matrix by matrix: with thousands of experts that is a hundred thousand small products a step. Here a stack is one
batched product. Its twin is torch.optim.Muon on each matrix of the stack.

Shapes: E matrices, O out, I in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor, nn

# as torch.optim.Muon: coefficients of Jordan et al. 2024, chosen for the steepest slope at zero
_COEFFICIENTS: Final = (3.4445, -4.775, 2.0315)
_NUM_ITERATIONS: Final = 5
_EPS: Final = 1e-7
RMS: Final = 0.2  # of AdamW's updates (Liu et al. 2025, equation 4)


class StackedMuon(torch.optim.Optimizer):
    """Each parameter is a stack of matrices (E, O, I), each orthogonalised by itself."""

    def __init__(self, params: Iterable[nn.Parameter], *, lr: float, weight_decay: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Nesterov momentum, orthogonalised (Jordan et al. 2024), with decoupled weight decay."""
        for group in self.param_groups:
            for stack_EOI in group["params"]:
                state = self.state[stack_EOI]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(stack_EOI.grad)
                mean_EOI = state["momentum_buffer"].lerp_(stack_EOI.grad, 1 - group["momentum"])
                update_EOI = orthogonalize(stack_EOI.grad.lerp(mean_EOI, group["momentum"]))
                rate = group["lr"] * RMS * math.sqrt(max(stack_EOI.shape[-2:]))
                stack_EOI.mul_(1 - group["lr"] * group["weight_decay"])
                stack_EOI.add_(update_EOI, alpha=-rate)


def orthogonalize(stack_EOI: Tensor) -> Tensor:
    """Newton-Schulz iteration in bfloat16: singular values of every matrix come near to 1."""
    a, b, c = _COEFFICIENTS
    is_tall = stack_EOI.shape[1] > stack_EOI.shape[2]
    x = stack_EOI.bfloat16()
    x = x.transpose(1, 2) if is_tall else x
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(min=_EPS)
    for _ in range(_NUM_ITERATIONS):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if is_tall else x
