"""Where the processes of one start meet. Goes in: the store of the launcher (torchrun's agent). Comes out: a part of it that only the
processes of this start use.

torchrun keeps one store over all its restarts and gives the workers no name for the start they belong to (its restart count is each agent's
own). With what the start before left there, the new processes look for each other at addresses that are gone:
https://github.com/pytorch/pytorch/issues/135712. So the first process draws a name, and each other one goes on only when the first has
answered its very own greeting under that name.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import timedelta
from typing import Any, Final

import torch.distributed as dist

from agora.errors import TrainingError

_PATIENCE_S: Final = 600.0
_LOOK_S: Final = 0.05
_NAME: Final = "agora-start"


def needs_meeting() -> bool:
    """Whether the store of the launcher may hold what an earlier start left."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def meet(rank: int, size: int) -> Any:
    """A store of this start alone. Raises TrainingError when the others do not come."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=_PATIENCE_S))  # type: ignore[attr-defined]
    name = _invite(store, size, time.monotonic() + _PATIENCE_S) if rank == 0 else _accept(store, rank, time.monotonic() + _PATIENCE_S)
    return dist.distributed_c10d.PrefixStore(name, store)


def _invite(store: Any, size: int, until: float) -> str:
    name = f"{_NAME}-{uuid.uuid4().hex}"
    store.set(_NAME, name)
    waiting = set(range(1, size))
    while waiting:
        come = {rank for rank in waiting if store.check([f"{name}/greeting/{rank}"])}
        for rank in come:
            store.set(f"{name}/answer/{rank}", store.get(f"{name}/greeting/{rank}"))
        waiting -= come
        if not come:
            _pause(until, f"{len(waiting)} of {size} processes, e.g. rank {min(waiting, default=0)},")
    return name


def _accept(store: Any, rank: int, until: float) -> str:
    mine, greeted = uuid.uuid4().hex.encode(), ""
    while True:
        name = store.get(_NAME).decode()  # waits for the first start
        if name != greeted:
            store.set(f"{name}/greeting/{rank}", mine)
            greeted = name
        if store.check([f"{name}/answer/{rank}"]) and store.get(f"{name}/answer/{rank}") == mine:
            return str(name)
        _pause(until, "the first process")


def _pause(until: float, who: str) -> None:
    if time.monotonic() > until:
        raise TrainingError(f"{who} did not come within {_PATIENCE_S:.0f} s; look into its log, or start again")
    time.sleep(_LOOK_S)
