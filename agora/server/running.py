"""From the engine's threads to the web's event loop. Goes in: answers ready to run. Comes out: their Deltas, awaited.

Whoever stops listening (a client that went away, a closed stream) cancels the answer within one token. What it used is counted when it has
ended, whether anybody still listens or not.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request

from agora.engine import AnswerStream, Delta, Usage
from agora.errors import AgoraError
from agora.server.errors import FAILED, ApiError, from_agora_error

T = TypeVar("T")
logger = logging.getLogger(__name__)

PACE_S: Final = 1 / 60
"""A stream is written to this often at most, as screens show no more. The first token goes out at once, and so does the end."""


@dataclass(frozen=True, eq=False, slots=True)
class Prepared:
    """An answer that was accepted and not begun. `cancelled` ends it."""

    deltas: Iterator[Delta]
    cancelled: threading.Event


Counted = Callable[[dict[str, int]], None]
"""Gets prompt_tokens and completion_tokens of a request when it has ended, however it ended."""


def used(usages: Sequence[Usage | None], prompt_of: Sequence[int]) -> dict[str, int]:
    """Tokens of several answers. Prompts (`prompt_of` each answer) are counted once however many answers they got."""
    prompts = {prompt: usage.prompt_tokens for prompt, usage in zip(prompt_of, usages, strict=True) if usage}
    read, written = sum(prompts.values()), sum(usage.completion_tokens for usage in usages if usage)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Tally:
    """What the answers of one request used, counted when the last of them has ended. Called from any thread."""

    def __init__(self, counted: Counted, prompt_of: Sequence[int] = (0,)) -> None:
        self._counted, self._prompt_of = counted, prompt_of
        self._usages: list[Usage | None] = [None] * len(prompt_of)
        self._left = len(prompt_of)
        self._mutex = threading.Lock()

    def ended(self, index: int, usage: Usage | None) -> None:
        """Answer `index` has ended. Raises nothing: it is called from the engine's thread."""
        with self._mutex:
            self._usages[index] = usage
            self._left -= 1
            if self._left:
                return
        try:
            self._counted(used(self._usages, self._prompt_of))
        except Exception:
            logger.exception("tokens of an answer could not be counted")


class Stopping:
    """Set when the server goes down: running answers end at their next token. `ending`: answers that nobody may be listening to any more,
    kept until they have told what they used."""

    def __init__(self) -> None:
        self.running: set[threading.Event] = set()
        self.ending: set[Prepared] = set()
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


async def run_answer(answer: Prepared, stopping: Stopping, tally: Tally, index: int = 0) -> AsyncGenerator[list[Delta], None]:
    """The Deltas of one answer, computed in another thread: all that came since the last time, PACE_S apart. Raises ApiError."""
    inbox, cancelled, spent = _Inbox(), answer.cancelled, _Spent()

    def tell(item: Delta | BaseException | None) -> None:
        spent.see(item)
        if item is None:
            tally.ended(index, spent.usage)
            stopping.ending.discard(answer)
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

    stopping.ending.add(answer)
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


async def run_answers(answers: Sequence[Prepared], stopping: Stopping, tally: Tally) -> AsyncGenerator[tuple[int, list[Delta]], None]:
    """The Deltas of several answers at once, each with its number, as they come. Raises ApiError."""
    if len(answers) == 1:
        async with aclosing(run_answer(answers[0], stopping, tally)) as batches:
            async for deltas in batches:
                yield 0, deltas
        return
    arrived: asyncio.Queue[tuple[int, list[Delta]] | ApiError | None] = asyncio.Queue()

    async def read(index: int, answer: Prepared) -> None:
        try:
            async with aclosing(run_answer(answer, stopping, tally, index)) as batches:
                async for deltas in batches:
                    arrived.put_nowait((index, deltas))
        except ApiError as error:
            arrived.put_nowait(error)
        finally:
            arrived.put_nowait(None)

    readers = [asyncio.ensure_future(read(index, answer)) for index, answer in enumerate(answers)]
    try:
        num_open = len(readers)
        while num_open:
            item = await arrived.get()
            if isinstance(item, ApiError):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


class _Spent:
    """What one answer used. Where the model does not say at the end of one that was broken off, its pieces count as tokens."""

    def __init__(self) -> None:
        self._usage: Usage | None = None
        self._num_pieces = 0

    def see(self, item: object) -> None:
        if isinstance(item, Delta):
            self._num_pieces += bool(item.text or item.token is not None)
            self._usage = item.usage or self._usage

    @property
    def usage(self) -> Usage | None:
        said = self._usage
        if said is not None and (said.prompt_tokens or said.completion_tokens):
            return said
        return Usage(prompt_tokens=0, completion_tokens=self._num_pieces) if self._num_pieces else said


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
