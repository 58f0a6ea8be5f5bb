"""Parity of divided training: how far the numbers of a layout are from those of one process, and how long the whole suite takes.

python -m benchmarks parity
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import time
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

QUICK = ("shards", "tensor and sequence", "1f1b", "context")


def run(quick: bool, options: dict[str, str]) -> Result:
    """The largest relative difference in the first step's loss and gradient norm over all layouts."""
    sys.path.insert(0, str(REPOSITORY))
    ranks, suite = (importlib.import_module(f"tests.training.parity.{name}") for name in ("ranks", "test_parity"))
    layouts = {2: {name: suite.TWO[name] for name in QUICK}} if quick else {2: suite.TWO, 4: suite.FOUR}
    steps = 5 if quick else suite.STEPS
    rows: dict[str, Any] = {}
    expected = ranks.alone({"steps": steps})
    for num_ranks, cases in layouts.items():
        group = ranks.Ranks(num_ranks)
        try:
            for name, layout in cases.items():
                answers = group.run({"layout": layout, "steps": steps})
                rows[name] = {"layout": layout, **_differences(answers, expected)}
        finally:
            group.close()
    worst = max(max(row["first_loss"], row["first_grad_norm"]) for row in rows.values())
    details: dict[str, Any] = {"layouts": rows, "steps": steps, "tolerance": suite.FIRST}
    if not quick:
        details["suite"] = _suite()
    return Result(value=worst, holds=worst <= suite.FIRST and details.get("suite", {}).get("passes", True), details=details)


def _differences(answers: list[dict[str, Any]], expected: dict[str, Any]) -> dict[str, float]:
    def largest(name: str, part: slice) -> float:
        pairs: list[tuple[float, float]] = []
        for answer in answers:
            pairs += zip(answer[name][part], expected[name][part], strict=True)
        return max(abs(one - other) / abs(other) for one, other in pairs)

    first, everything = slice(0, 1), slice(None)
    return {
        "first_loss": largest("losses", first), "first_grad_norm": largest("grad_norms", first),
        "all_losses": largest("losses", everything), "all_grad_norms": largest("grad_norms", everything),
    }  # fmt: skip


def _suite() -> dict[str, Any]:
    """The tests marked parity, as they run in CI."""
    started_s = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-m", "parity", "tests/training/parity"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    found = re.findall(r"\d+ (?:passed|failed|error)[^\n]*", done.stdout)
    return {
        "passes": done.returncode == 0,
        "summary": found[-1] if found else done.stdout[-300:],
        "wall_s": time.perf_counter() - started_s,
    }


BENCHMARK = Benchmark(
    measures="largest relative difference between the first step of a divided run and of one process, over all layouts",
    unit="relative", bound="<= 2e-6", run=run,
)  # fmt: skip
