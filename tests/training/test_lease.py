"""One run writes at a place: the second one is refused, what a dead one left is taken over."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agora.errors import CheckpointError, TrainingError
from agora.training import lease as lease_module
from agora.training.checkpoint import list_checkpoints, save_checkpoint
from agora.training.checkpoint_store import FolderStore, TakenOverError, open_store
from agora.training.lease import FILE, Lease, ask_before_writing, is_alive
from agora.training.loop import train
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder

ELSEWHERE: dict[str, Any] = {"run": "other", "token": "t", "at": "2026-01-01T00:00:00+00:00", "renewals": 3, "host": "node-7", "process": 1}


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}/run"


def test_a_second_run_is_refused_by_name_while_the_first_one_lives_and_not_after(place: str) -> None:
    first, second = Lease(open_store(place), "first-run"), Lease(open_store(place), "second-run")
    first.take()
    with pytest.raises(TrainingError, match=rf"process {os.getpid()} on .*run first-ru, last seen 20.*checkpoint_url=.*--name"):
        second.take()
    first.release()
    assert open_store(place).read_record(FILE) == {}
    second.take()
    second.release()


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(place: str, caplog: pytest.LogCaptureFixture) -> None:
    words = "import agora.training.lease as lease, json; print(json.dumps(lease._here()))"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    holder = {**ELSEWHERE, **json.loads(done.stdout)}
    assert not is_alive(holder) and is_alive(lease_module._here())
    open_store(place).write_record(holder, FILE)
    started_s, mine = time.monotonic(), Lease(open_store(place), "mine")
    mine.take()
    assert time.monotonic() - started_s < 2 and f"taking over the lease of process {holder['process']}" in caplog.text
    mine.release()


def test_a_number_that_another_process_has_now_is_not_the_holder() -> None:
    assert not is_alive({**lease_module._here(), "birth": "1"})


def test_a_lease_of_another_host_is_taken_over_when_nobody_renews_it_and_respected_when_somebody_does(
    place: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(place)
    store.write_record(ELSEWHERE, FILE)
    mine = Lease(open_store(place), "mine")
    mine.take(wait_s=0.4)
    mine.release()
    assert "which did not renew it for 0 s" in caplog.text
    store.write_record(ELSEWHERE, FILE)
    renewal = threading.Timer(0.3, lambda: store.write_record({**ELSEWHERE, "renewals": 4}, FILE))
    renewal.start()
    with pytest.raises(TrainingError, match="process 1 on node-7"):
        Lease(open_store(place), "mine").take(wait_s=4.0)
    renewal.join()


def test_who_lost_the_place_writes_and_deletes_nothing_there(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0.05)
    store = open_store(place)
    mine = Lease(store, "mine")
    mine.take()
    save_checkpoint(store, 1, {"a": torch.ones(2)})
    theirs = open_store(place)
    theirs.write_record(ELSEWHERE, FILE)
    mine._thread.join(5)
    save_checkpoint(theirs, 2, {"a": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"process 1 on node-7, run other has taken this place over.*end the run") as lost:
        save_checkpoint(store, 2, {"a": torch.ones(2)}, keep=1)
    assert "space" not in str(lost.value)
    before = {name: theirs.sizes(name) for name in list_checkpoints(place)}
    roads: list[Callable[[], Any]] = [
        lambda: store.begin("step-00000003", 1), lambda: store.writing("step-00000001", "x").__enter__(),
        lambda: store.abandon("step-00000001"), lambda: store.remove("step-00000001"), lambda: store.set_aside("step-00000002"),
        lambda: store.write_record({"id": "mine"}), lambda: store.remove_record(FILE), store.clear,
    ]  # fmt: skip
    for road in roads:
        with pytest.raises(TakenOverError):
            road()
    assert {name: theirs.sizes(name) for name in list_checkpoints(place)} == before
    assert list_checkpoints(place) == ["step-00000001", "step-00000002"]
    mine.release()
    assert store.read_record(FILE) == ELSEWHERE


def test_the_other_processes_of_a_run_that_lost_the_place_write_nothing_there_either(place: str) -> None:
    mine, other = Lease(open_store(place), "mine"), open_store(place)
    mine.take()
    ask_before_writing(other, mine.token)
    save_checkpoint(other, 1, {"a": torch.ones(2)})
    theirs = open_store(place)
    theirs.write_record(ELSEWHERE, FILE)
    with pytest.raises(TakenOverError, match="process 1 on node-7"), other.writing("step-00000002", "tensors-00001.safetensors"):
        pass
    assert list_checkpoints(place) == ["step-00000001"]
    mine.release()


@pytest.mark.parametrize("process", [None, "missing", "17", True])
def test_a_lease_of_this_host_without_the_number_of_its_process_is_damaged_by_name(place: str, process: Any) -> None:
    holder = {**ELSEWHERE, **lease_module._here(), "process": process}
    if process == "missing":
        del holder["process"]
    open_store(place).write_record(holder, FILE)
    with pytest.raises(CheckpointError, match=r"run/lease\.json is damaged \(process .* is no number of a process\); delete it"):
        Lease(open_store(place), "mine").take()


def test_in_a_folder_too_every_road_asks_first(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    save_checkpoint(store, 1, {"a": torch.ones(2)})
    (tmp_path / ".writing-step-00000002").mkdir()

    def lost() -> None:
        raise TakenOverError("lost")

    store.may_write = lost
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    roads: list[Callable[[], Any]] = [
        lambda: store.begin("step-00000003", 1), lambda: store.writing("step-00000002", "x").__enter__(),
        lambda: store.commit("step-00000002"), lambda: store.abandon("step-00000002"), lambda: store.remove("step-00000001"),
        lambda: store.set_aside("step-00000001"), lambda: store.write_record({}), lambda: store.remove_record("run.json"), store.clean,
        store.clear,
    ]  # fmt: skip
    for road in roads:
        with pytest.raises(TakenOverError):
            road()
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_two_folders_that_name_one_place_cannot_train_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)

    def run(workspace: str, act: Any) -> int:
        return train(
            tmp_path / workspace / "run", shards=some_shards(tmp_path), model_config=TINY_MODEL,
            tokenizer_dir=tokenizer_folder(tmp_path / "tokenizer"), progress=EachStep(act),
            training_config=dataclasses.replace(TINY_TRAINING, checkpoint_url=f"memory://{tmp_path.name}"),
        ).step  # fmt: skip

    def intrude(done: int) -> None:
        if done == 6:
            with pytest.raises(TrainingError, match=rf"another trainer \(process {os.getpid()} on .*memory://"):
                run("two", lambda done: None)
        if done == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run("one", intrude) == 10
    assert not (tmp_path / "two" / "run").exists() and list_checkpoints(f"memory://{tmp_path.name}/run")[-1] == "step-00000010"
    assert run("two", lambda done: None) == 12  # the same run, from a fresh machine, now that the first one is gone
