"""Nothing is left of any coordination: who shared an artefact when is shuffled within the artefact. How often is anybody labelled?

python -m benchmarks integrity_calibration [--quick] [--runs 200]

Who shared what, how often, and when each artefact was shared stay as they are; in every artefact of every signal the sharers change
places at random, so each assignment of its times to its sharers is equally likely. That is the null of the timing test, whose p-values
stand in the details. The burst test looks at exclusive artefacts, whose sharers stay the same group however they change places: on
squares with campaigns it must still speak, so there the timing test runs alone; on squares without campaigns all tests run. Each data
set is a shuffle of its own; several shuffles share a square.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.registry import Benchmark, Result, whole_number

if TYPE_CHECKING:
    from agora.integrity.shared import Shares

MAX_SHARE: Final = 0.05
NUM_POSTS: Final = 16_000
PER_SQUARE: Final = 20


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.posts.simulate import DEFAULT_CAMPAIGNS
    from benchmarks.integrity_squares import FIRST_SEED

    runs = whole_number(options, "runs", 24 if quick else 200, at_least=1)
    settings = {"organic squares, all tests": ((), False), "squares with campaigns, timing test": (DEFAULT_CAMPAIGNS, True)}
    details: dict[str, Any] = {"runs_each": runs, "posts_each": NUM_POSTS}
    worst = 0.0
    for number, (name, (campaigns, only_timing)) in enumerate(settings.items()):
        counts = _count(runs, FIRST_SEED + 300 + 100 * number, campaigns, only_timing, 6 if quick else PER_SQUARE)
        share = counts["runs_with_a_label"] / runs
        worst = max(worst, share)
        details[name] = {
            **counts,
            "share_with_a_label": share,
            "share_with_a_confirmed_group": counts["runs_with_a_confirmed_group"] / runs,
        }
    return Result(value=worst, holds=worst <= MAX_SHARE, details=details)


def _count(runs: int, seed: int, campaigns: tuple[Any, ...], only_timing: bool, per_square: int) -> dict[str, Any]:
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.detect import detect
    from agora.integrity.scan import examine
    from agora.posts.simulate import SquareConfig, follow_graph
    from benchmarks.integrity_squares import labels, read_square

    p_values: list[float] = []
    counts = {"runs_with_a_label": 0, "runs_with_a_confirmed_group": 0, "tests": 0, "labelled_before_shuffling": 0}
    for start in range(0, runs, per_square):
        config = SquareConfig(num_posts=NUM_POSTS, num_accounts=NUM_POSTS // 20, seed=seed + start // per_square, campaigns=campaigns)
        with read_square(config) as square:
            follows = follow_graph(config)
            found = _without_bursts(square.found) if only_timing else square.found
            counts["labelled_before_shuffling"] += len(labels(examine(square.posts, found, config=IntegrityConfig(), follows=follows)))
            some = detect(shuffle(found, np.random.default_rng([seed, runs, start])), square.posts.num_accounts, IntegrityConfig())
            tests = [test for one in some.confirmed + some.rejected for test in one.evidence]
            p_values += [test.p_value for test in tests if test.test == "timing"]
            for number in range(start, min(start + per_square, runs)):
                shuffled = shuffle(found, np.random.default_rng([seed, number]))
                result = examine(square.posts, shuffled, config=IntegrityConfig(seed=number), follows=follows)
                counts["runs_with_a_label"] += bool(labels(result))
                confirmed = [campaign for campaign in result.campaigns if campaign.state not in ("shared_interest", "explained")]
                counts["runs_with_a_confirmed_group"] += bool(confirmed)
                counts["tests"] += result.num_tests
    return {
        **counts,
        "timing_tests_with_p": {f"<= {level}": float(np.mean(np.array(p_values) <= level)) for level in (0.1, 0.05, 0.01, 0.001)},
    }


def shuffle(found: Mapping[str, Shares], rng: np.random.Generator) -> dict[str, Shares]:
    """In every artefact the sharers (account and post) change places; times and halves stay."""
    result = {}
    for name, one in found.items():
        place = np.lexsort((rng.random(len(one.artefact)), one.artefact))  # rows are ordered by artefact, so this stays within
        account, post = one.account[place], one.post[place]
        order = np.lexsort((post, account, one.time_s, one.artefact))
        result[name] = replace(one, account=account[order], post=post[order], half=one.half[order])
    return result


def _without_bursts(found: Mapping[str, Shares]) -> dict[str, Shares]:
    return {name: replace(one, signal=replace(one.signal, organic_bursts={})) for name, one in found.items()}


BENCHMARK = Benchmark(
    measures="data sets with any label although sharers were shuffled within artefacts; the worse of two settings",
    unit="share of runs", bound="<= 0.05", run=_run, options=("runs",),
)  # fmt: skip
