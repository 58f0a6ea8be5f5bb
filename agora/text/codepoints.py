"""Whole columns of text as one array of code points, so that character work is numpy and never a Python loop over rows.

Goes in: an Arrow array of strings without nulls. Comes out: `Codepoints`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

NUM_CODEPOINTS = 0x110000


@dataclass(frozen=True, slots=True)
class Codepoints:
    """All rows one after another. Row i is `codes[row_starts[i]:row_starts[i + 1]]`; code point j begins at byte
    `byte_starts[j]` of `data` (None: one byte each)."""

    codes: npt.NDArray[np.uint32] | npt.NDArray[np.uint8]
    row_starts: npt.NDArray[np.int64]
    byte_starts: npt.NDArray[np.int64] | None
    data: pa.Buffer


def large_strings(texts: pa.Array | pa.ChunkedArray) -> pa.LargeStringArray:
    """`texts` as one LargeStringArray (64-bit offsets), nulls as empty text."""
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks() if texts.num_chunks != 1 else texts.chunk(0)
    if texts.type != pa.large_string():
        texts = texts.cast(pa.large_string())
    return pc.fill_null(texts, "") if texts.null_count else texts


def string_parts(texts: pa.LargeStringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Offsets (rebased to 0) and bytes of a LargeStringArray, without a copy of the bytes."""
    _, offset_buffer, data = texts.buffers()
    offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    raw = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.empty(0, dtype=np.uint8)
    return offsets - offsets[0], raw[offsets[0] : offsets[-1]]


def to_codepoints(texts: pa.LargeStringArray) -> Codepoints:
    """Decode a whole column at once."""
    offsets, raw = string_parts(texts)
    data = pa.py_buffer(raw)
    if not raw.size or raw.max() < 0x80:
        return Codepoints(raw, offsets, None, data)
    codes = np.frombuffer(str(data, "utf-8").encode("utf-32-le"), dtype=np.uint32)
    leads = np.flatnonzero((raw & 0xC0) != 0x80)
    return Codepoints(codes, np.searchsorted(leads, offsets), leads, data)


def slice_strings(data: pa.Buffer, starts: npt.NDArray[np.int64]) -> pa.LargeStringArray:
    """Strings that begin at `starts` (bytes; the last entry is the end) and share `data`."""
    return pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(np.ascontiguousarray(starts, dtype=np.int64)), data)
