"""Goodput formulas against the event simulation, from 1,024 to 100,352 accelerators (a million shown), several costs and spares.

python -m benchmarks planner_goodput [--quick]
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks.registry import Benchmark, Result

BOUND = 0.01
_NUMBERS = (1_024, 4_096, 16_384, 32_768, 100_352, 1_000_000)
_LARGEST_OF_BAR = 100_352
_STATE_BYTES = 405.9e9 * 14  # a dense 405B model, 14 bytes a parameter


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.cluster.failure_simulation import simulate_elastic_goodput, simulate_goodput
    from agora.cluster.failures import best_interval_s, elastic_goodput, failure_model, goodput

    failures, worst = 4_000 if quick else 40_000, 0.0
    rows: list[dict[str, object]] = []
    for number in _NUMBERS:
        model = failure_model(num_accelerators=number, checkpoint_bytes=_STATE_BYTES, accelerators_per_node=8)
        needed = model.repair_s / model.mean_time_s
        for stall_s, write_s in ((model.stall_s, model.write_s), (10.0, 30.0), (60.0, 60.0)):
            for restart_s in (60.0, 420.0, 900.0):
                for spares in (model.num_spare_nodes, max(0, round(needed))):
                    case = replace(model, stall_s=stall_s, write_s=write_s, restart_s=restart_s, num_spare_nodes=spares)
                    for stretch in (1.0, 3.0):
                        interval = best_interval_s(case) * stretch
                        formula = float(goodput(case, interval))
                        played = simulate_goodput(case, interval, num_failures=failures, seed=7)
                        rows.append(
                            {
                                "accelerators": number,
                                "stall_s": stall_s,
                                "restart_s": restart_s,
                                "spares": spares,
                                "formula": formula,
                                "simulated": played,
                            }
                        )
                        if number <= _LARGEST_OF_BAR:
                            worst = max(worst, abs(formula - played))
        formula = float(elastic_goodput(model, 512, 600.0, 5.0, 60.0))
        played = simulate_elastic_goodput(model, 512, 600.0, 5.0, 60.0, num_failures=failures, seed=7)
        rows.append({"accelerators": number, "recovery": "one replica at a time", "formula": formula, "simulated": played})
        if number <= _LARGEST_OF_BAR:
            worst = max(worst, abs(formula - played))
    return Result(
        value=float(worst), holds=bool(worst <= BOUND), details={"cases": len(rows), "interruptions_per_case": failures, "rows": rows}
    )


BENCHMARK = Benchmark(
    measures="largest difference of goodput between formulas and event simulation, 1k to 100k accelerators",
    unit="share",
    bound=f"<= {BOUND}",
    run=_run,
)
