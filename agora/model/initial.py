"""Fresh weights, any part of them alone. Goes in: a seed, the name of a parameter, a range of it. Comes out: the numbers that stand there.

    draw(7, "layers.3.attention.out.weight", (2048, 2048), std=0.01, part=(slice(0, 64), slice(0, 2048)))

Every element has random bits of its own, made from seed, name and its place in the whole tensor, so a rank draws what it holds and
nothing else, and every layout starts from the weights of one process. The bits are those of SplitMix64 (Steele, Lea and Flood 2014,
figure 15), which jumps to any place because its state is a counter; two halves of them become a normal number (Box and Muller 1958).
NumPy computes, on the processor also for a GPU: single-threaded and on whole vectors, so that equal elements come out equal to the bit
however a tensor is cut.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from agora.model.config import ModelConfig

_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)
_MIXES: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
_LAST_SHIFT: Final = np.uint64(31)
_HALF: Final = np.uint64(32)
_CHUNK: Final = 1 << 13  # elements at once: buffers stay in the cache, and small enough that the system is not asked for each


def initial_std(config: ModelConfig, name: str) -> float | None:
    """Standard deviation of a fresh parameter of a Transformer; None for norms, which begin as ones. Products that write to the stream
    start smaller, so that its size does not grow with depth (GPT-2 report 2019, section 2.3: 1/sqrt(number of residual additions))."""
    kind = name.split(".", 2)[2] if name.startswith("layers.") else name
    shrink = 1 / math.sqrt(2 * config.num_layers)
    stds = {
        "embedding": config.init_std,
        "head": config.init_std,
        "attention.qkv.weight": 1 / math.sqrt(config.dim),
        "attention.out.weight": shrink / math.sqrt(config.query_dim),
        "feed_forward.gate_up.weight": 1 / math.sqrt(config.dim),
        "feed_forward.down.weight": shrink / math.sqrt(config.hidden_dim),
        "feed_forward.router.weight": config.init_std,
        "feed_forward.experts.gate": 1 / math.sqrt(config.dim),
        "feed_forward.experts.up": 1 / math.sqrt(config.dim),
        "feed_forward.experts.down": shrink / math.sqrt(config.expert_dim) if config.num_experts else None,
    }
    if kind not in stds and "norm" not in kind:
        raise KeyError(f"no initial distribution for parameter {name!r}")
    return stds.get(kind)


def draw(seed: int, name: str, shape: Sequence[int], *, std: float, part: Sequence[slice] | None = None) -> Tensor:
    """The elements `part` (all without it) of the float32 tensor `name` of that shape."""
    ranges = [range(size)[cut] for size, cut in zip(shape, part or [slice(None)] * len(shape), strict=True)]
    found = np.empty(math.prod(map(len, ranges)), dtype=np.float32)
    if found.size:
        key = np.uint64(int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "little"))
        for place, indices in _pieces(shape, ranges):
            found[place] = _normals(key, indices) * std
    return torch.from_numpy(found).view([len(wanted) for wanted in ranges])


def _pieces(shape: Sequence[int], ranges: Sequence[range]) -> Iterator[tuple[slice, npt.NDArray[np.uint64]]]:
    """Places in the flat result, with the flat indices that belong there: runs of neighbours, joined to chunks."""
    whole = len(shape)
    while whole > 1 and len(ranges[whole - 1]) == shape[whole - 1]:
        whole -= 1  # dimensions that are not cut lie in one run
    run = len(ranges[whole - 1]) * math.prod(shape[whole:])
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    first = np.zeros(1, dtype=np.uint64)
    for axis in range(whole - 1):
        steps = np.arange(ranges[axis].start, ranges[axis].stop, dtype=np.uint64) * np.uint64(strides[axis])
        first = (first[:, None] + steps).ravel()
    first += np.uint64(ranges[whole - 1].start * strides[whole - 1])
    rows = max(1, _CHUNK // run)
    for top in range(0, len(first), rows):
        starts = first[top : top + rows]
        for left in range(0, run, _CHUNK):
            width = min(_CHUNK, run - left)
            offsets = np.arange(left, left + width, dtype=np.uint64)
            begin = top * run + left
            yield slice(begin, begin + len(starts) * width), (starts[:, None] + offsets).ravel()


def _normals(key: np.uint64, indices: npt.NDArray[np.uint64]) -> npt.NDArray[np.float32]:
    """A normal number for each index."""
    with np.errstate(over="ignore"):
        bits = (indices + np.uint64(1)) * _GAMMA + key
        for shift, factor in _MIXES:
            bits ^= bits >> shift
            bits *= factor
        bits ^= bits >> _LAST_SHIFT
    length = (bits >> _HALF).astype(np.float64)
    length += 0.5  # never zero
    length *= 2.0**-32
    np.log(length, out=length)
    length *= -2
    np.sqrt(length, out=length)
    bits &= np.uint64(0xFFFFFFFF)
    angle = bits.astype(np.float32)
    angle *= np.float32(2 * math.pi * 2.0**-32)
    np.cos(angle, out=angle)
    angle *= length.astype(np.float32)
    return angle
