"""The loss of preferences: equal to the paper's formula written out in float64, and to the log-probabilities of plain softmax."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.loss import IGNORED, token_log_probabilities
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.preference_data import EncodedPair, PreferenceBatches
from agora.training.preference_loss import PreferenceConfig
from agora.training.step import TrainingStep, log_probabilities

SHAPE = ModelConfig(vocab_size=61, dim=32, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=48, max_seq_len=64)


def some_pairs(count: int = 9, seed: int = 0) -> list[EncodedPair]:
    numbers = torch.Generator().manual_seed(seed)

    def tokens(least: int, most: int) -> list[int]:
        length = int(torch.randint(least, most + 1, (), generator=numbers))
        return [int(one) for one in torch.randint(1, 61, (length,), generator=numbers)]

    weights = torch.rand(count, generator=numbers).add(0.2).tolist()
    return [EncodedPair(tokens(2, 9), tokens(2, 12), tokens(2, 12), weight) for weight in weights]


def some_batches(config: PreferenceConfig, *, micro_batch: int = 4) -> PreferenceBatches:
    pairs = some_pairs()
    batches = PreferenceBatches(pairs, config, seq_len=40, micro_batch=micro_batch, seed=1, pad_id=0)
    batches.reference_N2[:] = torch.randn(len(pairs), 2, generator=torch.Generator().manual_seed(5)).numpy() * 3 - 30
    return batches


def plain_loss(model: Transformer, pairs: list[EncodedPair], reference: torch.Tensor, config: PreferenceConfig) -> torch.Tensor:
    """Rafailov et al. 2023, equation 7, one answer at a time, in the model's own precision."""

    def log_probability(prompt: list[int], answer: list[int]) -> torch.Tensor:
        ids = torch.tensor([prompt + answer])
        scores = model.logits(model(ids[:, :-1])).log_softmax(-1)[0, -len(answer) :]
        picked = scores.gather(1, torch.tensor(answer)[:, None])[:, 0]
        return picked.mean() if config.by_length else picked.sum()

    total, weight = torch.zeros((), dtype=model.embedding.dtype), 0.0
    for pair, (chosen_r, rejected_r) in zip(pairs, reference, strict=True):
        h = config.beta * (
            (log_probability(pair.prompt, pair.chosen) - chosen_r) - (log_probability(pair.prompt, pair.rejected) - rejected_r)
        )
        e = config.label_smoothing
        total = total + pair.weight * (-(1 - e) * torch.log(torch.sigmoid(h)) - e * torch.log(torch.sigmoid(-h)))
        weight += pair.weight
    return total / weight


CONFIGS = [PreferenceConfig(), PreferenceConfig(beta=0.7, label_smoothing=0.2), PreferenceConfig(beta=2.0, by_length=True)]


@pytest.mark.parametrize("config", CONFIGS)
def test_loss_and_gradients_are_those_of_the_paper(config: PreferenceConfig) -> None:
    batches = some_batches(config)
    rows = batches.epoch()
    ours = TrainingStep(Transformer(SHAPE, seed=3), OptimizerConfig(name="adamw"), dtype="float32", grad_clip=None)
    plain = Transformer(SHAPE, seed=3).double()
    expected = plain_loss(plain, some_pairs(), torch.from_numpy(batches.reference_N2), config)
    expected.backward()  # type: ignore[no-untyped-call]
    result = ours.run([batches.batch(some) for some in rows], 1.0, lambda loss, norm: False)
    gradients = ours.optimizer.gradients.views
    assert result.loss == pytest.approx(float(expected.detach()), abs=1e-5)
    assert gradients.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(gradients[name].double(), parameter.grad, rtol=1e-4, atol=1e-5 * float(parameter.grad.abs().max()))


def test_at_the_start_nothing_is_preferred_and_the_loss_is_log_two() -> None:
    model, batches = Transformer(SHAPE, seed=3), some_batches(PreferenceConfig())
    for number, members in enumerate(batches.epoch()):
        found = log_probabilities(model, batches.batch(members))
        for row, pairs in enumerate(members):
            batches.reference_N2[pairs] = found[row, :, : len(pairs)].T.double().numpy()
        assert number < 20
    step = TrainingStep(model, OptimizerConfig(name="adamw"), dtype="float32")
    result = step.run([batches.batch(some) for some in batches.epoch()])
    assert result.loss == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("chunk_rows", [1, 7, 512])
# float32: rounding of sums; bfloat16: logits have 8 bits, gradients are rounded to 8 bits
@pytest.mark.parametrize(("dtype", "tolerance", "gradient_tolerance"), [(torch.float32, 1e-5, 1e-5), (torch.bfloat16, 3e-2, 2e-2)])
def test_log_probabilities_of_tokens_agree_with_torch(
    chunk_rows: int, dtype: torch.dtype, tolerance: float, gradient_tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 24, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(31, 24, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, 31, (50,), generator=generator)
    targets[::7] = IGNORED
    share = torch.randn(50, generator=generator)
    wide_hidden, wide_weight = hidden.detach().float().requires_grad_(), weight.detach().float().requires_grad_()
    expected = -F.cross_entropy(F.linear(wide_hidden, wide_weight), targets, ignore_index=IGNORED, reduction="none")
    (expected * share).sum().backward()
    found = token_log_probabilities(hidden, weight, targets, chunk_rows=chunk_rows)
    (found * share).sum().backward()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for ours, theirs in ((hidden.grad, wide_hidden.grad), (weight.grad, wide_weight.grad)):
        assert ours is not None and theirs is not None
        assert float((ours.float() - theirs).norm() / theirs.norm()) < gradient_tolerance


def test_no_target_gives_zeros_and_no_gradient() -> None:
    hidden = torch.randn(5, 8, requires_grad=True)
    found = token_log_probabilities(hidden, torch.randn(7, 8), torch.full((5,), IGNORED))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert not found.any() and hidden.grad is not None and not hidden.grad.any()


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"epochs": math.inf}, {"label_smoothing": 0.5}])
def test_settings_outside_their_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"dpo.{next(iter(wrong))}"):
        PreferenceConfig(**wrong)  # type: ignore[arg-type]
