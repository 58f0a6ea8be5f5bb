"""Measured runs. Goes in: a CSV in the columns of the published runs (docs/cluster.md). Comes out: Runs, ready to be priced row by row.

Columns beyond those of the plan are optional. What a file does not say is stated here:
- a model whose name is in `data/models.toml` has those sizes; otherwise whether the feed-forward block is gated and the embeddings are tied
  is read off `params_b`; without a `ffn` column it is four times as wide as the model, ungated, with GPT-2's vocabulary padded to 51,200.
- without a `zero_stage` column the stack is one before sharded state: replicas exchange gradients after the backward pass, attention is
  plain, norms are not divided over tensor ranks. An empty `zero_stage` means optimizer states sharded over the data ranks
  by a stack with fused kernels (a stated assumption about files that leave it out; the factor of fused kernels is held, not fitted).
- `recompute` = unknown: none where that fits the memory, else selective.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agora.cluster.accelerator import hardware
from agora.cluster.columns import Hardware, LayoutColumns, stack_hardware, stack_layouts
from agora.cluster.layout import PRECISIONS, Layout, Sharding
from agora.cluster.memory import lightest_recompute
from agora.cluster.models import known_shape
from agora.cluster.step_time import Batch
from agora.config import from_dict
from agora.errors import ConfigError, DataError
from agora.model.counts import num_parameters
from agora.model.shape import ModelShape, stack_shapes

_SHARDING: Mapping[str, Sharding] = {"0": "none", "": "optimizer", "1": "optimizer", "2": "gradients", "3": "parameters"}
_VOCABULARY = 51_200


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    run_id: str
    source: str
    table: str
    shape: ModelShape
    layout: Layout
    accelerator: str
    seq_len: int
    global_batch: int
    step_time_s: float
    is_complete: bool

    @property
    def model(self) -> str:
        """What the run trained."""
        return self.shape.name


@dataclass(frozen=True, slots=True)
class RunColumns:
    """Runs side by side."""

    shape: ModelShape
    batch: Batch
    layouts: LayoutColumns
    hardware: Hardware
    step_time_s: NDArray[np.float64]


def read_runs(path: Path) -> list[Run]:
    """All runs of a CSV. Raises DataError with the line and the column at fault."""
    runs, unusable = read_usable_runs(path)
    if unusable:
        line, reason = next(iter(unusable.items()))
        raise DataError(f"{path}, {line}: {reason}")
    return runs


def read_usable_runs(path: Path) -> tuple[list[Run], dict[str, str]]:
    """The runs of a CSV that say enough to be priced, and why each other line does not. Raises DataError when no line does."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, restval=""))
    except OSError as error:
        raise DataError(f"runs {path} cannot be read: {error.strerror}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"runs {path} cannot be read as CSV: {error}; its columns stand in docs/cluster.md") from error
    if not rows:
        raise DataError(f"runs {path} holds no row")
    runs, unusable = [], {}
    for line, row in enumerate(rows, start=2):
        try:
            runs.append(_run(row))
        except KeyError as error:
            unusable[f"line {line}"] = f"has nothing in the column {error}" if error.args[0] in row else f"lacks the column {error}"
        except (ValueError, ArithmeticError, ConfigError) as error:
            unusable[f"line {line}"] = str(error)
    if not runs:
        line_at_fault, reason = next(iter(unusable.items()))
        raise DataError(f"{path} holds no usable run; {line_at_fault}: {reason}")
    return runs, unusable


def _run(row: Mapping[str, str]) -> Run:
    number = {name: int(float(value)) for name, value in row.items() if name in _WHOLE and value}
    hardware(row["accelerator"])  # refuses a name that is not known
    shape = _shape(row, number)
    is_old = "zero_stage" not in row
    if "dp" not in number:
        number["dp"] = number["num_accelerators"] // (number["tp"] * number["pp"] * number.get("cp", 1))
    data = number["dp"]
    zero = (row.get("zero_stage") or "").partition(".")[0]
    recompute = row.get("recompute") or "unknown"
    virtual, pipeline = number.get("vpp", 1), number["pp"]
    layout = from_dict(
        Layout,
        {"recompute": "none" if recompute == "unknown" else recompute, "precision": _precision(row["precision"])},
        f"run {row['run_id']}",
    )
    layout = replace(
        layout, replicate=data if is_old else 1, shard=1 if is_old else data, sharding="none" if is_old else _sharding(zero),
        tensor=number["tp"],
        sequence_parallel=not is_old, pipeline=pipeline, virtual=virtual if pipeline > 1 else 1,
        schedule="interleaved" if virtual > 1 and pipeline > 1 else "1f1b", context=number.get("cp", 1), expert=number.get("ep", 1),
        micro_batch=number["micro_batch"], attention="plain" if is_old else "fused", kernels="plain" if is_old or zero else "fused",
        overlap=not is_old,
    )  # fmt: skip
    run = Run(
        row["run_id"], row.get("source", ""), row.get("source_table") or row.get("source", ""), shape, layout, row["accelerator"],
        number["seq_len"], number["global_batch_seqs"], _seconds(row), recompute != "unknown",
    )  # fmt: skip
    return run if recompute != "unknown" else replace(run, layout=_lightest(run))


def _seconds(row: Mapping[str, str]) -> float:
    seconds = float(row["step_time_s"] or "nan")
    if not seconds > 0:
        raise ValueError(f"step_time_s={row['step_time_s']!r} is not a time above 0")
    return seconds


def _precision(text: str) -> str:
    """The planner's name of a number format; other spellings of 8 and 4 bits are known."""
    word = text.strip().lower().replace("_", "-")
    if word in PRECISIONS:
        return word
    if "mx" in word:
        return "mxfp8"
    return "nvfp4" if "fp4" in word else "fp8" if "fp8" in word else word


def _sharding(zero_stage: str) -> Sharding:
    if zero_stage not in _SHARDING:
        raise ValueError(f"zero_stage={zero_stage!r} is not one of 0, 1, 2, 3")
    return _SHARDING[zero_stage]


_WHOLE = (
    "num_accelerators", "global_batch_seqs", "micro_batch", "hidden", "heads", "kv_heads", "layers", "ffn", "vocab", "experts", "top_k",
    "seq_len", "tp", "dp", "pp", "vpp", "cp", "ep",
)  # fmt: skip


def _shape(row: Mapping[str, str], number: Mapping[str, int]) -> ModelShape:
    name = row.get("model_name", "")
    known = known_shape(name) if name else None
    if known is not None:
        return known
    dim, heads = number["hidden"], number["heads"]
    experts = number.get("experts", 0)
    sizes: dict[str, Any] = {
        "name": name or f"{number['layers']} layers of {dim}", "vocab_size": number.get("vocab", _VOCABULARY), "dim": dim,
        "num_layers": number["layers"], "num_heads": heads, "num_kv_heads": number.get("kv_heads", heads), "head_dim": dim // heads,
        "hidden_dim": number.get("ffn", 4 * dim), "gated": False, "tie_embeddings": True,
    }  # fmt: skip
    if experts:
        sizes |= {"num_experts": experts, "experts_per_token": number["top_k"], "expert_dim": number.get("ffn", 4 * dim)}
    published = float(row.get("params_b") or 0) * 1e9
    if not published:
        return ModelShape(**sizes)
    options = [ModelShape(**{**sizes, "gated": gated, "tie_embeddings": tied}) for gated in (False, True) for tied in (True, False)]
    return min(options, key=lambda shape: abs(num_parameters(shape).total - published))


def _lightest(run: Run) -> Layout:
    return lightest_recompute(run.shape, run.layout, seq_len=run.seq_len, global_batch=run.global_batch, hardware=_hardware(run))


def _hardware(run: Run) -> Hardware:
    return hardware(run.accelerator, "", run.layout.num_accelerators)


def run_columns(runs: Sequence[Run]) -> RunColumns:
    """Runs as arrays."""
    return RunColumns(
        stack_shapes([run.shape for run in runs]),
        Batch(
            seq_len=np.array([run.seq_len for run in runs], dtype=float),
            global_batch=np.array([run.global_batch for run in runs], dtype=float),
        ),
        stack_layouts([run.layout for run in runs]),
        stack_hardware([_hardware(run) for run in runs]),
        np.array([run.step_time_s for run in runs]),
    )
