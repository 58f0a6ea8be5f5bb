"""How many of AdamW's tokens Muon needs for the same loss: python -m benchmarks muon_vs_adamw

Data: bytes of public-domain books where the development data is present, else of simulated posts; held-out text is from
other books (or accounts). Model: 2.7M parameters, byte-level, random rows of 256 bytes, the same rows in the same order for every
run of a seed. Each run has its own full schedule: linear warm-up over a twentieth of it, then linear decay to zero.

1. AdamW trains for the full budget at every one of its learning rates on every seed; each seed's best run is what counts.
2. Muon (with AdamW for embeddings and norms) trains for 70% of the budget at every one of its rates on every seed; each seed's best
   rate again for half of the budget.
3. Per seed, the share of tokens at which Muon's final loss equals AdamW's: 0.5 if half was already enough, else read between (or beyond)
   the two Muon budgets on a logarithmic token axis. The value is the mean over seeds; it holds when it is <= 0.7 and the runs with 70%
   are at or below AdamW on every seed. AdamW's best rate must lie inside its grid, or a better one may be missing and nothing holds;
   a best rate of Muon at the edge is reported (a better one would only lower the share).

`--quick` takes a smaller model, a smaller budget, one seed, and one rate each: the best for its size of 2, 4, 8e-3 and of
0.5, 1, 2, 4, 8e-2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.step import Batch, TrainingStep
from benchmarks.registry import SHARED_DATA, Benchmark, Result

LENGTH = 256
SHARES = (0.5, 0.7)
BAR = 0.7


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The size of the comparison. Rates are peak learning rates; AdamW's part of a Muon run keeps `embedding_rate`."""

    model: ModelConfig
    rows: int
    steps: int
    seeds: tuple[int, ...]
    adamw_rates: tuple[float, ...]
    muon_rates: tuple[float, ...]
    embedding_rate: float = 3e-3
    evaluation_rows: int = 256
    num_evaluations: int = 6


FULL = Plan(
    model=ModelConfig(vocab_size=256, dim=192, num_layers=6, num_heads=3, num_kv_heads=3, head_dim=64, hidden_dim=512, max_seq_len=LENGTH),
    rows=16, steps=400, seeds=(0, 1, 2), adamw_rates=(5e-4, 1e-3, 2e-3, 4e-3), muon_rates=(1e-2, 2e-2, 4e-2),
)  # fmt: skip
QUICK = Plan(
    model=ModelConfig(vocab_size=256, dim=128, num_layers=4, num_heads=2, num_kv_heads=2, head_dim=64, hidden_dim=384, max_seq_len=LENGTH),
    rows=8, steps=200, seeds=(0,), adamw_rates=(4e-3,), muon_rates=(4e-2,), evaluation_rows=128, num_evaluations=2,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Text:
    """Training and held-out bytes."""

    train: np.ndarray[Any, np.dtype[np.uint8]]
    heldout: np.ndarray[Any, np.dtype[np.uint8]]
    source: str


def load_text() -> Text:
    """Every eighth book is held out; without the development data, every eighth simulated account."""
    import pyarrow.parquet as pq

    books = SHARED_DATA / "text" / "books_public_domain.parquet"
    if books.is_file():
        texts = pq.read_table(books, columns=["text"])["text"].to_pylist()
        return Text(_join(t for i, t in enumerate(texts) if i % 8), _join(texts[::8]), "public-domain books")
    from agora.posts.simulate import SquareConfig, simulate

    train: list[str] = []
    heldout: list[str] = []
    for table in simulate(SquareConfig()):
        for author, text in zip(table["author"].to_pylist(), table["text"].to_pylist(), strict=True):
            (heldout if sum(author.encode()) % 8 == 0 else train).append(text)
    return Text(_join(train), _join(heldout), "simulated posts")


def _join(texts: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer("\n".join(texts).encode(), dtype=np.uint8)


def _rows(data: np.ndarray[Any, np.dtype[np.uint8]], starts: np.ndarray[Any, np.dtype[np.int64]]) -> Batch:
    tokens: Tensor = torch.from_numpy(np.stack([data[s : s + LENGTH + 1] for s in starts]).astype(np.int64))
    return Batch(tokens[:, :-1], tokens[:, 1:])


@torch.no_grad()
def evaluate(model: Transformer, data: np.ndarray[Any, np.dtype[np.uint8]], num_rows: int) -> float:
    """Mean loss in nats per byte on `num_rows` evenly spaced rows, the same ones every time."""
    starts = np.linspace(0, len(data) - LENGTH - 1, num_rows).astype(np.int64)
    batches = [_rows(data, chunk) for chunk in np.array_split(starts, max(1, num_rows // 32))]
    total = sum(float(model.loss(b.tokens_BT, b.targets_BT)) * len(b.tokens_BT) for b in batches)
    return total / num_rows


def schedule(step: int, num_steps: int) -> float:
    """Linear warm-up over a twentieth of the steps, then linear decay to zero."""
    warm_up = max(1, num_steps // 20)
    return min((step + 1) / warm_up, (num_steps - step) / (num_steps - warm_up))


def train(plan: Plan, text: Text, name: str, rate: float, seed: int, share: float) -> dict[str, Any]:
    """One run over `share` of the plan's tokens; returns its setting, curve [(tokens, loss)] and final held-out loss."""
    config = OptimizerConfig(name=name, lr=rate) if name == "adamw" else OptimizerConfig(lr=plan.embedding_rate, muon_lr=rate)  # type: ignore[arg-type]
    training = TrainingStep(Transformer(plan.model, seed=seed), config)
    random = np.random.default_rng(seed)
    num_steps = round(plan.steps * share)
    every = math.ceil(num_steps / plan.num_evaluations)
    curve = []
    for step in range(num_steps):
        starts = random.integers(0, len(text.train) - LENGTH - 1, plan.rows)
        training.run([_rows(text.train, starts)], schedule(step, num_steps))
        if (step + 1) % every == 0 or step + 1 == num_steps:
            loss = evaluate(training.model, text.heldout, plan.evaluation_rows)
            curve.append(((step + 1) * plan.rows * LENGTH, round(loss, 4)))
    return {"optimizer": name, "rate": rate, "seed": seed, "share": share, "final_loss": curve[-1][1], "curve": curve}


def needed_share(adamw_loss: float, muon_losses: tuple[float, float]) -> float:
    """At which share of the tokens Muon's final loss equals AdamW's, from its losses at both SHARES."""
    half, more = muon_losses
    if half <= adamw_loss:
        return SHARES[0]
    if more >= half:
        return 1.0
    slope = (more - half) / math.log(SHARES[1] / SHARES[0])
    return min(1.0, SHARES[0] * math.exp((adamw_loss - half) / slope))


def at_edge(rate: float, grid: tuple[float, ...]) -> bool:
    """Whether a better rate may lie outside the grid. A grid of one rate was chosen by a sweep before and has no edge."""
    return len(grid) > 1 and rate in (min(grid), max(grid))


def compare(plan: Plan, text: Text, report: Callable[[dict[str, Any]], None]) -> Result:
    """Run the protocol of this module's first lines."""
    runs: list[dict[str, Any]] = []

    def final(name: str, rate: float, seed: int, share: float) -> float:
        for known in runs:
            if (known["optimizer"], known["rate"], known["seed"], known["share"]) == (name, rate, seed, share):
                return float(known["final_loss"])
        runs.append(train(plan, text, name, rate, seed, share))
        report(runs[-1])
        return float(runs[-1]["final_loss"])

    seeds = []
    for seed in plan.seeds:
        adamw, adamw_rate = min((final("adamw", rate, seed, 1.0), rate) for rate in plan.adamw_rates)
        _, muon_rate = min((final("muon", rate, seed, SHARES[1]), rate) for rate in plan.muon_rates)
        half, more = (final("muon", muon_rate, seed, share) for share in SHARES)
        share = round(needed_share(adamw, (half, more)), 3)
        seeds.append({
            "seed": seed, "adamw": adamw, "muon_50": half, "muon_70": more, "needed_share": share,
            "adamw_rate": adamw_rate, "muon_rate": muon_rate,
            "adamw_at_edge": at_edge(adamw_rate, plan.adamw_rates), "muon_at_edge": at_edge(muon_rate, plan.muon_rates),
        })  # fmt: skip
    value = sum(row["needed_share"] for row in seeds) / len(seeds)
    holds = value <= BAR and all(row["muon_70"] <= row["adamw"] and not row["adamw_at_edge"] for row in seeds)
    details = {"text": text.source, "per_seed": seeds, "runs": runs}
    return Result(value=value, holds=holds, details=details)


def run(quick: bool, options: dict[str, str]) -> Result:
    """The comparison at full or quick size."""
    torch.set_num_threads(2)

    def report(done: dict[str, Any]) -> None:
        print(" ".join(f"{key}={done[key]}" for key in ("optimizer", "rate", "seed", "share", "final_loss")), flush=True)

    return compare(QUICK if quick else FULL, load_text(), report)


BENCHMARK = Benchmark(measures="share of AdamW's tokens that Muon needs for AdamW's best final loss", unit="share", bound="<= 0.7", run=run)
