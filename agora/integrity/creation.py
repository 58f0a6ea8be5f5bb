"""Were the accounts of a group made together? Goes in: groups and the days on which accounts were made, where known. Comes out: one test
per group, for people to see: it never labels anybody, because a wave of newcomers is made together as well.

Counts pairs of members made within WINDOW_S of each other. Null: as many accounts drawn from those with a known date that post about as
much (bands of a factor of four), so a group of newcomers is compared with accounts that could have been in it.
Not covered: accounts bought or kept for years; groups of which fewer than MIN_DATED dates are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.control import q_values
from agora.integrity.records import Evidence
from agora.integrity.shared import Longs

WINDOW_S: Final = 7 * 86_400
MIN_DATED: Final = 4
_DRAWS: Final = 1_999
_BAND: Final = 4.0


def made_together(
    groups: Sequence[npt.NDArray[Any]], created: Mapping[int, int], num_posts: npt.NDArray[Any], *, seed: int
) -> list[Evidence | None]:
    """Per group (account codes) its test, or None where too few dates are known. `created`: seconds since 1970 by account code."""
    if not created:
        return [None] * len(groups)
    dated = np.array(sorted(created), np.int64)
    made_s = np.array([created[account] for account in dated.tolist()], np.int64)
    band = (np.log(np.maximum(num_posts[dated], 1)) / np.log(_BAND)).astype(np.int64)
    tests = [_test(np.searchsorted(dated, one[np.isin(one, dated)]), made_s, band, seed) for one in groups]
    q = iter(q_values(np.array([test.p_value for test in tests if test is not None])))
    return [None if test is None else replace(test, q_value=float(next(q))) for test in tests]


def _test(members: Longs, made_s: Longs, band: Longs, seed: int) -> Evidence | None:
    if len(members) < MIN_DATED:
        return None
    rng = np.random.default_rng((seed, len(members), int(made_s[members].sum()) & 0xFFFF_FFFF))
    bands, counts = np.unique(band[members], return_counts=True)
    drawn = np.concatenate([_draws(rng, made_s[band == one], count) for one, count in zip(bands, counts.tolist(), strict=True)], axis=1)
    observed, expected = int(_close(made_s[members][None])[0]), _close(drawn)
    p_value = (1 + int((expected >= observed).sum())) / (1 + _DRAWS)
    return Evidence(
        test="creation", signal="account", window_s=WINDOW_S, num_occasions=len(members), observed=float(observed),
        expected=float(expected.mean()), p_value=p_value, q_value=1.0,
    )  # fmt: skip


def _draws(rng: np.random.Generator, pool: Longs, count: int) -> Longs:
    """_DRAWS rows of `count` different ones of `pool`."""
    return np.stack([rng.choice(pool, count, replace=False, shuffle=False) for _ in range(_DRAWS)])


def _close(made_s: Longs) -> Longs:
    """Pairs within the window, per row."""
    made_s = np.sort(made_s, axis=1)
    return np.array([(np.searchsorted(row, row + WINDOW_S, side="right") - np.arange(1, len(row) + 1)).sum() for row in made_s])
