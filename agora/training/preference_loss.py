"""Direct preference optimisation: the loss of answers that people preferred to others, without a reward model.

Rafailov et al. 2023 (arXiv 2305.18290), equation 7: with the log-probabilities log p of the two answers y under the tuned model and log r
under the model that tuning began from,

    h = beta * ((log p(chosen) - log r(chosen)) - (log p(rejected) - log r(rejected)))        loss = -log sigmoid(h)

`label_smoothing` e assumes that a share e of the preferences is the wrong way round (section 2 of Mitchell 2023, conservative DPO):
loss = -(1 - e) log sigmoid(h) - e log sigmoid(-h). `by_length` takes the mean log-probability of an answer's tokens in place of their sum.

Rows come in twos: one holds the chosen answers of some pairs, the next one the rejected answers of the same pairs in the same order.

Shapes: B rows, R = B / 2, T positions, C channels, V vocabulary, P pairs of a row at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from agora.errors import ConfigError
from agora.model.loss import token_log_probabilities
from agora.model.operations import IGNORED


@dataclass(frozen=True, kw_only=True, slots=True)
class PreferenceConfig:
    """Raises ConfigError for a value outside its range.

    beta             how much a preference weighs against staying near the model that tuning began from: small lets it move far
    label_smoothing  share of preferences that are taken to be the wrong way round
    by_length        compare answers by their mean log-probability a token: long answers then gain nothing by their length
    epochs           passes over the pairs at most
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    by_length: bool = False
    epochs: float = 3.0

    def __post_init__(self) -> None:
        for name in ("beta", "epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"dpo.{name}={getattr(self, name)} must be above 0 and not infinite")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(f"dpo.label_smoothing={self.label_smoothing} must be from 0 up to, not including, 0.5")


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which pair of its row each token belongs to; the reference's h / beta of each pair; what each pair counts, 0 where there is none."""

    document_BT: Tensor
    reference_RP: Tensor
    weight_RP: Tensor
    config: PreferenceConfig

    @property
    def total(self) -> float:
        """What all pairs together count."""
        return float(self.weight_RP.sum(dtype=torch.float64))

    def to(self, device: torch.device) -> Pairs:
        """The same on another device."""
        tensors = {name: getattr(self, name).to(device) for name in ("document_BT", "reference_RP", "weight_RP")}
        return replace(self, **tensors)


def answer_log_probabilities(
    hidden_BTC: Float[Tensor, "B T C"], weight_VC: Float[Tensor, "V C"], targets_BT: Int[Tensor, "B T"], pairs: Pairs
) -> Float[Tensor, "R 2 P"]:
    """The log-probability of each answer, chosen and rejected, float32: summed over its tokens, or with `by_length` their mean."""
    log_probs_BT = token_log_probabilities(hidden_BTC.flatten(0, 1), weight_VC, targets_BT.flatten()).view(targets_BT.shape)
    shape = (targets_BT.shape[0], pairs.weight_RP.shape[1])
    # padding is numbered after the last pair and counts nothing
    place_BT = pairs.document_BT.clamp(max=shape[1] - 1)
    sums_BP = log_probs_BT.new_zeros(shape).scatter_add(1, place_BT, log_probs_BT)
    if pairs.config.by_length:
        counts_BP = log_probs_BT.new_zeros(shape).scatter_add(1, place_BT, (targets_BT != IGNORED).float())
        sums_BP = sums_BP / counts_BP.clamp(min=1)
    return sums_BP.view(-1, 2, shape[1])


def preference_loss(
    hidden_BTC: Float[Tensor, "B T C"],
    weight_VC: Float[Tensor, "V C"],
    targets_BT: Int[Tensor, "B T"],
    pairs: Pairs,
    *,
    divisor: float,
) -> Float[Tensor, ""]:
    """The loss of all pairs, each times what it counts, over `divisor`: what the pairs of a whole step count."""
    answers_R2P = answer_log_probabilities(hidden_BTC, weight_VC, targets_BT, pairs)
    config = pairs.config
    h_RP = config.beta * (answers_R2P[:, 0] - answers_R2P[:, 1] - pairs.reference_RP)
    loss_RP = -(1 - config.label_smoothing) * F.logsigmoid(h_RP) - config.label_smoothing * F.logsigmoid(-h_RP)
    return (loss_RP * pairs.weight_RP).sum() / divisor
