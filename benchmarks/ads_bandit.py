"""Thompson sampling against equal shares: clicks lost, and whether the best arm is kept.

python -m benchmarks ads_bandit [--quick] [--runs N]

Five arms with click rates of 1.0 to 1.5% (evenly apart, shuffled per run), 100,000 views, 200 runs (--quick: 60), shares anew after every
1,000 views. `value` is regret as a share of what equal shares lose; the bar also asks that the best arm is kept (the decision's best one at
the end) in 90% of runs. Random rates of the same range, and how often a true best arm was dropped, stand in the details.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from agora.ads.experiment import ExperimentConfig, simulate
from benchmarks.registry import Benchmark, Result, whole_number

REGRET_BAR, KEPT_BAR = 0.6, 0.9
NUM_ARMS, LOWEST, HIGHEST, NUM_VIEWS = 5, 0.010, 0.015, 100_000


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_runs = whole_number(options, "runs", 60 if quick else 200, at_least=1)
    found = {"evenly_apart": _runs(num_runs, evenly=True)} | ({} if quick else {"random_rates": _runs(num_runs, evenly=False)})
    main = found["evenly_apart"]
    holds = main["regret_of_uniform"] <= REGRET_BAR and main["best_kept"] >= KEPT_BAR
    return Result(value=main["regret_of_uniform"], holds=holds, details={"bars": {"regret": REGRET_BAR, "kept": KEPT_BAR}, **found})


def _runs(num_runs: int, *, evenly: bool) -> dict[str, Any]:
    regrets, uniform, kept, dropped, lost = 0.0, 0.0, 0, 0, []
    for seed in range(num_runs):
        random = np.random.default_rng(10_000 + seed)
        rates = random.permutation(np.linspace(LOWEST, HIGHEST, NUM_ARMS)) if evenly else random.uniform(LOWEST, HIGHEST, NUM_ARMS)
        test, regret = simulate(list(rates), NUM_VIEWS, ExperimentConfig(), seed=seed)
        best = list(test.counts)[int(rates.argmax())]
        chosen = list(test.counts).index(test.decision().best)
        regrets += regret
        uniform += NUM_VIEWS * float(rates.max() - rates.mean())
        kept += chosen == int(rates.argmax())
        dropped += best in test.dropped
        lost.append(float(1 - rates[chosen] / rates.max()))
    return {
        "runs": num_runs, "regret_of_uniform": round(regrets / uniform, 4), "regret_clicks": round(regrets / num_runs, 1),
        "regret_clicks_of_uniform": round(uniform / num_runs, 1), "best_kept": kept / num_runs, "best_dropped": dropped / num_runs,
        "clicks_lost_by_what_is_kept": round(float(np.mean(lost)), 5),
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="clicks lost by Thompson sampling as a share of what equal shares lose (5 arms, 1.0 to 1.5%, 100,000 views)",
    unit="share", bound="<= 0.60, and the best arm kept in >= 90% of runs", run=_run, options=("runs",),
)  # fmt: skip
