from __future__ import annotations

import ast
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.cluster.columns import stack_layouts
from agora.cluster.layout import DISPATCHES, PRECISIONS, RECOMPUTES, SCHEDULES, SHARDINGS, Layout, nearest_divisor
from agora.cluster.models import model_shape
from agora.config import from_dict, to_dict
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.shape import ModelShape
from agora.training import parallelize

POWERS = st.integers(0, 3).map(lambda power: 2**power)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    pipeline = draw(POWERS)
    schedule = draw(st.sampled_from(SCHEDULES)) if pipeline > 1 else "1f1b"
    return Layout(
        replicate=draw(POWERS),
        shard=draw(POWERS),
        sharding=draw(st.sampled_from(SHARDINGS)),
        tensor=draw(POWERS),
        pipeline=pipeline,
        schedule=schedule,
        virtual=draw(st.integers(2, 3)) if schedule == "interleaved" else 1,
        context=draw(POWERS),
        micro_batch=draw(POWERS),
        recompute=draw(st.sampled_from(RECOMPUTES)),
        precision=draw(st.sampled_from(PRECISIONS)),
        overlap=draw(st.booleans()),
        dispatch=draw(st.sampled_from(DISPATCHES)),
        expert_overlap=draw(st.booleans()),
    )


@given(st.lists(layouts(), min_size=1, max_size=5))
def test_columns_give_back_the_layouts_they_were_made_of(chosen: list[Layout]) -> None:
    columns = stack_layouts(chosen)
    assert [columns.layout(row) for row in range(len(chosen))] == chosen
    assert np.array_equal(columns.num_accelerators, [layout.num_accelerators for layout in chosen])


@given(layouts())
def test_a_layout_survives_being_saved(layout: Layout) -> None:
    assert from_dict(Layout, to_dict(layout), "test") == layout


@pytest.mark.parametrize(
    ("layout", "reason", "nearest"),
    [
        (Layout(tensor=3), "does not divide 32 heads", "tensor=2"),
        (Layout(tensor=12), "does not divide 32 heads", "tensor=8"),
        (Layout(context=3), "does not divide seq_len=8192", "context=2"),
        (Layout(expert=4), "has no experts", "expert=1"),
        (Layout(pipeline=64), "needs 64 layers, the model has 32", "pipeline=32"),
        (Layout(shard=3), "do not divide over 3 data ranks", "global_batch=63"),
        (Layout(shard=32, micro_batch=4), "do not divide over 32 data ranks", "micro_batch=2, or global_batch=128"),
        (Layout(shard=8192), "ranks would stay empty", "shard=4096 with replicate=2"),
        (Layout(pipeline=4, virtual=2, schedule="interleaved", shard=32), "needs a multiple of pipeline=4", "global_batch=128"),
        (Layout(pipeline=8, shard=16), "needs at least pipeline=8 micro-batches, not 4", "global_batch=128"),
        (Layout(pipeline=9, schedule="zero_bubble", shard=2), "rounds of equal size", "global_batch=72"),
        (Layout(pipeline=8, schedule="zero_bubble", recompute="full"), "takes the backward pass apart", "recompute='none'"),
    ],
)
def test_an_impossible_layout_is_refused_with_the_nearest_possible(layout: Layout, reason: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"{re.escape(reason)}.*nearest.*{re.escape(nearest)}"):
        layout.check(model_shape("Llama-3-8B"), seq_len=8192, global_batch=64)


def _shape(layers: int, heads: int, key_heads: int, width: int, vocabulary: int, experts: int = 0) -> ModelShape:
    return replace(
        model_shape("Llama-3-8B"), num_layers=layers, num_heads=heads, num_kv_heads=key_heads, head_dim=16, dim=96, vocab_size=vocabulary,
        num_experts=experts, experts_per_token=1 if experts else 0, expert_dim=width if experts else 0, hidden_dim=0 if experts else width,
    )  # fmt: skip


def _proposals(layout: Layout, message: str, seq_len: int, global_batch: int) -> list[tuple[Layout, int, int]]:
    """What a message proposes, applied."""
    applied = []
    if "find no possible layout" in message:
        return []
    for words in message.split("the nearest possible is ")[1].split(", or "):
        values = {name: ast.literal_eval(value.capitalize()) for name, value in re.findall(r"(\w+)=('\w+'|\w+)", words)}
        values = {name: value.lower() if isinstance(value, str) else value for name, value in values.items()}
        rows, batch = values.pop("seq_len", seq_len), values.pop("global_batch", global_batch)
        applied.append((replace(layout, **values), rows, batch))
    return applied


@st.composite
def questions(draw: st.DrawFn) -> tuple[Layout, ModelShape, int, int]:
    degrees = st.sampled_from((1, 1, 2, 3, 4, 6, 8, 16, 32))
    pipeline, schedule = draw(degrees), draw(st.sampled_from(SCHEDULES))
    virtual = draw(st.integers(2, 4)) if schedule == "interleaved" and pipeline > 1 else 1
    layout = Layout(
        replicate=draw(degrees), shard=draw(degrees), sharding=draw(st.sampled_from(SHARDINGS)), tensor=draw(degrees), pipeline=pipeline,
        schedule=schedule, virtual=virtual, context=draw(degrees), expert=draw(degrees), recompute=draw(st.sampled_from(RECOMPUTES)),
        micro_batch=draw(degrees), expert_overlap=draw(st.booleans()), sequence_parallel=draw(st.booleans()),
    )  # fmt: skip
    key_heads = draw(st.sampled_from((1, 2, 3, 6)))
    shape = _shape(
        draw(st.integers(1, 12)), key_heads * draw(st.integers(1, 4)), key_heads, draw(st.sampled_from((25, 48, 96, 100, 512))),
        draw(st.sampled_from((100, 128, 257))), draw(st.sampled_from((0, 3, 8, 12))),
    )  # fmt: skip
    return layout, shape, draw(st.sampled_from((16, 34, 60, 128, 1024))), draw(st.integers(1, 64))


@settings(max_examples=300, deadline=None)
@given(questions())
def test_what_a_refusal_proposes_is_possible(question: tuple[Layout, ModelShape, int, int]) -> None:
    layout, shape, seq_len, global_batch = question
    try:
        layout.check(shape, seq_len=seq_len, global_batch=global_batch)
    except ConfigError as error:
        for proposed, rows, batch in _proposals(layout, str(error), seq_len, global_batch):
            proposed.check(shape, seq_len=rows, global_batch=batch)


@pytest.mark.parametrize(
    ("layout", "shape", "seq_len", "nearest"),
    [
        (Layout(pipeline=4, virtual=2, schedule="interleaved"), _shape(7, 4, 4, 96, 128), 64, "pipeline=2"),
        (Layout(tensor=32), _shape(4, 12, 6, 96, 100), 64, "tensor=2"),
        (Layout(context=32), _shape(4, 4, 4, 96, 128), 16, "context=8"),
        (Layout(expert=6), _shape(4, 4, 4, 96, 128, experts=3), 64, "expert=1"),
        (Layout(context=4), _shape(4, 4, 4, 25, 128, experts=3), 64, "sharding='none'"),
        (Layout(pipeline=16, schedule="zero_bubble", recompute="full"), _shape(16, 4, 4, 96, 128), 64, "recompute='none'"),
    ],
)
def test_a_field_that_another_rule_would_refuse_is_not_proposed(layout: Layout, shape: ModelShape, seq_len: int, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"nearest possible is {nearest}$"):
        layout.check(shape, seq_len=seq_len, global_batch=8)


@pytest.mark.parametrize(("tensor", "nearest"), [(2, 1), (4, 3), (12, None), (6, None), (3, None)])
def test_query_heads_lie_with_their_key_head_or_are_refused(tensor: int, nearest: int | None) -> None:
    shape = replace(model_shape("Llama-3-8B"), num_heads=12, num_kv_heads=3, head_dim=128, hidden_dim=12_288, vocab_size=12 * 8192)
    if nearest is None:
        Layout(tensor=tensor).check(shape, seq_len=12_288, global_batch=8)
        return
    with pytest.raises(ConfigError, match=f"key heads.*the nearest possible is tensor={nearest}"):
        Layout(tensor=tensor).check(shape, seq_len=12_288, global_batch=8)


@pytest.mark.parametrize(
    ("layout", "seq_len", "vocabulary", "nearest"),
    [
        (Layout(context=2), 8190, 128_256, "seq_len=8192"),
        (Layout(tensor=4), 8190, 128_256, "tensor=2"),
        (Layout(tensor=4), 8192, 50_257, "tensor=1"),
    ],
)
def test_positions_and_vocabulary_that_ranks_cannot_share_are_refused(layout: Layout, seq_len: int, vocabulary: int, nearest: str) -> None:
    shape = replace(model_shape("Llama-3-8B"), vocab_size=vocabulary)
    with pytest.raises(ConfigError, match=f"nearest possible is {nearest}$"):
        layout.check(shape, seq_len=seq_len, global_batch=64)


@pytest.mark.parametrize("schedule", ["1f1b", "zero_bubble"])
def test_micro_batches_are_refused_where_pytorch_refuses_them(schedule: str) -> None:
    """The constructors of torch.distributed.pipelining are the twin."""
    from torch.distributed.pipelining import schedules

    make: Any = {"1f1b": schedules.Schedule1F1B, "zero_bubble": schedules.ScheduleInterleavedZeroBubble}[schedule]
    for stages in (2, 3, 5):
        stage: Any = SimpleNamespace(
            group_size=stages, group_rank=0, is_first=True, is_last=False, stage_index=0, num_stages=stages, submod=torch.nn.Linear(1, 1),
            stage_index_to_group_rank={number: number for number in range(stages)}, has_backward=True, group=None, device="cpu",
        )  # fmt: skip
        for passes in range(1, 4 * stages):
            try:
                make([stage] if schedule == "zero_bubble" else stage, passes)
                is_possible = True
            except ValueError:
                is_possible = False
            assert (Layout(pipeline=stages, schedule=schedule).nearest_passes(passes) == passes) == is_possible, (stages, passes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"tensor": 0}, "at least 1"),
        ({"virtual": 2}, "needs pipeline > 1"),
        ({"pipeline": 2, "virtual": 2}, "needs schedule='interleaved'"),
        ({"pipeline": 2, "schedule": "interleaved"}, "virtual >= 2"),
        ({"recompute": "some"}, "not one of none, selective, full"),
        ({"dispatch": "nvfp4"}, "not one of bf16, fp8"),
    ],
)
def test_choices_that_contradict_each_other_are_refused(values: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(reason)):
        Layout(**values)  # type: ignore[arg-type]


def test_experts_beside_compute_need_a_second_micro_batch() -> None:
    layout = Layout(shard=8, expert=8, expert_overlap=True)
    with pytest.raises(ConfigError, match=r"second micro-batch.*nearest possible is global_batch=16"):
        layout.check(model_shape("Qwen3-30B-A3B"), seq_len=8192, global_batch=8)
    layout.check(model_shape("Qwen3-30B-A3B"), seq_len=8192, global_batch=16)


@pytest.mark.parametrize("layout", [Layout(dispatch="fp8"), Layout(expert_overlap=True)])
def test_what_only_the_planner_knows_is_refused_by_training(layout: Layout) -> None:
    layout.check(model_shape("Llama-3-8B"), seq_len=8192, global_batch=64)
    config = ModelConfig(vocab_size=256, dim=32, num_layers=2, num_heads=4, num_kv_heads=4, head_dim=8, hidden_dim=64, max_seq_len=64)
    with pytest.raises(ConfigError, match="not done by training; the nearest possible is dispatch='bf16' with expert_overlap=false"):
        parallelize.check(config, layout, seq_len=64, global_batch=64)


def test_a_possible_layout_passes_and_knows_its_micro_batches() -> None:
    layout = Layout(shard=8, tensor=4, pipeline=2, micro_batch=2)
    layout.check(model_shape("Llama-3-8B"), seq_len=8192, global_batch=64)
    assert (layout.num_micro_batches(64), layout.num_accelerators, layout.data) == (4, 64, 8)
    assert layout.with_accelerators(256).replicate == 4


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_nearest_divisor_divides_and_none_is_nearer(number: int, wanted: int) -> None:
    found = nearest_divisor(number, wanted)
    assert number % found == 0
    assert all(abs(d - wanted) >= abs(found - wanted) for d in range(1, number + 1) if number % d == 0)
