"""Predictions beside published figures. Goes in: the shipped history, or a CSV of measured runs. Comes out: rows, and whether bounds hold.

agora cluster validate runs.csv
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agora.cluster.accelerator import accelerator, network
from agora.cluster.calibrate import Calibration, predict_s
from agora.cluster.energy import J_PER_MWH, node_power_w, power_draw
from agora.cluster.facts import Table, load_tables
from agora.cluster.failures import best_interval_s, failure_model, goodput, interruption_rate, with_spares
from agora.cluster.layout import Layout
from agora.cluster.models import model_shape
from agora.cluster.plan import Plan, PlanRequest, build_plan, plan, question_of
from agora.cluster.runs import Run, run_columns
from agora.cluster.search import price
from agora.config import from_dict
from agora.errors import ConfigError
from agora.model.counts import num_parameters

_BUSY_NODE_W = (7750.0, 8480.0)  # 8 x H100 while training: arXiv 2412.08602 and 2506.14551 (read 2026-08)
_LLAMA_ACCELERATORS, _LLAMA_DAYS, _LLAMA_INTERRUPTIONS = 16_384, 54, 419  # Llama 3 report (read 2026-08)
_INTERRUPTIONS_BOUND = 0.05
_EFFECTIVE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """One figure: predicted, published, and whether it is within its bound. `low` and `high` are the bound in the figure's unit; a figure
    outside `is_bar` is a known miss, shown and not judged."""

    name: str
    predicted: float
    published: str
    unit: str
    low: float
    high: float
    assumption: str
    is_bar: bool = True

    @property
    def holds(self) -> bool:
        """Whether the prediction lies within the bound."""
        return self.low <= self.predicted <= self.high


def history(calibration: Calibration) -> list[Check]:
    """Known runs and machines against what was published about them."""
    checks = []
    for name, table in load_tables("history").items():
        hours = run_hours(table, calibration)
        others = alternative_hours(table, calibration)
        every = [hours, *others.values()]
        spread = f"; {min(every):,.0f}-{max(every):,.0f} over what else may have been: {', '.join(others)}"
        published, bound = table.base("accelerator_hours") / 3600, table.base("bound")
        hours_check = _near(f"{name}: accelerator-hours", hours, published, bound, "h", str(table.words["layout_source"]) + spread)
        checks.append(replace(hours_check, is_bar=bool(table.words.get("is_bar", True))))
        if "energy" in table.facts:
            chip = accelerator(str(table.words["accelerator"]))
            known = table.base("energy") / J_PER_MWH
            energy = chip.base("tdp") * hours * 3600 / J_PER_MWH
            checks.append(
                _near(f"{name}: energy, TDP x predicted hours", energy, known, bound, "MWh", "TDP of every accelerator for all hours")
            )
            from_hours = chip.base("tdp") * published * 3600 / J_PER_MWH
            checks.append(_near(f"{name}: energy, TDP x published hours", from_hours, known, bound, "MWh", "the paper's own way"))
    return [*checks, *_interruptions(), _busy_node()]


def _near(name: str, predicted: float, published: float, bound: float, unit: str, assumption: str) -> Check:
    return Check(name, predicted, f"{published:,.0f}", unit, published * (1 - bound), published * (1 + bound), assumption)


def history_plan(table: Table, calibration: Calibration, changes: Mapping[str, Any] | None = None) -> Plan:
    """The plan of a known run with its layout, or with changes of it. Memory is not asked where a run is known to have fitted by means that
    Agora's training lacks (`fitted`)."""
    words = table.words
    layout = from_dict(Layout, {**words["layout"], **(changes or {})}, table.name)
    batch, seq_len = int(words["global_batch"]), int(words["seq_len"])
    request = PlanRequest(
        model=str(words["model"]), accelerator=str(words["accelerator"]), network=str(words["network"]), seq_len=seq_len,
        num_accelerators=layout.num_accelerators, tokens=table.base("tokens"), batch_tokens=batch * seq_len, layout=layout,
        kernels=layout.kernels, precision=layout.precision, calibration=calibration, recovery="restart",
    )  # fmt: skip
    if not words.get("fitted", False):
        return plan(request)
    question = question_of(request)
    return build_plan(request, question, price(question, layout), None)


def is_by_hand(table: Table) -> bool:
    """One rule for all runs: before 2023 people restarted them, since then programs do."""
    return str(table.words["begun"]) < "2023"


def run_hours(table: Table, calibration: Calibration, changes: Mapping[str, Any] | None = None, *, by_hand: bool | None = None) -> float:
    """Accelerator-hours of a known run, interruptions included."""
    found = history_plan(table, calibration, changes)
    working = found.num_steps * found.chosen.step_s
    useful = _by_hand_goodput(found) if (is_by_hand(table) if by_hand is None else by_hand) else found.recovery.goodput
    return working / useful / 3600 * found.request.num_accelerators


def alternative_hours(table: Table, calibration: Calibration) -> dict[str, float]:
    """The same for what else the run may have been; what does not fit is left out."""
    hours = {}
    if "2022" <= str(table.words["begun"]) < "2024":  # the years in which both were done
        other = not is_by_hand(table)
        hours["restarted by people" if other else "restarted by programs"] = run_hours(table, calibration, by_hand=other)
    for changes in table.words.get("alternatives", []):
        try:
            hours[" ".join(f"{name} {value}" for name, value in changes.items())] = run_hours(table, calibration, changes)
        except ConfigError:
            continue
    return hours


def _by_hand_goodput(found: Plan) -> float:
    facts = load_tables("failures")["by_hand"]
    model = replace(
        found.recovery.failures, rate_per_accelerator_s=facts.base("rate"), restart_s=facts.base("restart"),
        stall_s=facts.base("checkpoint_stall"), write_s=facts.base("checkpoint_stall"),
    )  # fmt: skip
    return float(goodput(with_spares(model, int(facts.base("spare_nodes"))), facts.base("checkpoint_every")))


def _interruptions() -> list[Check]:
    expected = interruption_rate() * 86_400 * _LLAMA_ACCELERATORS * _LLAMA_DAYS
    saved = load_tables("memory")["state"].base("checkpoint") * num_parameters(model_shape("Llama-3-405B")).total
    model = failure_model(num_accelerators=_LLAMA_ACCELERATORS, checkpoint_bytes=saved, accelerators_per_node=8)
    useful = float(goodput(model, best_interval_s(model)))
    return [
        _near(
            "Llama 3: interruptions in 54 days of 16,384 H100", expected, _LLAMA_INTERRUPTIONS, _INTERRUPTIONS_BOUND, "interruptions",
            "sum of the component rates, which are those counts: a check of the arithmetic, not of the rates",
        ),
        Check("Llama 3: effective training time", useful, "> 0.90", "share", _EFFECTIVE_SHARE, 1.0, "restart within 7 min, best interval"),
    ]  # fmt: skip


def _busy_node() -> Check:
    chip = accelerator("H100")
    activity = metered_activity()
    watts = node_power_w(chip, activity)
    draw = power_draw(chip, network("infiniband"), 8, activity)
    assert abs(draw.nodes_w - watts) < 1e-6
    return Check(
        "8 x H100 node while training", watts / 1000, "7.75-8.48", "kW", _BUSY_NODE_W[0] / 1000, _BUSY_NODE_W[1] / 1000,
        f"at the activity of a plain data-parallel step ({activity:.0%})",
    )  # fmt: skip


def metered_activity() -> float:
    """Activity of a node that trains a 13B model by plain sharded data parallel, which is what was metered."""
    request = PlanRequest(
        model="Llama-2-13B", accelerator="H100", num_accelerators=8, seq_len=4096, batch_tokens=8 * 8 * 4096, tokens=1e9,
        layout=Layout(shard=8, micro_batch=1, recompute="selective"),
    )  # fmt: skip
    return plan(request).activity


@dataclass(frozen=True, slots=True)
class RowReport:
    """Measured runs beside their predictions."""

    rows: list[dict[str, Any]]
    median_error: float
    p90_error: float
    inside_interval: float


def compare_runs(runs: Sequence[Run], calibration: Calibration) -> RowReport:
    """Every measured run with its predicted seconds and interval, by constants as they are (nothing is fitted)."""
    columns = run_columns(runs)
    predicted = predict_s(columns, calibration.constants)
    rows = []
    for run, seconds in zip(runs, predicted.tolist(), strict=True):
        low, high = calibration.interval(run.shape.num_experts > 0, accelerator(run.accelerator).name, run.source).around(seconds)
        rows.append(
            {
                "run_id": run.run_id,
                "model": run.model,
                "accelerator": run.accelerator,
                "num_accelerators": run.layout.num_accelerators,
                "layout": run.layout.describe(),
                "measured_s": run.step_time_s,
                "predicted_s": seconds,
                "error": seconds / run.step_time_s - 1,
                "low_s": low,
                "high_s": high,
                "is_inside": low <= run.step_time_s <= high,
            }
        )
    errors = np.abs(predicted / columns.step_time_s - 1)
    inside = float(np.mean([row["is_inside"] for row in rows]))
    return RowReport(rows, float(np.median(errors)), float(np.quantile(errors, 0.9)), inside)
