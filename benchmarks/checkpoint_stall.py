"""How long training stands still for a checkpoint of the laptop model: the copy in memory, and the steps slowed while it is written.

python -m benchmarks checkpoint_stall
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.registry import Benchmark, Result


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternates plain steps with steps during which a checkpoint is written."""
    import torch

    import recipes
    from agora.model.transformer import Transformer
    from agora.training.checkpoint import CheckpointWriter, save_checkpoint
    from agora.training.step import Batch, TrainingStep

    recipe = recipes.load("laptop")
    rows, length = (4, 256) if quick else (8, 512)
    step = TrainingStep(Transformer(recipe.model), recipe.training.optimizer)
    tokens_BT = torch.randint(0, recipe.model.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous())
    step.run([batch])
    stalls, plain, slowed, whole = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        writer = CheckpointWriter(Path(folder), keep=2)
        for number in range(3 if quick else 6):
            plain.append(_seconds(lambda: step.run([batch])))
            before = time.perf_counter()
            stalls.append(_seconds(lambda number=number: writer.save(number, {"step": step.state_dict()})))  # type: ignore[misc]
            slowed.append(_seconds(lambda: step.run([batch])))
            writer.wait()
            whole.append(time.perf_counter() - before)
        name = save_checkpoint(Path(folder), 100, {"step": step.state_dict()})
        size_bytes = sum(file.stat().st_size for file in (Path(folder) / name).iterdir())
    stall_s = statistics.median(stalls) + max(0.0, statistics.median(slowed) - statistics.median(plain))
    details: dict[str, Any] = {
        "copy_s": statistics.median(stalls), "step_s": statistics.median(plain), "step_while_writing_s": statistics.median(slowed),
        "until_on_disk_s": statistics.median(whole), "checkpoint_bytes": size_bytes, "batch": [rows, length],
    }  # fmt: skip
    return Result(value=stall_s, holds=stall_s <= 1.0, details=details)


def _seconds(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


BENCHMARK = Benchmark(
    measures="seconds that one checkpoint of the 10M model costs a training run", unit="s", bound="<= 1.0", run=run
)  # fmt: skip
