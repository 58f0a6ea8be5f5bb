"""A dense network on a CPU, one call of C per step (decode.c). Goes in: a Transformer and a precision. Comes out: logits of rows.

Weights are copied once into the order in which the kernel reads them; the Transformer itself is not kept. `plain.py` is the twin with the
same methods, for every device and network.

A row's result does not depend on the other rows of a step, bit for bit.

Shapes: N rows, O outputs, I inputs, V vocabulary, P panels of WIDTH outputs.
"""

from __future__ import annotations

import ctypes
import functools
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agora.engine.pages import PAGE_TOKENS
from agora.engine.step import StepRows
from agora.errors import UsageError
from agora.model import kernels
from agora.model.config import ModelConfig
from agora.model.operations import rotary_tables
from agora.model.transformer import FeedForward, Layer, Transformer

Precision = Literal["int8", "bfloat16", "float32"]
PRECISIONS: Final[tuple[Precision, ...]] = ("float32", "bfloat16", "int8")  # numbered as in decode.c
AUTO: Final[Precision] = "int8"
CACHE_BYTES: Final[dict[Precision, int]] = {"float32": 4, "bfloat16": 2, "int8": 2}
"""Of one number of a key or a value."""
GROUP: Final = 32
WIDTH: Final = 32
BLOCK_BYTES: Final = 64 * 1024 * 1024
SOURCES: Final = tuple(Path(__file__).with_name(name) for name in ("decode.c", "draw.c"))


@functools.cache
def library() -> ctypes.CDLL | None:
    """Both kernels, built on first use; None where there is no compiler."""
    return kernels.load(SOURCES)


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("kind", "L", "C", "H", "K", "D", "F", "V", "pages")] + [("eps", ctypes.c_float)]


class _Matrix(ctypes.Structure):
    _fields_ = [("panels", ctypes.c_void_p), ("scales", ctypes.c_void_p)]


class _Layer(ctypes.Structure):
    _fields_ = [
        ("attention_norm", ctypes.c_void_p), ("qkv", _Matrix), ("query_norm", ctypes.c_void_p), ("key_norm", ctypes.c_void_p),
        ("out", _Matrix), ("feed_forward_norm", ctypes.c_void_p), ("gate_up", _Matrix), ("down", _Matrix),
    ]  # fmt: skip


class _Weights(ctypes.Structure):
    _fields_ = [
        ("embedding", ctypes.c_void_p), ("norm", ctypes.c_void_p), ("head", _Matrix), ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p), ("layers", ctypes.POINTER(_Layer)),
    ]  # fmt: skip


class _Step(ctypes.Structure):
    _fields_ = [
        ("N", ctypes.c_int64), ("logit_rows", ctypes.c_int64), ("tokens", ctypes.c_void_p), ("positions", ctypes.c_void_p),
        ("sequence", ctypes.c_void_p), ("tables", ctypes.c_void_p), ("table_width", ctypes.c_int64), ("wanted", ctypes.c_void_p),
        ("keys", ctypes.c_void_p), ("values", ctypes.c_void_p), ("stream", ctypes.c_void_p), ("wide_out", ctypes.c_void_p),
        ("mixed", ctypes.c_void_p), ("logits", ctypes.c_void_p), ("in_values", ctypes.c_void_p), ("in_scales", ctypes.c_void_p),
        ("in_offsets", ctypes.c_void_p),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Packed:
    """A matrix in panels; `scales` only for bytes."""

    panels: Tensor
    scales: Tensor | None = None


def is_possible(config: ModelConfig, precision: Precision) -> bool:
    """Whether the kernel can run this network: dense, with sizes that fill its groups, and a compiler is here."""
    unit = GROUP if precision == "int8" else 4
    fits = all(size % unit == 0 for size in (config.dim, config.query_dim, config.hidden_dim))
    return fits and not config.num_experts and library() is not None


def quantize(weight_OI: Float[Tensor, "O I"]) -> tuple[Tensor, Tensor]:
    """Bytes from -127 to 127 and a bfloat16 scale per group of inputs, (O, I / GROUP). A scale is rounded up: no weight is cut off."""
    grouped = weight_OI.float().view(len(weight_OI), -1, GROUP)
    exact = grouped.abs().amax(-1) / 127
    scales = exact.bfloat16()
    scales = torch.where(scales.float() < exact, (scales.view(torch.int16) + 1).view(torch.bfloat16), scales)
    levels = torch.where(scales > 0, scales, torch.ones_like(scales)).float()
    return torch.round(grouped / levels[..., None]).clamp(-127, 127).to(torch.int8).flatten(1), scales


def pack(weight_OI: Float[Tensor, "O I"], precision: Precision) -> Packed:
    """A matrix as decode.c reads it; missing outputs of the last panel are 0."""
    missing = -weight_OI.shape[0] % WIDTH
    weight_OI = torch.nn.functional.pad(weight_OI.detach().cpu(), (0, 0, 0, missing))
    if precision == "int8":
        bytes_OI, scales = quantize(weight_OI)
        shifted = (bytes_OI.to(torch.int16) + 128).to(torch.uint8)
        return Packed(_panels(shifted, 4), scales.view(-1, WIDTH, scales.shape[1]).transpose(1, 2).contiguous())
    if precision == "bfloat16":
        return Packed(_panels(weight_OI.bfloat16(), 2))
    return Packed(_panels(weight_OI.float(), 1))


def _panels(weight_OI: Tensor, neighbours: int) -> Tensor:
    return weight_OI.reshape(-1, WIDTH, weight_OI.shape[1] // neighbours, neighbours).transpose(1, 2).contiguous()


class _LargePages:
    """Memory of large pages, where the system gives them (MADV_HUGEPAGE): a step reads all weights once, and addresses are looked up less
    often. Steps of 1 to 32 rows were 1.05 to 1.2 times as fast (one core of an AMD EPYC, 2026-11-22)."""

    def __init__(self) -> None:
        self._block: mmap.mmap | None = None
        self._used = 0

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Room for a tensor; it lives as long as a tensor in it. What is not written takes no memory."""
        count = math.prod(shape)
        size, self._used = count * dtype.itemsize, -(-self._used // 64) * 64
        if self._block is None or self._used + size > len(self._block):
            self._block, self._used = mmap.mmap(-1, max(BLOCK_BYTES, size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), 0
            self._block.madvise(mmap.MADV_HUGEPAGE)
        room = torch.frombuffer(self._block, dtype=dtype, count=count, offset=self._used).view(*shape)
        self._used += size
        return room

    def copy(self, tensor: Tensor) -> Tensor:
        """The same numbers, in such memory."""
        return self.empty(tensor.shape, tensor.dtype).copy_(tensor)


class NativeNetwork:
    """The network with its pages. Not safe for several threads at once: one scheduler calls it."""

    def __init__(self, model: Transformer, *, precision: Precision, num_pages: int, max_rows: int, threads: int | None = None) -> None:
        """`threads`: all of torch's but one unless given. Raises UsageError where `is_possible` is false."""
        config = model.config
        kernel = library()
        if kernel is None or not is_possible(config, precision):
            raise UsageError(f"the CPU kernel cannot run this network as {precision}; use another precision")
        self.config, self.precision, self.num_pages, self.max_rows = config, precision, num_pages, max_rows
        # The threads of a step wait for each other a hundred times. One that finds no core free holds up all: on 2 busy cores two threads
        # took 8 times as long as one (110M, 32 rows, 2026-11-22). So one core is left to the web server and the rest of this process.
        self._threads = threads or max(1, torch.get_num_threads() - 1)
        self._kernel = kernel
        self._kept: list[Tensor] = []
        self._large_pages = _LargePages()
        kind = PRECISIONS.index(precision)
        self._shape = _Shape(
            kind, config.num_layers, config.dim, config.num_heads, config.num_kv_heads, config.head_dim, config.hidden_dim,
            config.vocab_size, num_pages, config.norm_eps,
        )  # fmt: skip
        self._weights = self._pack_weights(model)
        self._step = self._make_room()

    def _pointer(self, tensor: Tensor) -> int:
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _floats(self, weight: Tensor) -> int:
        return self._pointer(weight.detach().float().cpu().clone())

    def _matrix(self, weight_OI: Tensor) -> _Matrix:
        packed = pack(weight_OI, self.precision)
        return _Matrix(
            self._pointer(self._large_pages.copy(packed.panels)), None if packed.scales is None else self._pointer(packed.scales)
        )

    def _pack_weights(self, model: Transformer) -> _Weights:
        config = self.config
        layers = (_Layer * config.num_layers)()
        for index, layer in enumerate(model.layers):
            assert isinstance(layer, Layer)
            attention, feed_forward = layer.attention, layer.feed_forward
            assert isinstance(feed_forward, FeedForward)
            layers[index] = _Layer(
                self._floats(layer.attention_norm.weight), self._matrix(attention.qkv.weight),
                self._floats(attention.query_norm.weight), self._floats(attention.key_norm.weight), self._matrix(attention.out.weight),
                self._floats(layer.feed_forward_norm.weight), self._matrix(feed_forward.gate_up.weight),
                self._matrix(feed_forward.down.weight),
            )  # fmt: skip
        table_dtype = torch.float32 if self.precision == "float32" else torch.bfloat16
        embedding = model.embedding.detach().cpu().to(table_dtype, copy=True).contiguous()
        cosines, sines = rotary_tables(config.head_dim, config.rope_theta, config.max_seq_len, torch.device("cpu"))
        return _Weights(
            self._pointer(embedding), self._floats(model.norm.weight), self._matrix(model.head_weight), self._pointer(cosines.contiguous()),
            self._pointer(sines.contiguous()), layers,
        )  # fmt: skip

    def _make_room(self) -> _Step:
        config, rows = self.config, self.max_rows
        widest = max(config.dim, config.query_dim, config.hidden_dim)
        dtype = torch.float32 if self.precision == "float32" else torch.bfloat16
        cache = (config.num_layers, self.num_pages, config.num_kv_heads, PAGE_TOKENS * config.head_dim)
        self._logits = torch.empty(0, config.vocab_size)
        # memory is taken as pages are used, and the kernel reads no position that was not written
        self._keys, self._values = self._large_pages.empty(cache, dtype), self._large_pages.empty(cache, dtype)
        step = _Step()
        step.keys, step.values = self._keys.data_ptr(), self._values.data_ptr()
        step.stream = self._pointer(torch.empty(rows, config.dim))
        step.wide_out = self._pointer(torch.empty(rows, max(config.query_dim + 2 * config.kv_dim, 2 * config.hidden_dim)))
        step.mixed = self._pointer(torch.empty(rows, config.query_dim))
        step.in_values = self._pointer(torch.empty(rows * widest, dtype=torch.float32))
        step.in_scales = self._pointer(torch.empty(rows * widest // GROUP + rows))
        step.in_offsets = self._pointer(torch.empty(rows * widest // GROUP + rows, dtype=torch.int32))
        return step

    def run(self, rows: StepRows) -> Float[Tensor, "N V"]:
        """Write keys and values of `rows` and return the logits of `rows.wanted`, float32; they are overwritten by the next call."""
        assert 0 < len(rows.tokens) <= self.max_rows
        if len(rows.wanted) > len(self._logits):
            self._logits = torch.empty(len(rows.wanted), self.config.vocab_size)
        logits_NV = self._logits if len(rows.wanted) == len(self._logits) else self._logits[: len(rows.wanted)]
        step, lists = self._step, [np.array(x, np.int64) for x in (rows.tokens, rows.positions, rows.sequence, rows.wanted)]
        step.N, step.logit_rows, step.table_width = len(rows.tokens), len(rows.wanted), rows.tables.shape[1]
        step.tokens, step.positions, step.sequence, step.wanted = (array.ctypes.data for array in lists)
        step.tables, step.logits = rows.tables.data_ptr(), logits_NV.data_ptr()
        self._kernel.decode_step(ctypes.byref(self._shape), ctypes.byref(self._weights), ctypes.byref(step), ctypes.c_int(self._threads))
        return logits_NV
