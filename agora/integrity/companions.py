"""Who else took part. Goes in: a campaign's artefacts, its members, and everybody who shared the same. Comes out: accounts outside it
that acted with it again and again: its companions. They get no label; they weigh along, so that those of a flood whom the tests for
labels do not reach are no voices of their own (agora/integrity/voice.py).

An outsider joins an occasion (an hour) when it shares what members share, after at least one of them, within the window of at least half of
their actions there. Null: outsiders join as often as outsiders do, in proportion to how much they post; p is the Poisson tail, over all
accounts by Benjamini and Hochberg. What many outsiders share tells nothing by this null; who is copied acts first and never joins.

Not covered: an account that really follows the campaign's accounts at once, each time, for its own reasons; who joined only once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import poisson

from agora.integrity.control import q_values
from agora.integrity.pairs import OCCASION_S
from agora.integrity.shared import Ints, Longs, Shares

if TYPE_CHECKING:
    from agora.integrity.campaigns import SharedArtefact

MIN_JOINED: Final = 2
MIN_MEMBERS: Final = 3
"""Members on an artefact, below which sharing it is no action of the campaign."""


def companions(
    artefacts: Sequence[SharedArtefact],
    accounts: Ints,
    shares: Mapping[str, Shares],
    num_posts: npt.NDArray[Any],
    *,
    window_s: int,
    q_most: float,
) -> Ints:
    """Accounts outside `accounts` that acted with them on at least MIN_JOINED occasions, with q at most `q_most`."""
    parts = [_joined(one, accounts, shares, window_s) for one in artefacts if len(np.unique(one.account)) >= MIN_MEMBERS]
    if not parts:
        return np.empty(0, np.int32)
    pairs = np.unique(np.concatenate(parts), axis=0)
    account, occasions = np.unique(pairs[:, 0], return_counts=True)
    outsiders = np.setdiff1d(np.flatnonzero(num_posts > 0), accounts)
    if not len(account):
        return np.empty(0, np.int32)
    activity = np.maximum(1.0, num_posts[account] / max(float(num_posts[outsiders].mean()), 1.0))
    p = poisson.sf(occasions - 1, len(pairs) / len(outsiders) * activity)
    q = q_values(np.append(p, np.ones(len(outsiders) - len(account))))[: len(account)]
    return np.asarray(account[(q <= q_most) & (occasions >= MIN_JOINED)], np.int32)


def _joined(one: SharedArtefact, accounts: Ints, shares: Mapping[str, Shares], window_s: int) -> Longs:
    """Rows (account, hour) of outsiders who joined the members on one artefact."""
    everybody = shares[one.signal]
    account, time_s = everybody.account[one.row], everybody.time_s[one.row]
    outside = ~np.isin(account, accounts)
    account, at = account[outside].astype(np.int64), time_s[outside]
    acted = np.sort(one.time_s)
    before = np.searchsorted(acted, at, "right") - np.searchsorted(acted, at - window_s, "left")
    after = np.searchsorted(acted, at + window_s, "right") - np.searchsorted(acted, at, "right")
    hour = np.searchsorted(acted, (at // OCCASION_S + 1) * OCCASION_S) - np.searchsorted(acted, at // OCCASION_S * OCCASION_S)
    joins = (before > 0) & (before + after >= MIN_MEMBERS - 1) & (before + after >= 0.5 * hour)
    return np.stack((account[joins], at[joins] // OCCASION_S), axis=1)


__all__ = ["MIN_JOINED", "companions"]
