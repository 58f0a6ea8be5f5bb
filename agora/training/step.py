"""One training step: micro-batches in, stepped weights and the loss out. bf16 work with float32 masters, on CPU, CUDA or MPS.

step = TrainingStep(model, OptimizerConfig(), device="cpu"); result = step.run([batch], lr_scale=1.0)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agora.errors import ConfigError, TrainingError
from agora.model.experts import begin_step, end_step, imbalance
from agora.model.operations import IGNORED
from agora.model.transformer import Transformer
from agora.training.float8 import use_float8
from agora.training.optimizers import OptimizerConfig, build_optimizer
from agora.training.preference_loss import Pairs, answer_log_probabilities, preference_loss

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

Allows = Callable[[float, float], bool]  # loss and gradient norm of a step -> whether the weights may follow


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens with their targets (-100 = not learned from) and, when rows hold several documents, whose each token is. With
    `pairs` the rows are answers that are compared (preference_loss.py); without, every target is learned."""

    tokens_BT: Tensor
    targets_BT: Tensor
    document_ids_BT: Tensor | None = None
    pairs: Pairs | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        ids = None if self.document_ids_BT is None else self.document_ids_BT.to(device)
        pairs = None if self.pairs is None else self.pairs.to(device)
        return Batch(self.tokens_BT.to(device), self.targets_BT.to(device), ids, pairs)

    @property
    def num_targets(self) -> int:
        """Tokens learned from."""
        return int((self.targets_BT != IGNORED).sum())

    @property
    def total(self) -> float:
        """What its loss is a mean over: targets, or what its pairs count."""
        return float(self.num_targets) if self.pairs is None else self.pairs.total


@dataclass(frozen=True, slots=True)
class StepResult:
    """`loss` in nats per target (or pair) and `grad_norm` before clipping; `num_tokens` = targets learned from. When either number is not
    finite, or `allows` refused them, the weights were left as they were: `is_applied` is False. `imbalance` is that of experts, see
    agora.model.experts."""

    loss: float
    grad_norm: float
    num_tokens: int
    is_applied: bool
    imbalance: float | None = None


class TrainingStep:
    """A model with its optimizer. Takes `model` over: afterwards its parameters are the working copy in `dtype`.

    `compile` uses torch.compile (`backend`: its own) in place of the fused kernels; `machine.decide_machine` says when that pays.
    """

    def __init__(
        self,
        model: Transformer,
        optimizer_config: OptimizerConfig,
        *,
        device: torch.device | str = "cpu",
        dtype: str = "bfloat16",
        compile: bool = False,
        backend: str = "inductor",
        grad_clip: float | None = 1.0,
        float8: str = "off",
    ) -> None:
        if dtype not in DTYPES:
            raise ConfigError(f"training dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        self.device = torch.device(device)
        self.model = model.to(self.device).train()
        if float8 != "off":
            use_float8(self.model.layers, float8, self.device)
        self.optimizer = build_optimizer(self.model, optimizer_config, dtype=DTYPES[dtype])
        self.grad_clip = grad_clip
        self._loss = torch.compile(self.model.loss, backend=backend) if compile else self.model.loss
        self._hidden = torch.compile(self.model, backend=backend) if compile else self.model

    def run(self, micro_batches: Sequence[Batch], lr_scale: float = 1.0, allows: Allows | None = None) -> StepResult:
        """Learn from all micro-batches as if they were one batch, unless `allows` refuses what came out. Raises TrainingError when none
        has a target."""
        num_tokens = sum(batch.num_targets for batch in micro_batches)
        if num_tokens == 0:
            raise TrainingError("the batch has no token to learn from: every target is -100")
        self.optimizer.zero_grad()
        begin_step(self.model, len(micro_batches))
        losses, divisor = [], sum(batch.total for batch in micro_batches)
        for batch in micro_batches:
            loss = _loss(self._loss, self._hidden, self.model, batch.to(self.device), divisor)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        total = float(torch.stack(losses).sum())
        grad_norm = self.optimizer.clip(self.grad_clip)
        is_applied = math.isfinite(total) and math.isfinite(grad_norm) and (allows is None or allows(total, grad_norm))
        if is_applied:
            self.optimizer.step(lr_scale)
            end_step(self.model)
        return StepResult(total, grad_norm, num_tokens, is_applied, imbalance(self.model))

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over every target, or pair, of `batches`."""
        totals = [batch.total for batch in batches]
        losses = [
            float(_loss(self.model.loss, self.model, self.model, batch.to(self.device), total)) * total
            for batch, total in zip(batches, totals, strict=True) if total
        ]  # fmt: skip
        return sum(losses) / (sum(totals) or 1.0)

    def log_probabilities(self, batch: Batch) -> Tensor:
        """Of the answers that `batch` compares, as answer_log_probabilities has them."""
        return log_probabilities(self.model, batch.to(self.device))

    def has_finite_weights(self) -> bool:
        """Whether the norm of the master weights is a number: an update can overflow although loss and gradient were finite."""
        return math.isfinite(float(torch.linalg.vector_norm(self.optimizer.masters)))

    def float32_model(self) -> Transformer:
        """A copy of the model with the master weights, on the CPU: what is exported and measured."""
        with torch.device("meta"):
            copy = Transformer(self.model.config)
        copy.to_empty(device="cpu")
        copy.load_state_dict({name: view.cpu() for name, view in self.optimizer.master_weights().items()})
        return copy.eval()

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and optimizer state as a flat dictionary of tensors (views: copy or save before the next step)."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken. Raises CheckpointError when it belongs to another model or optimizer."""
        self.optimizer.load_state_dict(state)

    def finish_loading(self) -> None:
        """After the tensors of `state_dict` were written in place."""
        self.optimizer.finish_loading()


@torch.no_grad()
def log_probabilities(model: Transformer, batch: Batch) -> Tensor:
    """Of the answers that `batch` compares, as answer_log_probabilities has them."""
    assert batch.pairs is not None
    hidden_BTC = model(batch.tokens_BT, document_ids_BT=batch.document_ids_BT)
    return answer_log_probabilities(hidden_BTC, model.head_weight, batch.targets_BT, batch.pairs)


def _loss(of_targets: Callable[..., Tensor], hidden: Callable[..., Tensor], model: Transformer, batch: Batch, divisor: float) -> Tensor:
    """`of_targets` and `hidden` are the model's own, compiled or not."""
    if batch.pairs is None:
        return of_targets(batch.tokens_BT, batch.targets_BT, batch.document_ids_BT, divisor=divisor)
    hidden_BTC = hidden(batch.tokens_BT, document_ids_BT=batch.document_ids_BT)
    return preference_loss(hidden_BTC, model.head_weight, batch.targets_BT, batch.pairs, divisor=divisor)
