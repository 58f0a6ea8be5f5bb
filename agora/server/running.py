"""From the engine's threads to the web's event loop. Goes in: an answer ready to run. Comes out: its Deltas, awaited.

Whoever stops listening (a client that went away, a closed stream) cancels the answer within one token.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request

from agora.engine import AnswerStream, Delta
from agora.errors import AgoraError
from agora.server.errors import ApiError, from_agora_error

T = TypeVar("T")
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An answer that was accepted and not begun. `cancelled` ends it."""

    deltas: Iterator[Delta]
    cancelled: threading.Event


class Stopping:
    """Set when the server goes down: running answers end at their next token."""

    def __init__(self) -> None:
        self.running: set[threading.Event] = set()
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        for cancelled in list(self.running):
            cancelled.set()


async def run_answer(answer: Prepared, stopping: Stopping) -> AsyncGenerator[Delta, None]:
    """The Deltas of one answer, computed in another thread. Raises ApiError."""
    loop, queue = asyncio.get_running_loop(), asyncio.Queue[Delta | BaseException | None]()
    cancelled = answer.cancelled

    def tell(item: Delta | BaseException | None) -> None:
        try:
            loop.call_soon_threadsafe(queue.put_nowait, item)
        except RuntimeError:  # the loop is closed: nobody listens any more
            cancelled.set()

    def work() -> None:
        try:
            for delta in answer.deltas:
                tell(delta)
        except BaseException as error:  # noqa: BLE001 - it is raised again on the other side
            tell(error)
        finally:
            tell(None)

    def hear(item: Delta | AgoraError) -> None:
        tell(item)
        if isinstance(item, AgoraError) or item.finish_reason:
            tell(None)

    stopping.running.add(cancelled)
    if stopping.stopped:
        cancelled.set()
    try:
        if isinstance(answer.deltas, AnswerStream):  # the engine's own thread tells: none is needed to wait
            answer.deltas.listen(hear)
        else:
            threading.Thread(target=work, name="answer", daemon=True).start()
        while (item := await queue.get()) is not None:
            if isinstance(item, AgoraError):
                raise from_agora_error(item) from item
            if isinstance(item, BaseException):
                logger.error("an answer failed", exc_info=item)
                raise ApiError(500, "The server failed; its log has the details", type="server_error") from item
            if item.finish_reason == "cancelled":
                raise ApiError(503, "The server is stopping", type="server_error", code="server_stopping")
            yield item
    finally:
        cancelled.set()
        stopping.running.discard(cancelled)


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`; cancelled when the client goes away first. Call after the body was read."""
    task = asyncio.ensure_future(work)

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watcher = asyncio.ensure_future(watch())
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise ApiError(499, "The client went away")
        return task.result()
    finally:
        watcher.cancel()
        task.cancel()
