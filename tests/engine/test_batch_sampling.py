"""Drawing for many answers at once gives each what its own Sampler draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from agora.engine.batch_sampling import draw_batch
from agora.engine.sampling import Choice, Sampler, SamplingConfig
from agora.errors import GenerationError

VOCAB = 400
FORBIDDEN = (1, 3, 399)
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {},
    {"temperature": 0.3},
    {"top_p": 0.9},
    {"top_p": 0.999, "temperature": 3.0},
    {"top_k": 7},
    {"top_k": 390},
    {"min_p": 0.05},
    {"top_k": 50, "top_p": 0.8, "min_p": 0.01, "temperature": 0.7},
    {"repetition_penalty": 1.4, "frequency_penalty": 0.5, "presence_penalty": 0.3},
    {"logit_bias": {5: 3.0, 8: -100.0}, "logprobs": 4},
]


def samplers() -> list[Sampler]:
    return [
        Sampler(SamplingConfig(seed=index, **settings), vocab_size=VOCAB, prompt=[5, 6], forbidden=FORBIDDEN)
        for index, settings in enumerate(SETTINGS)
    ]


@pytest.mark.parametrize("spread", [0.5, 4.0])
def test_every_setting_draws_as_alone(spread: float) -> None:
    together, alone = samplers(), samplers()
    numbers = torch.Generator().manual_seed(1)
    for _ in range(40):
        logits_NV = torch.randn(len(SETTINGS), VOCAB, generator=numbers) * spread
        expected = [sampler.draw(logits_V) for sampler, logits_V in zip(alone, logits_NV, strict=True)]
        got = draw_batch(logits_NV.clone(), together, torch.tensor(FORBIDDEN))
        assert all(isinstance(one, Choice) for one in got)
        assert [one.token for one in got if isinstance(one, Choice)] == [one.token for one in expected]
        assert isinstance(got[-1], Choice) and got[-1].logprob == pytest.approx(expected[-1].logprob)
        assert [token for token, _ in got[-1].top] == [token for token, _ in expected[-1].top]


def test_equal_logits_on_the_border_keep_the_first_of_the_vocabulary() -> None:
    logits_NV = torch.zeros(2, 8)
    drawn = set()
    for seed in range(60):
        pair = [Sampler(SamplingConfig(seed=seed, top_k=3), vocab_size=8), Sampler(SamplingConfig(seed=seed), vocab_size=8)]
        first = draw_batch(logits_NV.clone(), pair, torch.tensor([], dtype=torch.long))[0]
        assert isinstance(first, Choice)
        drawn.add(first.token)
    assert drawn == {0, 1, 2}


def test_broken_logits_of_one_answer_leave_the_others_alone() -> None:
    pair = [Sampler(SamplingConfig(temperature=0), vocab_size=4) for _ in range(2)]
    logits_NV = torch.tensor([[0.0, math.nan, 1.0, 2.0], [0.0, 5.0, 1.0, 2.0]])
    broken, whole = draw_batch(logits_NV, pair, torch.tensor([], dtype=torch.long))
    assert isinstance(broken, GenerationError) and "NaN" in str(broken)
    assert isinstance(whole, Choice) and whole.token == 1
