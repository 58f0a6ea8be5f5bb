"""The start of a run. Goes in: a run folder and a Task. Comes out: an Opening, which knows whether an older run goes on, on which machine
and with which checkpoints, or a refusal. Only `Opening.begin` changes anything, when everything that can fail has gone well.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agora.cluster.layout import Layout
from agora.config import to_dict
from agora.errors import ConfigError, TrainingError
from agora.model.counts import flops_per_token
from agora.training.checkpoint_store import Store, open_store
from agora.training.lease import leased
from agora.training.machine import check_machine, decide_machine
from agora.training.run_folder import Machine, RunFolder
from agora.training.same_run import ID, id_of_run, refuse_other_configuration, tell_division, tell_place
from agora.training.source import merged
from agora.training.task import Task
from agora.training.watchdog import Watchdog
from agora.training.world import World


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """What a run begins with. `record` is what it is, `saved` the run.json of the one that goes on, empty for a fresh one."""

    folder: RunFolder
    task: Task
    world: World
    store: Store
    machine: Machine
    record: Mapping[str, Any]
    saved: Mapping[str, Any]
    resume: bool

    def begin(self, layout: Layout) -> None:
        """Write down what the run is. The files are the first process's: many would write the same."""
        if not self.resume:
            self._start_over()
        if not self.world.is_first:
            return
        tokenizer = self.folder.path / "tokenizer"
        if not tokenizer.exists() or not self.saved:
            _copy_folder(self.task.tokenizer_dir, tokenizer)
        source = merged(self.saved.get("source") or {}, to_dict(self.task.source))
        self.folder.write("run.json", {**self.record, "source": source, "machine": to_dict(self.machine), "layout": to_dict(layout)})
        self.folder.remove("outcome.json")
        if self.task.training.checkpoint_url is not None:
            tell_place(self.store, self.record)

    def _start_over(self) -> None:
        """All but run.json, which is replaced: it says whose the checkpoints at a URL are, should this be cut short."""
        if self.world.is_first:
            self.store.clear()
        shutil.rmtree(self.folder.path / "tensorboard", ignore_errors=True)
        for name in ("outcome.json", "metrics.jsonl", "loss.png", "loss.svg", "skipped.json", "events.jsonl"):
            self.folder.remove(name)


def open_run(folder: RunFolder, task: Task, watchdog: Watchdog, held: ExitStack, *, resume: bool) -> Opening:
    """Compare run.json with `task`. Collective. `held` keeps the lease of a URL. Raises OtherRunError, TrainingError, CheckpointError and
    ConfigError; a refused command changes nothing of an older run."""
    world, url = watchdog.world, task.training.checkpoint_url
    record: dict[str, Any] = {
        "kind": task.kind, "model": to_dict(task.model), "training": to_dict(task.training),
        "data": json.loads(json.dumps(dict(task.data))), "command": task.command,
    }  # fmt: skip
    saved = world.first_does(lambda: folder.read("run.json") if resume else {}, TrainingError)
    store = open_store(RunFolder(watchdog.run_dir).checkpoint_place(url))
    watchdog.files = store.movement
    if saved:
        refuse_other_configuration(folder.path, saved, record)
        if world.is_first:
            tell_division(saved, record)
    record[ID] = id_of_run(folder, record, store, world, resume=resume)
    if url is not None:
        held.enter_context(leased(store, record[ID], world))
        record[ID] = id_of_run(folder, record, store, world, resume=resume)  # another may have begun there meanwhile
    if saved:
        machine = folder.machine(saved)
        check_machine(machine)
    else:
        flops = task.training.num_tokens * flops_per_token(task.model, task.training.seq_len)
        machine = world.first_does(lambda: decide_machine(folder, task.training, flops), ConfigError)
    return Opening(folder=folder, task=task, world=world, store=store, machine=machine, record=record, saved=saved, resume=resume)


def _copy_folder(source: Path, target: Path) -> None:
    temporary = target.with_name(f".{target.name}.copying")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(source, temporary)
    if target.exists():
        shutil.rmtree(target)
    temporary.rename(target)
