"""Large tensors on a CPU from blocks that are kept for the next step. Goes in: a shape. Comes out: an uninitialised tensor whose memory
returns here, not to the system, when the last tensor that uses it is gone.

Training makes and drops the same few hundred large tensors every step. The C library gives such memory back to the system, which zeroes
every page again on the next use; and it uses small pages. Blocks that are kept, on huge pages where the system has them, cost neither.
Blocks of a size are only reused for that size, so what is held is the peak of each size; `release_buffers` gives back all that is free.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import weakref

import torch
from torch import Tensor

SMALLEST_BYTES = 1 << 20  # smaller tensors stay in the C library's heap
_STEP_BYTES = 1 << 21  # sizes are rounded up to huge pages
_free: dict[int, list[mmap.mmap]] = {}


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Like torch.empty on the CPU."""
    count = math.prod(shape)
    num_bytes = count * dtype.itemsize
    if num_bytes < SMALLEST_BYTES:
        return torch.empty(shape, dtype=dtype)
    size = -(-num_bytes // _STEP_BYTES) * _STEP_BYTES
    blocks = _free.setdefault(size, [])
    block = blocks.pop() if blocks else _new_block(size)
    # torch keeps `window` alive as long as any tensor uses the memory, and it keeps `block` alive
    window = (ctypes.c_char * size).from_buffer(block)
    weakref.finalize(window, blocks.append, block).atexit = False
    return torch.frombuffer(window, dtype=dtype, count=count).view(shape)


def empty_like(x: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of the shape and dtype of `x`."""
    return empty(tuple(x.shape), x.dtype)


def release_buffers() -> int:
    """Give every free block back to the system; returns their bytes."""
    released = sum(size * len(blocks) for size, blocks in _free.items())
    for blocks in _free.values():
        blocks.clear()
    return released


def _new_block(size: int) -> mmap.mmap:
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    return block
