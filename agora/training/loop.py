"""The training loop. Goes in: a run folder, configurations, shards. Comes out: a trained model in the folder's last checkpoint, metrics,
a picture of the loss. Killed at any moment, the same call goes on from the last checkpoint and computes the same bits.

    agora train pretrain laptop
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from agora.cluster.layout import Layout
from agora.config import to_dict
from agora.errors import CheckpointError, MissingExtraError, TrainingError
from agora.files import remedy
from agora.log import Progress, Step, silent
from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token
from agora.training.anomalies import Anomaly, RollBack, Skip
from agora.training.broken_batch import keep_broken_batch, refusal
from agora.training.checkpoint import CheckpointWriter, clean, resume_latest
from agora.training.config import TrainingConfig
from agora.training.data import IGNORED_TARGET, TokenShards, share_of_step
from agora.training.energy import EnergyMeter, EnergyReading
from agora.training.guard import Guard
from agora.training.layout_keys import refuse_planned
from agora.training.machine import raise_limit
from agora.training.metrics import MetricsLog, StepMetrics, draw_loss, read_metrics, rewind_metrics
from agora.training.opening import Opening, open_run
from agora.training.parallelize import check as check_layout
from agora.training.rank_log import RankLog, rank_log
from agora.training.run_folder import RunFolder
from agora.training.schedule import lr_scale
from agora.training.sharded_step import ShardedStep
from agora.training.signals import StopRequest, stop_on_signals
from agora.training.step import StepResult, TrainingStep
from agora.training.summary import Standing, TrainingSummary, summarise
from agora.training.task import Task, Trained, pretraining_task
from agora.training.watchdog import Watchdog, lost_connection
from agora.training.world import joined_world, layout_for
from agora.units import format_joules, format_seconds, format_si

logger = logging.getLogger(__name__)


def train(
    run_dir: Path,
    *,
    model_config: ModelConfig,
    training_config: TrainingConfig,
    shards: TokenShards,
    tokenizer_dir: Path,
    heldout: TokenShards | None = None,
    data: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    resume: bool = True,
    command: str = "",
    layout: Layout | None = None,
) -> TrainingSummary:
    """Train a fresh model on packed shards, or go on with the run in `run_dir`; `resume=False` starts it again from nothing.

    Raises OtherRunError when `run_dir` holds a run with another configuration, TrainingError for a loss that is not a number or a
    second trainer in the folder, CheckpointError for a full disk or when every checkpoint is damaged.
    """
    task = pretraining_task(
        model_config=model_config, training_config=training_config, shards=shards, heldout=heldout,
        tokenizer_dir=tokenizer_dir, data=data or {}, command=command,
    )  # fmt: skip
    return run_task(run_dir, replace(task, layout=layout or Layout()), progress=progress, resume=resume).summary


def run_task(run_dir: Path, task: Task, *, progress: Progress = silent, resume: bool = True) -> Trained:
    """Carry `task` out in `run_dir`, alone or with the processes that a launcher started. Raises as `train` does."""
    with joined_world(task.training.device) as world, Watchdog(world, run_dir, task.training.hang_timeout_s) as watchdog:
        place = world.folder(run_dir)
        folder, is_new = RunFolder(place), not place.exists()
        with folder.locked(), stop_on_signals() as stop, ExitStack() as held:
            try:
                opening = open_run(folder, task, watchdog, held, resume=resume)
                trainer = _Trainer(opening, stop, watchdog)
                opening.begin(trainer.layout)
            except BaseException:
                if is_new and not folder.holds_run():
                    shutil.rmtree(place, ignore_errors=True)
                raise
            world.wait()
            with rank_log(run_dir, world.rank) as log:
                return trainer.run(progress if world.is_first else silent, log)


class _Trainer:
    """The state of one process that trains."""

    def __init__(self, opening: Opening, stop: StopRequest, watchdog: Watchdog) -> None:
        task, machine = opening.task, opening.machine
        self._folder, self._task, self._machine, self._stop = opening.folder, task, machine, stop
        self._world, self._store, self._watchdog = watchdog.world, opening.store, watchdog
        self._guard = Guard(task.training, watchdog, opening.store, self._keep_batch)
        refuse_planned(task.layout, task.training)
        self.layout = layout_for(self._world, task.layout, task.training.micro_batch)
        self._must_stop = False  # as agreed by all processes
        c = task.training
        self._config = c
        self._num_heldout = sum(int((batch.targets_BT != IGNORED_TARGET).sum()) for batch in task.heldout)
        self._flops_per_token = flops_per_token(task.model, c.seq_len)
        self._limit_flops_per_s = machine.limit_flops_per_s
        self._step = self._make_step()
        self._num_done = self._num_saved = 0
        self._before = self._kept = Standing()  # when this process began, and in the last checkpoint
        self._loss: float | None = None
        self._heldout_loss: float | None = None
        self._stopped_by: str | None = None
        named = torch.device(machine.device).index
        gpu_index = (torch.cuda.current_device() if named is None else named) if machine.device.startswith("cuda") else None
        self._meter = EnergyMeter(watts_per_core=c.watts_per_core, gpu_index=gpu_index, is_first_of_host=self._world.is_first_of_host)
        self._energy = self._meter.read()  # of all processes, at the last step
        self._started_s = self._saved_s = time.perf_counter()
        self._first_step_ended_s = 0.0
        self._last: tuple[Mapping[str, Any], StepResult] | None = None  # where the data stood before the last step, and what it gave
        self._skip: Skip | None = None  # why the weights did not follow the last step
        self._at_start = task.batches.state_dict(), torch.get_rng_state()

    def _make_step(self) -> TrainingStep | ShardedStep:
        """Alone there is no wrapper."""
        c, machine, seed = self._config, self._machine, self._task.fresh_seed
        if self._world.size == 1:
            return TrainingStep(
                self._task.make_model(), c.optimizer, device=machine.device, dtype=machine.dtype, compile=machine.compile,
                grad_clip=c.grad_clip, float8=c.float8,
            )  # fmt: skip
        check_layout(self._task.model, self.layout, seq_len=c.seq_len, global_batch=c.batch_tokens // c.seq_len)
        with torch.device("cpu" if seed is None else "meta"):
            model = self._task.make_model()
        compiles = machine.compile and (c.compile == "on" or self.layout.schedule != "zero_bubble")
        return ShardedStep(
            model, c.optimizer, self.layout, seq_len=c.seq_len, device=machine.device, dtype=machine.dtype,
            compile=compiles, grad_clip=c.grad_clip, seed=seed, float8=c.float8,
        )  # fmt: skip

    def run(self, progress: Progress, log: RankLog) -> Trained:
        """From the last checkpoint to the end, or to a signal."""
        self._log = log
        if self._task.prepare is not None:
            self._task.prepare(self._step, self._folder, self._world, lambda: self._watchdog.at(0, "preparation"))
        self._guard.begin(*self._restore())
        self._log.step = self._num_done
        self._log.tell("begins", processes=self._world.size, layout=self.layout.describe(), device=self._machine.device)
        try:
            while self._num_done < self._config.steps and not self._stopped_by:
                try:
                    self._learn(progress)
                except RollBack as back:
                    self._go_back(back)
            if self._stop and self._stopped_by:
                self._guard.stopped(self._num_done, self._stopped_by, time.monotonic() - self._stop.asked_s)
            return self._finish()
        except (TrainingError, CheckpointError, RuntimeError) as error:
            lost = lost_connection(error, self._watchdog, self._num_done + 1)
            if lost is not None or not isinstance(error, RuntimeError):
                self._tell_end(str(lost or error))
            if lost is not None:
                raise lost from error
            raise
        except ConnectionError:
            raise  # of the screen: no file of the run
        except OSError as error:
            advice = remedy(error)
            text = (
                f"step {self._num_done + 1}: {error.filename or 'a file of the run'}: {error.strerror or error}. "
                f"{advice[:1].upper()}{advice[1:]}{' and run' if advice else 'Run'} the same command to go on from the last checkpoint"
            )
            self._tell_end(text)
            raise TrainingError(text) from error

    def _tell_end(self, message: str) -> None:
        """That the run failed. Where not even this can be written it is found dead, which it is."""
        if self._world.is_first:
            with suppress(OSError):
                self._folder.write("outcome.json", {"state": "failed", "message": message})

    def _learn(self, progress: Progress) -> None:
        """Steps with their metrics and checkpoints, until the end, a signal or a way back."""
        board = self._folder.path / "tensorboard" if self._config.tensorboard and self._world.is_first else None
        writer = CheckpointWriter(
            self._store, keep=self._config.keep, keep_every=self._config.keep_every_steps, world=self._world
        )  # fmt: skip
        title = f"train ({self._task.kind})"
        try:
            with (
                MetricsLog(self._folder.metrics, tensorboard=board, first_step=self._num_done + 1) as log,
                progress.step(title, total=self._config.steps, unit="steps") as bar,
            ):
                bar.advance(self._num_done)
                self._steps(log, writer, bar)
        except RuntimeError:
            self._watchdog.waits_for_files()
            with suppress(CheckpointError):  # with a process gone the others cannot end a checkpoint either: that is not what went wrong
                writer.wait()
            raise
        finally:
            self._watchdog.waits_for_files()
            writer.wait()

    def _go_back(self, back: RollBack) -> None:
        """To the last checkpoint, or to the start; the batches since are left out from now on."""
        self._world.wait()  # the first process has written what it was writing
        used, self._before, self._kept = self._before, Standing(), Standing()
        self._step = self._make_step()
        self._task.batches.load_state_dict(self._at_start[0])
        torch.set_rng_state(self._at_start[1])
        num_done, _ = self._restore()
        self._before = replace(self._before, elapsed_s=used.elapsed_s, joules=used.joules)  # what was in vain was used all the same
        self._guard.went_back(back, num_done)

    def _steps(self, log: MetricsLog, writer: CheckpointWriter, bar: Step) -> None:
        while self._num_done < self._config.steps and not (self._must_stop or (self._world.size == 1 and self._stop)):
            metrics = self._one_step()
            log.write(metrics)
            bar.advance()
            bar.note(self._note(metrics))
            self._verify(writer)
            if self._is_checkpoint_due(writer):
                self._save(log, writer)
        if self._num_saved != self._num_done and self._num_done != self._before.num_done:
            self._save(log, writer)  # the signal came after the last look at it
        self._stopped_by = (self._stop.signal_name or "another process") if self._num_done < self._config.steps else None

    def _verify(self, writer: CheckpointWriter) -> None:
        if self._guard.is_verification_due(self._num_done) and self._last is not None:
            self._watchdog.waits_for_files()
            writer.wait()  # what is found wrong may be in the checkpoint being written: that one must be there to be put aside
            self._guard.verify(self._num_done, self._step, self._task.batches, self._last[0], self.layout.data)

    def _save(self, log: MetricsLog, writer: CheckpointWriter) -> None:
        self._watchdog.at(self._num_done, "checkpoint")
        self._refuse_broken_weights()
        log.sync()
        if self._world.is_first and self._limit_flops_per_s > self._machine.limit_flops_per_s:
            self._machine = raise_limit(self._folder, self._machine, self._limit_flops_per_s)
        self._kept = self._standing()
        writer.save(self._num_done, self._state(), verified=self._guard.verified)
        self._num_saved, self._saved_s = self._num_done, time.perf_counter()

    def _one_step(self) -> StepMetrics:
        before, number = self._task.batches.state_dict(), self._num_done + 1
        started_s = time.perf_counter()
        scale = lr_scale(self._num_done, self._config.steps, self._config.schedule)
        self._skip = self._guard.left_out(number)
        result = self._leave_out(self._skip) if self._skip else self._compute(number, scale)
        self._last = before, result
        if self._skip is None:
            self._skip = self._guard.judge(number, result)
        self._num_done = number
        if math.isfinite(result.loss):
            self._loss = result.loss
        seconds = time.perf_counter() - started_s
        tokens_per_s = self._config.batch_tokens / seconds
        self._tell(seconds, self._meter.read().joules)
        every, heldout_loss = self._config.evaluate_every, None
        if self._task.heldout and (self._num_done == self._config.steps or (every and self._num_done % every == 0)):
            self._watchdog.at(self._num_done, "evaluation")
            self._refuse_broken_weights()
            heldout_loss = self._heldout_loss = self._evaluate()
        return self._metrics(result, scale, tokens_per_s, heldout_loss)

    def _compute(self, number: int, scale: float) -> StepResult:
        """Forward, backward, and the optimizer where the guard allows it."""
        self._watchdog.at(number, "data")
        share = 0 if isinstance(self._step, TrainingStep) else self._step.axes.data_rank
        batches = share_of_step(self._task.batches, self._config.num_micro_batches, share, self.layout.data)
        self._watchdog.at(number, "step")
        return self._step.run(batches, scale, self._guard.allows)

    def _leave_out(self, skip: Skip) -> StepResult:
        """A step whose batch was given up before: the data goes on, the weights do not."""
        self._task.batches.skip(self._config.num_micro_batches)
        loss, norm = (math.nan if number is None else number for number in (skip.loss, skip.grad_norm))
        return StepResult(loss, norm, 0, is_applied=False)

    def _evaluate(self) -> float:
        return self._step.evaluate(self._task.heldout)

    def _metrics(self, result: StepResult, scale: float, tokens_per_s: float, heldout_loss: float | None) -> StepMetrics:
        energy, tokens = self._sum_energy(), self._num_done * self._config.batch_tokens
        here_s, optimizer = time.perf_counter() - self._started_s, self._config.optimizer
        num_timed = self._num_done - self._before.num_done - 1
        if num_timed == 0:
            self._first_step_ended_s = time.perf_counter()  # the first step also warms up, so that it tells nothing about the others
        step_s = (time.perf_counter() - self._first_step_ended_s) / num_timed if num_timed else self._config.batch_tokens / tokens_per_s
        flops_per_s = tokens_per_s * self._flops_per_token / self._world.size  # of one process: the limit is that of one
        self._limit_flops_per_s = max(self._limit_flops_per_s, flops_per_s)  # what the machine does, it can do: it was busy when measured
        eta_s = step_s * (self._config.steps - self._num_done)
        slow = self._guard.compare_speed(self._num_done)
        return StepMetrics(
            step=self._num_done, loss=_or_none(result.loss), grad_norm=_or_none(result.grad_norm), lr_scale=scale, lr=optimizer.lr * scale,
            muon_lr=optimizer.muon_lr * scale if optimizer.name == "muon" else None, tokens=tokens,
            tokens_per_s=tokens_per_s, limit_share=flops_per_s / self._limit_flops_per_s,
            elapsed_s=self._before.elapsed_s + here_s, eta_s=eta_s,
            joules_per_token=(self._before.joules + energy.joules) / tokens, energy_measured=energy.measured, heldout_loss=heldout_loss,
            imbalance=result.imbalance, skipped=self._skip.why if self._skip else None,
            slow_rank=slow.rank if slow else None, lost_share=slow.lost_share if slow else None,
        )  # fmt: skip

    def _sum_energy(self) -> EnergyReading:
        """Of all processes; measured only where each of them is."""
        here = self._meter.read()
        joules, num_measured = self._world.sum(here.joules, float(here.measured))
        more = f", summed over {self._world.size} processes" if self._world.size > 1 else ""
        self._energy = replace(here, joules=joules, measured=num_measured == self._world.size, source=here.source + more)
        return self._energy

    def _tell(self, seconds: float, joules: float) -> None:
        """This process's own line of the step."""
        self._log.step = self._num_done
        tokens_per_s = self._config.batch_tokens / self._world.size / seconds
        self._log.tell("step", seconds=round(seconds, 4), tokens_per_s=round(tokens_per_s, 1), joules=round(joules, 3))

    def _note(self, m: StepMetrics) -> str:
        heldout = f", held-out {self._heldout_loss:.3f}" if self._heldout_loss is not None else ""
        label = "" if m.energy_measured else " (estimate)"
        loss = "skipped" if m.loss is None else f"loss {m.loss:.3f}"
        return (
            f"{loss}{heldout}, {m.tokens_per_s:,.0f} tokens/s, {m.limit_share or 0:.0%} of the matmul limit, "
            f"{m.joules_per_token * 1000:.1f} mJ/token{label}, {format_seconds(m.eta_s)} left"
        )

    def _is_checkpoint_due(self, writer: CheckpointWriter) -> bool:
        """All processes save after the same step: when the first one finds it time."""
        is_due = self._world.is_first and self._is_due_here(writer)
        skipped = self._skip is not None
        self._must_stop, is_due, some_skipped, some_followed = self._world.any(bool(self._stop), is_due, skipped, not skipped)
        if some_skipped and some_followed:
            raise TrainingError(
                f"step {self._num_done}: processes disagree on whether it is a spike; the run goes on from its last checkpoint"
            )
        return is_due or self._must_stop

    def _is_due_here(self, writer: CheckpointWriter) -> bool:
        c = self._config
        if self._num_done == c.steps or self._stop:
            return True
        if c.checkpoint_every_steps is not None and self._num_done % c.checkpoint_every_steps == 0:
            return True
        is_time = c.checkpoint_every_s is not None and time.perf_counter() - self._saved_s >= c.checkpoint_every_s
        return is_time and not writer.busy

    def _state(self) -> dict[str, Any]:
        return {
            "step": self._step.state_dict(),
            "data": self._task.batches.state_dict(),
            "torch_random": torch.get_rng_state(),
            "progress": to_dict(self._kept),
            "guard": self._guard.state_dict(),
        }

    def _standing(self) -> Standing:
        before, energy, num_bytes = self._before, self._energy, self._task.heldout_bytes
        per_byte = None
        if self._heldout_loss is not None and num_bytes:
            per_byte = self._heldout_loss * self._num_heldout / math.log(2) / num_bytes
        return Standing(
            num_done=self._num_done, loss=self._loss, heldout_loss=self._heldout_loss, heldout_bits_per_byte=per_byte,
            elapsed_s=before.elapsed_s + time.perf_counter() - self._started_s, joules=before.joules + energy.joules,
            energy_measured=energy.measured and (before.energy_measured or not before.num_done), energy_source=energy.source,
        )  # fmt: skip

    def _restore(self) -> tuple[int, int]:
        """Where the run goes on, and how many steps it had done after that."""
        self._watchdog.at(self._num_done, "restore")
        checkpoint = resume_latest(self._store, self._state(), world=self._world)
        if self._world.is_first:  # only now: with every checkpoint damaged the run must stop, not begin again
            clean(self._store, checkpoint.name if checkpoint else None)
        if checkpoint is not None:
            state = checkpoint.state
            try:
                self._task.batches.load_state_dict(state["data"])
                self._step.finish_loading()
                torch.set_rng_state(state["torch_random"])
                self._before = self._kept = Standing.from_state(state["progress"])
            except KeyError as error:
                raise CheckpointError(f"checkpoint {checkpoint.place} lacks {error}; start again with --fresh") from error
            logger.info("going on from %s", checkpoint.place)
        self._num_done, self._loss, self._heldout_loss = self._before.num_done, self._before.loss, self._before.heldout_loss
        self._guard.load_state_dict(checkpoint.state.get("guard", {}) if checkpoint else {}, self._num_done)
        num_repeated = rewind_metrics(self._folder.metrics, self._num_done)
        if num_repeated:
            logger.info("%d steps after the last checkpoint are computed again", num_repeated)
        return self._num_done, num_repeated

    def _refuse_broken_weights(self) -> None:
        """Before weights are kept or measured: a norm costs little then, and nothing that is not a number gets out of this process."""
        if not self._step.has_finite_weights():
            if self._config.on_nan == "roll_back":
                raise RollBack(self._num_done, Anomaly(kind="not a number", reason="the weights it left are not finite"))
            assert self._last is not None
            kept = self._keep_batch(self._num_done, self._last[1], "not a number")
            raise refusal(self._num_done, self._last[1], ", and the weights it left are not finite", kept, self._config.optimizer)

    def _keep_batch(self, step: int, result: StepResult, kind: str) -> str:
        """Keep what the last step was made of; returns where. All processes know the same, so one writes it."""
        assert self._last is not None
        if not self._world.is_first:
            return "The first process writes what the batch was made of"
        return keep_broken_batch(
            self._folder, step, result, self._task.batches, self._last[0], self._config.num_micro_batches, self._task.data, kind
        )  # fmt: skip

    def _finish(self) -> Trained:
        metrics = read_metrics(self._folder.metrics) if self._world.is_first else []
        pictures: tuple[Path, ...] = ()
        if metrics:
            try:
                unit = "pair" if self._task.kind == "preferences" else "token"
                pictures = tuple(draw_loss(metrics, self._folder.path, f"{self._folder.path.name}: {self._task.kind}", unit=unit))
            except (MissingExtraError, OSError) as error:
                logger.warning("no picture of the loss: %s", error)
        summary = summarise(
            self._folder.path, self._task.model, self._config, self._machine, self._kept, num_processes=self._world.size
        )  # fmt: skip
        summary = replace(summary, stopped_by=self._stopped_by, pictures=pictures)
        message = f"{format_seconds(summary.elapsed_s)}, {format_joules(summary.joules)}, {format_si(summary.flops, 'FLOP')}"
        if self._world.is_first:
            self._folder.write("outcome.json", {"state": summary.state, "message": message, "summary": to_dict(summary)})
        return Trained(summary, self._step.float32_model() if isinstance(self._step, TrainingStep) else None)


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None
