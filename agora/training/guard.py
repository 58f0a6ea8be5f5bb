"""What watches over a run. Goes in: every step of the loop. Comes out: batches left out, the way back, warnings, and RUN/events.jsonl
with one line for each time something went wrong.

The loop asks in one place what to do with a step (`allows`, `judge`); watchdog.py, anomalies.py, stragglers.py and replicas.py know how.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from typing import Any, Final

import torch
import torch.distributed as dist

from agora.errors import TrainingError
from agora.files import LineFile
from agora.training.anomalies import FILE, Action, Anomaly, RollBack, Skip, Skips, SpikeRule
from agora.training.broken_batch import refusal
from agora.training.checkpoint_store import Store, step_of
from agora.training.config import TrainingConfig
from agora.training.data import Batches, share_of_step
from agora.training.replicas import compare_replicas
from agora.training.run_folder import RunFolder
from agora.training.sharded_step import ShardedStep
from agora.training.step import Batch, StepResult, TrainingStep
from agora.training.stragglers import Straggler, stragglers
from agora.training.watchdog import Watchdog

logger = logging.getLogger(__name__)

EVENTS: Final = "events.jsonl"
_RESTARTS: Final = "TORCHELASTIC_RESTART_COUNT"  # set by torchrun


class Guard:
    """`describe(step, result, kind)` keeps what a step was made of and says where."""

    def __init__(
        self, config: TrainingConfig, watchdog: Watchdog, store: Store, describe: Callable[[int, StepResult, str], str]
    ) -> None:  # fmt: skip
        self._config, self._watchdog, self._store, self._describe = config, watchdog, store, describe
        self._world, self._run_dir = watchdog.world, watchdog.run_dir
        self._rule = SpikeRule(config.spike_deviations)
        self._skips = Skips()
        self._seen: Anomaly | None = None  # what `allows` found
        self._verified = 0  # the last step after which all replicas agreed
        self._window_began_s, self._window_began_at = time.perf_counter(), 0

    # ---- what a checkpoint keeps

    def state_dict(self) -> dict[str, Any]:
        """What later decisions depend on."""
        return {"rule": self._rule.state_dict(), "skips": self._skips.to_dict(), "verified": self._verified}

    def load_state_dict(self, state: Mapping[str, Any], num_done: int) -> None:
        """Go on from a checkpoint, or from an empty state; what the run folder says of skipped batches counts too. Collective."""
        self._rule.load_state_dict(state.get("rule", {}))
        self._skips.merge(state.get("skips", {}))
        self._skips.merge(self._world.from_first(RunFolder(self._run_dir).read(FILE) if self._world.is_first else {}))
        self._verified = int(state.get("verified", 0))
        self._window_began_s, self._window_began_at = time.perf_counter(), num_done

    def begin(self, num_done: int, num_repeated: int) -> None:
        """Says that the launcher started the processes again, and where they go on."""
        restarts = int(os.environ.get(_RESTARTS, "0"))
        if restarts and self._world.is_first:
            text = f"start {restarts + 1} of the processes: going on from step {num_done}, {num_repeated} steps are computed again"
            logger.warning("%s", text)
            self.event("restart", num_done, text)

    def stopped(self, num_done: int, by: str, seconds: float) -> None:
        """Says how much of its grace time a stop took: from the signal until the last step is on disk."""
        where = f" on rank {self._world.rank}" if self._world.size > 1 else ""
        text = f"{by}{where}: step {num_done} is saved, {seconds:.1f} s after the signal"
        logger.log(logging.WARNING if where else logging.INFO, "%s", text)
        self.event("stop", num_done, text)

    # ---- anomalies

    def left_out(self, step: int) -> Skip | None:
        """Whether the batch of a step is left out because of an earlier decision."""
        return self._skips.by_step.get(step)

    def allows(self, loss: float, grad_norm: float) -> bool:
        """Whether the weights may follow a step with these numbers, which are finite."""
        self._seen = self._rule.judge(loss, grad_norm)
        return self._seen is None or self._config.on_spike == "warn"

    def judge(self, step: int, result: StepResult) -> Skip | None:
        """Decide about a step that was computed, the same on all processes: None where the weights followed it. Raises TrainingError to
        stop, RollBack to go back."""
        anomaly, self._seen = self._seen, None
        if result.is_applied:
            self._rule.learn(result.loss, result.grad_norm)
        elif anomaly is None:
            anomaly = Anomaly(kind="not a number", reason=f"loss {result.loss}, gradient norm {result.grad_norm}")
        if anomaly is None:
            return None
        action: Action = self._config.on_nan if anomaly.kind == "not a number" else self._config.on_spike
        kept = self._describe(step, result, anomaly.kind) if self._world.is_first or action == "stop" else ""
        self.event(anomaly.kind, step, f"{anomaly.reason}. {kept}", action=action)
        if action == "stop":
            raise self._refusal(step, result, anomaly, kept)
        if action == "roll_back":
            raise RollBack(step, anomaly)
        if self._world.is_first:
            logger.warning("step %d: %s%s. %s", step, anomaly.reason, "" if action == "warn" else "; its batch is skipped", kept)
        if action == "warn":
            return None
        numbers = (result.loss, result.grad_norm) if anomaly.kind == "spike" else (None, None)
        skip = Skip(why=anomaly.kind, loss=numbers[0], grad_norm=numbers[1])
        self._skips.add(step, skip)
        self._keep_skips()
        return skip

    def _refusal(self, step: int, result: StepResult, anomaly: Anomaly, kept: str) -> TrainingError:
        if anomaly.kind == "not a number":
            return refusal(step, result, "", kept, self._config.optimizer)
        return TrainingError(
            f"step {step}: {anomaly.reason}. {kept}. The same command goes on from the last checkpoint and meets the same batch; "
            "training.on_spike=skip leaves it out, training.on_spike=warn learns from it"
        )

    def went_back(self, back: RollBack, num_done: int) -> None:
        """After the checkpoint of step `num_done` is restored: leave out what led to the spike. Raises TrainingError after too many."""
        self._skips.go_back(num_done + 1, back.step, self._config.max_roll_backs)
        self._keep_skips()
        text = (
            f"{back}: back to step {num_done}, the batches of steps {num_done + 1} to {back.step} are left out "
            f"({self._skips.num_roll_backs} of {self._config.max_roll_backs})"
        )
        self.event("roll back", back.step, text)
        if self._world.is_first:
            logger.warning("%s", text)

    def _keep_skips(self) -> None:
        if self._world.is_first:
            self._skips.write(self._run_dir)

    # ---- slow processes

    def compare_speed(self, num_done: int) -> Straggler | None:
        """Every `stragglers_every` steps: who is slow. Collective. The slowest one, for the step's line of metrics."""
        every = self._config.stragglers_every
        if self._world.size == 1 or not every or num_done % every:
            return None
        num_steps, now_s = num_done - self._window_began_at, time.perf_counter()
        step_s = (now_s - self._window_began_s) / max(1, num_steps)
        own_s = torch.zeros(self._world.size, dtype=torch.float64, device=self._world.device)
        own_s[self._world.rank] = step_s * (1 - self._watchdog.waiting_share())
        dist.all_reduce(own_s)
        self._window_began_s, self._window_began_at = time.perf_counter(), num_done
        found = stragglers(own_s.tolist(), step_s) if num_steps else []
        for one in found:
            self.event("straggler", num_done, str(one), rank=one.rank, times_median=one.times_median, lost_share=one.lost_share)
            if self._world.is_first:
                logger.warning("step %d: %s", num_done, one)
        return found[0] if found else None

    # ---- silent corruption

    @property
    def verified(self) -> int | None:
        """The last step after which all replicas agreed, 0 for none yet; None where they are not compared."""
        return self._verified if self._config.verify_every else None

    def is_verification_due(self, num_done: int) -> bool:
        """Every `verify_every` steps, where there is more than one process."""
        every = self._config.verify_every
        return bool(every) and num_done % every == 0 and self._world.size > 1

    def verify(self, num_done: int, step: TrainingStep | ShardedStep, batches: Batches, before: Mapping[str, Any], shares: int) -> None:
        """Whether all replicas hold and compute the same. Collective. Raises TrainingError that names who does not; checkpoints since the
        last time they agreed are put aside."""
        if isinstance(step, TrainingStep):
            return
        self._watchdog.at(num_done, "verification")
        wrong = compare_replicas(step, self._first_batches(step, batches, before, shares))
        if wrong is None:
            self._verified = num_done
            return
        more = self._world.from_first(self._put_aside() if self._world.is_first else "")
        text = f"silent corruption: {wrong}. The replicas agreed last after step {self._verified}{more}"
        self.event("corruption", num_done, text)
        raise TrainingError(f"step {num_done}: {text}. Take that host out and start again: the run goes on from before")

    def _first_batches(self, step: ShardedStep, batches: Batches, before: Mapping[str, Any], shares: int) -> Sequence[Batch]:
        """What the first data rank took in the step after `before`: one micro-batch, or for a pipeline all of them."""
        here = batches.state_dict()
        batches.load_state_dict(before)
        mine = share_of_step(batches, self._config.num_micro_batches, 0, shares)
        batches.load_state_dict(here)
        return mine if step.layout.pipeline > 1 else mine[:1]

    def _put_aside(self) -> str:
        """What became of the checkpoints since then, in words: what the place refuses must not hide which host is wrong."""
        try:
            doubted = [name for name in self._store.names() if step_of(name) > self._verified]
            for name in doubted:
                self._store.set_aside(name)
        except OSError as error:
            return f"; checkpoints since then were not put aside: {error}"
        return f"; checkpoints that may hold it are put aside ({', '.join(doubted)})" if doubted else ""

    # ---- what is told

    def event(self, kind: str, step: int, text: str, **more: Any) -> None:
        """One line of RUN/events.jsonl, by the first process."""
        if self._world.is_first:
            line = {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "kind": kind, "step": step, "text": text, **more}
            with closing(LineFile(self._run_dir / EVENTS)) as file:
                file.write(json.dumps(line))
