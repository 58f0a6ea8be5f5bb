"""From the engine's threads to the web's event loop. Goes in: an answer ready to run. Comes out: its Deltas, awaited.

Whoever stops listening (a client that went away, a closed stream) cancels the answer within one token.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request

from agora.engine import AnswerStream, Delta
from agora.errors import AgoraError
from agora.server.errors import FAILED, ApiError, from_agora_error

T = TypeVar("T")
logger = logging.getLogger(__name__)

PACE_S: Final = 1 / 60
"""A stream is written to this often at most, as screens show no more. The first token goes out at once, and so does the end."""


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


class _Inbox:
    """Deltas on their way from the engine's thread to the event loop, which is woken only where it waits for them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: deque[Delta | BaseException | None] = deque()
        self._is_awaited = self._is_ended = False
        self._bell: asyncio.Future[None] | None = None

    def put(self, item: Delta | BaseException | None) -> None:
        """From any thread; None is the end. Raises RuntimeError when the loop is closed."""
        self._is_ended = self._is_ended or item is None
        self._items.append(item)
        # The item is there before this is read, and the reader looks for items after it is set: one of the two sees the other.
        if self._is_awaited or item is None:
            self._loop.call_soon_threadsafe(self._ring)

    async def take(self, not_before: float) -> list[Delta | BaseException | None]:
        """What has come, at least one. Waits until the loop's time `not_before`, or for the end."""
        while True:
            if (delay := not_before - self._loop.time()) > 0 and not self._is_ended:
                await self._wait(delay)
            self._is_awaited = True
            if not self._items:
                await self._wait(None)
            self._is_awaited = False
            if self._items:
                return [self._items.popleft() for _ in range(len(self._items))]

    async def _wait(self, delay: float | None) -> None:
        self._bell = self._loop.create_future()
        timer = None if delay is None else self._loop.call_later(delay, self._ring)
        try:
            await self._bell
        finally:
            self._bell = None
            if timer is not None:
                timer.cancel()

    def _ring(self) -> None:
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)


async def run_answer(answer: Prepared, stopping: Stopping) -> AsyncGenerator[list[Delta], None]:
    """The Deltas of one answer, computed in another thread: all that came since the last time, PACE_S apart. Raises ApiError."""
    inbox, cancelled = _Inbox(), answer.cancelled

    def tell(item: Delta | BaseException | None) -> None:
        try:
            inbox.put(item)
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
        loop, not_before = asyncio.get_running_loop(), 0.0
        while True:
            items = await inbox.take(not_before)
            not_before = loop.time() + PACE_S
            deltas = [item for item in items if isinstance(item, Delta) and item.finish_reason != "cancelled"]
            if deltas:
                yield deltas
            for item in items:
                _raise_if_failed(item)
            if items[-1] is None:
                return
    finally:
        cancelled.set()
        stopping.running.discard(cancelled)


def _raise_if_failed(item: Delta | BaseException | None) -> None:
    if isinstance(item, AgoraError):
        raise from_agora_error(item) from item
    if isinstance(item, BaseException):
        logger.error("an answer failed", exc_info=item)
        raise ApiError(500, FAILED, type="server_error") from item
    if item is not None and item.finish_reason == "cancelled":
        raise ApiError(503, "The server is stopping", type="server_error", code="server_stopping")


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
