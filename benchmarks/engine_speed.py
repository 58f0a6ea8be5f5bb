"""Decoding speed of the engine against llama.cpp and Transformers: python -m benchmarks engine_speed

Tokens per second of processor time, so that a busy machine and waiting threads say little; contestants take turns, round after round, and a
ratio is the median over rounds of paired times. One thread each unless --threads says otherwise.
"""

from __future__ import annotations

import statistics
from typing import Any

import torch

from agora.model.transformer import Transformer
from benchmarks import engine_peers as peers
from benchmarks.registry import Benchmark, Result, whole_number

BARS = {1: 1.0, 8: 1.5, 32: 2.0}
"""Rows -> times as fast as llama.cpp at the same precision, for both precisions and sizes. With several rows int8 is held to the same bar
against the faster of llama.cpp's two as well. Nothing may be slower than Transformers."""
PAIRS = {"agora int8": "llama.cpp q8_0", "agora bfloat16": "llama.cpp bf16"}
TRANSFORMERS = "transformers bf16"
ROUNDS = {1: 6, 8: 4, 32: 3}
STEPS = {"12M": {1: 200, 8: 100, 32: 50}, "110M": {1: 32, 8: 24, 32: 12}}


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternate the contestants for both sizes; `quick` takes fewer rounds. Without llama.cpp the bars cannot hold."""
    threads = whole_number(options, "threads", 1, at_least=1)
    torch.set_num_threads(threads)
    tables: dict[str, Any] = {}
    missing: set[str] = set()
    shares: list[float] = []
    missed: list[str] = []
    for size in ("12M", "110M"):
        contestants = _contestants(Transformer(peers.SHAPES[size]).eval(), threads, missing)
        for rows in BARS:
            times = _alternate(contestants, rows, STEPS[size][rows], ROUNDS[rows] if quick else 2 * ROUNDS[rows] + 1)
            speeds = {name: round(rows * STEPS[size][rows] / statistics.median(seconds)) for name, seconds in times.items()}
            ratios, bars = _compare(times, rows)
            shares += [ratios[name] / bar for name, bar in bars.items()]
            tables[f"{size}, {rows} rows"] = {"tokens_per_processor_s": speeds, "times_faster": ratios, "bars": bars}
            print(f"{size:>5} {rows:>3} rows  {speeds}")
            for name, ratio in ratios.items():
                verdict = "holds" if ratio >= bars[name] else "MISSED"
                missed += [f"{size}, {rows} rows: {name}"] * (ratio < bars[name])
                print(f"{'':>16}{name}: {ratio}  (bar {bars[name]}: {verdict})")
    print(f"missed: {'; '.join(missed) or 'none'}")
    if missing:
        print(f"not measured: {', '.join(sorted(missing))}; pip install llama-cpp-python gguf")
    details = {"threads": threads, "missing_peers": sorted(missing), "missed": missed, "tables": tables}
    return Result(value=round(min(shares), 2), holds=not missed and not missing, details=details)


def _compare(times: dict[str, list[float]], rows: int) -> tuple[dict[str, float], dict[str, float]]:
    """How many times faster each of ours is than its peers, and the bars of these comparisons."""
    ratios, bars = {}, {}
    for ours, peer in PAIRS.items():
        name = f"{ours} over {TRANSFORMERS}"
        ratios[name], bars[name] = _ratio(times[TRANSFORMERS], times[ours]), 1.0
        if peer in times:
            name = f"{ours} over {peer}"
            ratios[name], bars[name] = _ratio(times[peer], times[ours]), BARS[rows]
    if rows > 1 and all(peer in times for peer in PAIRS.values()):
        name = "agora int8 over llama.cpp at its faster precision"
        fastest = min(PAIRS.values(), key=lambda peer: statistics.median(times[peer]))
        ratios[name], bars[name] = _ratio(times[fastest], times["agora int8"]), BARS[rows]
    return ratios, bars


def _contestants(model: Transformer, threads: int, missing: set[str]) -> dict[str, peers.Decode]:
    made = {
        "agora int8": peers.agora(model, "int8", threads),
        "agora bfloat16": peers.agora(model, "bfloat16", threads),
        TRANSFORMERS: peers.transformers(model, torch.bfloat16, threads),
    }
    try:
        made["llama.cpp q8_0"] = peers.llama_cpp(model, "q8_0", threads)
        made["llama.cpp bf16"] = peers.llama_cpp(model, "bf16", threads)
    except ModuleNotFoundError as error:
        missing.add(f"llama.cpp (no module {error.name!r})")
    return made


def _alternate(contestants: dict[str, peers.Decode], rows: int, steps: int, rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for decode in contestants.values():
        decode(rows, 4)  # warm up
    for _ in range(rounds):
        for name, decode in contestants.items():
            own = steps // 4 if name == TRANSFORMERS else steps  # the slow one is measured on fewer
            times[name].append(decode(rows, own) * steps / own)
    return times


def _ratio(peer: list[float], ours: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(peer, ours, strict=True)), 2)


BENCHMARK = Benchmark(
    measures="decoded tokens per processor second at 1, 8 and 32 rows over llama.cpp (bars 1, 1.5, 2) and transformers (bar 1), "
    "12M and 110M, int8 and bfloat16: the worst ratio as a share of its bar",
    unit="x",
    bound=">= 1.0",
    run=run,
    options=("threads",),
)
