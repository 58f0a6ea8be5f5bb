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
_LOOKS_PER_S: Final = 10_000  # of all processes together: the store answers some tens of thousands of requests per second
_NAME: Final = "agora-start"


def needs_meeting() -> bool:
    """Whether the store of the launcher may hold what an earlier start left."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def meet(rank: int, size: int) -> Any:
    """A store of this start alone. Raises TrainingError when the others do not come."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=_PATIENCE_S))  # type: ignore[attr-defined]
    until = time.monotonic() + _PATIENCE_S
    name = _invite(store, size, until) if rank == 0 else _accept(store, rank, until, max(_LOOK_S, size / _LOOKS_PER_S))
    return dist.distributed_c10d.PrefixStore(name, store)


def _invite(store: Any, size: int, until: float) -> str:
    name = f"{_NAME}-{uuid.uuid4().hex}"
    store.set(_NAME, name)
    come = 1
    while come < size:  # in their order: whoever came meanwhile is answered with them
        first = come
        while come < size and store.check([f"{name}/greeting/{come}"]):
            come += 1
        if come > first:
            ranks = range(first, come)
            greetings = store.multi_get([f"{name}/greeting/{rank}" for rank in ranks])
            store.multi_set([f"{name}/answer/{rank}" for rank in ranks], greetings)
        else:
            _pause(until, _LOOK_S, f"rank {come} of {size} processes")
    return name


def _accept(store: Any, rank: int, until: float, look_s: float) -> str:
    mine, greeted = uuid.uuid4().hex.encode(), ""
    while True:
        name = store.get(_NAME).decode()  # waits for the first start
        if name != greeted:
            store.set(f"{name}/greeting/{rank}", mine)
            greeted = name
        if store.check([f"{name}/answer/{rank}"]) and store.get(f"{name}/answer/{rank}") == mine:
            return str(name)
        _pause(until, look_s, "the first process")


def _pause(until: float, look_s: float, who: str) -> None:
    if time.monotonic() > until:
        raise TrainingError(f"{who} did not come within {_PATIENCE_S:.0f} s; look into its log, or start again")
    time.sleep(look_s)
