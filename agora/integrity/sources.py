"""Whom do the others follow? Goes in: the artefacts of a group, with its members' actions. Comes out: members who may be the ones that
the others copy, and who are therefore never labelled automatically: attackers cannot get an account labelled by copying it.

Members who act as one are exchangeable: on each artefact the next member before an account is as near in time as the next one after it
(the times of two of them, swapped, are as likely). Whom others copy has them close behind and nobody as close before. So an
account is cleared when on enough occasions (hours) somebody of the group came before it, about as near as the next one after it,
and a sign test over its occasions does not say that those after it are nearer. A decoy who shares the same things earlier clears
nobody: it would have to be as near before the account's action, which it cannot foresee, as the copies are behind it.

Not covered: attackers who know when an account will post; a flood that surrounds everything the account may pass on, or copies as slow as
decoys are early; whoever always acts right behind an account that attackers copy (it does what they do); and copies within the same tick
of a source with coarse times (a tie clears).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.stats import binom

from agora.integrity.episodes import Mask
from agora.integrity.shared import Ints, Longs

if TYPE_CHECKING:
    from agora.integrity.campaigns import SharedArtefact

MIN_FOLLOWED: Final = 2
MIN_FOLLOWED_SHARE: Final = 1 / 3
ABOUT_AS_NEAR: Final = 4.0
"""Of exchangeable members, four in five have somebody before them at most this many times as far as the next one after them."""
SOURCE_P: Final = 0.01
NEAR_S: Final = 7200
"""As long as the longest window."""


@dataclass(frozen=True, slots=True)
class _Lags:
    """One row per account and artefact (an account's uninterrupted actions on it): when it began, whether it is cleared there, whether the
    next one after it was nearer than the one before (1), the other way round (-1) or neither (0), and its posts."""

    account: Ints
    hour: Longs
    is_clear: Mask
    lead: Longs
    row_of_post: Longs
    post: Longs


def sources(artefacts: Sequence[SharedArtefact], accounts: Ints) -> set[int]:
    """Accounts that are not cleared."""
    lags = _lags(artefacts)
    hours, place = np.unique(np.stack((lags.account.astype(np.int64), lags.hour)), axis=1, return_inverse=True)
    count = np.bincount(place, minlength=hours.shape[1])
    is_clear_hour = np.bincount(place, lags.is_clear, hours.shape[1]) >= 0.5 * count
    lead_hour = np.sign(np.bincount(place, lags.lead, hours.shape[1]))
    who, place = np.unique(hours[0], return_inverse=True)
    total, cleared, leading, following = (
        np.bincount(place, kind, len(who)) for kind in (np.ones(len(place)), is_clear_hour, lead_hour > 0, lead_hour < 0)
    )
    is_cleared = cleared >= np.maximum(MIN_FOLLOWED, MIN_FOLLOWED_SHARE * total)
    is_cleared &= binom.sf(leading - 1, leading + following, 0.5) > SOURCE_P
    return set(accounts.tolist()) - set(who[is_cleared].tolist())


def copied(artefacts: Sequence[SharedArtefact]) -> Longs:
    """Posts that others of the group followed, and that followed nobody as closely: they tell what their author did alone."""
    lags = _lags(artefacts)
    return np.unique(lags.post[~lags.is_clear[lags.row_of_post]])


def _lags(artefacts: Sequence[SharedArtefact]) -> _Lags:
    several = [one for one in artefacts if len(np.unique(one.account)) >= 2]
    if not several:
        none = np.empty(0, np.int64)
        return _Lags(none.astype(np.int32), none, none.astype(np.bool_), none, none, none)
    number = np.repeat(np.arange(len(several)), [len(one.account) for one in several])
    account, time_s, post = (np.concatenate([getattr(one, name) for one in several]) for name in ("account", "time_s", "post"))
    order = np.lexsort((account, time_s, number))
    number, account, time_s, post = number[order], account[order], time_s[order], post[order]
    is_new = np.append(True, (np.diff(number) != 0) | (np.diff(account) != 0))
    starts = np.flatnonzero(is_new)
    last = np.append(starts[1:], len(number)) - 1
    begin, end = time_s[starts], time_s[last]
    gap = np.where(np.diff(number[starts]) == 0, begin[1:] - end[:-1], np.inf)
    gap[gap > NEAR_S] = np.inf
    before, after = np.append(np.inf, gap), np.append(gap, np.inf)
    is_tied = (before == 0) | (after == 0)
    with np.errstate(invalid="ignore"):
        is_clear = is_tied | (np.isfinite(before) & (before <= ABOUT_AS_NEAR * after))
    lead = np.where(is_tied | (before == after), 0, np.where(after < before, 1, -1))
    return _Lags(account[starts], begin // 3600, is_clear, lead, np.cumsum(is_new) - 1, post.astype(np.int64))
