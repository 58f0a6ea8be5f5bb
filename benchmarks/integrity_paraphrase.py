"""Campaigns whose every post is worded anew: how many of their accounts get a label, with and without the meaning layer.

python -m benchmarks integrity_paraphrase [--quick] [--seeds N]

Squares with three campaigns each that share only their claim: waves of 60 s, 10 min and 2 h. `value` is the share of campaign accounts that
are labelled with meaning=true; the bar also asks that at most 0.1% of ordinary accounts are. Fandoms, fan club, news crowds,
syndication and protest are all there; what happens to each stands in the details. The seeds are none of those used for tuning (1 to 6).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.registry import Benchmark, Result, whole_number

RECALL_BAR = 0.7
ORDINARY_BAR = 0.001
FIRST_SEED = 801
JITTER_S = {"jitter_60s": 60.0, "jitter_10min": 600.0, "jitter_2h": 7200.0}


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_seeds = whole_number(options, "seeds", 2 if quick else 5, at_least=1)
    size = (50_000, 2_500) if quick else (200_000, 8_000)
    runs = [_one(FIRST_SEED + number, *size, with_plain=not quick or number == 0) for number in range(num_seeds)]
    recall = {name: sum(run["with_meaning"][name] for run in runs) / len(runs) for name in JITTER_S}
    ordinary = sum(run["with_meaning"]["ordinary"] for run in runs) / len(runs)
    value = sum(recall.values()) / len(recall)
    holds = value >= RECALL_BAR and ordinary <= ORDINARY_BAR
    return Result(value=value, holds=holds, details={"recall_by_jitter": recall, "ordinary_labelled": ordinary, "runs": runs})


def _one(seed: int, num_posts: int, num_accounts: int, *, with_plain: bool) -> dict[str, Any]:
    """Share of each group's accounts labelled in one square."""
    import pyarrow as pa

    from agora.integrity.batch import POST_COLUMNS
    from agora.posts.simulate import Campaign, SquareConfig, ground_truth, simulate

    campaigns = tuple(
        Campaign(
            name=name, num_accounts=25, num_waves=12, jitter_s=jitter_s, participation=0.7, camouflage=0.3, channel="text",
            text="paraphrased",
        )
        for name, jitter_s in JITTER_S.items()
    )  # fmt: skip
    config = SquareConfig(num_posts=num_posts, num_accounts=num_accounts, seed=seed, campaigns=campaigns)
    batches = pa.concat_tables(simulate(config)).select(list(POST_COLUMNS)).to_batches()
    truth = ground_truth(config)
    group = dict(zip(truth["author"].to_pylist(), truth["group"].to_pylist(), strict=True))
    found: dict[str, Any] = {"seed": seed, "with_meaning": _labelled(batches, group, meaning=True)}
    if with_plain:
        found["without_meaning"] = _labelled(batches, group, meaning=False)
    return found


def _labelled(batches: list[Any], group: dict[str, str], *, meaning: bool) -> dict[str, float]:
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.scan import scan

    with tempfile.TemporaryDirectory() as work:
        result = scan(batches, Path(work), config=IntegrityConfig(meaning=meaning))
    labelled = Counter(group[account] for account in {member.account for one in result.campaigns for member in one.labelled})
    return {name: labelled[name] / size for name, size in Counter(group.values()).items()}


BENCHMARK = Benchmark(
    measures="share of accounts of paraphrasing campaigns labelled", unit="share", bound=">= 0.7", run=_run, options=("seeds",)
)
