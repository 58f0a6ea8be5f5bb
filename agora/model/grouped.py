"""Products of rows with one matrix for each group of them: what mixtures of experts are made of.

Goes in: rows sorted by group, a stack of matrices, the number of rows of each group. Comes out: the rows' products. It is an operation of
its own to torch, so that fake tensors, FLOP counters and torch.compile see one product of known shape, whatever the numbers of rows.

On CUDA in bfloat16 it is torch's grouped kernel; elsewhere one product after another, which on a CPU was measured to be as quick
(benchmarks/expert_speed.py). The slow twin is operations.grouped_linear.

Shapes: M rows, E groups, I in, O out.
"""

from __future__ import annotations

from typing import Any, Final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from agora.model import buffers, fast, products

_ALIGNED_BYTES: Final = 16  # torch's grouped kernel wants rows to begin at multiples of it
_OLDEST_CAPABILITY: Final = (8, 0)  # of a CUDA device, for bfloat16


def has_grouped_kernel(x: Tensor, weight: Tensor) -> bool:
    """Whether torch.nn.functional.grouped_mm (torch 2.10) can take these operands on their device."""
    if not hasattr(F, "grouped_mm") or x.device.type != "cuda" or torch.version.hip or x.numel() == 0:
        return False
    if torch.cuda.get_device_capability(x.device) < _OLDEST_CAPABILITY:
        return False
    is_aligned = all(size * x.itemsize % _ALIGNED_BYTES == 0 for size in weight.shape[1:])
    return is_aligned and x.dtype == weight.dtype == torch.bfloat16


def grouped_linear(x_MI: Float[Tensor, "M I"], weight_EOI: Float[Tensor, "E O I"], counts_E: Int[Tensor, " E"]) -> Float[Tensor, "M O"]:
    """Twin of operations.grouped_linear: the first counts[0] rows times weight[0] transposed, and so on. The counts sum to M."""
    result: Tensor = torch.ops.agora.grouped_linear(x_MI, weight_EOI, counts_E)
    return result


@torch.library.custom_op("agora::grouped_linear", mutates_args=(), schema="(Tensor x, Tensor weight, Tensor counts) -> Tensor")
def _linear(x: Any, weight: Any, counts: Any) -> Any:
    x = x.contiguous()
    if has_grouped_kernel(x, weight):
        return F.grouped_mm(x, weight.transpose(1, 2), offs=counts.cumsum(0, dtype=torch.int32))
    out, is_fast = buffers_for(x, (x.shape[0], weight.shape[1])), fast.usable(x, weight)
    for rows, matrix in zip(_groups(counts), weight, strict=True):
        _multiply(x[rows], matrix.t(), out[rows], is_fast)
    return out


@torch.library.custom_op(
    "agora::grouped_linear_backward", mutates_args=(), schema="(Tensor grad, Tensor x, Tensor weight, Tensor counts) -> (Tensor, Tensor)"
)
def _linear_backward(grad: Any, x: Any, weight: Any, counts: Any) -> Any:
    grad, x = grad.contiguous(), x.contiguous()
    if has_grouped_kernel(x, weight):
        ends = counts.cumsum(0, dtype=torch.int32)
        return F.grouped_mm(grad, weight, offs=ends), F.grouped_mm(grad.t(), x, offs=ends)
    grad_x, grad_weight, is_fast = buffers_for(x, x.shape), buffers_for(weight, weight.shape), fast.usable(grad, x, weight)
    for index, rows in enumerate(_groups(counts)):
        _multiply(grad[rows], weight[index], grad_x[rows], is_fast)
        _multiply(grad[rows].t(), x[rows], grad_weight[index], is_fast)
    return grad_x, grad_weight


def buffers_for(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Room for a result of `shape`, where `x` is and as it is."""
    return buffers.empty(tuple(shape), x.dtype) if x.device.type == "cpu" else x.new_empty(shape)


def _groups(counts: Tensor) -> list[slice]:
    """The rows of each group; on an accelerator this waits for the counts."""
    ends = counts.cumsum(0).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _multiply(left: Tensor, right: Tensor, out: Tensor, is_fast: bool) -> None:
    """out = left @ right; without rows that is nothing or zeros."""
    if is_fast and left.numel():
        products.multiply(left, right, out_MN=out)
    else:
        torch.mm(left, right, out=out)


@_linear.register_fake
def _(x: Any, weight: Any, counts: Any) -> Any:
    return x.new_empty((x.shape[0], weight.shape[1]))


@_linear_backward.register_fake
def _(grad: Any, x: Any, weight: Any, counts: Any) -> Any:
    return torch.empty_like(x), torch.empty_like(weight)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, grad: Any) -> Any:
    return (*torch.ops.agora.grouped_linear_backward(grad, *ctx.saved_tensors), None)


_linear.register_autograd(_differentiate, setup_context=_save)


@register_flop_formula(torch.ops.agora.grouped_linear)
def _flops(x_shape: Any, weight_shape: Any, *_: Any, **__: Any) -> int:
    return int(2 * x_shape[0] * weight_shape[1] * weight_shape[2])


@register_flop_formula(torch.ops.agora.grouped_linear_backward)
def _backward_flops(grad_shape: Any, x_shape: Any, weight_shape: Any, *_: Any, **__: Any) -> int:
    return 2 * _flops(x_shape, weight_shape)
