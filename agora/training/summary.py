"""How a run stands, in numbers. Goes in: a run's configuration and the `Standing` that its checkpoint keeps. Comes out: a
`TrainingSummary`, the same one from the process that trained and from another that only reads the run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token
from agora.training.config import TrainingConfig
from agora.training.run_folder import Machine


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What a run has done and used up to a step, over all its processes. `heldout_bits_per_byte` belongs to `heldout_loss`;
    `energy_measured` is False as soon as a part of the joules is an estimate."""

    num_done: int = 0
    loss: float | None = None
    heldout_loss: float | None = None
    heldout_bits_per_byte: float | None = None
    elapsed_s: float = 0.0
    joules: float = 0.0
    energy_measured: bool = False
    energy_source: str = ""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Standing:
        """Read the `progress` of a checkpoint. Raises KeyError for what every checkpoint has."""
        return cls(
            num_done=int(state["num_done"]), loss=state["loss"], heldout_loss=state["heldout_loss"],
            heldout_bits_per_byte=state.get("heldout_bits_per_byte"), elapsed_s=float(state["elapsed_s"]), joules=float(state["joules"]),
            energy_measured=bool(state.get("energy_measured")), energy_source=str(state.get("energy_source", "")),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSummary:
    """How a run stands. `state` is stopped when it has not done all its steps; the same command then goes on."""

    state: Literal["finished", "stopped"]
    run_dir: Path
    step: int
    steps: int
    loss: float | None
    heldout_loss: float | None
    heldout_bits_per_byte: float | None
    tokens: int
    tokens_per_s: float
    limit_share: float
    elapsed_s: float
    flops: float
    joules: float
    energy_measured: bool
    energy_source: str
    device: str
    dtype: str
    compiled: bool
    stopped_by: str | None = None
    pictures: tuple[Path, ...] = ()


def summarise(
    run_dir: Path, model: ModelConfig, training: TrainingConfig, machine: Machine, standing: Standing, *, num_processes: int = 1
) -> TrainingSummary:
    """The summary of a run that stands there. The machine's limit is that of one process."""
    tokens, flops = standing.num_done * training.batch_tokens, flops_per_token(model, training.seq_len)
    tokens_per_s = tokens / standing.elapsed_s if standing.elapsed_s else 0.0
    return TrainingSummary(
        state="finished" if standing.num_done == training.steps else "stopped", run_dir=run_dir, step=standing.num_done,
        steps=training.steps, loss=standing.loss, heldout_loss=standing.heldout_loss,
        heldout_bits_per_byte=standing.heldout_bits_per_byte, tokens=tokens, tokens_per_s=tokens_per_s,
        limit_share=min(1.0, tokens_per_s * flops / num_processes / machine.limit_flops_per_s),
        elapsed_s=standing.elapsed_s, flops=tokens * flops,
        joules=standing.joules, energy_measured=standing.energy_measured, energy_source=standing.energy_source or "not known",
        device=machine.device, dtype=machine.dtype, compiled=machine.compile,
    )  # fmt: skip
