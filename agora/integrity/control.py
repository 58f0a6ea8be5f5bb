"""Keeping the share of false findings small. Goes in: p-values. Comes out: q-values."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def q_values(p_values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Smallest false discovery rate at which each test is rejected: Benjamini and Hochberg (1995), as adjusted p-values.

    Holds for independent tests and for those with positive dependence (Benjamini and Yekutieli, 2001), as windows of one group have.
    """
    count = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values, np.float64)[order] * count / np.arange(1, count + 1)
    result = np.empty(count)
    result[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return result
