"""The planner's memory beside the program's own: layouts of five models, each run dry as its first and its last stage.

python -m benchmarks dryrun_layouts [--out FILE] [--model NAME]

FILE gets a line of JSON for each layout: {"model", "layout", "seq_len", "global_batch", "optimizer", "peak_bytes"};
`python -m benchmarks planner_memory --dryrun FILE` reads it. Lines that are there already are not run again. Rows hold one document: masks
of documents are a cost of their own (tests/training/test_dryrun.py has them).
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import planner_memory
from benchmarks.registry import Benchmark, Result


def run(quick: bool, options: dict[str, str]) -> Result:
    """Runs what FILE lacks, then compares."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(options.get("out", f"{folder}/dryruns.jsonl"))
        models = (options["model"],) if "model" in options else planner_memory.MODELS[: 1 if quick else None]
        known = [(line["model"], planner_memory.case_of(line, str(out))) for line in _lines(out)]
        for model in models:
            for case in planner_memory.cases(model):
                if (model, case) not in known:
                    line = measure(model, case)
                    with out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
        found = planner_memory.BENCHMARK.run(quick, {"dryrun": str(out)})
        return replace(found, details={**found.details, "seconds": [line["cpu_s"] for line in _lines(out)]})


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def measure(model: str, case: planner_memory.Case) -> dict[str, Any]:
    """The fuller of first and last stage."""
    from agora.cluster.models import model_shape
    from agora.config import from_dict
    from agora.training.config import TrainingConfig
    from agora.training.dryrun import dry_run, recorded_numbers
    from agora.training.optimizers import OptimizerConfig

    started_s, layout, seq_len = time.process_time(), case.layout, case.seq_len
    # memory does not grow once a rank is full, so the batch is cut to that
    passes = recorded_numbers(layout, layout.num_micro_batches(case.global_batch))[0]
    training = TrainingConfig(
        batch_tokens=passes * layout.data * layout.micro_batch * seq_len, seq_len=seq_len, micro_batch=layout.micro_batch,
        document_aware=False, optimizer=from_dict(OptimizerConfig, {"name": case.optimizer}, "optimizer"),
    )  # fmt: skip
    config = config_of(model_shape(model), seq_len)
    ranks = {0, layout.num_accelerators - 1} if layout.pipeline > 1 else {0}
    runs = [dry_run(config, training, layout, rank=rank) for rank in sorted(ranks)]
    fullest = max(runs, key=lambda run: run.record.peak_bytes)
    return {
        "model": model, "layout": asdict(layout), "seq_len": seq_len, "global_batch": case.global_batch,
        "optimizer": case.optimizer,
        "peak_bytes": fullest.record.peak_bytes, "by_kind": fullest.record.by_kind, "stage": fullest.stage,
        "peaks_of_stages": {str(run.stage): run.record.peak_bytes for run in runs}, "cpu_s": round(time.process_time() - started_s, 1),
    }  # fmt: skip


def config_of(shape: Any, seq_len: int) -> Any:
    """The network that Agora builds for a known shape: queries and keys are normed."""
    from agora.model.config import ModelConfig

    assert not shape.num_shared_experts and not shape.num_dense_layers and not shape.kv_latent
    return ModelConfig(
        vocab_size=shape.vocab_size, dim=shape.dim, num_layers=shape.num_layers, num_heads=shape.num_heads, num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim, hidden_dim=shape.hidden_dim, max_seq_len=seq_len, tie_embeddings=bool(shape.tie_embeddings),
        num_experts=shape.num_experts, experts_per_token=shape.experts_per_token or 1, expert_dim=shape.expert_dim or 1,
    )  # fmt: skip


BENCHMARK = Benchmark(
    measures="closed-form memory against dry runs of the program: mean error over all layouts; nothing said to fit that does not",
    unit="relative error",
    bound=planner_memory.BENCHMARK.bound,
    run=run,
    options=("out", "model"),
)
