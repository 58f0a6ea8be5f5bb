"""Dry runs: the program as any rank of any world, under fake process groups and fake tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode

from agora.cluster.layout import Layout
from agora.errors import ConfigError, UsageError
from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token, num_parameters
from agora.training import dryrun
from agora.training.config import TrainingConfig
from agora.training.dryrun import dry_run, dry_run_stages, extrapolated, record_steps, recorded_numbers
from agora.training.optimizers import OptimizerConfig
from agora.training.recorder import KINDS, Collective, StepRecord
from benchmarks import dryrun_memory

MODEL = ModelConfig(
    vocab_size=256, dim=64, num_layers=4, num_heads=4, num_kv_heads=2, head_dim=16, hidden_dim=128, max_seq_len=64, tie_embeddings=False
)


def training(rows: int, micro_batch: int = 1, optimizer: str = "adamw") -> TrainingConfig:
    return TrainingConfig(
        batch_tokens=rows * 64, micro_batch=micro_batch, seq_len=64, dtype="bfloat16",
        optimizer=OptimizerConfig(name=optimizer),  # type: ignore[arg-type]
    )  # fmt: skip


def messages(record: StepRecord, operation: str, group: str) -> Collective:
    (found,) = (c for c in record.collectives if (c.operation, c.group) == (operation, group))
    return found


def test_states_of_a_rank_are_its_share_of_the_model() -> None:
    run = dry_run(MODEL, training(8), Layout(shard=4, recompute="full"), rank=3)
    share = num_parameters(MODEL).total / 4
    kinds = run.record.by_kind
    rounding = 47 * 512.0  # every tensor takes whole blocks of 512 bytes
    assert 4 * share <= kinds["weights"] <= 4 * share + rounding
    assert 8 * share <= kinds["optimizer"] <= 8 * share + 3 * rounding  # two moments, and a count of steps
    assert set(kinds) == set(KINDS) and sum(kinds.values()) == run.record.peak_bytes


def test_flops_are_those_of_the_model_and_its_recomputation() -> None:
    plain = dry_run(MODEL, training(4), Layout(shard=2)).record.flops
    expected = flops_per_token(MODEL, 64, causal=False) * 4 * 64 / 2
    # attention's backward pass makes the scores again: one product of 2 + 4
    scores = 2 * 2 * MODEL.num_layers * MODEL.query_dim * 64 * 4 * 64 / 2 / 2
    assert plain == pytest.approx(expected + scores, rel=1e-6)
    full = dry_run(MODEL, training(4), Layout(shard=2, recompute="full")).record.flops
    assert plain * 1.2 < full < plain * 4 / 3 + 1


def test_messages_of_sharded_weights_are_counted_to_the_byte() -> None:
    record = dry_run(MODEL, training(4), Layout(shard=2, micro_batch=1)).record
    layer = (num_parameters(MODEL).non_embedding - MODEL.dim) / MODEL.num_layers
    tables = num_parameters(MODEL).embedding + MODEL.dim
    # two passes: layers are gathered in bf16 for each direction, tables once; float32 gradients are divided in each pass
    gathered = messages(record, "all-gather", "shard")
    assert gathered.num_bytes == pytest.approx(2 * (MODEL.num_layers * layer * 2 * 2 + 2 * tables), rel=0.02)
    assert messages(record, "reduce-scatter", "shard").num_bytes == 4 * 2 * (MODEL.num_layers * layer + tables)
    assert gathered.sent_bytes == gathered.num_bytes / 2


def test_every_step_of_a_run_is_alike() -> None:
    layout = Layout(shard=2, tensor=2)
    with dryrun._fake_world(4, 1):
        _, records = record_steps(MODEL, training(4), layout, (2, 2), fake=FakeTensorMode(allow_non_fake_inputs=True))
    assert records[0] == records[1]


@pytest.mark.parametrize("layout", [Layout(shard=2), Layout(pipeline=2, micro_batch=1)], ids=["shards", "1f1b"])
def test_many_micro_batches_follow_from_a_few(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 8 * layout.data
    short = dry_run(MODEL, training(rows), layout, rank=layout.num_accelerators - 1)
    assert 8 not in short.recorded_micro_batches
    monkeypatch.setattr(dryrun, "recorded_numbers", lambda *_: (8,))
    whole = dry_run(MODEL, training(rows), layout, rank=layout.num_accelerators - 1)
    assert short.record.peak_bytes == pytest.approx(whole.record.peak_bytes, rel=0.002)
    assert short.record.flops == whole.record.flops

    def tables(record: StepRecord) -> dict[tuple[str, str], float]:
        return {(c.operation, c.group): c.num_bytes for c in record.collectives}

    assert tables(short.record) == pytest.approx(tables(whole.record), rel=0.001, abs=8)  # the first step agrees on shapes: 4 bytes


@pytest.mark.slow
def test_micro_batches_in_flight_are_in_the_number() -> None:
    layout = Layout(pipeline=4, micro_batch=4)
    stages = list(dry_run_stages(MODEL, training(32, micro_batch=4), layout))
    held = [run.record.by_kind["activations"] for run in stages]
    assert [run.stage for run in stages] == [0, 1, 2, 3]
    assert held[0] > held[1] > held[2]  # the first stage waits for all others
    gpipe = dry_run(MODEL, training(32, micro_batch=4), replace(layout, schedule="gpipe"), rank=2)
    assert gpipe.record.by_kind["activations"] > 2 * held[2]


def test_experts_and_a_ring_send_what_they_must() -> None:
    model = replace(MODEL, num_experts=4, experts_per_token=2, expert_dim=32)
    record = dry_run(model, training(4), Layout(shard=2, context=2, expert=2)).record
    ring = messages(record, "send", "context")
    keys = 2 * MODEL.kv_dim * 32 * 2  # bytes of keys and values of a rank's half of a row
    # a pass sends keys and values once each way, and their float32 gradients at every turn back
    assert ring.num_bytes == 2 * MODEL.num_layers * (keys + keys + 2 * 2 * keys)
    assert messages(record, "all-to-all", "expert").count > 0


LONG = replace(MODEL, max_seq_len=1024, num_layers=2)


def long_run(layout: Layout, *, documents: bool) -> dryrun.DryRun:
    training_ = TrainingConfig(
        batch_tokens=4 * 1024, micro_batch=1, seq_len=1024, dtype="bfloat16", document_aware=documents,
        optimizer=OptimizerConfig(name="adamw"),
    )  # fmt: skip
    return dry_run(LONG, training_, layout)


@pytest.mark.parametrize(
    ("layout", "num_masks"), [(Layout(shard=2), 1), (Layout(shard=2, recompute="full"), 1), (Layout(pipeline=2), 2)],
    ids=["kept once for all layers", "of the layer that works", "one for each pass in flight"],
)  # fmt: skip
def test_the_mask_of_documents_is_in_the_run_as_in_the_plan(layout: Layout, num_masks: int) -> None:
    several, one = (long_run(layout, documents=documents) for documents in (True, False))
    mask = 2 * 1024**2
    assert several.planned_bytes - one.planned_bytes == num_masks * mask
    assert several.record.peak_bytes - one.record.peak_bytes == pytest.approx(num_masks * mask, rel=0.1)


def test_a_ring_needs_no_mask_and_keeps_no_scores() -> None:
    layout = Layout(tensor=2, context=2, recompute="selective")
    several, one = (long_run(layout, documents=documents) for documents in (True, False))
    assert several.record.peak_bytes == pytest.approx(one.record.peak_bytes, rel=0.01)
    assert several.planned_bytes == pytest.approx(several.record.peak_bytes, rel=0.15)


@pytest.mark.slow
def test_real_runs_of_two_ranks_take_what_was_predicted() -> None:
    ranks = {"pipeline interleaved": (0, 1), "context": (0,)}  # the ranks of a ring are alike
    cases = {name: dryrun_memory.CASES[2][name] for name in ranks}
    for name, seen in dryrun_memory._real_peaks(2, cases).items():
        for rank in ranks[name]:
            assert dryrun_memory._predicted(name, cases[name], rank) == pytest.approx(seen[rank], rel=0.01), name


def test_a_rank_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="--rank 8 is not one of the 8 ranks 0 to 7; the nearest is 7"):
        dry_run(MODEL, training(8), Layout(shard=8), rank=8)
    with pytest.raises(UsageError, match="--rank 99 is not one of the 4 ranks"):
        next(dryrun.dry_run_stages(MODEL, training(8), Layout(pipeline=2, shard=2), rank=99))


def test_what_a_dry_run_leaves_out_is_said(caplog: pytest.LogCaptureFixture) -> None:
    dry_run(MODEL, replace(training(2), float8="rowwise"), Layout(shard=2))
    assert "training.float8=rowwise is not in a dry run" in caplog.text


def test_a_world_that_does_not_divide_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="100 accelerators are no multiple of the layout's group of 8; try 96"):
        dry_run(MODEL, training(8), Layout(shard=4, tensor=2), world=100)


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"the nearest possible is training\.batch_tokens=512"):
        dry_run(MODEL, training(9), Layout(shard=8))


def test_too_few_micro_batches_for_a_pipeline_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"needs at least pipeline=4 micro-batches, not 2; .* training\.batch_tokens=256"):
        dry_run(MODEL, training(2), Layout(pipeline=4))


def test_nothing_is_left_of_a_dry_run_that_fails() -> None:
    with pytest.raises(ConfigError):
        dry_run(MODEL, training(2), Layout(tensor=3))
    assert not dist.is_initialized()


def test_short_runs_are_recorded_as_they_are() -> None:
    assert recorded_numbers(Layout(shard=8), 2) == (2,)
    assert recorded_numbers(Layout(shard=8), 100) == (2, 3)
    assert recorded_numbers(Layout(pipeline=4), 100) == (5, 6)
    assert recorded_numbers(Layout(pipeline=4, schedule="gpipe"), 100) == (100,)
    assert recorded_numbers(Layout(pipeline=4, virtual=2, schedule="interleaved"), 100) == (12, 16)


def test_what_lies_ahead_grows_as_between_two_records() -> None:
    def record(count: float) -> StepRecord:
        once = Collective(operation="all-reduce", group="world", group_size=4, count=2, num_bytes=16.0)
        often = Collective(operation="send", group="pipeline", group_size=4, count=count, num_bytes=8 * count)
        return StepRecord(peak_bytes=count, by_kind={"other": count}, collectives=[once, often], flops=10 * count)

    found = extrapolated([record(4), record(6)], (4, 6), 10)
    assert (found.flops, found.peak_bytes) == (100, 10)
    assert {c.operation: (c.count, c.num_bytes) for c in found.collectives} == {"all-reduce": (2, 16), "send": (10, 80)}


def test_a_rank_that_does_not_fit_is_told_what_to_change() -> None:
    run = dry_run(MODEL, training(4), Layout(shard=2))
    assert dryrun.warnings_for(run, "H100") == []
    large = replace(run, record=replace(run.record, peak_bytes=90e9, by_kind={**run.record.by_kind, "activations": 89e9}))
    (warning,) = dryrun.warnings_for(large, "H100")
    assert "activations take most" in warning and "layout.recompute=full" in warning and "or take A100" not in warning
    with pytest.raises(ConfigError, match="unknown accelerator 'H1000'; the nearest is 'H100'"):
        dryrun.memory_of("H1000")
