"""From the logits of many answers to one token each. Goes in: a matrix of logits and the answers' Samplers. Comes out: Choices.

The fast twin of Sampler.draw: the same tokens for the same random numbers. Probabilities are float32 here and float64 there, so that a
draw which falls on the border of two tokens may differ: about one in a million.

Shapes: N answers, V vocabulary.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agora.engine.native import library
from agora.engine.sampling import NOT_A_NUMBER, Choice, Sampler
from agora.errors import GenerationError


def draw_batch(logits_NV: Float[Tensor, "N V"], samplers: Sequence[Sampler], forbidden: Tensor) -> list[Choice | GenerationError]:
    """The next token of each answer, or why it cannot go on; one broken answer does not touch the others. Changes `logits`.

    `forbidden` (on the logits' device) are tokens that no answer draws.
    """
    logprobs = _logprobs(logits_NV, samplers)
    errors: dict[int, GenerationError] = {}
    for row, sampler in enumerate(samplers):
        if not sampler.is_plain:
            try:
                logits_NV[row] = sampler.adjusted(logits_NV[row].cpu()).to(logits_NV.device)
            except GenerationError as error:
                errors[row] = error
    tokens, others = _first_tokens(logits_NV, samplers, forbidden)
    for row, token in enumerate(tokens):
        if token < 0:
            errors.setdefault(row, GenerationError(NOT_A_NUMBER))
    others = [row for row in others if row not in errors]
    if others:
        picked = _pick(logits_NV if len(others) == len(samplers) else logits_NV[others], [samplers[row] for row in others])
        for row, token in zip(others, picked, strict=True):
            tokens[row] = token
    choices: list[Choice | GenerationError] = []
    for row, (sampler, token) in enumerate(zip(samplers, tokens, strict=True)):
        if row in errors:
            choices.append(errors[row])
            continue
        if not sampler.is_plain:
            try:
                sampler.remember(token)
            except GenerationError as error:
                choices.append(error)
                continue
        choices.append(_choice(token, sampler, logprobs[row]) if row in logprobs else Choice(token=token))
    return choices


def _first_tokens(logits_NV: Tensor, samplers: Sequence[Sampler], forbidden: Tensor) -> tuple[list[int], list[int]]:
    """The token of each row, -1 for one with NaN, and the rows that are still to be drawn (theirs is the most likely one).

    On a CPU draw.c takes a tenth of the time of torch's operations, and other threads get no chance between them.
    """
    kernel = library() if logits_NV.device.type == "cpu" and logits_NV.is_contiguous() else None
    warm = [row for row, sampler in enumerate(samplers) if sampler.config.temperature > 0]
    if kernel is None:
        logits_NV[:, forbidden] = -torch.inf
        values_N, tokens_N = logits_NV.max(dim=-1)
        return torch.where(values_N.isnan(), -1, tokens_N).tolist(), warm
    others = [row for row in warm if _cuts(samplers[row])]
    temperatures, points = np.zeros(len(samplers), np.float32), np.zeros(len(samplers))
    for row in warm if not others else set(warm) - set(others):
        temperatures[row], points[row] = samplers[row].config.temperature, samplers[row].next_point()
    tokens = np.empty(len(samplers), np.int64)
    kernel.draw_rows(
        ctypes.c_void_p(logits_NV.data_ptr()), *(ctypes.c_int64(size) for size in logits_NV.shape), ctypes.c_void_p(forbidden.data_ptr()),
        ctypes.c_int64(len(forbidden)), *(ctypes.c_void_p(array.ctypes.data) for array in (temperatures, points, tokens)),
    )  # fmt: skip
    return tokens.tolist(), others


def _logprobs(logits_NV: Tensor, samplers: Sequence[Sampler]) -> dict[int, Tensor]:
    """The model's own log-probabilities of the answers that report them."""
    rows = [row for row, sampler in enumerate(samplers) if sampler.config.logprobs is not None]
    return dict(zip(rows, torch.log_softmax(logits_NV[rows], dim=-1).cpu(), strict=True)) if rows else {}


def _choice(token: int, sampler: Sampler, logprobs_V: Tensor) -> Choice:
    values, indices = torch.topk(logprobs_V, min(sampler.config.logprobs or 0, len(logprobs_V)))
    return Choice(token=token, logprob=float(logprobs_V[token]), top=tuple(zip(indices.tolist(), values.tolist(), strict=True)))


def _pick(logits_NV: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One random token of each row."""
    device = logits_NV.device
    points_N = torch.tensor([sampler.next_point() for sampler in samplers], dtype=torch.float64, device=device)
    temperatures_N = torch.tensor([sampler.config.temperature for sampler in samplers], device=device)
    scaled_NV = (logits_NV - logits_NV.amax(-1, keepdim=True)) / temperatures_N[:, None]
    powers_NV = scaled_NV.exp_()
    cut = [row for row, sampler in enumerate(samplers) if _cuts(sampler)]
    if cut:
        totals = powers_NV.sum(-1, dtype=torch.float64)
        sub_NV = powers_NV if len(cut) == len(samplers) else powers_NV[cut]
        powers_NV[cut] = _cut(sub_NV, totals[cut], [samplers[row] for row in cut])
    mass_NV = torch.cumsum(powers_NV, dim=-1, dtype=torch.float64)
    positions = torch.searchsorted(mass_NV, (points_N * mass_NV[:, -1])[:, None], right=True)[:, 0]
    # a point that rounding put beyond the last token left
    last_N = logits_NV.shape[-1] - 1 - torch.argmax((powers_NV > 0).flip(-1).to(torch.uint8), dim=-1)
    return torch.minimum(positions, last_N).tolist()


def _cuts(sampler: Sampler) -> bool:
    config = sampler.config
    return config.top_k is not None or config.top_p < 1 or config.min_p > 0


def _cut(powers_NV: Tensor, totals_N: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    """`powers` with 0 for all but the tokens that top_k, top_p and min_p keep: a beginning of each row in falling order."""
    falling_NV = _falling(powers_NV)
    lengths_N = _kept(falling_NV, totals_N, samplers).sum(-1)
    border_N = falling_NV.gather(-1, (lengths_N - 1)[:, None])
    is_kept_NV = powers_NV >= border_N
    too_many = is_kept_NV.sum(-1) - lengths_N
    for row in too_many.nonzero()[:, 0].tolist():  # equals on the border: the first of the vocabulary stay
        equals = (powers_NV[row] == border_N[row]).nonzero()[:, 0]
        is_kept_NV[row, equals[len(equals) - int(too_many[row]) :]] = False
    return torch.where(is_kept_NV, powers_NV, 0.0)


def _falling(powers_NV: Tensor) -> Tensor:
    if powers_NV.device.type != "cpu":
        return torch.sort(powers_NV, dim=-1, descending=True).values
    return torch.from_numpy(-np.sort(-powers_NV.numpy(), axis=-1))  # vector instructions: a thirtieth of the time of torch's


def _kept(falling_NV: Tensor, totals_N: Tensor, samplers: Sequence[Sampler]) -> Tensor:
    device, count = falling_NV.device, falling_NV.shape[-1]

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=device)[:, None]

    probabilities_NV = falling_NV.double() / totals_N[:, None]
    before_NV = torch.cumsum(probabilities_NV, dim=-1) - probabilities_NV
    # top_p = 1 keeps all, also where rounding carries the sum to 1 too early
    top_p = column([sampler.config.top_p if sampler.config.top_p < 1 else 2.0 for sampler in samplers])
    top_k = column([float(count if sampler.config.top_k is None else sampler.config.top_k) for sampler in samplers])
    min_p = column([sampler.config.min_p for sampler in samplers])
    keep_NV = (before_NV < top_p) & (torch.arange(count, device=device) < top_k)
    return keep_NV & (probabilities_NV >= min_p * probabilities_NV[:, :1])
