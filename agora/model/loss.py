"""Cross-entropy that never holds all logits: rows are taken in chunks, and their gradient is made while the logits exist. And the
log-probability of each token, for losses that weigh tokens by what comes of all of them.

Shapes: N tokens, C channels, V vocabulary, M tokens of one chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agora.errors import ModelError
from agora.model import fast, products
from agora.model.operations import IGNORED

CHUNK_ROWS = 512  # logits of a chunk stay in the processor's last cache: 8 MiB at 8192 words


def chunked_cross_entropy(
    hidden_NC: Float[Tensor, "N C"],
    weight_VC: Float[Tensor, "V C"],
    targets_N: Int[Tensor, " N"],
    *,
    divisor: float | None = None,
    chunk_rows: int = CHUNK_ROWS,
) -> Float[Tensor, ""]:
    """Sum of -log softmax(hidden @ weight.T)[target] over targets other than -100, divided by `divisor` (default: their
    number). Softmax and sum are float32. With several micro-batches, `divisor` is the number of targets in all of them.
    """
    if targets_N.device.type == "cpu" and targets_N.numel():
        _check_targets(targets_N, weight_VC.shape[0])
    if divisor is None:
        divisor = float(max(1, int((targets_N != IGNORED).sum())))
    needs_grad = torch.is_grad_enabled() and (hidden_NC.requires_grad or weight_VC.requires_grad)
    loss: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_NC, weight_VC, targets_N, divisor, chunk_rows, needs_grad
    )
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, divisor: float, chunk_rows: int, needs_grad: bool
    ) -> Tensor:
        loss = torch.zeros((), dtype=torch.float32, device=hidden_NC.device)
        hidden_grad_NC = torch.empty_like(hidden_NC) if needs_grad else None
        weight_grad_VC = torch.zeros_like(weight_VC, dtype=torch.float32) if needs_grad else None
        operand = _operand(hidden_NC)
        head_CV, head_VC = operand(weight_VC.t()), operand(weight_VC) if needs_grad else None
        for rows in _chunks(hidden_NC, chunk_rows):
            hidden_MC, targets_M = hidden_NC[rows], targets_N[rows]
            logits_MV = products.multiply(hidden_MC, head_CV)
            chunk_loss, logits_grad_MV = fast.softmax_loss(logits_MV, targets_M, 1.0 / divisor, needs_grad)
            loss += chunk_loss
            if hidden_grad_NC is not None and weight_grad_VC is not None and head_VC is not None:
                products.multiply(logits_grad_MV, head_VC, out_MN=hidden_grad_NC[rows])
                products.add_product(weight_grad_VC, logits_grad_MV.t(), operand(hidden_MC))
        if needs_grad:
            ctx.save_for_backward(hidden_grad_NC, weight_grad_VC)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        hidden_grad_NC, weight_grad_VC = ctx.saved_tensors
        # the chunks were summed in float32; this is the only rounding of the weight's gradient
        rounded_VC = torch.empty_like(weight_grad_VC, dtype=hidden_grad_NC.dtype)
        torch.mul(weight_grad_VC, grad, out=rounded_VC)
        return hidden_grad_NC * grad.to(hidden_grad_NC.dtype), rounded_VC, None, None, None, None


def token_log_probabilities(
    hidden_NC: Float[Tensor, "N C"], weight_VC: Float[Tensor, "V C"], targets_N: Int[Tensor, " N"], *, chunk_rows: int = CHUNK_ROWS
) -> Float[Tensor, " N"]:
    """log softmax(hidden @ weight.T)[target] of every token, float32; 0 where the target is -100. Gradients may differ from token to
    token, so the logits of a chunk are made once more for them: no more than a chunk of logits is ever held.
    """
    if targets_N.device.type == "cpu" and targets_N.numel():
        _check_targets(targets_N, weight_VC.shape[0])
    is_target_N = targets_N != IGNORED
    picked: Tensor = _TokenLogProbabilities.apply(  # type: ignore[no-untyped-call]
        hidden_NC[is_target_N], weight_VC, targets_N[is_target_N], chunk_rows
    )
    return torch.zeros_like(targets_N, dtype=torch.float32).masked_scatter(is_target_N, picked)


class _TokenLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, chunk_rows: int) -> Tensor:
        log_probs_N = torch.empty(targets_N.shape, dtype=torch.float32, device=hidden_NC.device)
        sums_N = torch.empty_like(log_probs_N)
        head_CV = _operand(hidden_NC)(weight_VC.t())
        for rows in _chunks(hidden_NC, chunk_rows):
            logits_MV = products.multiply(hidden_NC[rows], head_CV)
            sums_N[rows] = logits_MV.float().logsumexp(-1)
            log_probs_N[rows] = logits_MV.gather(1, targets_N[rows, None])[:, 0].float() - sums_N[rows]
        ctx.save_for_backward(hidden_NC, weight_VC, targets_N, sums_N)
        ctx.chunk_rows = chunk_rows
        return log_probs_N

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad_N,) = grads
        hidden_NC, weight_VC, targets_N, sums_N = ctx.saved_tensors
        hidden_grad_NC, weight_grad_VC = torch.empty_like(hidden_NC), torch.zeros_like(weight_VC, dtype=torch.float32)
        operand = _operand(hidden_NC)
        head_CV, head_VC = operand(weight_VC.t()), operand(weight_VC)
        for rows in _chunks(hidden_NC, ctx.chunk_rows):
            logits_MV = products.multiply(hidden_NC[rows], head_CV)
            logits_grad_MV = -torch.exp(logits_MV.float() - sums_N[rows, None])
            logits_grad_MV.scatter_add_(1, targets_N[rows, None], torch.ones_like(sums_N[rows, None]))
            logits_grad_MV = (logits_grad_MV * grad_N[rows, None]).to(hidden_NC.dtype)
            products.multiply(logits_grad_MV, head_VC, out_MN=hidden_grad_NC[rows])
            products.add_product(weight_grad_VC, logits_grad_MV.t(), operand(hidden_NC[rows]))
        return hidden_grad_NC, weight_grad_VC.to(weight_VC.dtype), None, None


def _operand(x: Tensor) -> Callable[[Tensor], products.Packed]:
    return products.pack if fast.usable(x) else products.unpacked


def _chunks(x: Tensor, chunk_rows: int) -> Iterator[slice]:
    return (slice(start, start + chunk_rows) for start in range(0, x.shape[0], chunk_rows))


def _check_targets(targets_N: Tensor, vocab_size: int) -> None:
    """On a CPU a wrong target would be read from beside the logits (accelerators check by themselves)."""
    is_wrong_N = ((targets_N < 0) & (targets_N != IGNORED)) | (targets_N >= vocab_size)
    if bool(is_wrong_N.any()):
        raise ModelError(f"target {int(targets_N[is_wrong_N][0])} is neither {IGNORED} (ignored) nor a token below {vocab_size}")
