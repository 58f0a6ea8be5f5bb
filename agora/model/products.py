"""Products of bfloat16 matrices on a CPU. Goes in: two matrices, either of them also as a transposed view. Comes out: what torch.mm gives.

Where the processor has AVX512_BF16 and no matrix unit, `products.c` does the work, faster than torch.mm, mostly in the gradients of weights
(`python -m benchmarks train_speed_60m`, docs/log.md). Elsewhere torch.mm does.

Shapes: M rows, K summed, N columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agora.model import buffers, kernels

SMALLEST_ROWS = 64  # with fewer, as in generation, packing the right operand costs more than it saves
_PANEL_WIDTH = 64  # of products.c


@dataclass(frozen=True, slots=True)
class Packed:
    """A right operand; `panels` holds it in the order the kernel reads it, None where torch.mm will do the work."""

    matrix_KN: Tensor
    panels: Tensor | None


def pack(right_KN: Tensor) -> Packed:
    """Prepare a right operand for several products. `right` must not change before the last of them."""
    library = kernels.library()
    if library is None or not library.has_products() or not _is_supported(right_KN):
        return unpacked(right_KN)
    inner, columns = right_KN.shape
    is_transposed = not right_KN.is_contiguous()
    if is_transposed and inner % 2:
        return unpacked(right_KN)
    num_panels, pairs = -(-columns // _PANEL_WIDTH), -(-inner // 2)
    panels = buffers.empty((num_panels, pairs, _PANEL_WIDTH, 2), torch.bfloat16)
    name = "pack_right_transposed" if is_transposed else "pack_right"
    kernels.call(name, right_KN.t() if is_transposed else right_KN, panels, inner, columns)
    return Packed(right_KN, panels)


def unpacked(right_KN: Tensor) -> Packed:
    """A right operand for torch.mm."""
    return Packed(right_KN, None)


def multiply(left_MK: Tensor, right_KN: Tensor | Packed, *, out_MN: Tensor | None = None) -> Tensor:
    """Twin of torch.mm(left, right, out=out): summed in float32, rounded once."""
    right = right_KN if isinstance(right_KN, Packed) else _pack_for(left_MK, right_KN)
    if right.panels is None or not _is_left_supported(left_MK):
        return torch.mm(left_MK, right.matrix_KN) if out_MN is None else torch.mm(left_MK, right.matrix_KN, out=out_MN)
    if out_MN is None:
        out_MN = buffers.empty((left_MK.shape[0], right.matrix_KN.shape[1]), left_MK.dtype)
    _run(left_MK, right, out_MN, None)
    return out_MN


def add_product(sums_MN: Tensor, left_MK: Tensor, right_KN: Tensor | Packed) -> None:
    """sums += left @ right, where sums is float32."""
    right = right_KN if isinstance(right_KN, Packed) else _pack_for(left_MK, right_KN)
    if right.panels is None or not _is_left_supported(left_MK) or sums_MN.dtype != torch.float32:
        sums_MN += left_MK @ right.matrix_KN
    else:
        _run(left_MK, right, None, sums_MN)


def _pack_for(left_MK: Tensor, right_KN: Tensor) -> Packed:
    is_worth_it = left_MK.shape[0] >= SMALLEST_ROWS and _is_left_supported(left_MK)
    return pack(right_KN) if is_worth_it else unpacked(right_KN)


def _is_supported(x: Tensor) -> bool:
    """A matrix that the kernels can read: bfloat16 on a CPU, whole or the transposed view of a whole one."""
    is_whole = x.is_contiguous() or x.t().is_contiguous()
    return x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.numel() > 0 and is_whole


def _is_left_supported(left_MK: Tensor) -> bool:
    return _is_supported(left_MK) and (not left_MK.is_contiguous() or left_MK.shape[1] % 2 == 0)


def _run(left_MK: Tensor, right: Packed, out_MN: Tensor | None, sums_MN: Tensor | None) -> None:
    is_transposed = not left_MK.is_contiguous()
    stored = left_MK.t() if is_transposed else left_MK
    sizes = (*left_MK.shape, right.matrix_KN.shape[1])
    if kernels.call("multiply", stored, right.panels, out_MN, sums_MN, *sizes, int(is_transposed)):
        raise MemoryError("no memory for the working space of a matrix product")
