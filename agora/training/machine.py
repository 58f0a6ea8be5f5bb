"""What this machine gives a run: device, number format, whether compiling pays, and the matmul limit that speeds are measured against.

Comes out: a `Machine`, decided once at the start of a run and kept in run.json, because a resumed run must compute the same bits.
"""

from __future__ import annotations

import logging
import platform
import shutil
import time
from typing import Final

import torch

from agora.errors import ConfigError, TrainingError
from agora.model import kernels
from agora.training.config import TrainingConfig
from agora.training.run_folder import Machine, RunFolder

logger = logging.getLogger(__name__)

# Compiling a step took 40-60 s on 2 cores (2.13.0, 10.5M and 63M shapes) and saves about a sixth of a step (issue 2, measured table).
COMPILE_S: Final = 60.0
COMPILE_SAVES: Final = 0.15
_ASSUMED_LIMIT_SHARE: Final = 0.25  # of the matmul limit, before the first step has been timed
_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def decide_machine(folder: RunFolder, config: TrainingConfig, flops: float) -> Machine:
    """Choose for a run of `flops` floating-point operations. Raises ConfigError for a device that is not here."""
    device = choose_device(config.device)
    dtype = config.dtype
    if dtype == "auto":
        limits = {name: matmul_limit(folder, device, name) for name in ("bfloat16", "float32")}
        dtype = "bfloat16" if limits["bfloat16"] >= limits["float32"] else "float32"
    limit = matmul_limit(folder, device, dtype)
    seconds = flops / (limit * _ASSUMED_LIMIT_SHARE)
    has_kernels = _has_kernels(device, dtype)
    pays = _can_compile(device) and not has_kernels and seconds * COMPILE_SAVES > COMPILE_S
    compiles = config.compile == "on" or (config.compile == "auto" and pays)
    return Machine(
        device=device, dtype=dtype, compile=compiles, limit_flops_per_s=limit, has_kernels=has_kernels and not compiles,
        num_threads=torch.get_num_threads(),
    )  # fmt: skip


def choose_device(device: str) -> str:
    """`auto` becomes cuda, mps or cpu, in this order. Raises ConfigError for a device that torch does not have here."""
    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    if device == "auto":
        return present[0]
    try:
        wanted = torch.device(device)
    except RuntimeError:
        wanted = None
    num_devices = torch.cuda.device_count() if device.startswith("cuda") else 1
    if wanted is None or wanted.type not in present or (wanted.index or 0) >= num_devices:
        raise ConfigError(f"training.device={device!r} is not on this machine, which has {', '.join(present)}; try training.device=auto")
    return device if wanted.type == "cuda" else wanted.type


def check_machine(machine: Machine) -> None:
    """Before a run goes on: warns of what will change its last bits. Raises TrainingError when its device is missing."""
    try:
        choose_device(machine.device)
    except ConfigError as error:
        raise TrainingError(
            f"the run was started on {machine.device}, which is not here; resume it there, or start again with --fresh"
        ) from error
    changes = {
        "fused kernels": (machine.has_kernels, _has_kernels(machine.device, machine.dtype) and not machine.compile),
        "threads": (machine.num_threads, torch.get_num_threads()),
    }
    for what, (before, now) in changes.items():
        if before != now:
            logger.warning("the run was started with %s=%s, here it is %s: the last bits of its numbers will differ", what, before, now)


def matmul_limit(folder: RunFolder, device: str, dtype: str) -> float:
    """FLOP/s of a large matrix product on this machine; measured once (about a second) and kept in the run folder."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    key = f"{platform.node()} {name} {device} {dtype} {torch.get_num_threads()} threads"
    known = folder.read("matmul_limit.json")
    if key not in known:
        known[key] = measure_matmul_limit(device, dtype)
        folder.write("matmul_limit.json", known)
    return float(known[key])


def measure_matmul_limit(device: str, dtype: str, *, size: int | None = None, budget_s: float = 0.8) -> float:
    """Best rate of square products of `size`, 2 * size^3 operations each (2048 on a CPU, 8192 elsewhere), within `budget_s`."""
    size = size or (2048 if device == "cpu" else 8192)
    a = torch.ones(size, size, device=device, dtype=_DTYPES[dtype])
    b = torch.ones(size, size, device=device, dtype=_DTYPES[dtype])
    best_s, started = float("inf"), time.perf_counter()
    while best_s == float("inf") or time.perf_counter() - started < budget_s:
        before = time.perf_counter()
        torch.mm(a, b)
        _synchronize(device)
        best_s = min(best_s, time.perf_counter() - before)
    return 2 * size**3 / best_s


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _has_kernels(device: str, dtype: str) -> bool:
    return device == "cpu" and dtype == "bfloat16" and kernels.library() is not None


def _can_compile(device: str) -> bool:
    return device.startswith("cuda") or (device == "cpu" and any(shutil.which(name) for name in ("g++", "clang++")))
