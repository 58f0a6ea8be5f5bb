"""Which counts are surprising? Goes in: how many voices used each term now, and in each window before. Comes out: what was to be expected,
p-values and q-values.

Under the null a term's count has a negative binomial law, the gamma-Poisson mixture. Its mean is n (s + 1/2) / N, for n voices that are
active now and s of N voices, summed over the windows of the history, that used the term. Its variance is mean + mean^2 (1 / (s + 1/2) +
phi): the first part is what a short history does not know, phi is how much the term's rate varies anyway (method of moments over the
windows). phi is the larger of the term's own and that of equally frequent terms, so a rare word that comes in clumps is no news. p is the
upper tail. Where the history covers days, p and the mean are the larger of two: one against the whole history, one against the same hours
of other days. Over all terms the false discovery rate is controlled (Benjamini and Hochberg, agora/integrity/control.py), also for terms
that rise together.

Not covered: the week's rhythm, when the history is shorter than some weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.errors import MissingExtraError
from agora.integrity.control import q_values

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

DAY_S: Final = 86_400.0
MIN_SAME_HOURS: Final = 3
"""Windows at the same time of other days; with fewer, they are not asked."""
MIN_DISPERSION: Final = 0.05
"""Rates of words are never steadier than this, however short the history that says so."""
RARE_USES: Final = 8
"""Terms with fewer uses are too few to tell how they vary: they go by their class."""
_PRIOR: Final = 0.5
"""Uses that a term never seen before is taken to have had (Jeffreys' prior of a Poisson rate)."""


@dataclass(frozen=True, slots=True)
class History:
    """Of each term (a number) and window (0 = now, 1 = the one before, ...) how many voices used it, where any did; `active`: voices of
    each window, whatever they said."""

    term: Counts
    window: Counts
    count: Counts
    active: Counts


@dataclass(frozen=True, slots=True)
class Surprises:
    """Of each term: voices to be expected now, p, q, and the share of voices that used it in the windows before."""

    expected: Floats
    p_value: Floats
    q_value: Floats
    share: Floats


def surprises(now: Counts, history: History, *, window_s: float, num_terms: int) -> Surprises:
    """Test the counts `now` of all terms. `num_terms` were looked at: those beyond `now` had too few voices and count with p = 1.

    Raises MissingExtraError without scipy.
    """
    past = history.window > 0
    term, window, count = history.term[past], history.window[past], history.count[past].astype(np.float64)
    exposure = history.active.astype(np.float64)
    exposure[0] = 0.0
    size, active = len(now), float(history.active[0])
    uses = _sums(term, count, size)
    dispersion = _dispersion(term, window, count, exposure, uses)
    expected, p_value = _tail(now, uses, exposure.sum(), active, dispersion, _PRIOR)
    same = _same_hours(window_s, len(exposure))
    if np.count_nonzero(exposure[same]) >= MIN_SAME_HOURS:
        part = _sums(term, count * same[window], size)
        prior = _PRIOR * exposure[same].sum() / exposure.sum()
        again, p_again = _tail(now, part, exposure[same].sum(), active, dispersion, prior)
        expected, p_value = np.maximum(expected, again), np.maximum(p_value, p_again)
    padded = np.concatenate([p_value, np.ones(max(num_terms - size, 0))])
    return Surprises(expected, p_value, q_values(padded)[:size], uses / exposure.sum())


def _tail(now: Counts, uses: Floats, exposure: float, active: float, dispersion: Floats, prior: float) -> tuple[Floats, Floats]:
    """Mean and upper tail of the negative binomial law: P(X >= c) = I(c, r) at mean / (r + mean), I the regularised incomplete beta."""
    try:
        from scipy.special import betainc
    except ImportError as error:
        raise MissingExtraError("scipy", "search", "trends") from error
    mean = active * (uses + prior) / exposure
    shape = 1.0 / (1.0 / (uses + _PRIOR) + dispersion)
    return mean, np.maximum(np.asarray(betainc(now, shape, mean / (shape + mean))), 1e-300)


def _dispersion(term: Counts, window: Counts, count: Floats, exposure: Floats, uses: Floats) -> Floats:
    """(variance - mean) / mean^2 of each term's rate over the windows, the larger of its own and its class's. A class is the terms with as
    many uses up to a factor of two; those below RARE_USES are one class and have none of their own."""
    size = len(uses)
    rate = uses / exposure.sum()
    total = rate**2 * (exposure**2).sum()
    squares = _sums(term, count**2, size) - 2 * rate * _sums(term, count * exposure[window], size) + total
    num_windows = np.count_nonzero(exposure)
    excess = squares * num_windows / (num_windows - 1) - uses
    frequency = np.where(uses < RARE_USES, 0, np.log2(np.maximum(uses, 1)).astype(np.int64))
    of_class = np.bincount(frequency, excess) / np.maximum(np.bincount(frequency, total), 1e-12)
    own = np.where(uses < RARE_USES, 0.0, excess / np.maximum(total, 1e-12))
    return np.maximum(np.maximum(own, of_class[frequency]), MIN_DISPERSION)


def _same_hours(window_s: float, num_windows: int) -> npt.NDArray[np.bool_]:
    """Windows at the same time of other days, an hour or a window around; none where windows are too long to tell."""
    ago = np.arange(num_windows) * window_s
    away = np.minimum(ago % DAY_S, DAY_S - ago % DAY_S)
    return np.asarray((away <= max(window_s, 3_600.0)) & (ago >= DAY_S / 2) & (window_s <= DAY_S / 4))


def _sums(term: Counts, values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(term, values, size), np.float64)
