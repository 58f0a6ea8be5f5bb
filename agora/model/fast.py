"""The operations of `agora.model.operations` in fewer passes over memory, for training on a CPU in bfloat16."""

from __future__ import annotations

from torch import Tensor

from agora.model.operations import add_rms_norm, causal_attention, embedding, swiglu

__all__ = ["add_rms_norm", "causal_attention", "embedding", "softmax_loss_", "swiglu", "usable"]


def usable(x: Tensor) -> bool:
    """Whether the fast operations can take `x`."""
    return False


def softmax_loss_(logits_MV: Tensor, targets_M: Tensor, scale: float, needs_grad: bool) -> tuple[Tensor, Tensor]:
    raise AssertionError("not usable")
