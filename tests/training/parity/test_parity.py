"""Parity: a divided run gives the numbers of one process. Run alone with `pytest -m parity`.

Tolerances, relative. FIRST: the first step differs only in the order of float32 additions; a loss adds some 500 terms and a gradient some
4000, and errors of 6e-8 each grow like the root of their number. LATER, for 20 steps: some ten times what one process drifts by when the
same rows are cut into other micro-batches, which changes only the order of additions too: AdamW's gradient norms by 1e-6 (with an epsilon
that keeps gradients near zero from deciding steps, see ranks.py), Muon's by 1e-2, because torch.optim.Muon rounds to bfloat16 inside,
which turns 1e-7 into 4e-3 for single elements. test_cutting_rows_otherwise_drifts_as_far holds the yardstick.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from tests.training.parity.ranks import MICRO_BATCH, Ranks, alone

pytestmark = pytest.mark.parity

FIRST = 2e-6
LATER = {
    "adamw": {"losses": 2e-6, "grad_norms": 1e-5, "weight_norms": 5e-6},
    "muon": {"losses": 7e-4, "grad_norms": 5e-2, "weight_norms": 1e-2},
}
STEPS = 20

ROWS_AT_ONCE = 8  # fewer, larger passes where each pass makes many exchanges
TWO: dict[str, dict[str, Any]] = {
    "replicas": {"replicate": 2, "micro_batch": 4},
    "shards": {"shard": 2, "micro_batch": 4},
    "shards of optimizer": {"shard": 2, "sharding": "optimizer", "micro_batch": 4},
    "shards of gradients": {"shard": 2, "sharding": "gradients", "micro_batch": 4},
    "no shards": {"shard": 2, "sharding": "none", "micro_batch": 4},
    "tensor and sequence": {"tensor": 2, "micro_batch": 4},
    "tensor": {"tensor": 2, "sequence_parallel": False, "micro_batch": ROWS_AT_ONCE},
    "gpipe": {"pipeline": 2, "schedule": "gpipe", "micro_batch": 4},
    "1f1b": {"pipeline": 2, "schedule": "1f1b", "micro_batch": 4},
    "interleaved": {"pipeline": 2, "schedule": "interleaved", "virtual": 2, "micro_batch": 4},
    "zero bubble": {"pipeline": 2, "schedule": "zero_bubble", "micro_batch": 4},
    "context": {"context": 2, "micro_batch": ROWS_AT_ONCE},
}
FOUR: dict[str, dict[str, Any]] = {
    "replicas of shards": {"replicate": 2, "shard": 2},
    "shards x tensor": {"shard": 2, "tensor": 2, "micro_batch": 4},
    "replicas x tensor": {"replicate": 2, "tensor": 2, "micro_batch": ROWS_AT_ONCE},
    "shards x pipeline": {"shard": 2, "pipeline": 2},
    "shards x interleaved": {"shard": 2, "pipeline": 2, "schedule": "interleaved", "virtual": 2},
    "shards x zero bubble": {"shard": 2, "pipeline": 2, "schedule": "zero_bubble"},
    "tensor x pipeline": {"tensor": 2, "pipeline": 2, "micro_batch": 4},
    "shards x context": {"shard": 2, "context": 2, "micro_batch": 4},
    "tensor x context": {"tensor": 2, "context": 2, "micro_batch": ROWS_AT_ONCE},
    "context x pipeline": {"context": 2, "pipeline": 2, "micro_batch": 4},
    "four stages": {"pipeline": 4},
    "more tensor ranks than key heads": {"tensor": 4, "micro_batch": ROWS_AT_ONCE},
}


TWO_EXPERTS: dict[str, dict[str, Any]] = {
    "shards with experts": {"shard": 2},
    "experts": {"shard": 2, "expert": 2},
    "tensor with experts": {"tensor": 2, "micro_batch": ROWS_AT_ONCE},
    "experts x tensor": {"tensor": 2, "expert": 2, "micro_batch": ROWS_AT_ONCE},
    "experts x tensor without sequence": {"tensor": 2, "sequence_parallel": False, "expert": 2, "micro_batch": ROWS_AT_ONCE},
    "experts x context": {"context": 2, "expert": 2, "micro_batch": ROWS_AT_ONCE},
    "stages with experts": {"pipeline": 2},
}
FOUR_EXPERTS: dict[str, dict[str, Any]] = {
    "experts x shards": {"shard": 4, "expert": 2},
    "experts x replicas": {"replicate": 2, "shard": 2, "expert": 2},
    "experts x stages": {"shard": 2, "expert": 2, "pipeline": 2},
    "experts x shards x tensor": {"shard": 2, "tensor": 2, "expert": 4, "micro_batch": 4},
}
# Every token visits every expert: which two are best is a step, and a difference of 1e-7 can fall on either side of it.
EXPERTS = {"num_experts": 4, "experts_per_token": 4, "expert_dim": 16, "balance_loss_weight": 0.05}
# Where tokens choose, a run can only be compared while none is so near to another choice that rounding decides. So these cases have fresh
# weights of which none of the 20,480 choices comes nearer than MARGIN (of a score), and a rate at which the scores of a layout move by less
# than DRIFT from those of one process; both are checked.
CHOOSING = {"model": {**EXPERTS, "experts_per_token": 2, "balance_bias_rate": 0.01, "num_layers": 2}, "seed": 4, "lr": 3e-4}
MARGIN, DRIFT = 4e-6, 4e-7


@cache
def _alone(case: str) -> dict[str, Any]:
    return alone(json.loads(case))


def _agree(
    ranks: Ranks, layout: dict[str, Any], *, optimizer: str = "adamw", model: dict[str, Any] | None = None, steps: int = STEPS
) -> None:
    case = {"optimizer": optimizer, "steps": steps, "model": model or {}}
    answers = ranks.run({"layout": layout, **case})
    # the balance of experts is judged pass by pass, so one process must make the same passes; without experts any do
    rows = layout.get("micro_batch", MICRO_BATCH) if model and "num_experts" in model else MICRO_BATCH
    expected = _alone(json.dumps({**case, "micro_batch": rows}))
    for answer in answers:
        assert answer["num_tokens"] == expected["num_tokens"]
        for name in ("losses", "grad_norms"):
            assert answer[name][0] == pytest.approx(expected[name][0], rel=FIRST), name
        for name, tolerance in LATER[optimizer].items():
            assert answer[name] == pytest.approx(expected[name], rel=tolerance), name


@pytest.mark.parametrize("optimizer", LATER)
def test_cutting_rows_otherwise_drifts_as_far(optimizer: str) -> None:
    expected = _alone(json.dumps({"optimizer": optimizer, "steps": STEPS, "model": {}, "micro_batch": MICRO_BATCH}))
    other = alone({"optimizer": optimizer, "steps": STEPS, "micro_batch": 1})
    drift = max(abs(a - b) / b for a, b in zip(other["grad_norms"], expected["grad_norms"], strict=True))
    assert LATER[optimizer]["grad_norms"] / 25 < drift < LATER[optimizer]["grad_norms"] / 2


@pytest.mark.parametrize("name", TWO)
def test_two_ranks_give_the_numbers_of_one(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO[name])


@pytest.mark.parametrize("name", FOUR)
def test_four_ranks_give_the_numbers_of_one(name: str, four_ranks: Ranks) -> None:
    _agree(four_ranks, FOUR[name])


@pytest.mark.parametrize("name", ["shards", "tensor and sequence", "interleaved", "context"])
def test_muon_on_two_ranks_gives_the_numbers_of_one(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO[name], optimizer="muon")


@pytest.mark.parametrize("name", ["replicas of shards", "shards x tensor", "tensor x pipeline"])
def test_muon_on_four_ranks_gives_the_numbers_of_one(name: str, four_ranks: Ranks) -> None:
    _agree(four_ranks, FOUR[name], optimizer="muon")


@pytest.mark.parametrize("name", ["shards", "tensor and sequence"])
def test_a_step_of_muon_on_two_ranks_is_that_of_torch_on_whole_matrices(name: str, two_ranks: Ranks) -> None:
    _steps_as_torch(two_ranks, TWO[name])


@pytest.mark.parametrize("name", ["replicas of shards", "shards x tensor"])
def test_a_step_of_muon_on_four_ranks_is_that_of_torch_on_whole_matrices(name: str, four_ranks: Ranks) -> None:
    _steps_as_torch(four_ranks, FOUR[name])


def _steps_as_torch(ranks: Ranks, layout: dict[str, Any]) -> None:
    for answer in ranks.run({"task": "muon_differs", "layout": layout}):
        assert answer["matrices"] == 4 * 7 and answer["worst"] < 1e-5


@pytest.mark.parametrize("name", ["shards", "tensor and sequence", "1f1b", "zero bubble"])
def test_one_table_for_both_ends_gives_the_same_numbers(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO[name], model={"tie_embeddings": True}, steps=8)


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("name", ["shards", "tensor and sequence", "1f1b", "context"])
def test_recomputing_gives_the_same_numbers(name: str, recompute: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, {**TWO[name], "recompute": recompute}, steps=4)


@pytest.mark.parametrize("name", TWO_EXPERTS)
def test_experts_on_two_ranks_give_the_numbers_of_one(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO_EXPERTS[name], model=EXPERTS)


@pytest.mark.parametrize("recompute", ["selective", "full"])
@pytest.mark.parametrize("name", ["experts", "tensor with experts", "experts x context"])
def test_recomputing_experts_gives_the_same_numbers(name: str, recompute: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, {**TWO_EXPERTS[name], "recompute": recompute}, model=EXPERTS, steps=2)


@pytest.mark.parametrize("name", FOUR_EXPERTS)
def test_experts_on_four_ranks_give_the_numbers_of_one(name: str, four_ranks: Ranks) -> None:
    _agree(four_ranks, FOUR_EXPERTS[name], model=EXPERTS)


@pytest.mark.parametrize("name", ["experts", "experts x tensor"])
def test_muon_steps_divided_experts_as_whole_ones(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO_EXPERTS[name], model=EXPERTS, optimizer="muon")


@pytest.mark.parametrize("name", ["experts", "experts x tensor", "experts x context", "stages with experts"])
def test_tokens_that_choose_experts_on_two_ranks_give_the_numbers_of_one(name: str, two_ranks: Ranks) -> None:
    _choose_alike(two_ranks, TWO_EXPERTS[name])


@pytest.mark.parametrize("name", FOUR_EXPERTS)
def test_tokens_that_choose_experts_on_four_ranks_give_the_numbers_of_one(name: str, four_ranks: Ranks) -> None:
    _choose_alike(four_ranks, FOUR_EXPERTS[name])


def _choose_alike(ranks: Ranks, layout: dict[str, Any]) -> None:
    case = {**CHOOSING, "steps": STEPS}
    expected = _alone(json.dumps({**case, "micro_batch": layout.get("micro_batch", MICRO_BATCH)}))
    assert expected["margin"] > MARGIN, "rounding may decide a choice; take other fresh weights"
    answers = ranks.run({"layout": layout, **case})
    assert min(answer["margin"] for answer in answers) == pytest.approx(expected["margin"], abs=DRIFT)
    for answer in answers:
        assert answer["num_tokens"] == expected["num_tokens"]
        for name in ("losses", "grad_norms"):
            assert answer[name][0] == pytest.approx(expected[name][0], rel=FIRST), name
        for name, tolerance in LATER["adamw"].items():
            assert answer[name] == pytest.approx(expected[name], rel=tolerance), name


COMPILED = {"shards": ("inductor", "none"), "tensor and sequence": ("aot_eager", "selective"), "context": ("aot_eager", "full")}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_layers_give_the_same_numbers(name: str, two_ranks: Ranks) -> None:
    backend, again = COMPILED[name]
    expected = _alone(json.dumps({"optimizer": "adamw", "steps": 3, "model": {}, "micro_batch": MICRO_BATCH}))
    for answer in two_ranks.run({"layout": {**TWO[name], "recompute": again}, "steps": 3, "backend": backend}):
        for key, tolerance in LATER["adamw"].items():
            assert answer[key] == pytest.approx(expected[key], rel=tolerance), key


def test_compiled_layers_of_experts_give_the_same_numbers(two_ranks: Ranks) -> None:
    case = {"layout": TWO_EXPERTS["experts"], "model": EXPERTS, "steps": 2}
    plain, compiled = (two_ranks.run({**case, **how})[0] for how in ({}, {"backend": "aot_eager"}))
    assert compiled["losses"] == pytest.approx(plain["losses"], rel=FIRST)


def test_a_schedule_that_splits_the_backward_pass_is_not_compiled(two_ranks: Ranks) -> None:
    for answer in two_ranks.run({"task": "refused", "layout": TWO["zero bubble"], "backend": "aot_eager"}):
        assert "zero_bubble" in answer["message"] and "training.compile=off" in answer["message"]


@pytest.mark.parametrize("name", ["tensor and sequence", "interleaved"])
def test_ranks_that_draw_their_part_begin_as_one_process(name: str, two_ranks: Ranks) -> None:
    _drawn(two_ranks, TWO[name], {"tie_embeddings": True} if name == "interleaved" else {})


@pytest.mark.parametrize("name", ["shards x tensor", "replicas x tensor", "shards x pipeline"])
def test_more_ranks_that_draw_their_part_begin_as_one_process(name: str, four_ranks: Ranks) -> None:
    _drawn(four_ranks, FOUR[name], {})


@pytest.mark.parametrize("name", FOUR_EXPERTS)
def test_ranks_draw_their_part_of_the_experts(name: str, four_ranks: Ranks) -> None:
    _drawn(four_ranks, FOUR_EXPERTS[name], EXPERTS)


def _drawn(ranks: Ranks, layout: dict[str, Any], model: dict[str, Any]) -> None:
    """Same bits: after no step the weights have the norms of those that one process draws, and those that every rank was given."""
    case = {"layout": layout, "model": model, "steps": 0}
    drawn, given = (ranks.run({**case, "drawn": drawn}) for drawn in (True, False))
    assert drawn == given and drawn[0]["weight_norms"] == alone({"model": model, "steps": 0})["weight_norms"]


@pytest.mark.parametrize("name", ["shards", "tensor and sequence", "1f1b", "context"])
def test_bfloat16_on_ranks_is_bfloat16_alone(name: str, two_ranks: Ranks) -> None:
    # Products round to 8 bits (4e-3), on ranks in other places than alone; sums over ranks are float32. After a step AdamW makes the
    # most of it, so later steps would say nothing.
    case = {"dtype": "bfloat16", "steps": 1}
    expected = alone({**case, "micro_batch": TWO[name].get("micro_batch", MICRO_BATCH)})
    for answer in two_ranks.run({"layout": TWO[name], **case}):
        assert answer["losses"] == pytest.approx(expected["losses"], rel=1e-3)
        assert answer["grad_norms"] == pytest.approx(expected["grad_norms"], rel=1e-2)
