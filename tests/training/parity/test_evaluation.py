"""Held-out losses of a divided model: the value of one process, each data rank's share of the rows, and no more memory for more of them.
The file is also what its ranks run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from agora.cluster.layout import Layout
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_loss import Pairs, PreferenceConfig
from agora.training.sharded_step import ShardedStep
from agora.training.step import Batch, TrainingStep
from tests.training.parity.ranks import EPSILON, MICRO_BATCH, SEQ_LEN, Ranks, batches, model_of

pytestmark = pytest.mark.parity

COUNTS = [1, 5, 24]  # micro-batches: fewer than data ranks, shares that are not equal, many rounds
ADAMW = OptimizerConfig(name="adamw", eps=EPSILON)
EXPERTS = {"num_experts": 4, "experts_per_token": 4, "expert_dim": 16}
TWO: dict[str, dict[str, Any]] = {
    "replicas": {"replicate": 2},
    "shards": {"shard": 2},
    "context": {"context": 2},
    "gpipe": {"pipeline": 2, "schedule": "gpipe"},
    "1f1b": {"pipeline": 2, "schedule": "1f1b"},
    "interleaved": {"pipeline": 2, "schedule": "interleaved", "virtual": 2},
    "zero bubble": {"pipeline": 2, "schedule": "zero_bubble"},
}
FOUR: dict[str, dict[str, Any]] = {
    "shards": {"shard": 4},
    "shards x pipeline": {"shard": 2, "pipeline": 2},
    "shards x interleaved": {"shard": 2, "pipeline": 2, "schedule": "interleaved", "virtual": 2},
    "replicas x context": {"replicate": 2, "context": 2},
}


def heldout(count: int) -> list[Batch]:
    """The last one is shorter, as in the last rows of a corpus."""
    *others, last = batches(7, count)
    assert last.document_ids_BT is not None
    return [*others, Batch(last.tokens_BT[:1], last.targets_BT[:1], last.document_ids_BT[:1])]


def compared(count: int) -> list[Batch]:
    """Batches of four pairs in two rows, of different weights."""
    generator, result = torch.Generator().manual_seed(3), []
    documents_BT = (torch.arange(SEQ_LEN) // (SEQ_LEN // 4)).expand(MICRO_BATCH, SEQ_LEN).contiguous()
    for batch in batches(7, count):
        reference_RP, weight_RP = (torch.rand(1, 4, generator=generator) for _ in range(2))
        pairs = Pairs(documents_BT, reference_RP, weight_RP, PreferenceConfig())
        result.append(replace(batch, document_ids_BT=documents_BT.int(), pairs=pairs))
    return result


def _kept(step: ShardedStep) -> int:
    """Bytes of outputs and inputs that the stages hold for their micro-batches."""
    assert step._pipeline is not None
    held = [x for stage in step._pipeline._stages for outputs, inputs in stage.fwd_cache.values() for x in (*outputs, *inputs)]
    return sum(x.nbytes for x in held if isinstance(x, torch.Tensor))


def evaluated(case: dict[str, Any]) -> dict[str, Any]:
    """Between steps, of each count of micro-batches: the loss, the rows that passed this rank, the bytes that its stages kept at most and
    at last; and the losses of the steps."""
    step = ShardedStep(model_of(case), ADAMW, Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]}), seq_len=SEQ_LEN, dtype="float32")
    rows: list[int] = []
    kept: list[int] = []

    def look(module: Any, arguments: Any) -> None:
        rows.append(arguments[0].shape[0])
        kept.append(_kept(step) if step._pipeline is not None else 0)

    results: dict[str, Any] = {"heldout": [], "rows": [], "most": [], "last": [], "losses": []}
    for number, count in enumerate(COUNTS):
        mine = batches(number)
        share = len(mine) // step.layout.data
        results["losses"].append(step.run(mine[step.axes.data_rank * share :][:share], 1.0).loss)
        rows.clear()
        kept.clear()
        handle = step.part.stages[0].register_forward_pre_hook(look)
        results["heldout"].append(step.evaluate(compared(count) if case.get("pairs") else heldout(count)))
        handle.remove()
        results["rows"].append(sum(rows))
        results["most"].append(max(kept))
        results["last"].append(_kept(step) if step._pipeline is not None else 0)
    return results


def _alone(case: dict[str, Any]) -> dict[str, Any]:
    step, results = TrainingStep(model_of(case), ADAMW, dtype="float32"), {"heldout": [], "losses": []}
    for number, count in enumerate(COUNTS):
        results["losses"].append(step.run(batches(number), 1.0).loss)
        results["heldout"].append(step.evaluate(compared(count) if case.get("pairs") else heldout(count)))
    return results


def _agree(ranks: Ranks, layout: dict[str, Any], **case: Any) -> None:
    answers = ranks.run({"task": f"{__name__}:evaluated", "layout": layout, **case})
    expected, made = _alone(case), Layout(**{"micro_batch": MICRO_BATCH, **layout})
    for answer in answers:
        assert answer["heldout"] == pytest.approx(expected["heldout"], rel=1e-6)
        assert answer["losses"] == pytest.approx(expected["losses"], rel=2e-6)  # the steps in between are not disturbed
        at_once = MICRO_BATCH * made.pipeline
        for count, rows in zip(COUNTS, answer["rows"], strict=True):
            share = -(-count // made.data) * MICRO_BATCH
            assert rows <= -(-share // at_once) * at_once  # whole rounds of the pipeline
        assert answer["last"] == [0, 0, 0] and answer["most"][2] <= answer["most"][0]


@pytest.mark.parametrize("name", TWO)
def test_two_ranks_evaluate_as_one_each_its_share(name: str, two_ranks: Ranks) -> None:
    _agree(two_ranks, TWO[name])


@pytest.mark.parametrize("name", FOUR)
def test_four_ranks_evaluate_as_one_each_its_share(name: str, four_ranks: Ranks) -> None:
    _agree(four_ranks, FOUR[name])


@pytest.mark.parametrize("layout", [{"shard": 2, "expert": 2}, {"tensor": 2, "expert": 2}])
def test_ranks_that_exchange_tokens_evaluate_as_one(layout: dict[str, Any], two_ranks: Ranks) -> None:
    _agree(two_ranks, layout, model=EXPERTS)


@pytest.mark.parametrize("layout", [{"replicate": 2}, {"shard": 2}])
def test_ranks_compare_their_share_of_pairs(layout: dict[str, Any], two_ranks: Ranks) -> None:
    _agree(two_ranks, layout, pairs=True)
