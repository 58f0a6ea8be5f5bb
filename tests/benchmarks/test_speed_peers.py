"""The contestants of the speed benchmarks are what they say they are."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from agora.model.counts import num_parameters
from benchmarks.muon_vs_adamw import SHARES, needed_share, schedule
from benchmarks.speed_measure import LARGE, SMALL, Times, ratio
from benchmarks.speed_peers import agora_step, gpt2_step, transformers_step

TINY = dataclasses.replace(
    SMALL, vocab_size=128, dim=64, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=32, hidden_dim=192, max_seq_len=32,
)  # fmt: skip


def test_shapes_have_the_parameters_they_are_named_for() -> None:
    assert round(num_parameters(SMALL).total / 1e6, 1) == 10.5
    assert round(num_parameters(LARGE).total / 1e6) == 63


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_every_contestant_learns_the_same_tokens_with_as_many_parameters() -> None:
    pytest.importorskip("transformers")
    tokens = torch.randint(0, 128, (2, 33), generator=torch.Generator().manual_seed(0))
    made = [agora_step(TINY), transformers_step(TINY), gpt2_step(TINY, compile=False)]
    for step, count in made:
        first = step(tokens)
        assert abs(first - 4.85) < 0.3  # ln 128
        assert step(tokens) < first
        # the GPT-2 style has learned positions in addition
        assert abs(count / made[0][1] - 1) < 0.1
    assert made[0][1] == made[1][1] == num_parameters(TINY).total


def test_ratio_pairs_rounds() -> None:
    ours, peer = Times([1.0, 10.0, 1.0]), Times([2.0, 20.0, 2.1])
    assert ratio(peer, ours) == 2.0


def test_needed_share_reads_between_the_budgets() -> None:
    assert needed_share(2.0, (1.9, 1.8)) == SHARES[0]
    assert needed_share(2.0, (2.1, 2.0)) == pytest.approx(SHARES[1])
    assert SHARES[0] < needed_share(2.0, (2.1, 1.9)) < SHARES[1] < needed_share(2.0, (2.2, 2.1)) <= 1.0
    assert needed_share(2.0, (2.1, 2.2)) == 1.0


def test_schedule_rises_and_falls_to_near_zero() -> None:
    scales = [schedule(step, 100) for step in range(100)]
    assert scales[4] == 1.0 and max(scales) == 1.0 and 0 < scales[-1] < 0.02 and scales[0] == pytest.approx(0.2)
