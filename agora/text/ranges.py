"""Many ranges of indices as one array: how rows of different lengths are taken out of a flat array without a loop."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def ranges(starts: npt.NDArray[np.int64] | int, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """`starts[i], starts[i] + 1, ...` (`counts[i]` of them), one range after another: [sum of counts]. One start for all counts from it."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)
