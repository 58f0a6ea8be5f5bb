"""One training step of a model that is divided over ranks. The interface is that of TrainingStep (step.py), whose numbers it must give.

    step = ShardedStep(Transformer(config), OptimizerConfig(), layout, seq_len=512); result = step.run(my_micro_batches, lr_scale=1.0)

Goes in: the micro-batches of this rank's share of the batch (`axes.data_rank` of `layout.data`): whole rows, the same on all ranks that
divide rows, matrices or layers. Comes out: stepped weights, and the loss and gradient norm of the whole batch, the same on every rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from agora.cluster.layout import Layout
from agora.errors import ConfigError, TrainingError
from agora.model.operations import IGNORED, document_starts
from agora.model.transformer import Transformer
from agora.training import parallelize
from agora.training.optimizers import OptimizerConfig
from agora.training.sharded_optimizers import ShardedOptimizer, local_part, whole
from agora.training.stage import fuse
from agora.training.step import Allows, Batch, StepResult

if TYPE_CHECKING:
    from agora.training.pipeline import Pipeline


class ShardedStep:
    """A divided model with its optimizer. Takes `model` over; every rank of the process group makes one. A model on the meta device gets
    memory for this rank's part only, with fresh weights drawn from `seed`; without one `load_state_dict` must bring them.
    `taking_memory` is entered where such a model gets its memory: a dry run gives fake tensors (dryrun.py). `compile` compiles each layer
    with `backend`; `float8` see float8.py."""

    def __init__(
        self,
        model: Transformer,
        optimizer_config: OptimizerConfig,
        layout: Layout,
        *,
        seq_len: int,
        device: torch.device | str = "cpu",
        dtype: str = "bfloat16",
        grad_clip: float | None = 1.0,
        seed: int | None = None,
        compile: bool = False,
        backend: str = "inductor",
        float8: str = "off",
        taking_memory: AbstractContextManager[object] | None = None,
    ) -> None:
        if compile and layout.pipeline > 1 and layout.schedule == "zero_bubble":
            raise ConfigError(
                "layout.schedule=zero_bubble takes the backward pass apart, and compiled layers have it in one piece; "
                "use training.compile=off, or layout.schedule=1f1b"
            )
        if compile and model.config.num_experts and layout.recompute == "selective" and max(layout.expert, layout.tensor) > 1:
            raise ConfigError(
                "layout.recompute=selective keeps products by the order of operations, and compiled layers that send tokens to experts "
                "have another one when computed again; use training.compile=off, or layout.recompute=full"
            )
        self.config, self.layout, self.device, self.grad_clip = model.config, layout, torch.device(device), grad_clip
        self.axes = parallelize.make_axes(layout, device_type=self.device.type, has_experts=self.config.num_experts > 0)
        is_meta = model.embedding.is_meta
        self.part = parallelize.parallelize(
            model.train(), layout, self.axes, seq_len=seq_len, dtype=dtype, device=device,
            backend=backend if compile else None, float8=float8,
        )  # fmt: skip
        with taking_memory or nullcontext():
            if is_meta:
                self.part.allocate()
                if seed is not None:
                    self.part.initialize(seed)
            self.optimizer = ShardedOptimizer(self.part.named_parameters().items(), optimizer_config, self.part.named_buffers())
            self._pipeline: Pipeline | None = None
            if layout.pipeline > 1:
                from agora.training.pipeline import Pipeline  # brings PyTorch's compiler: a second that a run without stages need not wait

                self._pipeline = Pipeline(self.part, seq_len=seq_len)
        self._copies = {name: self.part.copies(parameter) for name, parameter in self.optimizer.parameters.items()}
        is_tied = layout.pipeline > 1 and self.config.tie_embeddings
        self._tied = is_tied and (self.axes.pipeline_rank in (0, layout.pipeline - 1))

    def run(self, micro_batches: Sequence[Batch], lr_scale: float = 1.0, allows: Allows | None = None) -> StepResult:
        """Learn from the micro-batches of all ranks as if they were one batch, unless `allows` refuses what came out: it must decide the
        same on all ranks. Raises TrainingError when none has a target."""
        num_here, total_here = (sum(values) for values in zip(*((one.num_targets, one.total) for one in micro_batches), strict=True))
        num_sum, total_sum = self._sum_over_ranks([num_here / self._ranks_per_share, total_here / self._ranks_per_share]).tolist()
        num_tokens = round(num_sum)
        if num_tokens == 0:
            raise TrainingError("the batch has no token to learn from: every target is -100")
        self.optimizer.zero_grad()
        self.part.begin_step(len(micro_batches))
        has_pairs = micro_batches[0].pairs is not None  # those may count less than one; targets are whole numbers
        loss = self._accumulate([self._here(batch) for batch in micro_batches], total_sum if has_pairs else float(num_tokens))
        self._add_tied()
        squares = torch.stack([self._sum_of_squares(), loss.double() / self.layout.tensor])
        total_squares, total = (float(value) for value in self._sum_over_ranks(squares))
        grad_norm = math.sqrt(total_squares)
        is_applied = math.isfinite(total) and math.isfinite(grad_norm) and (allows is None or allows(total, grad_norm))
        if is_applied:
            self._clip(grad_norm)
            self.optimizer.step(lr_scale)
        imbalance = self.part.sum_loads()
        if is_applied:
            self.part.end_step()
        return StepResult(total, grad_norm, num_tokens, is_applied, imbalance)

    def passes(self, micro_batches: Sequence[Batch]) -> float:
        """Forward and backward alone: this rank's part of the loss. Gradients are thrown away; what was learned stays as it is."""
        divisor = sum(batch.total for batch in micro_batches) or 1.0
        self.optimizer.zero_grad()
        self.part.begin_step(len(micro_batches))
        loss = float(self._accumulate([self._here(batch) for batch in micro_batches], divisor))
        self.optimizer.zero_grad()
        return loss

    @property
    def _ranks_per_share(self) -> int:
        """Ranks that are given the same micro-batches."""
        return self.layout.num_accelerators // self.layout.data

    def _here(self, batch: Batch) -> dict[str, Any]:
        """This rank's positions of the rows. Raises ConfigError for pairs under a layout that divides rows, tables or layers."""
        if batch.pairs is not None:
            refuse_divided_answers(self.layout)
        starts_BT = None if batch.document_ids_BT is None else document_starts(batch.document_ids_BT)
        tensors = {"tokens_BT": batch.tokens_BT, "targets_BT": batch.targets_BT, "starts_BT": starts_BT}
        where = self.part.stages[0].positions_T
        result: dict[str, Any] = {} if batch.pairs is None else {"pairs": batch.pairs.to(self.device)}
        for name, tensor in tensors.items():
            moved = None if tensor is None else tensor.to(self.device)
            result[name] = moved if where is None or moved is None else moved[:, where]
        return result

    def _accumulate(self, batches: Sequence[dict[str, Any]], divisor: float) -> Tensor:
        """Gradients of all micro-batches; this rank's part of the loss."""
        if self._pipeline is not None:
            return self._pipeline.run(batches, divisor)
        (stage,), losses = self.part.stages, []
        for index, batch in enumerate(batches):
            self.part.begin_micro_batch(is_last=index == len(batches) - 1)
            loss = stage(batch.pop("tokens_BT"), divisor=divisor, **batch)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _add_tied(self) -> None:
        """First and last stage hold the same table: each needs the gradient of both."""
        if not self._tied:
            return
        gradient = self.optimizer.parameters["embedding"].grad
        assert isinstance(gradient, DTensor)
        mine = gradient.to_local()
        group = self.axes.pipeline_group
        other = dist.get_global_rank(group, self.layout.pipeline - 1 - self.axes.pipeline_rank)
        theirs = torch.empty_like(mine)
        works = dist.batch_isend_irecv([dist.P2POp(dist.isend, mine.clone(), other, group), dist.P2POp(dist.irecv, theirs, other, group)])
        for work in works:
            work.wait()
        mine.add_(theirs)

    @torch.no_grad()
    def _sum_of_squares(self) -> Tensor:
        """Of the gradients here; what other ranks hold too counts in part, so that the sum over ranks is that of one model."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for name, parameter in self.optimizer.parameters.items():
            if parameter.grad is not None:
                copies = self._copies[name] * (2 if self._tied and name == "embedding" else 1)
                total += local_part(parameter.grad).square().sum(dtype=torch.float64) / copies
        return total

    @torch.no_grad()
    def _clip(self, grad_norm: float) -> None:
        if self.grad_clip is not None and grad_norm > self.grad_clip:
            for parameter in self.optimizer.parameters.values():
                if parameter.grad is not None:
                    local_part(parameter.grad).mul_(self.grad_clip / grad_norm)

    def _sum_over_ranks(self, values: Tensor | list[float]) -> Tensor:
        summed = torch.as_tensor(values, dtype=torch.float64, device=self.device).clone()
        dist.all_reduce(summed)
        return summed

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch]) -> float:
        """Mean loss over every target, or pair, of `batches`, which all ranks are given alike. Each data rank computes its share."""
        divisor, mine = sum(batch.total for batch in batches) or 1.0, self._share_of(batches)
        if self._pipeline is not None:
            num_rows = max(batch.tokens_BT.shape[0] for batch in batches) * len(mine)  # at most, and the same on all ranks
            total = self._pipeline.evaluate([self._here(batch) for batch in mine], divisor, num_rows=num_rows)
        else:
            (stage,), losses = self.part.stages, []
            for batch in mine:
                here = self._here(batch)
                losses.append(stage(here.pop("tokens_BT"), divisor=divisor, **here))
            total = torch.stack(losses).sum(dtype=torch.float64)
        return float(self._sum_over_ranks([float(total) / self.layout.tensor])[0])

    def _share_of(self, batches: Sequence[Batch]) -> list[Batch]:
        """This data rank's, filled up with batches that count nothing: passes exchange weights and tokens, so all ranks make as many."""
        mine = list(batches[self.axes.data_rank :: self.layout.data])
        return mine + [_counting_nothing(batches[0])] * (-(-len(batches) // self.layout.data) - len(mine))

    @torch.no_grad()
    def log_probabilities(self, batch: Batch) -> Tensor:
        """Of the answers that `batch` compares, as answer_log_probabilities has them. Collective: each rank brings a batch of its own."""
        (stage,), here = self.part.stages, self._here(batch)
        result: Tensor = stage(here.pop("tokens_BT"), divisor=None, **here)
        return result

    def has_finite_weights(self) -> bool:
        """Whether the weights of all ranks are numbers."""
        here = sum(
            float(local_part(parameter.detach()).square().sum(dtype=torch.float64)) for parameter in self.optimizer.parameters.values()
        )
        return math.isfinite(float(self._sum_over_ranks([here])[0]))

    @torch.no_grad()
    def full_weights(self) -> dict[str, Tensor]:
        """Float32 weights of the whole model by the names of a Transformer, on the CPU of every rank: for tests and small models."""
        here = {name: whole(parameter.detach()).cpu() for name, parameter in self.optimizer.parameters.items()}
        here.update({name: buffer.cpu() for name, buffer in self.part.named_buffers().items()})
        if self.layout.pipeline > 1:
            gathered: list[dict[str, Tensor] | None] = [None] * self.layout.pipeline
            dist.all_gather_object(gathered, here, group=self.axes.pipeline_group)
            here = {name: weight for part in gathered if part is not None for name, weight in part.items()}
        return fuse(here, self.config)

    def state_dict(self) -> dict[str, Tensor]:
        """`weight.NAME` and `optimizer.FIELD.NAME` of what this rank holds: live tensors, DTensors where they are divided."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue where `state_dict` was taken under the same layout; checkpoint.resume_latest reads that of any other. Raises
        CheckpointError when it belongs to another model or optimizer."""
        self.optimizer.load_state_dict(state)

    def finish_loading(self) -> None:
        """After the tensors of `state_dict` were written in place."""
        self.optimizer.finish_loading()


def _counting_nothing(batch: Batch) -> Batch:
    """The same rows with no target; or with their pairs, of which each counts 0."""
    if batch.pairs is None:
        return replace(batch, targets_BT=torch.full_like(batch.targets_BT, IGNORED))
    return replace(batch, pairs=replace(batch.pairs, weight_RP=torch.zeros_like(batch.pairs.weight_RP)))


def refuse_divided_answers(layout: Layout) -> None:
    """Raises ConfigError for a layout under which no rank has whole answers."""
    for name in ("tensor", "pipeline", "context"):
        if getattr(layout, name) > 1:
            raise ConfigError(
                f"layout.{name}={getattr(layout, name)} divides answers, and preferences compare whole ones; "
                f"use layout.{name}=1 with layout.shard or layout.replicate"
            )
