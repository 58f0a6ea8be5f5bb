"""Cross-entropy where each rank of a group holds some rows of the head ("loss parallel"). Goes in: hidden states that every rank has whole,
this rank's rows. Comes out: the loss, the same on every rank; no rank ever holds a row of logits over the whole vocabulary.

The twin for one rank is agora.model.loss.chunked_cross_entropy, and like it this takes rows in chunks and makes their gradient while
the logits exist. (torch's own loss_parallel keeps the logits of all rows, twice, until the backward pass.)

Shapes: N tokens, C channels, V rows of the head on this rank, M tokens of one chunk.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from agora.model.loss import CHUNK_ROWS
from agora.model.operations import IGNORED


def divided_cross_entropy(
    hidden_NC: Tensor,
    weight_VC: Tensor,
    targets_N: Tensor,
    *,
    first_row: int,
    group: dist.ProcessGroup,
    divisor: float,
    chunk_rows: int = CHUNK_ROWS,
) -> Tensor:
    """Sum of -log softmax(hidden @ head.T)[target] over targets other than -100, over `divisor`. `weight` holds the rows of the head from
    `first_row` on. The gradient of `hidden` is this rank's part: the parts of the group must be added."""
    needs_grad = torch.is_grad_enabled() and (hidden_NC.requires_grad or weight_VC.requires_grad)
    loss: Tensor = _DividedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NC, weight_VC, targets_N, first_row, group, divisor, chunk_rows, needs_grad
    )
    return loss


class _DividedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_NC: Tensor,
        weight_VC: Tensor,
        targets_N: Tensor,
        first_row: int,
        group: dist.ProcessGroup,
        divisor: float,
        chunk_rows: int,
        needs_grad: bool,
    ) -> Tensor:
        loss = torch.zeros((), dtype=torch.float32, device=hidden_NC.device)
        hidden_grad_NC = torch.empty_like(hidden_NC) if needs_grad else None
        weight_grad_VC = torch.zeros_like(weight_VC, dtype=torch.float32) if needs_grad else None
        for start in range(0, hidden_NC.shape[0], chunk_rows):
            rows = slice(start, start + chunk_rows)
            hidden_MC, targets_M = hidden_NC[rows], targets_N[rows]
            logits_MV = (hidden_MC @ weight_VC.t()).float()
            chunk_loss, grad_MV = _chunk(logits_MV, targets_M, first_row, group, 1.0 / divisor)
            loss += chunk_loss
            if hidden_grad_NC is not None and weight_grad_VC is not None:
                grad_MV = grad_MV.to(hidden_NC.dtype)
                torch.mm(grad_MV, weight_VC, out=hidden_grad_NC[rows])
                weight_grad_VC += grad_MV.t() @ hidden_MC
        if needs_grad:
            ctx.save_for_backward(hidden_grad_NC, weight_grad_VC)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        hidden_grad_NC, weight_grad_VC = ctx.saved_tensors
        weight_grad = (weight_grad_VC * grad).to(hidden_grad_NC.dtype)
        return hidden_grad_NC * grad.to(hidden_grad_NC.dtype), weight_grad, None, None, None, None, None, None


def _chunk(logits_MV: Tensor, targets_M: Tensor, first_row: int, group: dist.ProcessGroup, scale: float) -> tuple[Tensor, Tensor]:
    """Loss and gradient of some rows. Overwrites the logits."""
    biggest_M = logits_MV.amax(1)
    dist.all_reduce(biggest_M, dist.ReduceOp.MAX, group=group)
    logits_MV -= biggest_M[:, None]
    is_target_M = targets_M != IGNORED
    is_here_M = is_target_M & (targets_M >= first_row) & (targets_M < first_row + logits_MV.shape[1])
    place_M1 = torch.where(is_here_M, targets_M - first_row, 0)[:, None]
    picked_M = logits_MV.gather(1, place_M1)[:, 0] * is_here_M
    powers_MV = logits_MV.exp_()
    sums_2M = torch.stack([powers_MV.sum(1), picked_M])
    dist.all_reduce(sums_2M, group=group)
    loss = ((sums_2M[0].log() - sums_2M[1]) * is_target_M).sum() * scale
    powers_MV /= sums_2M[0, :, None]
    powers_MV.scatter_add_(1, place_M1, -is_here_M.to(powers_MV.dtype)[:, None])
    powers_MV *= (is_target_M * scale)[:, None]
    return loss, powers_MV
