"""Parity of divided training: how far the numbers of every layout that the tests and docs/scaling.md name are from those of one process.

python -m benchmarks parity
python -m benchmarks parity --suite    # also `pytest -m parity`, which must pass within ten minutes: a figure of a quiet machine
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import time
from functools import cache
from typing import Any, Final

from benchmarks.registry import REPOSITORY, Benchmark, Result

QUICK = ("shards", "tensor and sequence", "1f1b", "context")
QUICK_EXPERTS = ("experts",)
SUITE_S: Final = 600.0


def run(quick: bool, options: dict[str, str]) -> Result:
    """The largest relative difference in the first step's loss and gradient norm over all layouts; later steps and the suite are held to
    their own bars."""
    sys.path.insert(0, str(REPOSITORY))
    ranks, suite = (importlib.import_module(f"tests.training.parity.{name}") for name in ("ranks", "test_parity"))
    steps = 5 if quick else suite.STEPS
    alone = cache(lambda case: ranks.alone(json.loads(case)))
    rows: dict[str, Any] = {}
    for num_ranks, cases in _cases(suite, quick).items():
        group = ranks.Ranks(num_ranks)
        try:
            for name, layout, case in cases:
                # the balance of experts is judged pass by pass, so one process must make the same passes
                passes = {"micro_batch": layout["micro_batch"]} if "model" in case and "micro_batch" in layout else {}
                expected = alone(json.dumps({**case, **passes, "steps": steps}))
                rows[name] = {"layout": layout, **_differences(group.run({"layout": layout, **case, "steps": steps}), expected)}
        finally:
            group.close()
    worst = max(max(row["first_loss"], row["first_grad_norm"]) for row in rows.values())
    later = suite.LATER["adamw"]
    beyond = [name for name, row in rows.items() if row["all_losses"] > later["losses"] or row["all_grad_norms"] > later["grad_norms"]]
    details: dict[str, Any] = {
        "layouts": rows, "steps": steps, "tolerance": suite.FIRST, "later_tolerances": later, "beyond_later_tolerances": beyond,
    }  # fmt: skip
    holds = worst <= suite.FIRST and not beyond
    if "suite" in options:
        details["suite"] = _suite()
        holds = holds and details["suite"]["passes"] and details["suite"]["wall_s"] <= SUITE_S
    return Result(value=worst, holds=holds, details=details)


def _cases(suite: Any, quick: bool) -> dict[int, list[tuple[str, dict[str, Any], dict[str, Any]]]]:
    """By number of ranks: name, layout, and what else the case says. All of the tests' layouts, and recomputation of each kind."""
    recomputed = {f"shards, {kind} recomputation": {**suite.TWO["shards"], "recompute": kind} for kind in ("selective", "full")}
    found: dict[int, list[tuple[str, dict[str, Any], dict[str, Any]]]] = {}
    for num_ranks, plain, experts in ((2, {**suite.TWO, **recomputed}, suite.TWO_EXPERTS), (4, suite.FOUR, suite.FOUR_EXPERTS)):
        found[num_ranks] = [(name, layout, {}) for name, layout in plain.items() if not quick or name in QUICK]
        found[num_ranks] += [
            (name, layout, {"model": suite.EXPERTS}) for name, layout in experts.items() if not quick or name in QUICK_EXPERTS
        ]  # fmt: skip
    return {num_ranks: cases for num_ranks, cases in found.items() if cases}


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
    """The tests marked parity, as `make parity` runs them."""
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
    measures="largest relative difference between the first step of a divided run and of one process, over all layouts; 20 steps within "
    "the tests' tolerances; with --suite, `pytest -m parity` within 600 s",
    unit="relative", bound="<= 2e-6", run=run, flags=("suite",),
)  # fmt: skip
