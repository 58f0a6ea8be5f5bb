"""Drawing for many answers at once gives each what its own Sampler draws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from agora.engine import batch_sampling, native
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


@pytest.fixture(params=["kernel", "torch"])
def drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By draw.c, and as on GPUs and without a compiler."""
    if request.param == "torch":
        monkeypatch.setattr(batch_sampling, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("needs a C compiler on Linux")


@pytest.mark.usefixtures("drawing")
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


@pytest.mark.usefixtures("drawing")
def test_equal_logits_on_the_border_keep_the_first_of_the_vocabulary() -> None:
    logits_NV = torch.zeros(2, 8)
    drawn = set()
    for seed in range(60):
        pair = [Sampler(SamplingConfig(seed=seed, top_k=3), vocab_size=8), Sampler(SamplingConfig(seed=seed), vocab_size=8)]
        first = draw_batch(logits_NV.clone(), pair, torch.tensor([], dtype=torch.long))[0]
        assert isinstance(first, Choice)
        drawn.add(first.token)
    assert drawn == {0, 1, 2}


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("size", [1, 127, 128, 129, 5000])
def test_vocabularies_of_any_size_draw_as_alone(size: int) -> None:
    settings = [SamplingConfig(seed=seed, temperature=seed % 3 / 2) for seed in range(12)]
    forbidden = [token for token in (0, size // 2, size - 1) if size > 3]
    together, alone = ([Sampler(one, vocab_size=size, forbidden=forbidden) for one in settings] for _ in range(2))
    numbers = torch.Generator().manual_seed(size)
    for _ in range(5):
        logits_NV = torch.randn(len(settings), size, generator=numbers)
        logits_NV[:, size // 3 :] -= 200 * (size > 1)  # most of them too unlikely to be a number
        expected = [sampler.draw(logits_V).token for sampler, logits_V in zip(alone, logits_NV, strict=True)]
        got = draw_batch(logits_NV.clone(), together, torch.tensor(forbidden, dtype=torch.long))
        assert [one.token for one in got if isinstance(one, Choice)] == expected


@pytest.mark.usefixtures("drawing")
def test_points_at_both_ends_draw_the_first_and_the_last_token_that_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = [Sampler(SamplingConfig(seed=1), vocab_size=400) for _ in range(2)]
    for sampler, point in zip(pair, (0.0, 1 - 2.0**-53), strict=True):
        monkeypatch.setattr(sampler, "next_point", lambda point=point: point)
    got = draw_batch(torch.zeros(2, 400), pair, torch.tensor([0, 1, *range(300, 400)]))
    assert [one.token for one in got if isinstance(one, Choice)] == [2, 299]


@pytest.mark.usefixtures("drawing")
def test_broken_logits_of_one_answer_leave_the_others_alone() -> None:
    pair = [Sampler(SamplingConfig(temperature=0), vocab_size=4) for _ in range(2)]
    logits_NV = torch.tensor([[0.0, math.nan, 1.0, 2.0], [0.0, 5.0, 1.0, 2.0]])
    broken, whole = draw_batch(logits_NV, pair, torch.tensor([], dtype=torch.long))
    assert isinstance(broken, GenerationError) and "NaN" in str(broken)
    assert isinstance(whole, Choice) and whole.token == 1
