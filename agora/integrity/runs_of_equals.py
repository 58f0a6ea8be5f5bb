"""Runs in sorted numbers. Goes in: an array. Comes out: where each run of equal values begins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def run_starts(values: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """True where a run of equal values begins."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


__all__ = ["run_starts"]
