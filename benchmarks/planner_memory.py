"""Closed-form memory of the planner beside dry runs of the program, model by model and layout by layout.

python -m benchmarks planner_memory [--dryrun FILE]

The dry runs are those kept beside the tests, or JSON lines {"model", "layout": {...}, "seq_len", "global_batch", "peak_bytes"} in FILE
(with "optimizer": "muon" where it is not AdamW), which `python -m benchmarks dryrun_layouts --out FILE` makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

MEAN_BOUND, MAX_BOUND = 0.03, 0.08
SEQ_LEN = 8192
KEPT = REPOSITORY / "tests" / "cluster" / "dryruns.jsonl"
MODELS = ("Llama-3-8B", "Llama-3-70B", "Llama-3-405B", "Grok-1-314B", "Qwen3-30B-A3B")


@dataclass(frozen=True, slots=True)
class Case:
    """A run whose memory is asked; `global_batch` in sequences."""

    layout: Any
    global_batch: int
    optimizer: Any = "adamw"
    seq_len: int = SEQ_LEN


def cases(model: str) -> list[Case]:
    """Plain layouts of every model, then selective recomputation: of mixtures with Muon, two of them those of the recipes gpu8 and
    h100_10k."""
    from agora.cluster.layout import Layout

    plain = [Case(layout, global_batch) for layout, global_batch in _plain_layouts().get(model, [])]
    long = Layout(shard=128, tensor=8, pipeline=16, virtual=4, schedule="interleaved", sharding="gradients", recompute="selective")
    ring = Layout(
        replicate=5, shard=32, tensor=2, context=4, pipeline=8, virtual=8, schedule="interleaved", expert=8, recompute="selective"
    )
    selective = {
        "Llama-3-405B": [Case(long, 2048)],
        "Grok-1-314B": [Case(ring, 2560, "muon"), Case(Layout(shard=512, expert=8, recompute="selective"), 512, "muon")],
        "Qwen3-30B-A3B": [
            Case(Layout(shard=8, expert=8, micro_batch=2, recompute="selective"), 512, "muon", 4096),
            Case(Layout(shard=16, tensor=2, expert=16, micro_batch=2, recompute="selective"), 512, "muon", 4096),
        ],
    }
    return plain + selective.get(model, [])


def _plain_layouts() -> dict[str, list[tuple[Any, int]]]:
    from agora.cluster.layout import Layout

    return {
        "Llama-3-8B": [
            (Layout(shard=64, micro_batch=1), 64),
            (Layout(shard=8, tensor=8, micro_batch=2), 64),
            (Layout(shard=16, tensor=2, pipeline=4, sharding="gradients"), 256),
            (Layout(shard=256, micro_batch=2, recompute="full"), 512),
        ],
        "Llama-3-70B": [
            (Layout(shard=256, recompute="full"), 256),
            (Layout(shard=32, tensor=8), 128),
            (Layout(shard=16, tensor=8, pipeline=4, recompute="full", sharding="optimizer"), 256),
            (Layout(shard=16, tensor=4, pipeline=8, virtual=2, schedule="interleaved", recompute="full", sharding="gradients"), 256),
        ],
        "Llama-3-405B": [
            (Layout(shard=128, tensor=8, pipeline=16, recompute="full", sharding="gradients"), 2048),
            (Layout(shard=512, tensor=8, recompute="full"), 1024),
            (Layout(replicate=28, shard=28, tensor=8, pipeline=16, recompute="full"), 12544),
            (Layout(shard=32, tensor=8, pipeline=16, virtual=4, schedule="interleaved", recompute="full", sharding="optimizer"), 1024),
        ],
        "Grok-1-314B": [
            (Layout(shard=512, expert=8, recompute="full"), 512),
            (Layout(shard=128, tensor=8, expert=8), 512),
            (Layout(shard=64, tensor=2, pipeline=8, expert=8, recompute="full", sharding="gradients"), 512),
            (Layout(replicate=4, shard=128, tensor=4, expert=8, recompute="full", micro_batch=2), 1024),
        ],
    }  # fmt: skip


def _run(quick: bool, options: dict[str, str]) -> Result:
    rows = dry_run_rows(Path(options.get("dryrun", KEPT)))
    errors = [abs(row["error"]) for row in rows]
    mean, worst = sum(errors) / len(errors), max(errors)
    # what the planner would reserve, margin included, against what is needed
    short = [row for row in rows if row["reserved_bytes"] < row["exact_bytes"]]
    details = {
        "mean": mean,
        "max": worst,
        "too_small": short,
        "rows": rows,
    }
    return Result(value=mean, holds=mean <= MEAN_BOUND and worst <= MAX_BOUND and not short, details=details)


def _row(model: str, case: Case, shape: Any, exact: float) -> dict[str, Any]:
    import numpy as np

    from agora.cluster.columns import stack_layouts
    from agora.cluster.memory import memory_bytes
    from agora.cluster.step_time import Batch

    batch = Batch(seq_len=case.seq_len, global_batch=case.global_batch)
    found = memory_bytes(shape, batch, stack_layouts([case.layout]), documents=False, optimizer=case.optimizer)
    counted = float(np.ravel(found.counted)[0])
    return {
        "model": model, "layout": case.layout.describe(), "optimizer": case.optimizer, "predicted_bytes": counted,
        "exact_bytes": exact, "error": counted / exact - 1,
        "reserved_bytes": float(np.ravel(found.total)[0]),
    }  # fmt: skip


def dry_run_rows(path: Path) -> list[dict[str, Any]]:
    """A row for each line of `path`: the planner's figure beside that of the dry run."""
    from agora.cluster.models import model_shape
    from agora.errors import DataError

    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"--dryrun {path} cannot be read as JSON lines: {error}") from error
    rows = []
    for line in lines:
        shape = replace(model_shape(line["model"]), qk_norm=True)
        rows.append(_row(line["model"], case_of(line, str(path)), shape, float(line["peak_bytes"])))
    return rows


def case_of(line: dict[str, Any], where: str) -> Case:
    """The run that a line is of."""
    from agora.cluster.layout import Layout
    from agora.config import from_dict

    layout = from_dict(Layout, line["layout"], where)
    return Case(layout, int(line["global_batch"]), line.get("optimizer", "adamw"), int(line["seq_len"]))


BENCHMARK = Benchmark(
    measures="closed-form memory against dry runs of the program: mean error over all layouts; nothing said to fit that does not",
    unit="relative error",
    bound=f"mean <= {MEAN_BOUND}, max <= {MAX_BOUND}",
    run=_run,
    options=("dryrun",),
)
