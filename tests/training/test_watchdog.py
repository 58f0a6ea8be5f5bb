"""Who is named for a hang, where a thread stands, and which processes are slow."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch.distributed as dist

from agora.errors import TrainingError
from agora.training.beats import Beat, judge, movers
from agora.training.stragglers import stragglers
from agora.training.watchdog import Watchdog, is_waiting, lost_connection, open_collectives, place_of
from agora.training.world import World

REDUCE = "all_reduce, called from world.py:56 World.any"


def beats(moves: Sequence[int], operations: Sequence[str] = (REDUCE,) * 4, beat: int = 9) -> list[Beat]:
    return [
        Beat(rank=rank, beat=beat, step=7, phase="step", moves=moves[rank], operation=operations[rank], waits="all_" in operations[rank],
             host=f"node-{rank}", process=100 + rank)
        for rank in range(len(moves))
    ]  # fmt: skip


def again(before: Sequence[Beat], silent: Sequence[int] = ()) -> list[Beat]:
    return [beat if beat.rank in silent else dataclasses.replace(beat, beat=beat.beat + 3) for beat in before]


def test_a_rank_that_writes_nothing_does_not_answer() -> None:
    before = beats([20, 20, 19, 20])
    assert judge(before, again(before, [2])) == (
        f"rank 2 does not answer (last seen in step 7, step, {REDUCE}; process 102 on node-2); ranks 0, 1, 3 wait in step 7, step, {REDUCE}"
    )


def test_a_rank_that_is_awake_elsewhere_is_behind() -> None:
    before = beats([20, 18, 20, 20], [REDUCE, "read, called from data.py:10 ShardBatches._read", REDUCE, REDUCE])
    found = judge(before, again(before))
    assert found.startswith("rank 1 is behind, in step 7, step, read, called from data.py:10") and "ranks 0, 2, 3 wait" in found


def test_where_all_have_begun_the_same_the_one_that_does_not_wait_is_behind() -> None:
    before = beats([20] * 4, [REDUCE, REDUCE, REDUCE, "loop.py:3 _save"])
    assert judge(before, again(before)).startswith("rank 3 is behind, in step 7, step, loop.py:3 _save")


@pytest.mark.parametrize(
    ("operations", "words"),
    [((REDUCE,) * 4, "the network between them"), ((REDUCE, REDUCE, "all_gather, called from b.py:2 f", REDUCE), "different operations")],
)
def test_where_all_wait_nobody_is_blamed(operations: Sequence[str], words: str) -> None:
    before = beats([20] * 4, operations)
    found = judge(before, again(before))
    assert words in found and "does not answer (" not in found and "behind," not in found


def test_an_upload_that_moves_is_no_hang_and_one_that_stands_still_is_named() -> None:
    writing = {"phase": "checkpoint", "operation": "wait, called from loop.py:1 _save", "waits": False}
    before = [dataclasses.replace(beat, **writing) for beat in beats([20] * 4)]
    before[2] = dataclasses.replace(before[2], files="writing s3://bucket/step-00000120/tensors-00002.safetensors", files_still_s=7.0)
    assert movers(before, again(before), 10.0) == "rank 2 is writing s3://bucket/step-00000120/tensors-00002.safetensors"
    assert movers(before, again(before, [1]), 10.0) == ""  # a rank that does not answer hangs whatever others upload
    before[2] = dataclasses.replace(before[2], files_still_s=11.0)
    assert movers(before, again(before), 10.0) == ""
    found = judge(before, again(before), 10.0)
    assert found.startswith(f"rank 2 is stuck {before[2].files}: nothing of it has moved for 11 s (process 102 on node-2)")
    assert "ranks 0, 1, 3 wait in step 7, checkpoint" in found and "behind" not in found


def test_thousands_of_ranks_are_told_in_a_line() -> None:
    before = beats([20] * 5000, [REDUCE] * 5000)
    assert len(judge(before, again(before, [4711]))) < 400


def test_a_place_names_the_engine_s_function_and_our_line() -> None:
    def all_reduce_like() -> None:
        event.wait(10)

    event = threading.Event()
    thread = threading.Thread(target=all_reduce_like)
    thread.start()
    assert thread.ident is not None
    try:
        one, other = (place_of(sys._current_frames()[thread.ident]) for _ in range(2))
    finally:
        event.set()
        thread.join()
    assert one == other and not one.waits
    here = place_of(sys._getframe())
    assert here.key != one.key


def test_lines_of_the_engine_that_wait_are_known_as_such() -> None:
    code = dist.distributed_c10d.all_reduce.__wrapped__.__code__  # type: ignore[attr-defined]
    lines = [line for _, _, line in code.co_lines() if line is not None]
    waiting = [line for line in lines if is_waiting(code, line)]
    assert 0 < len(waiting) < len(lines)
    assert not any(is_waiting(threading.Event.wait.__code__, line) for _, _, line in threading.Event.wait.__code__.co_lines() if line)


def test_unfinished_collectives_are_read_from_a_flight_record() -> None:
    entry = {
        "profiling_name": "gloo:all_reduce", "collective_seq_id": 31, "process_group": ["0", "default_pg"], "input_dtypes": ["Long"],
        "input_sizes": [[4]], "retired": False, "state": "scheduled",
    }  # fmt: skip
    record = {"fr": {"entries": [{**entry, "retired": True}, entry]}, "nccl": {}}
    assert open_collectives(record) == ["gloo:all_reduce number 31 of group default_pg (Long [4])"]


def test_alone_nothing_is_watched_and_no_connection_lost(tmp_path: object) -> None:
    with Watchdog(World(), tmp_path, 1.0) as watchdog:  # type: ignore[arg-type]
        watchdog.at(1, "step")
        assert watchdog.waiting_share() == 0.0 and watchdog.dead_ranks() == ""
        assert lost_connection(RuntimeError("gloo: Connection closed by peer"), watchdog, 2) is None


def test_only_errors_about_connections_are_taken_for_a_lost_rank(tmp_path: object) -> None:
    watchdog = Watchdog(World(1, 4), tmp_path, 1.0)  # type: ignore[arg-type]
    assert isinstance(lost_connection(RuntimeError("[gloo/pair.cc] Connection closed by peer"), watchdog, 2), TrainingError)
    assert lost_connection(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), watchdog, 2) is None


def test_a_slow_process_is_found_with_its_share_of_lost_time_among_two_and_among_thousands() -> None:
    (found,) = stragglers([1.0, 2.0], 2.1)
    assert (found.rank, found.times_median) == (1, 2.0) and found.lost_share == pytest.approx(1 / 2.1)
    own_s = np.random.default_rng(0).normal(1.0, 0.01, 10_000)
    own_s[1234] = 1.5
    assert [one.rank for one in stragglers(own_s.tolist(), 1.6)] == [1234]


def test_ordinary_scatter_has_no_straggler() -> None:
    rng = np.random.default_rng(0)
    assert sum(len(stragglers(rng.normal(1.0, scatter, 1000).tolist(), 1.2)) for scatter in (0.001, 0.01, 0.1) for _ in range(20)) == 0
