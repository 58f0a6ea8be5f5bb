"""The operations of `agora.model.operations` in fewer passes over memory, for a CPU in bfloat16; elsewhere the plain ones.

Each function has the name, arguments and meaning of its plain twin. What it gains (2 cores of an EPYC 9005, batch 8 x 512, dim 256):
attention forward and backward takes a quarter of torch's flash attention, which on this processor reaches a tenth of the
matmul rate; the rest one pass over memory where eager torch needs five to ten. See benchmarks/train_speed.py.

Shapes as in operations.py; G = H / K, X = (H + 2 K) D. In q and its kin rows are ordered (B, K), then (T, G): the queries that share a
key head lie together, so one product per key head serves all of them, and a range of positions is a range of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agora.model import buffers, kernels, operations, products

QUERY_BLOCK = 128  # positions per block of scores: a finer cut skips more of the masked half, a coarser one multiplies faster
MAX_POSITIONS = 2048  # all probabilities are kept for backward; beyond this torch's attention, which keeps none, takes over
MAX_VOCABULARY = 65536  # one row of float32 powers must fit a thread's stack
_PLAIN = (Tensor, torch.nn.Parameter)
_is_on = True


@contextmanager
def plain_operations() -> Iterator[None]:
    """Inside, every function uses its plain twin."""
    global _is_on
    before, _is_on = _is_on, False
    try:
        yield
    finally:
        _is_on = before


def usable(*tensors: Tensor | None) -> bool:
    """Whether the kernels can take all of `tensors`: they read addresses, so one float32 weight, as under autocast, would be misread."""
    if not _is_on or torch.compiler.is_compiling():
        return False
    if any(x is not None and type(x) not in _PLAIN for x in tensors):
        return False  # a subclass (fake, divided over ranks, still on its way) has its numbers elsewhere, or none
    if any(x is not None and (x.device.type != "cpu" or x.dtype != torch.bfloat16) for x in tensors):
        return False
    return kernels.library() is not None


def _partials(width: int) -> Tensor:
    """One row of float32 sums per thread."""
    return torch.zeros(torch.get_num_threads(), width)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, delta_BTC: Tensor | None, weight_C: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        dim = x_BTC.shape[-1]
        num_rows = x_BTC.numel() // dim
        stream_BTC = x_BTC if delta_BTC is None else buffers.empty_like(x_BTC)
        normed_BTC, inverse_rms_N = buffers.empty_like(x_BTC), torch.empty(num_rows)
        kernels.call("add_norm_forward", x_BTC, delta_BTC, weight_C, stream_BTC, normed_BTC, inverse_rms_N, num_rows, dim, eps)
        ctx.save_for_backward(stream_BTC, weight_C, inverse_rms_N)
        ctx.has_delta = delta_BTC is not None
        ctx.set_materialize_grads(False)
        return (x_BTC.view_as(x_BTC) if delta_BTC is None else stream_BTC), normed_BTC

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_stream, grad_normed = grads
        stream_BTC, weight_C, inverse_rms_N = ctx.saved_tensors
        dim = weight_C.shape[0]
        grad_normed = torch.zeros_like(stream_BTC) if grad_normed is None else grad_normed.contiguous()
        grad_stream = None if grad_stream is None else grad_stream.contiguous()
        grad_x, grad_weight = buffers.empty_like(stream_BTC), _partials(dim)
        kernels.call(
            "add_norm_backward", grad_normed, grad_stream, stream_BTC, weight_C, inverse_rms_N, grad_x, grad_weight,
            inverse_rms_N.shape[0], dim,
        )  # fmt: skip
        return grad_x, grad_x if ctx.has_delta else None, grad_weight.sum(0).to(weight_C.dtype), None


def add_rms_norm(
    x_C: Float[Tensor, "*rows C"], delta_C: Float[Tensor, "*rows C"] | None, weight_C: Float[Tensor, " C"], eps: float
) -> tuple[Float[Tensor, "*rows C"], Float[Tensor, "*rows C"]]:
    """Twin of operations.add_rms_norm."""
    if not usable(x_C, delta_C, weight_C):
        return operations.add_rms_norm(x_C, delta_C, weight_C, eps)
    delta_C = None if delta_C is None else delta_C.contiguous()
    stream_C, normed_C = _AddNorm.apply(x_C.contiguous(), delta_C, weight_C, eps)  # type: ignore[no-untyped-call]
    return stream_C, normed_C


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NI: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(x_NI, weight_OI)
        out_NO = buffers.empty((x_NI.shape[0], weight_OI.shape[0]), x_NI.dtype)
        return products.multiply(x_NI, weight_OI.t(), out_MN=out_NO)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x_NI, weight_OI = ctx.saved_tensors
        grad_NO = grads[0].contiguous()
        grad_weight_OI = products.multiply(grad_NO.t(), x_NI, out_MN=buffers.empty_like(weight_OI))
        return products.multiply(grad_NO, weight_OI, out_MN=buffers.empty_like(x_NI)), grad_weight_OI


def linear(x: Float[Tensor, "*rows I"], weight_OI: Float[Tensor, "O I"]) -> Float[Tensor, "*rows O"]:
    """Twin of torch.nn.functional.linear; its products are those of products.py."""
    if not usable(x, weight_OI):
        return torch.nn.functional.linear(x, weight_OI)
    out: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight_OI)  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], weight_OI.shape[0])


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        hidden_dim = gate_up.shape[-1] // 2
        out = buffers.empty((*gate_up.shape[:-1], hidden_dim), gate_up.dtype)
        kernels.call("swiglu_forward", gate_up, out, out.numel() // hidden_dim, hidden_dim)
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gate_up,) = ctx.saved_tensors
        grad, grad_gate_up = grads[0].contiguous(), buffers.empty_like(gate_up)
        kernels.call("swiglu_backward", grad, gate_up, grad_gate_up, grad.numel() // grad.shape[-1], grad.shape[-1])
        return grad_gate_up


def swiglu(gate_up_2F: Float[Tensor, "*rows F2"]) -> Float[Tensor, "*rows F"]:
    """Twin of operations.swiglu."""
    if not usable(gate_up_2F):
        return operations.swiglu(gate_up_2F)
    out: Tensor = _Swiglu.apply(gate_up_2F.contiguous())  # type: ignore[no-untyped-call]
    return out


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens_BT: Tensor, weight_VC: Tensor) -> Tensor:
        ctx.save_for_backward(tokens_BT)
        ctx.num_embeddings = weight_VC.shape[0]
        return operations.embedding(tokens_BT, weight_VC)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        # a frequent token's row is a sum of hundreds of gradients: taken in float32, rounded once
        (tokens_BT,) = ctx.saved_tensors
        grad_VC = torch.ops.aten.embedding_dense_backward(grads[0].float(), tokens_BT, ctx.num_embeddings, -1, False)
        return None, grad_VC.to(grads[0].dtype)


def embedding(tokens_BT: Int[Tensor, "B T"], weight_VC: Float[Tensor, "V C"]) -> Float[Tensor, "B T C"]:
    """Twin of operations.embedding."""
    if not usable(weight_VC):
        return operations.embedding(tokens_BT, weight_VC)
    out: Tensor = _Embedding.apply(tokens_BT, weight_VC)  # type: ignore[no-untyped-call]
    return out


def _blocks(num_positions: int) -> list[tuple[int, int]]:
    """(first, last + 1) position of each block of queries."""
    return [(first, min(first + QUERY_BLOCK, num_positions)) for first in range(0, num_positions, QUERY_BLOCK)]


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        query_norm_D: Tensor,
        key_norm_D: Tensor,
        cos_TR: Tensor,
        sin_TR: Tensor,
        starts_BT: Tensor | None,
        heads: tuple[int, int],
        eps: float,
    ) -> Tensor:
        (batch, length, _), (num_heads, num_kv_heads), half = qkv.shape, heads, cos_TR.shape[1]
        group, head_dim = num_heads // num_kv_heads, 2 * half
        q = buffers.empty((batch * num_kv_heads, length * group, head_dim), qkv.dtype)
        k, v = (buffers.empty((batch * num_kv_heads, length, head_dim), qkv.dtype) for _ in range(2))
        sizes = (batch, length, num_heads, num_kv_heads, half, eps)
        kernels.call("heads_forward", qkv, query_norm_D, key_norm_D, cos_TR, sin_TR, q, k, v, *sizes)
        mixed, probabilities = buffers.empty_like(q), []
        for first, last in _blocks(length):
            rows = slice(first * group, last * group)
            scores = buffers.empty((batch * num_kv_heads, (last - first) * group, last), qkv.dtype)
            torch.bmm(q[:, rows], k[:, :last].transpose(1, 2), out=scores)
            shape = (batch, num_kv_heads, last - first, group, last, first, length)
            kernels.call("softmax_forward", scores, starts_BT, *shape, head_dim**-0.5)
            torch.bmm(scores, v[:, :last], out=mixed[:, rows])
            probabilities.append(scores)
        out = buffers.empty((batch, length, num_heads * head_dim), qkv.dtype)
        kernels.call("swap_heads", mixed, out, batch, length, num_kv_heads, group * head_dim, 0)
        ctx.save_for_backward(qkv, query_norm_D, key_norm_D, cos_TR, sin_TR, starts_BT, q, k, v, *probabilities)
        ctx.sizes = sizes
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        qkv, query_norm_D, key_norm_D, cos_TR, sin_TR, starts_BT, q, k, v, *probabilities = ctx.saved_tensors
        batch, length, num_heads, num_kv_heads, half, _ = ctx.sizes
        group, head_dim = num_heads // num_kv_heads, 2 * half
        grad_mixed, grad_q, grad_k, grad_v = buffers.empty_like(q), buffers.empty_like(q), buffers.empty_like(k), buffers.empty_like(v)
        kernels.call("swap_heads", grads[0].contiguous(), grad_mixed, batch, length, num_kv_heads, group * head_dim, 1)
        # the last block sees every key, so it goes first and the others add to what it wrote
        for (first, last), p in reversed(list(zip(_blocks(length), probabilities, strict=True))):
            rows, keys = slice(first * group, last * group), slice(0, last)
            beta = 0 if last == length else 1
            grad_v[:, keys].baddbmm_(p.transpose(1, 2), grad_mixed[:, rows], beta=beta)
            grad_scores = buffers.empty_like(p)
            torch.bmm(grad_mixed[:, rows], v[:, keys].transpose(1, 2), out=grad_scores)
            shape = (batch, num_kv_heads, last - first, group, last, first, length)
            kernels.call("softmax_backward", grad_scores, p, starts_BT, *shape, head_dim**-0.5)
            torch.bmm(grad_scores, k[:, keys], out=grad_q[:, rows])
            grad_k[:, keys].baddbmm_(grad_scores.transpose(1, 2), q[:, rows], beta=beta)
        grad_qkv, grad_weights = buffers.empty_like(qkv), _partials(2 * head_dim)
        kernels.call(
            "heads_backward", grad_q, grad_k, grad_v, qkv, query_norm_D, key_norm_D, cos_TR, sin_TR, grad_qkv, grad_weights, *ctx.sizes
        )
        grad_query_norm_D, grad_key_norm_D = grad_weights.sum(0).to(qkv.dtype).chunk(2)
        return grad_qkv, grad_query_norm_D, grad_key_norm_D, None, None, None, None, None


def causal_attention(
    qkv_BTX: Float[Tensor, "B T X"],
    query_norm_D: Float[Tensor, " D"],
    key_norm_D: Float[Tensor, " D"],
    cos_BTR: Float[Tensor, "#B T R"],
    sin_BTR: Float[Tensor, "#B T R"],
    documents: operations.Documents | None,
    *,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
) -> Float[Tensor, "B T Y"]:
    """Twin of operations.causal_attention."""
    tables_fit = cos_BTR.shape[0] == 1 and cos_BTR.dtype == sin_BTR.dtype == torch.float32
    if not usable(qkv_BTX, query_norm_D, key_norm_D) or not tables_fit or qkv_BTX.shape[1] > MAX_POSITIONS:
        return operations.causal_attention(
            qkv_BTX, query_norm_D, key_norm_D, cos_BTR, sin_BTR, documents, num_heads=num_heads, num_kv_heads=num_kv_heads, eps=eps
        )
    starts_BT = None if documents is None else documents.starts_BT.to(torch.int64).contiguous()
    out: Tensor = _CausalAttention.apply(  # type: ignore[no-untyped-call]
        qkv_BTX.contiguous(), query_norm_D, key_norm_D, cos_BTR[0].contiguous(), sin_BTR[0].contiguous(), starts_BT,
        (num_heads, num_kv_heads), eps,
    )  # fmt: skip
    return out


def softmax_loss(
    logits_MV: Float[Tensor, "M V"], targets_M: Int[Tensor, " M"], scale: float, needs_grad: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "M V"]]:
    """Twin of operations.softmax_loss; overwrites the logits with their gradient."""
    if not usable(logits_MV) or logits_MV.shape[1] > MAX_VOCABULARY:
        return operations.softmax_loss(logits_MV, targets_M, scale, needs_grad)
    losses_M = torch.empty(targets_M.shape[0])
    kernels.call(
        "softmax_loss", logits_MV, targets_M.to(torch.int64).contiguous(), losses_M, *logits_MV.shape, float(scale), int(needs_grad)
    )
    return losses_M.sum() * scale, logits_MV
