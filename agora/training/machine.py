"""What this machine gives a run: device, number format, whether compiling pays, and the matmul limit that speeds are measured against.

Comes out: a `Machine`, decided once at the start of a run and kept in run.json, because a resumed run must compute the same bits.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Final

import torch

from agora.config import to_dict
from agora.errors import ConfigError, TrainingError
from agora.model import kernels
from agora.training.config import TrainingConfig
from agora.training.float8 import refuse_float8
from agora.training.run_folder import Machine, RunFolder

logger = logging.getLogger(__name__)

# Compiling a step took 40-60 s on 2 cores (2.13.0, 10.5M and 63M shapes) and saves about a sixth of a step (issue 2, measured table).
COMPILE_S: Final = 60.0
COMPILE_SAVES: Final = 0.15
_ASSUMED_LIMIT_SHARE: Final = 0.25  # of the matmul limit, before the first step has been timed
_COMPILE_REMEDY: Final = "install a C++ compiler and Python's headers (Debian, Ubuntu: apt install g++ python3-dev)"
_DTYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}


def decide_machine(folder: RunFolder, config: TrainingConfig, flops: float) -> Machine:
    """Choose for a run of `flops` floating-point operations. Raises ConfigError for a device that is not here, and for
    training.compile=on where nothing can be compiled."""
    device = choose_device(config.device)
    if config.float8 != "off":
        refuse_float8(config.float8, torch.device(device))
    dtype = config.dtype
    if dtype == "auto":
        limits = {name: matmul_limit(folder, device, name) for name in ("bfloat16", "float32")}
        dtype = "bfloat16" if limits["bfloat16"] >= limits["float32"] else "float32"
    limit = matmul_limit(folder, device, dtype)
    seconds = flops / (limit * _ASSUMED_LIMIT_SHARE)
    has_kernels = _has_kernels(device, dtype)
    pays = _has_compiler(device) and not has_kernels and seconds * COMPILE_SAVES > COMPILE_S
    compiles = config.compile == "on" or (config.compile == "auto" and pays)
    if compiles and (problem := compile_problem(device)):
        if config.compile == "on":
            raise ConfigError(f"training.compile=on cannot work here: {problem}; {_COMPILE_REMEDY}, or use training.compile=off")
        logger.warning("not compiled, training will be slower: %s; %s", problem, _COMPILE_REMEDY)
        compiles = False
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
    """Before a run goes on: warns of what will change its last bits. Raises TrainingError when its device or compiler is missing."""
    try:
        choose_device(machine.device)
    except ConfigError as error:
        raise TrainingError(
            f"the run was started on {machine.device}, which is not here; resume it there, or start again with --fresh"
        ) from error
    if machine.compile and (problem := compile_problem(machine.device)):
        raise TrainingError(
            f"the run was started compiled, which cannot work here: {problem}; {_COMPILE_REMEDY}, or start again with --fresh"
        )
    changes = {
        "fused kernels": (machine.has_kernels, _has_kernels(machine.device, machine.dtype) and not machine.compile),
        "threads": (machine.num_threads, torch.get_num_threads()),
    }
    for what, (before, now) in changes.items():
        if before != now:
            logger.warning("the run was started with %s=%s, here it is %s: the last bits of its numbers will differ", what, before, now)


def compile_problem(device: str) -> str:
    """Why torch.compile cannot work on `device`; empty when it can. Compiles a line of code: some seconds, most of them torch's start,
    which the first step would need anyway."""
    if not _has_compiler(device):
        return "no C++ compiler is found"
    try:
        torch.compile(_trial)(torch.ones(8, device=device))
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return ""


def _trial(x_N: torch.Tensor) -> torch.Tensor:
    return x_N.sin() + 1


def matmul_limit(folder: RunFolder, device: str, dtype: str) -> float:
    """FLOP/s of a large matrix product on this machine; measured once (about a second) and kept in the run folder."""
    key, known = _limit_key(device, dtype), folder.read("matmul_limit.json")
    if key not in known:
        known[key] = measure_matmul_limit(device, dtype)
        folder.write("matmul_limit.json", known)
    return float(known[key])


def raise_limit(folder: RunFolder, machine: Machine, flops_per_s: float) -> Machine:
    """`machine` with the higher limit that its run has shown, kept for this run and for later ones in the folder."""
    raised = dataclasses.replace(machine, limit_flops_per_s=flops_per_s)
    folder.write("matmul_limit.json", {**folder.read("matmul_limit.json"), _limit_key(machine.device, machine.dtype): flops_per_s})
    folder.write("run.json", {**folder.read("run.json"), "machine": to_dict(raised)})
    return raised


def _limit_key(device: str, dtype: str) -> str:
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    return f"{platform.node()} {name} {device} {dtype} {torch.get_num_threads()} threads"


def measure_matmul_limit(
    device: str, dtype: str, *, shapes: Sequence[tuple[int, int, int]] | None = None, budget_s: float = 0.8, repeats: int = 1
) -> float:
    """Best rate of products of `shapes`, (rows, inner, columns) with 2 * rows * inner * columns operations each: every one `repeats`
    times in a row, round after round until `budget_s` is over. By default one large square (2048 on a CPU, 8192 elsewhere)."""
    side = 2048 if device == "cpu" else 8192
    numbers = torch.Generator(device).manual_seed(0)  # of its own: measuring must not move the random state of a run
    factors = []
    for rows, inner, columns in shapes or [(side, side, side)]:
        a, b = (torch.randn(shape, generator=numbers, device=device).to(_DTYPES[dtype]) for shape in ((rows, inner), (inner, columns)))
        factors.append((a, b, torch.mm(a, b)))
    best, started = 0.0, time.perf_counter()
    while best == 0.0 or time.perf_counter() - started < budget_s:
        for a, b, out in (factor for factor in factors for _ in range(repeats)):
            _synchronize(device)
            before = time.perf_counter()
            torch.mm(a, b, out=out)
            _synchronize(device)
            best = max(best, 2 * a.numel() * b.shape[1] / (time.perf_counter() - before))
    return best


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _has_kernels(device: str, dtype: str) -> bool:
    return device == "cpu" and dtype == "bfloat16" and kernels.library() is not None


def _has_compiler(device: str) -> bool:
    names = (os.environ.get("CXX") or "g++", "g++", "clang++")
    return device.startswith("cuda") or any(shutil.which(name) for name in names)
