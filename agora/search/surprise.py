"""Which counts are surprising? Goes in: how many voices used each term now, and in each window before. Comes out: what was to be expected,
p-values and q-values.

Under the null a term's count has a negative binomial law, the gamma-Poisson mixture. Its mean is n (s + 1/2) / N, for n voices that are
active now and s of N voices, summed over the windows of the history, that used the term. Its variance is mean + mean^2 (1 / (s + 1/2) +
phi): the first part is what a short history does not know, phi is how much the term's rate varies anyway (method of moments over the
windows). phi is the larger of the term's own and that of a sample of equally frequent terms, so a rare phrase that a few pass on is no
news. A term is tested because it came up, so p is the upper tail given that it did, P(X >= c) / P(X >= 1). Where the history covers days, p
and the mean are the larger of two: one against the whole history, one against the same hours of other days. Over all terms the false
discovery rate is controlled (Benjamini and Hochberg, agora/integrity/control.py), also for terms that rise together.

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
    each window, whatever they said. The tested terms come first, others behind them; `sample` (of each term): whether it was drawn whatever
    its uses, so that its class can be told from such."""

    term: Counts
    window: Counts
    count: Counts
    active: Counts
    sample: npt.NDArray[np.bool_]


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
    exposure = history.active.astype(np.float64)
    exposure[0] = 0.0
    size, active = len(now), float(history.active[0])
    past = history.window > 0
    term, window, count = history.term[past], history.window[past], history.count[past].astype(np.float64)
    uses = _sums(term, count, len(history.sample))
    dispersion = _dispersion(history, exposure, uses, size)
    uses = uses[:size]
    expected, p_value = _tail(now, uses, exposure.sum(), active, dispersion, _PRIOR)
    same = _same_hours(window_s, len(exposure))
    if np.count_nonzero(exposure[same]) >= MIN_SAME_HOURS:
        part = _sums(term, count * same[window], len(history.sample))[:size]
        prior = _PRIOR * exposure[same].sum() / exposure.sum()
        again, p_again = _tail(now, part, exposure[same].sum(), active, dispersion, prior)
        expected, p_value = np.maximum(expected, again), np.maximum(p_value, p_again)
    padded = np.concatenate([p_value, np.ones(max(num_terms - size, 0))])
    return Surprises(expected, p_value, q_values(padded)[:size], uses / exposure.sum())


def _tail(now: Counts, uses: Floats, exposure: float, active: float, dispersion: Floats, prior: float) -> tuple[Floats, Floats]:
    """Mean, and P(X >= c) / P(X >= 1) of the negative binomial law. P(X >= c) = I(c, r) at mean / (r + mean), I the regularised incomplete
    beta function."""
    try:
        from scipy.special import betainc
    except ImportError as error:
        raise MissingExtraError("scipy", "search", "trends") from error
    mean = active * (uses + prior) / exposure
    shape = 1.0 / (1.0 / (uses + _PRIOR) + dispersion)
    at = mean / (shape + mean)
    return mean, np.clip(betainc(np.maximum(now, 1), shape, at) / betainc(1, shape, at), 1e-300, 1.0)


def _dispersion(history: History, exposure: Floats, uses: Floats, size: int) -> Floats:
    """phi = (variance - mean) / mean^2 of each term over the windows: the larger of its own and what its class in the sample lets expect,
    (variance / mean - 1) / its own mean. A class is the terms with as many uses up to a factor of two; those below RARE_USES are one class
    and have none of their own."""
    past = history.window > 0
    term, window, count = history.term[past], history.window[past], history.count[past].astype(np.float64)
    usual = (exposure**2).sum() / exposure.sum() ** 2  # of uses, what falls into a window that is drawn by its voices
    products = _sums(term, count * exposure[window], len(uses)) / exposure.sum()
    num_windows = np.count_nonzero(exposure)
    squares = _sums(term, count**2, len(uses)) - 2 * uses * products + uses**2 * usual
    excess = squares * num_windows / (num_windows - 1) - uses
    group = np.where(uses < RARE_USES, 0, np.log2(np.maximum(uses, 1)).astype(np.int64))
    sampled, num_groups = group[history.sample], int(group.max(initial=0)) + 1
    ratio = _sums(sampled, excess[history.sample], num_groups) / np.maximum(_sums(sampled, uses[history.sample], num_groups), 1.0)
    own = np.where(uses < RARE_USES, 0.0, excess / np.maximum(uses**2 * usual, 1e-12))
    of_class = ratio[group] / ((uses + _PRIOR) * usual)
    return np.asarray(np.maximum(np.maximum(own, of_class), MIN_DISPERSION)[:size])


def _same_hours(window_s: float, num_windows: int) -> npt.NDArray[np.bool_]:
    """Windows at the same time of other days, an hour or a window around; none where windows are too long to tell."""
    ago = np.arange(num_windows) * window_s
    away = np.minimum(ago % DAY_S, DAY_S - ago % DAY_S)
    return np.asarray((away <= max(window_s, 3_600.0)) & (ago >= DAY_S / 2) & (window_s <= DAY_S / 4))


def _sums(term: Counts, values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(term, values, size), np.float64)
