from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from agora.errors import ModelError
from agora.model.loss import IGNORED, chunked_cross_entropy


def case(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(50, 24, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(31, 24, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(0, 31, (50,), generator=generator)
    targets[::7] = IGNORED
    return hidden, weight, targets


@pytest.mark.parametrize("chunk_rows", [1, 7, 50, 512])
# float32: rounding of sums; bfloat16: logits have 8 bits, gradients are rounded to 8 bits
@pytest.mark.parametrize(("dtype", "loss_tolerance", "gradient_tolerance"), [(torch.float32, 1e-6, 1e-6), (torch.bfloat16, 1e-2, 2e-2)])
def test_agrees_with_torch(chunk_rows: int, dtype: torch.dtype, loss_tolerance: float, gradient_tolerance: float) -> None:
    hidden, weight, targets = case(dtype)
    wide_hidden, wide_weight = hidden.detach().float().requires_grad_(), weight.detach().float().requires_grad_()
    expected = F.cross_entropy(F.linear(wide_hidden, wide_weight), targets, ignore_index=IGNORED)
    (3 * expected).backward()
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_rows=chunk_rows)
    (3 * loss).backward()
    torch.testing.assert_close(loss, expected, rtol=loss_tolerance, atol=0)
    for ours, theirs in ((hidden.grad, wide_hidden.grad), (weight.grad, wide_weight.grad)):
        assert ours is not None and theirs is not None
        assert float((ours.float() - theirs).norm() / theirs.norm()) < gradient_tolerance


def test_divisor_turns_micro_batches_into_one_batch() -> None:
    hidden, weight, targets = case(torch.float32)
    whole = chunked_cross_entropy(hidden, weight, targets)
    count = float((targets != IGNORED).sum())
    parts = [chunked_cross_entropy(hidden[rows], weight, targets[rows], divisor=count) for rows in (slice(0, 20), slice(20, 50))]
    torch.testing.assert_close(sum(parts), whole)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight, targets = case(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(chunked_cross_entropy(hidden, weight, targets), chunked_cross_entropy(*case(torch.bfloat16)).detach())


def test_only_ignored_targets_cost_nothing() -> None:
    hidden, weight, _ = case(torch.float32)
    loss = chunked_cross_entropy(hidden, weight, torch.full((50,), IGNORED))
    loss.backward()
    assert float(loss.detach()) == 0 and hidden.grad is not None and not hidden.grad.any()


@pytest.mark.parametrize("target", [-1, 31])
def test_targets_outside_the_vocabulary_are_refused(target: int) -> None:
    hidden, weight, targets = case(torch.bfloat16)
    targets[3] = target
    with pytest.raises(ModelError, match=f"target {target} is neither -100"):
        chunked_cross_entropy(hidden, weight, targets)
