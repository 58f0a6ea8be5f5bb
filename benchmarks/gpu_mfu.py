"""Model FLOPs of a second on one GPU against its measured matmul rate, for a dense model of 1.5B parameters; and what the dry run says of
its memory.

python -m benchmarks gpu_mfu

Each way of running is a process of its own, so that memory is its own: one process without a wrapper (plain), the engine of many GPUs on
one (divided), compiled, in float8. FLOPs are those of the model (agora.model.counts: the causal half of attention, no recomputation). The
best bf16 one must reach half of the rate of large products, measured in the same process; the peak that the dry run gives for the divided
step must lie within 5% of torch.cuda.max_memory_allocated; and no way may fail: one that this GPU has no products for is named and left
out. Without a GPU nothing is measured and the exit code is 2; --quick then takes every way through a tiny model on the processor, so that
none is broken on the day a GPU is there.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any, Final

from benchmarks.registry import REPOSITORY, Benchmark, Result

MFU_BAR: Final = 0.5
MEMORY_BAR: Final = 0.05
_MARK: Final = "result: "
_MOST_S: Final = 900  # one process: drawing 1.5B weights, compiling, steps
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
            raise UsageError(
                "gpu_mfu needs an NVIDIA or AMD GPU, and there is none here: nothing was measured; --quick tries its parts on the processor"
            )
        tried = dict(zip(WAYS, _process([{**task("cpu", quick=True), **way} for way in WAYS.values()]), strict=True))
        if broken := {name: row["error"] for name, row in tried.items() if "error" in row}:
            raise AgoraError("gpu_mfu is broken: " + "; ".join(f"{name}: {error}" for name, error in broken.items()))
        raise UsageError(f"there is no GPU here, so nothing was measured; all {len(tried)} ways go through a tiny model on the processor")
    found = measure(task("cuda", quick=quick), rounds=1 if quick else 3)
    return judge(found, {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__})


def judge(found: dict[str, dict[str, Any]], where: dict[str, str]) -> Result:
    """Best share of the bf16 ways; holds when that and the memory are within their bars and no way failed."""
    best = max((row["share"] for name, row in found.items() if "share" in row and "float8" not in name), default=0.0)
    memory = found["divided"].get("dry_run_error")
    failed = {name: row["error"] for name, row in found.items() if "error" in row}
    left_out = {name: row["left_out"] for name, row in found.items() if "left_out" in row}
    holds = not failed and best >= MFU_BAR and memory is not None and abs(memory) <= MEMORY_BAR
    bars = {"share": MFU_BAR, "memory": MEMORY_BAR}
    return Result(value=best, holds=holds, details={**where, "failed": failed, "left_out": left_out, "bars": bars, "ways": found})


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
    """Every way in turn, round after round; the median share of each with the rest of its last run. One that failed once has failed."""
    found: dict[str, dict[str, Any]] = {}
    shares: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, way in WAYS.items():
            if "error" not in found.get(name, {}):
                (found[name],) = _process([{**what, **way}])
                shares[name] += [found[name]["share"]] if "share" in found[name] else []
    for name, values in shares.items():
        if values:
            found[name] |= {"share": statistics.median(values), "shares": values}
    return found


def _process(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A process of its own for these ways, one after the other; {"error": ...} for one that ends it and for those behind it."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    command = [sys.executable, "-m", "benchmarks.gpu_mfu", json.dumps(tasks)]
    try:
        done = subprocess.run(command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=_MOST_S, check=False)
    except subprocess.TimeoutExpired:
        return [{"error": f"did not end within {_MOST_S} s"} for _ in tasks]
    results: list[dict[str, Any]] = [json.loads(line.removeprefix(_MARK)) for line in done.stdout.splitlines() if line.startswith(_MARK)]
    said = done.stderr.strip().splitlines()
    errors = [said[-1] if done.returncode and said else f"exit code {done.returncode}"]
    errors += ["not tried, because the one before it failed"] * len(tasks)
    return results + [{"error": error} for error in errors[: len(tasks) - len(results)]]


def _each(tasks: list[dict[str, Any]]) -> None:
    """Go each way and print a line for it."""
    import torch
    import torch.distributed as dist

    for what in tasks:
        problem = _problem(what)
        result = {"left_out": problem} if problem else _one(what)
        print(_MARK + json.dumps(result), flush=True)
        torch.compiler.reset()
        if dist.is_initialized():
            dist.destroy_process_group()


def _problem(what: dict[str, Any]) -> str:
    """Why this GPU cannot go this way; empty when it can. Raises MissingExtraError without torchao."""
    import torch

    from agora.training.float8 import float8_problem

    if what["device"] != "cuda" or what["float8"] == "off":
        return ""
    return float8_problem(what["float8"], torch.device("cuda"))


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
        torch.cuda.empty_cache()
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
    limit = max(limit, measure_matmul_limit(device, "bfloat16", shapes=shapes, budget_s=what["budget_s"]))
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
        return TrainingStep(Transformer(config), optimizer, device=device, compile=what["compile"], backend=_compiler(device))
    _join_alone(device)
    if device == "cpu":  # the roundings without the products
        setattr(parallelize, "use_float8", functools.partial(use_float8, emulate=True))  # noqa: B010  (mypy: not an export)
    with torch.device("meta"):
        model = Transformer(config)
    return ShardedStep(
        model, optimizer, Layout(micro_batch=what["rows"]), seq_len=config.max_seq_len, device=device, seed=0, compile=what["compile"],
        backend=_compiler(device), float8=what["float8"],
    )  # fmt: skip


def _compiler(device: str) -> str:
    """The processor has only to show that the compiler can take the program apart."""
    return "inductor" if device == "cuda" else "aot_eager"


def _join_alone(device: str) -> None:
    import torch.distributed as dist

    with tempfile.TemporaryDirectory() as folder:
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/store", rank=0, world_size=1)


def _dry_run(what: dict[str, Any], config: Any) -> float:
    """Peak bytes that the dry run gives for the same step: rows of one document, as those that are measured."""
    import torch.distributed as dist

    from agora.cluster.layout import Layout
    from agora.training.config import TrainingConfig
    from agora.training.dryrun import dry_run
    from agora.training.optimizers import OptimizerConfig

    dist.destroy_process_group()
    length = config.max_seq_len
    training = TrainingConfig(
        seq_len=length, micro_batch=what["rows"], batch_tokens=what["rows"] * what["passes"] * length, dtype="bfloat16",
        optimizer=OptimizerConfig(name="adamw"), document_aware=False,
    )  # fmt: skip
    return dry_run(config, training, Layout(micro_batch=what["rows"]), world=1, rank=0).record.peak_bytes


def _synchronize(device: str) -> None:
    import torch

    if device == "cuda":
        torch.cuda.synchronize()


BENCHMARK = Benchmark(
    measures="model FLOP/s of a 1.5B dense model in bf16 over the GPU's measured matmul rate (and the dry run's memory within 5%)",
    unit="share", bound=f">= {MFU_BAR} and memory within {MEMORY_BAR:.0%}", run=run,
)  # fmt: skip

if __name__ == "__main__":
    _each(json.loads(sys.argv[1]))
