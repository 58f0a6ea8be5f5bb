"""Where the processes of one start find each other, among what an earlier start left in the launcher's store."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
import torch.distributed as dist

from agora.errors import TrainingError
from agora.training import meeting

LARGE = 100_352


def test_processes_of_one_start_meet_under_one_name_that_no_earlier_start_had(monkeypatch: pytest.MonkeyPatch) -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=30), wait_for_workers=False)  # type: ignore[attr-defined]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))
    names = []
    for _ in range(2):  # the second start finds what the first one left
        threads = [threading.Thread(target=_greet, args=(rank, 4)) for rank in (3, 0, 2, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        names.append(server.get(meeting._NAME).decode())
        assert {server.get(f"{names[-1]}/found/{rank}") for rank in range(4)} == {b"here"}
    assert names[0] != names[1]


def _greet(rank: int, size: int) -> None:
    meeting.meet(rank, size).set(f"found/{rank}", "here")


class _Everyone:
    """A store in which every process has greeted; counts what it is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.asked += 1

    def check(self, keys: list[str]) -> bool:
        self.asked += 1
        return "/greeting/" in keys[0]

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self.asked += 1
        return [key.rpartition("/")[2].encode() for key in keys]

    def multi_set(self, keys: list[str], values: list[bytes]) -> None:
        self.asked += 1
        self.answers.update(zip(keys, values, strict=True))


def test_the_first_process_asks_once_for_each_other_one_and_answers_all_together() -> None:
    store: Any = _Everyone()
    name = meeting._invite(store, LARGE, time.monotonic() + 60)
    assert store.answers == {f"{name}/answer/{rank}": str(rank).encode() for rank in range(1, LARGE)}
    assert store.asked < LARGE + 10


class _Nobody:
    def get(self, key: str) -> bytes:
        return b"name"

    def set(self, key: str, value: bytes) -> None: ...

    def check(self, keys: list[str]) -> bool:
        return False


@pytest.mark.parametrize("size", [2, LARGE])
def test_those_who_wait_leave_the_store_time_to_answer(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TCPStore answers some tens of thousands of requests a second; a hundred thousand that ask twenty times would ask two million."""
    pauses: list[float] = []
    monkeypatch.setattr(dist, "TCPStore", lambda *_, **__: _Nobody())
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0 * len(pauses))
    monkeypatch.setenv("MASTER_ADDR", "here")
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(TrainingError, match="the first process did not come"):
        meeting.meet(1, size)
    assert pauses and size / pauses[0] <= 10_000
    assert size > 2 or pauses[0] <= 0.05
