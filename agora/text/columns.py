"""Work on the rows of a column that need it, and leave the others alone."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc


def change_where(
    texts: pa.LargeStringArray, mask: pa.BooleanArray, change: Callable[[pa.LargeStringArray], pa.LargeStringArray]
) -> pa.LargeStringArray:
    """`change` applied to the rows where `mask` is true."""
    selected = mask.true_count
    if not selected:
        return texts
    if selected == len(texts):
        return change(texts)
    return pc.replace_with_mask(texts, mask, change(texts.filter(mask)))


def replace_matches(texts: pa.LargeStringArray, pattern: str, replacement: str) -> pa.LargeStringArray:
    """Replace every match of a RE2 pattern; looks before it writes, since most rows have none."""
    mask = pc.match_substring_regex(texts, pattern)
    return change_where(texts, mask, lambda rows: pc.replace_substring_regex(rows, pattern, replacement))
