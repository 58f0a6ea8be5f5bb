"""safetensors files that are larger than memory. Goes in: names with shapes, and a function that gives one tensor after the other. Comes
out: the file with its size and sum, written once from front to back. Read back: any block of any tensor, without the rest.

The format is that of the safetensors library, which reads these files (huggingface/safetensors, README): 8 bytes that give the length of a
JSON table, the table, the numbers. The library itself writes only what is in memory, and only to a local path.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

File = Any  # opened for bytes, with what a local file and one of fsspec both can: write, or read, readinto and seek
_DTYPES: Final = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
DTYPE_NAMES: Final = {dtype: name for name, dtype in _DTYPES.items()}
_PIECE_BYTES: Final = 16 << 20  # what is handed to a file at once: object stores copy it
_HEADER_LIMIT_BYTES: Final = 100_000_000  # as in the safetensors library


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a manifest says of a file."""

    size_bytes: int
    sha256: str


class SummedFile:
    """A file being written, with the sum of what went in."""

    def __init__(self, file: File) -> None:
        self._file, self._digest, self._size_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes | memoryview) -> None:
        """Hand on and add up."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE_BYTES):
            piece = view[start : start + _PIECE_BYTES]
            self._file.write(piece)
            self._digest.update(piece)
        self._size_bytes += len(view)

    @property
    def facts(self) -> FileFacts:
        """Size and sum of all that was written."""
        return FileFacts(self._size_bytes, self._digest.hexdigest())


def write_tensors(
    file: File,
    tensors: Mapping[str, tuple[torch.dtype, Sequence[int]]],
    tensor_of: Callable[[str], Tensor],
    metadata: Mapping[str, str] | None = None,
) -> FileFacts:
    """Write `tensors` (dtype and shape by name), asking `tensor_of` for one after the other. Wide numbers come first, so that all are
    aligned. Raises ValueError for a tensor that is not what was announced."""
    order = sorted(tensors, key=lambda name: (-tensors[name][0].itemsize, name))
    table: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in order:
        dtype, shape = tensors[name]
        start, end = end, end + math.prod(shape) * dtype.itemsize
        table[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    header = json.dumps(table, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    summed = SummedFile(file)
    summed.write(struct.pack("<Q", len(header)) + header)
    for name in order:
        tensor = tensor_of(name)
        dtype, shape = tensors[name]
        if tensor.dtype != dtype or tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, but {dtype} {list(shape)} was announced")
        if tensor.numel():
            summed.write(_bytes_of(tensor))
    return summed.facts


def _bytes_of(tensor: Tensor) -> memoryview:
    whole = tensor.detach().cpu().contiguous().reshape(-1)
    return whole.view(torch.uint8).numpy().data


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; `start` counts bytes from the file's beginning."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


def read_entries(file: File, size_bytes: int) -> dict[str, Entry]:
    """The tensors of a file. Raises ValueError, KeyError or TypeError when it is not a whole safetensors file."""
    file.seek(0)
    head = file.read(8)
    length = struct.unpack("<Q", head)[0] if len(head) == 8 else _HEADER_LIMIT_BYTES
    if not 2 <= length <= min(_HEADER_LIMIT_BYTES, size_bytes - 8):
        raise ValueError("it has no table of tensors")
    table = json.loads(file.read(length))
    result = {}
    for name, place in table.items():
        if name == "__metadata__":
            continue
        dtype, shape = _DTYPES[place["dtype"]], tuple(int(size) for size in place["shape"])
        start, end = (8 + length + int(offset) for offset in place["data_offsets"])
        if min(shape, default=0) < 0 or end - start != math.prod(shape) * dtype.itemsize or not 8 + length <= start <= end <= size_bytes:
            raise ValueError(f"the table says something impossible of {name}")
        result[name] = Entry(dtype, shape, start)
    return result


def read_into(target: Tensor, file: File, entry: Entry, offsets: Sequence[int]) -> None:
    """Fill `target` with the block of its shape that begins at `offsets`. Reads the rows of the block and nothing else, straight into
    `target` where that can be. Raises ValueError when the file ends before."""
    row_bytes = math.prod(entry.shape[1:]) * entry.dtype.itemsize
    start = entry.start + (offsets[0] * row_bytes if entry.shape else 0)
    is_rows = tuple(target.shape[1:]) == entry.shape[1:]
    if is_rows and target.is_contiguous() and target.device.type == "cpu" and target.dtype == entry.dtype:
        _read(file, start, target)
        return
    rows = torch.empty((*target.shape[:1], *entry.shape[1:]), dtype=entry.dtype)
    _read(file, start, rows)
    for dim in range(1, len(entry.shape)):
        rows = rows.narrow(dim, offsets[dim], target.shape[dim])
    target.copy_(rows)


def _read(file: File, start: int, target: Tensor) -> None:
    if not target.numel():
        return
    view = target.detach().view(-1).view(torch.uint8).numpy().data
    file.seek(start)
    filled = 0
    while filled < len(view):
        count = file.readinto(view[filled:])
        if not count:
            raise ValueError("it ends too early")
        filled += count
