"""Processor seconds and memory of a dry run of one rank out of 100,352: a dense model of 405B and a mixture of 314B.

python -m benchmarks dryrun_world

The whole command is measured, from the start of Python to its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

MOST_CPU_S, MOST_BYTES = 60.0, 1.5e9
COMMANDS = {
    "dense 405B": ["h100_100k", "--world", "100352", "--rank", "50000"],
    "mixture 314B": [
        "h100_10k", "--world", "100352", "--rank", "50000", "layout.shard=64", "layout.tensor=4", "layout.context=1", "layout.virtual=1",
        "layout.schedule=1f1b", "layout.recompute=full", f"training.batch_tokens={49 * 64 * 8 * 8192}",
    ],
}  # fmt: skip


def run(quick: bool, options: dict[str, str]) -> Result:
    """The largest of the processor times; --quick runs the mixture alone."""
    rows = {name: _measure(words) for name, words in COMMANDS.items() if not quick or name == "mixture 314B"}
    holds = all(row["cpu_s"] <= MOST_CPU_S and row["most_memory_bytes"] <= MOST_BYTES for row in rows.values())
    return Result(value=max(row["cpu_s"] for row in rows.values()), holds=holds, details=rows)


def _measure(words: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out")
        with out.open("wb") as file:
            command = [sys.executable, "-m", "agora", "train", "dryrun", *words, "--json", "--workspace", folder]
            process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed with {process.returncode}")
        (rank,) = json.loads(out.read_text(encoding="utf-8"))["ranks"]
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime, "most_memory_bytes": usage.ru_maxrss * 1024, "peak_bytes": rank["peak_bytes"],
        "by_kind": rank["by_kind"], "micro_batches": rank["num_micro_batches"], "stage": rank["stage"], "flops": rank["flops"],
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="processor seconds of a dry run of one rank of 100,352, dense 405B and mixture 314B; each within 1.5 GB of memory",
    unit="s", bound=f"<= {MOST_CPU_S:.0f}", run=run,
)  # fmt: skip
