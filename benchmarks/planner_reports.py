"""Known runs and machines: predicted beside published, each within its bound.

python -m benchmarks planner_reports
"""

from __future__ import annotations

from benchmarks.registry import Benchmark, Result


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.cluster.calibrate import default_calibration
    from agora.cluster.validate import history

    checks = history(default_calibration())
    rows = {
        check.name: {
            "predicted": check.predicted,
            "published": check.published,
            "unit": check.unit,
            "bound": [check.low, check.high],
            "holds": check.holds,
            "is_judged": check.is_bar,
            "assumption": check.assumption,
        }
        for check in checks
    }
    failed = sum(not check.holds for check in checks if check.is_bar)
    return Result(value=failed, holds=failed == 0, details=rows)


BENCHMARK = Benchmark(
    measures="published figures of known runs that the planner misses by more than their bound", unit="figures", bound="0", run=_run
)
