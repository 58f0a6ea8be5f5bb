"""A Plan as tables that people and programs read. Goes in: a Plan. Comes out: plain dictionaries with units in their keys."""

from __future__ import annotations

import dataclasses
from typing import Any

from agora.cluster.energy import J_PER_MWH
from agora.cluster.explain import is_measured, limit_of, rests_on, sentences
from agora.cluster.plan import NOT_COVERED, Plan, times_by_cause
from agora.cluster.search import Candidate
from agora.config import to_dict
from agora.model.counts import num_parameters

DAY_S = 86_400.0


def plan_table(plan: Plan) -> dict[str, Any]:
    """Everything a plan says. Assumptions stand in `explain.assumptions`."""
    request = plan.request
    counts = num_parameters(plan.shape)
    return {
        "model": plan.shape.name or "own shape",
        "parameters": counts.total,
        "active_parameters": counts.active,
        "accelerator": plan.chip.name,
        "num_accelerators": request.num_accelerators,
        "machine_with_spares": plan.placed,
        "tokens": plan.tokens,
        "layout": to_dict(plan.layout),
        "layout_in_words": plan.layout.describe(),
        "batch_tokens": plan.chosen.global_batch * request.seq_len,
        "step_s": plan.chosen.step_s,
        "step_80_percent_s": list(plan.interval_s),
        "steps": plan.num_steps,
        "tokens_per_s": plan.tokens_per_s,
        "model_flops_share": plan.model_flops_share,
        "days": plan.duration_s / DAY_S,
        "days_80_percent": [plan.duration_s / DAY_S * bound / plan.chosen.step_s for bound in plan.interval_s],
        "is_measured": is_measured(plan),
        "accelerator_hours": plan.duration_s / 3600 * request.num_accelerators,
        "memory_gib": {name: value / 2**30 for name, value in _memory(plan).items()},
        "failures": _failures(plan),
        "power_mw": _power(plan),
        "energy_mwh": {"tdp_x_hours": plan.energy.tdp_j / J_PER_MWH, "metered_like": plan.energy.metered_j / J_PER_MWH},
        "joules_per_token": plan.energy.metered_j / plan.tokens,
        "carbon_t": {"tdp_x_hours": plan.energy.carbon_tdp_kg / 1000, "metered_like": plan.energy.carbon_metered_kg / 1000},
        "cost_usd": {name: value for name, value in dataclasses.asdict(plan.cost).items() if value is not None},
        "step_by_cause_s": times_by_cause(plan.steps),
        "limit": limit_of(plan).name,
        "as_good_as_chosen": 0 if plan.search is None else len(plan.search.ties) - 1,
        "next_best": [_candidate(plan, other) for other in plan.others[:3]],
        "baseline": _candidate(plan, plan.baseline),
        "in_words": sentences(plan),
        "not_covered": list(NOT_COVERED),
    }


def _memory(plan: Plan) -> dict[str, float]:
    import numpy as np

    kinds = {entry.name: float(np.ravel(getattr(plan.memory, entry.name))[0]) for entry in dataclasses.fields(plan.memory)}
    return {**kinds, "total": plan.chosen.memory_bytes, "available": float(plan.hardware.memory_bytes)}


def _failures(plan: Plan) -> dict[str, Any]:
    recovery = plan.recovery
    return {
        "mean_time_between_s": recovery.failures.mean_time_s,
        "interruptions": plan.duration_s / recovery.failures.mean_time_s,
        "checkpoint_every_s": None if recovery.is_elastic else recovery.checkpoint_interval_s,
        "checkpoint_stall_s": None if recovery.is_elastic else recovery.failures.stall_s,
        "spare_nodes": recovery.failures.num_spare_nodes,
        "goodput_restarting_as_a_whole": recovery.goodput,
        "goodput_losing_one_replica": recovery.elastic_goodput or None,
        "recovery": "one replica at a time" if recovery.is_elastic else "restart as a whole",
        "useful_share": plan.useful_share,
    }


def _power(plan: Plan) -> dict[str, float]:
    draw = plan.draw
    return {
        "accelerators_at_tdp": draw.tdp_w / 1e6,
        "nodes_rated": draw.rated_w / 1e6,
        "nodes_training": draw.nodes_w / 1e6,
        "network": draw.network_w / 1e6,
        "cooling": draw.cooling_w / 1e6,
        "facility_and_heat": draw.facility_w / 1e6,
        "build_for": draw.build_w / 1e6,
    }


def _candidate(plan: Plan, candidate: Candidate | None) -> dict[str, Any] | None:
    if candidate is None:
        return None
    slower = candidate.s_per_sequence / plan.chosen.s_per_sequence
    return {"layout_in_words": candidate.layout.describe(), "step_s": candidate.step_s, "times_slower": slower}


def short_row(plan: Plan) -> dict[str, Any]:
    """One line of a comparison."""
    return {
        "accelerator": plan.chip.name,
        "num_accelerators": plan.request.num_accelerators,
        "power_cap": plan.request.power_cap,
        "layout": plan.layout.describe(),
        "batch_tokens": plan.chosen.global_batch * plan.request.seq_len,
        "step_s": plan.chosen.step_s,
        "model_flops_share": plan.model_flops_share,
        "days": plan.duration_s / DAY_S,
        "days_80_percent": [plan.duration_s / DAY_S * bound / plan.chosen.step_s for bound in plan.interval_s],
        "is_measured": is_measured(plan),
        "rests_on": rests_on(plan),
        "useful_share": plan.useful_share,
        "facility_mw": plan.draw.facility_w / 1e6,
        "metered_mwh": plan.energy.metered_j / J_PER_MWH,
        "rent_usd": plan.cost.rent_usd,
        "own_usd": plan.cost.own_usd,
        "carbon_t": plan.energy.carbon_metered_kg / 1000,
        "limit": limit_of(plan).name,
    }
