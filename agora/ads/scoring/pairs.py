"""Which of two ads is clicked more: pairs within a placement whose click rates are clearly apart, and how many of them scores order
rightly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agora.ads.scoring.past_ads import PastAd

Numbers = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
APART = 1.5
"""How many times the lower click rate the higher one must be; closer ones are mostly chance at a few hundred impressions."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Positions in a list of ads: `more[i]` is clicked more than `less[i]`."""

    more: Places
    less: Places

    def __len__(self) -> int:
        return len(self.more)

    def right(self, scores: Numbers) -> float:
        """How many pairs the scores order rightly; equal scores count half."""
        gap = scores[self.more] - scores[self.less]
        return float((gap > 0).sum() + 0.5 * (gap == 0).sum())

    def accuracy(self, scores: Numbers) -> float:
        """The share that the scores order rightly."""
        return self.right(scores) / max(1, len(self))

    def some(self, most: int, seed: int) -> Pairs:
        """At most `most` of them, drawn without putting back."""
        if len(self) <= most:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False))
        return Pairs(self.more[kept], self.less[kept])


def chosen_ads(ads: Sequence[PastAd], places: Places) -> list[PastAd]:
    """The ads at these places."""
    return [ads[int(place)] for place in places]


def click_rates(ads: Sequence[PastAd]) -> Numbers:
    """Clicks per impression."""
    return np.array([ad.clicks / max(1, ad.impressions) for ad in ads])


def pairs_of(ads: Sequence[PastAd], *, among: Places | None = None, apart: float = APART) -> Pairs:
    """All pairs of one placement with click rates at least `apart` times apart. `among`: only ads at these places."""
    rates = click_rates(ads)
    placements = np.array([ad.placement for ad in ads])
    chosen = np.arange(len(ads)) if among is None else among
    more, less = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for placement in np.unique(placements[chosen]):
        here = chosen[placements[chosen] == placement]
        here = here[np.argsort(-rates[here], kind="stable")]
        one, other = np.triu_indices(len(here), 1)
        one, other = here[one], here[other]
        clear = (rates[one] >= apart * rates[other]) & (rates[one] > 0)
        more.append(one[clear])
        less.append(other[clear])
    return Pairs(np.concatenate(more), np.concatenate(less))


def folds_by(groups: Sequence[str], num_folds: int, seed: int) -> Places:
    """The fold of each ad; ads of one group are in one fold."""
    known = {group: place for place, group in enumerate(sorted(set(groups)))}
    order = np.random.default_rng(seed).permutation(len(known))
    folds: Places = order[np.array([known[group] for group in groups])] % num_folds
    return folds
