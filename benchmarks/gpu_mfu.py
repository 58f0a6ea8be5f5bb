"""Model FLOPs of a second on one GPU against its measured matmul rate, for a dense model of 1.5B parameters; and what the dry run says of
its memory.

python -m benchmarks gpu_mfu

Each way of running is a process of its own, so that memory is its own: one process without a wrapper (plain), the engine of many GPUs on
one (divided), compiled, in float8. FLOPs are those of the model (agora.model.counts: the causal half of attention, no recomputation). The
best bf16 one must reach half of the rate of large products, measured in the same process; the peak that the dry run gives for the divided
step must lie within 5% of torch.cuda.max_memory_allocated. Without a GPU nothing is measured and the exit code is 2; --quick then takes
every way through a tiny model on the processor, so that none is broken on the day a GPU is there.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.registry import REPOSITORY, Benchmark, Result

MFU_BAR: Final = 0.5
MEMORY_BAR: Final = 0.05
WAYS: Final[dict[str, dict[str, Any]]] = {
    "plain": {"divided": False, "compile": False, "float8": "off"},
    "plain, compiled": {"divided": False, "compile": True, "float8": "off"},
    "divided": {"divided": True, "compile": False, "float8": "off"},
    "divided, compiled": {"divided": True, "compile": True, "float8": "off"},
    "divided, compiled, float8 rowwise": {"divided": True, "compile": True, "float8": "rowwise"},
    "divided, compiled, float8 tensorwise": {"divided": True, "compile": True, "float8": "tensorwise"},
}


def run(quick: bool, options: dict[str, str]) -> Result:
    """Raises UsageError without a GPU; with --quick only after every way has run on the processor."""
    import torch

    from agora.errors import AgoraError, UsageError

    if not torch.cuda.is_available():
        if not quick:
            raise UsageError("gpu_mfu needs an NVIDIA or AMD GPU, and there is none here; --quick tries its parts on the processor")
        found = measure(task("cpu", quick=True), rounds=1)
        broken = [name for name, row in found.items() if "error" in row]
        if broken:
            raise AgoraError(f"gpu_mfu is broken: {broken[0]}: {found[broken[0]]['error']}")
        print(json.dumps(found, indent=2))
        raise UsageError(f"there is no GPU here: all {len(found)} ways ran on the processor, and nothing was measured")
    found = measure(task("cuda", quick=quick), rounds=1 if quick else 3)
    sixteen = {name: row["share"] for name, row in found.items() if "share" in row and "float8" not in name}
    best = max(sixteen.values(), default=0.0)
    memory = found["divided"].get("dry_run_error")
    details = {
        "ways": found,
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "bars": {"share": MFU_BAR, "memory": MEMORY_BAR},
    }
    holds = best >= MFU_BAR and memory is not None and abs(memory) <= MEMORY_BAR
    return Result(value=best, holds=holds, details=details)


def task(device: str, *, quick: bool) -> dict[str, Any]:
    """Sizes: what a GPU of 80 GB holds in every way, or something tiny."""
    tiny = {
        "vocab_size": 128, "dim": 32, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16, "hidden_dim": 64,
        "max_seq_len": 64,
    }  # fmt: skip
    large = {
        "vocab_size": 65_536, "dim": 2048, "num_layers": 24, "num_heads": 16, "num_kv_heads": 8, "head_dim": 128, "hidden_dim": 6144,
        "max_seq_len": 4096, "tie_embeddings": False,
    }  # fmt: skip
    if device == "cpu":
        return {"device": device, "model": tiny, "rows": 2, "passes": 2, "steps": 1, "warm_up": 1, "budget_s": 0.01}
    return {"device": device, "model": large, "rows": 2, "passes": 4, "steps": 3 if quick else 10, "warm_up": 3, "budget_s": 1.0}


def measure(what: dict[str, Any], *, rounds: int) -> dict[str, dict[str, Any]]:
    """Every way in turn, round after round; the median share of each with the rest of its last run."""
    found: dict[str, dict[str, Any]] = {}
    shares: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            found[name] = _process({**what, **way})
            shares[name] += [found[name]["share"]] if "share" in found[name] else []
    for name, values in shares.items():
        if values:
            found[name] |= {"share": statistics.median(values), "shares": values}
    return found


def _process(what: dict[str, Any]) -> dict[str, Any]:
    """One way in a process of its own; {"error": ...} when it fails, so that the others are still measured."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    command = [sys.executable, "-m", "benchmarks.gpu_mfu", json.dumps(what)]
    done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit code {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _one(what: dict[str, Any]) -> dict[str, Any]:
    """Share, tokens per second and peak memory of one way."""
    import time

    import torch

    from agora.model.config import ModelConfig
    from agora.model.counts import flops_per_token, num_parameters
    from agora.training.machine import measure_matmul_limit
    from agora.training.step import Batch

    device, config = what["device"], ModelConfig(**what["model"])
    rows, passes, length = what["rows"], what["passes"], config.max_seq_len
    shapes = [(64, 64, 64)] if device == "cpu" else None
    limit = measure_matmul_limit(device, "bfloat16", shapes=shapes, budget_s=what["budget_s"])
    tokens_BT = torch.randint(0, config.vocab_size, (passes, rows, length + 1), generator=torch.Generator().manual_seed(0))
    batches = [Batch(part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in tokens_BT]
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = _step(what, config)
    for _ in range(what["warm_up"]):
        step.run(batches)
    _synchronize(device)
    started_s = time.perf_counter()
    losses = [step.run(batches).loss for _ in range(what["steps"])]
    _synchronize(device)
    seconds = (time.perf_counter() - started_s) / what["steps"]
    tokens_per_s = passes * rows * length / seconds
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    limit = max(
        limit, measure_matmul_limit(device, "bfloat16", shapes=None if device != "cpu" else [(64, 64, 64)], budget_s=what["budget_s"])
    )
    dry = _dry_run(what, config) if what["divided"] and not what["compile"] else None
    return {
        "share": tokens_per_s * flops_per_token(config, length) / limit, "tokens_per_s": tokens_per_s, "step_s": seconds,
        "matmul_tflops": limit / 1e12, "parameters": int(num_parameters(config).total), "loss": losses[-1], "peak_bytes": peak,
        "dry_run_bytes": dry, "dry_run_error": dry / peak - 1 if dry and peak else None,
    }  # fmt: skip


def _step(what: dict[str, Any], config: Any) -> Any:
    """The step that is measured."""
    import torch

    from agora.cluster.layout import Layout
    from agora.model.transformer import Transformer
    from agora.training import parallelize
    from agora.training.float8 import use_float8
    from agora.training.optimizers import OptimizerConfig
    from agora.training.sharded_step import ShardedStep
    from agora.training.step import TrainingStep

    device, optimizer = what["device"], OptimizerConfig(name="adamw")
    if not what["divided"]:
        return TrainingStep(Transformer(config), optimizer, device=device, compile=what["compile"])
    meeting = Path(tempfile.mkdtemp()) / "store"
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, init_method=f"file://{meeting}", rank=0, world_size=1)
    if device == "cpu":  # the roundings without the products
        setattr(parallelize, "use_float8", functools.partial(use_float8, emulate=True))  # noqa: B010  (mypy: not an export)
    with torch.device("meta"):
        model = Transformer(config)
    return ShardedStep(
        model, optimizer, Layout(micro_batch=what["rows"]), seq_len=config.max_seq_len, device=device, seed=0, compile=what["compile"],
        backend="inductor" if device == "cuda" else "aot_eager", float8=what["float8"],
    )  # fmt: skip


def _dry_run(what: dict[str, Any], config: Any) -> float | None:
    """Peak bytes that the dry run gives for the same step; none where this version has no dry run."""
    import torch

    from agora.cluster.layout import Layout
    from agora.training.config import TrainingConfig
    from agora.training.optimizers import OptimizerConfig

    if importlib.util.find_spec("agora.training.dryrun") is None:
        return None
    torch.distributed.destroy_process_group()
    length = config.max_seq_len
    training = TrainingConfig(
        seq_len=length, micro_batch=what["rows"], batch_tokens=what["rows"] * what["passes"] * length, dtype="bfloat16",
        optimizer=OptimizerConfig(name="adamw"),
    )  # fmt: skip
    layout = replace(Layout(), micro_batch=what["rows"])
    return float(importlib.import_module("agora.training.dryrun").dry_run(config, training, layout, world=1, rank=0).record.peak_bytes)


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


BENCHMARK = Benchmark(
    measures="model FLOP/s of a 1.5B dense model in bf16 over the GPU's measured matmul rate (and the dry run's memory within 5%)",
    unit="share", bound=f">= {MFU_BAR} and memory within {MEMORY_BAR:.0%}", run=run,
)  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(_one(json.loads(sys.argv[1]))))
