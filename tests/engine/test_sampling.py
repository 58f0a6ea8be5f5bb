"""Drawing tokens: each setting does what it says, and the same seed gives the same token."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from agora.engine import Sampler, SamplingConfig
from agora.errors import GenerationError, UsageError

LOGITS_V = torch.tensor([0.0, 2.0, 1.0, -1.0])


def draws(count: int = 400, logits_V: torch.Tensor = LOGITS_V, **settings: object) -> Counter[int]:
    """How often each token came from independent draws."""
    return Counter(Sampler(SamplingConfig(seed=seed, **settings), vocab_size=len(logits_V)).draw(logits_V).token for seed in range(count))  # type: ignore[arg-type]


def test_frequencies_follow_the_softmax() -> None:
    counts = draws(4000)
    expected = torch.softmax(LOGITS_V, dim=-1)
    # Four standard deviations of a binomial share at 4000 draws.
    assert all(abs(counts[token] / 4000 - float(p)) < 4 * math.sqrt(float(p) / 4000) for token, p in enumerate(expected))


def test_temperature_zero_takes_the_largest_logit() -> None:
    assert set(draws(20, temperature=0)) == {1}


def test_low_temperature_sharpens() -> None:
    assert draws(temperature=0.3)[1] > draws(temperature=1.0)[1] > draws(temperature=5.0)[1]


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.8}, {"min_p": 0.3}])
def test_truncation_keeps_exactly_the_likely_tokens(settings: dict[str, float]) -> None:
    # Probabilities 0.09, 0.64, 0.24, 0.03: two tokens reach 0.8; the second is 0.37 times the first, the third 0.14 times.
    assert set(draws(**settings)) == {1, 2}


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}, {"temperature": 1e-3}])
def test_one_token_is_always_left(settings: dict[str, float]) -> None:
    assert set(draws(20, **settings)) == {1}


def test_forbidden_tokens_are_never_drawn() -> None:
    sampled = {Sampler(SamplingConfig(seed=seed), vocab_size=4, forbidden=[1, 2]).draw(LOGITS_V).token for seed in range(200)}
    assert sampled == {0, 3}


def test_logit_bias_adds_to_one_token() -> None:
    assert set(draws(20, temperature=0, logit_bias={3: 100.0})) == {3}


def test_bias_on_a_token_that_does_not_exist_is_refused() -> None:
    with pytest.raises(GenerationError, match="token 9, but the vocabulary has 4"):
        Sampler(SamplingConfig(logit_bias={9: 1.0}), vocab_size=4)


def test_presence_penalty_counts_once_and_frequency_each_time() -> None:
    def greedy(**settings: float) -> list[int]:
        sampler = Sampler(SamplingConfig(temperature=0, **settings), vocab_size=4)  # type: ignore[arg-type]
        return [sampler.draw(LOGITS_V).token for _ in range(4)]

    assert greedy() == [1, 1, 1, 1]
    # 2.0 - 1.5 = 0.5 < 1.0: the second token leads once, then -0.5 against 0.5, and the first stays ahead of 0.0.
    assert greedy(presence_penalty=1.5) == [1, 2, 1, 1]
    # 2.0, then 1.4; then 0.8 against 1.0; then 0.8 against 0.4.
    assert greedy(frequency_penalty=0.6) == [1, 1, 2, 1]


def test_repetition_penalty_reaches_the_prompt() -> None:
    sampler = Sampler(SamplingConfig(temperature=0, repetition_penalty=3.0), vocab_size=4, prompt=[1])
    assert [sampler.draw(LOGITS_V).token for _ in range(2)] == [2, 1]


def test_reported_logprobs_are_the_models_own() -> None:
    sampler = Sampler(SamplingConfig(temperature=0.1, top_k=1, logprobs=2, logit_bias={3: 100.0}), vocab_size=4)
    choice = sampler.draw(LOGITS_V)
    expected_V = torch.log_softmax(LOGITS_V, dim=-1)
    assert choice.token == 3 and choice.logprob == pytest.approx(float(expected_V[3]))
    assert [token for token, _ in choice.top] == [1, 2]
    assert [logprob for _, logprob in choice.top] == pytest.approx([float(expected_V[1]), float(expected_V[2])])


def test_logits_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(GenerationError, match="NaN"):
        Sampler(SamplingConfig(), vocab_size=2).draw(torch.tensor([0.0, math.nan]))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0), ("temperature", -1.0), ("temperature", math.nan), ("top_p", 0.0), ("top_p", 1.1), ("top_k", 0), ("min_p", 2.0),
        ("seed", 2**80), ("stop", ("",)), ("stop", ("a",) * 17), ("repetition_penalty", 0.0), ("presence_penalty", 3.0),
        ("frequency_penalty", math.nan), ("logit_bias", {1: 1000.0}), ("logprobs", 21),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name_and_value(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name}="):
        SamplingConfig(**{name: value})  # type: ignore[arg-type]
