"""Where a text may be cut before byte pair encoding. No merge ever crosses a cut.

The rule, leftmost alternative first (`PATTERN` is the same rule as a regular expression, for Hugging Face):
  1. one space or one symbol, then letters      ` word`, `#tag`, `'t`, `word`
  2. an optional space, then one or two digits  ` 20`, `26`
  3. an optional space, then symbols            ` ...`, `!!`
  4. white space
Character classes are written-out ranges and not Unicode properties, so every regular expression engine and every
Unicode version cuts alike. Combining marks count as letters: words of Indic scripts stay whole.

`find_pretokens` cuts a whole column with numpy; its slow twin is PATTERN in `tokenizers` (tests compare them). On 200k
posts of 97 characters `tokenizers` took 44 us a post on two cores for cutting and merging (2026-11-22, docs/log.md).
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.text.codepoints import NUM_CODEPOINTS, slice_strings, to_codepoints
from agora.text.ranges import ranges

DIGITS_PER_PRETOKEN: Final = 2
LETTER, DIGIT, SYMBOL, SPACE = range(4)
_SPACES: Final = "\t\n\x0b\x0c\r "
_SYMBOL_RANGES: Final = (
    (0x00, 0x08), (0x0E, 0x1F), (0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0xBF), (0xD7, 0xD7), (0xF7, 0xF7),
    (0x2000, 0x200B), (0x200E, 0x2BFF), (0x2E00, 0x2E7F), (0x3000, 0x303F), (0xFE00, 0xFE0F), (0xFE30, 0xFE4F),
    (0xFF01, 0xFF0F), (0xFF1A, 0xFF20), (0xFFF0, 0xFFFF), (0x1F000, 0x1FBFF), (0xE0000, 0xE0FFF),
)  # fmt: skip


def _pattern() -> str:
    def literal(code: int) -> str:
        return re.escape(chr(code)) if 0x20 < code < 0x7F else chr(code)

    symbols = "".join(f"{literal(low)}-{literal(high)}" if high > low else literal(low) for low, high in _SYMBOL_RANGES)
    letters = f"[^{_SPACES}0-9{symbols}]"
    return f"[ {symbols}]?{letters}+| ?[0-9]{{1,{DIGITS_PER_PRETOKEN}}}| ?[{symbols}]+|[{_SPACES}]+"


def _class_table() -> npt.NDArray[np.uint8]:
    table = np.full(NUM_CODEPOINTS, LETTER, dtype=np.uint8)
    for low, high in _SYMBOL_RANGES:
        table[low : high + 1] = SYMBOL
    table[ord("0") : ord("9") + 1] = DIGIT
    table[[ord(character) for character in _SPACES]] = SPACE
    return table


PATTERN: Final = _pattern()
_CLASSES: Final = _class_table()


def find_pretokens(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, npt.NDArray[np.int64]]:
    """Cut every row. Returns all pretokens one after another, and for each row its first pretoken (rows + 1 entries)."""
    points = to_codepoints(texts)
    num_codes = len(points.codes)
    if not num_codes:
        return pa.array([], type=pa.large_string()), np.zeros(len(texts) + 1, dtype=np.int64)
    is_cut = _cuts(points.codes, points.row_starts)
    cuts = np.flatnonzero(is_cut)
    rows = np.searchsorted(cuts, points.row_starts)
    starts = cuts if points.byte_starts is None else points.byte_starts[cuts]
    return slice_strings(points.data, np.append(starts, points.data.size)), rows


def _cuts(codes: npt.NDArray[np.uint32] | npt.NDArray[np.uint8], row_starts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """True where a pretoken begins. Runs of one class are cut apart, then single spaces and symbols are glued to what follows."""
    num_codes = len(codes)
    classes = _CLASSES[codes]
    begins_row = np.zeros(num_codes + 1, dtype=np.bool_)
    begins_row[row_starts] = True
    is_cut = begins_row[:-1].copy()
    is_cut[1:] |= classes[1:] != classes[:-1]
    runs = np.flatnonzero(is_cut)
    ends = np.append(runs[1:], num_codes)
    run_class = classes[runs]
    single = (ends - runs == 1) & ~begins_row[ends]
    space_glued = np.zeros(len(runs) + 1, dtype=np.bool_)
    space_glued[1:] = single & (codes[runs] == ord(" "))
    next_is_letter = np.append(run_class[1:] == LETTER, False)
    symbol_glued = np.zeros(len(runs) + 1, dtype=np.bool_)
    symbol_glued[1:] = single & (run_class == SYMBOL) & next_is_letter & ~space_glued[:-1]
    is_cut[runs[(space_glued | symbol_glued)[:-1]]] = False
    long_digits = (run_class == DIGIT) & (ends - runs > DIGITS_PER_PRETOKEN)
    if long_digits.any():
        first, extra = runs[long_digits], (ends[long_digits] - runs[long_digits] - 1) // DIGITS_PER_PRETOKEN
        within = ranges(1, extra)
        is_cut[np.repeat(first, extra) + within * DIGITS_PER_PRETOKEN] = True
    return is_cut
