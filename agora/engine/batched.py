"""Many answers from one network at once. Goes in: prompt tokens and a SamplingConfig. Comes out: a stream of Delta for each.

    engine = BatchEngine(NativeNetwork(model, precision="int8", num_pages=1024, max_rows=256), tokenizer)
    for delta in engine.stream(prompt_ids, SamplingConfig(max_tokens=50, seed=1)):
        print(delta.text, end="")

One thread computes (scheduler.py); it lives while there is work. A stream that nobody reads holds nobody up: its Deltas wait in memory.
An answer depends on its prompt, its settings and its seed; with native.py on nothing else, bit for bit.
`generate.py` is the slow twin, one answer at a time.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Final

from agora.engine.answer import Answer, answer_limit, forbidden_tokens
from agora.engine.interface import Delta
from agora.engine.sampling import Choice, Sampler, SamplingConfig
from agora.engine.scheduler import Scheduler
from agora.engine.scheduler import Sequence as Running
from agora.engine.step import Network
from agora.errors import BusyError, GenerationError
from agora.tokenizer import Tokenizer

MAX_ACTIVE: Final = 64
MAX_WAITING: Final = 256
LINGER_S: Final = 1.0
"""How long the thread waits for more work before it ends."""

logger = logging.getLogger(__name__)
_engines: weakref.WeakSet[BatchEngine] = weakref.WeakSet()


class AnswerStream(Iterator[Delta]):
    """The Deltas of one answer. Closing it, or letting go of it, ends the work."""

    def __init__(self, cancelled: threading.Event) -> None:
        self.cancelled = cancelled
        self.is_closed = False
        self._items: queue.SimpleQueue[Delta | GenerationError] = queue.SimpleQueue()
        self._listener: Callable[[Delta | GenerationError], None] | None = None
        self._lock = threading.Lock()

    def put(self, item: Delta | GenerationError) -> None:
        """The engine's side: one more Delta, or why there is none. Never waits."""
        with self._lock:
            if self._listener is None:
                self._items.put(item)
                return
        self._listener(item)

    def listen(self, listener: Callable[[Delta | GenerationError], None]) -> None:
        """From now on give every Delta (and an error) to `listener`, in the engine's thread, instead of to `next`: no thread of one's own
        is needed to wait. It must return at once. The last item has a finish_reason or is an error.
        """
        with self._lock:
            while not self._items.empty():
                listener(self._items.get())
            self._listener = listener

    def __next__(self) -> Delta:
        while not self.is_closed:
            item = self._items.get()
            if isinstance(item, GenerationError):
                self.is_closed = True
                raise item
            if item.finish_reason:
                self.is_closed = True
                return replace(item, finish_reason="cancelled") if self.cancelled.is_set() else item
            if not self.cancelled.is_set():
                return item
        raise StopIteration

    def close(self) -> None:
        """The rest is not wanted."""
        self.is_closed = True

    def __del__(self) -> None:
        self.is_closed = True


class BatchEngine:
    """Answers of one network, many at a time. Safe to call from several threads."""

    def __init__(self, network: Network, tokenizer: Tokenizer, *, max_active: int = MAX_ACTIVE, max_waiting: int = MAX_WAITING) -> None:
        """`max_active` answers are written at once; `max_waiting` more may wait, then BusyError."""
        self.tokenizer = tokenizer
        self._vocab_size = network.config.vocab_size
        self._forbidden = forbidden_tokens(tokenizer, self._vocab_size)
        self._scheduler = Scheduler(network, max_active=max_active, forbidden=self._forbidden)
        self._most = self._scheduler.max_active + max_waiting
        self._max_waiting = max_waiting
        self._work = threading.Condition()
        self._arrived: list[Running] = []
        self._num_open = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False
        _engines.add(self)

    @property
    def context_tokens(self) -> int:
        return self._scheduler.context_tokens

    def stream(self, prompt_ids: Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None) -> AnswerStream:
        """The answer after `prompt_ids`, one Delta per token; work on it begins at once.

        Closing the stream or setting `cancelled` ends it within one token. Raises ContextLengthError (with the numbers), BusyError and
        other GenerationErrors here, before the first Delta.
        """
        prompt = [int(token) for token in prompt_ids]
        limit = answer_limit(prompt, sampling.max_tokens, vocab_size=self._vocab_size, context_tokens=self.context_tokens)
        sampler = Sampler(sampling, vocab_size=self._vocab_size, prompt=prompt, forbidden=self._forbidden, tokenizer=self.tokenizer)
        answer = Answer(self.tokenizer, sampling, prompt_tokens=len(prompt), limit=limit)
        stream = AnswerStream(cancelled or threading.Event())
        self._enter(_running(prompt, sampler, answer, stream))
        return stream

    def stats(self) -> dict[str, int]:
        """Sequences, pages and counts, for a page of metrics. Read without waiting: the numbers may be of two neighbouring steps."""
        scheduler = self._scheduler
        pages = {"pages": scheduler.pool.total, "pages_used": scheduler.pool.num_used, "pages_free": scheduler.pool.num_free}
        open_now = {"active": len(scheduler.active), "waiting": max(0, self._num_open - len(scheduler.active))}
        return {**open_now, **pages, **asdict(scheduler.counters)}

    def wait_until_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until no answer is open; then check that no page was lost. False when time ran out."""
        with self._work:
            if not self._work.wait_for(lambda: self._num_open == 0, timeout_s):
                return False
            self._scheduler.check()
            return True

    def close(self) -> None:
        """End every answer and the thread; what is asked later is refused."""
        with self._work:
            self._is_closed = True
            self._work.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _enter(self, sequence: Running) -> None:
        with self._work:
            if self._is_closed:
                raise GenerationError("the engine is closed")
            if self._num_open >= self._most:
                raise BusyError(f"{self._max_waiting} requests wait already, which is the limit; try again later")
            self._num_open += 1
            self._arrived.append(sequence)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
                self._thread.start()
            self._work.notify_all()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            with self._work:
                if self._thread is threading.current_thread():
                    self._thread = None

    def _serve(self) -> None:
        scheduler = self._scheduler
        while True:
            with self._work:
                scheduler.waiting.extend(self._arrived)
                self._arrived.clear()
                self._num_open = len(scheduler.active) + len(scheduler.waiting)
                if self._is_closed:
                    break
                if scheduler.is_idle:
                    self._work.notify_all()
                    if not self._work.wait_for(lambda: bool(self._arrived) or self._is_closed, LINGER_S):
                        self._thread = None  # under the lock: whoever comes next starts another
                        scheduler.check()
                        return
                    continue
            try:
                scheduler.step()
            except Exception as error:
                logger.exception("a step of the engine failed; its answers end")
                self._give_up(error)

        for sequence in scheduler.abandon():
            sequence.drop()
        with self._work:
            self._num_open = 0
            self._work.notify_all()

    def _give_up(self, error: Exception) -> None:
        for sequence in self._scheduler.abandon():
            failed = GenerationError(f"the engine failed: {type(error).__name__}: {error}")
            failed.__cause__ = error
            sequence.deliver(failed)


@atexit.register
def _close_all() -> None:
    # a thread that still computes while the interpreter takes itself apart would crash it
    for engine in list(_engines):
        engine.close()


def _running(prompt: list[int], sampler: Sampler, answer: Answer, stream: AnswerStream) -> Running:
    """The sequence behind a stream. It must not keep the stream alive: letting go of a stream ends the work."""
    cancelled, reader = stream.cancelled, weakref.ref(stream)

    def deliver(choice: Choice | GenerationError) -> bool:
        to = reader()
        if to is None:
            return False
        if isinstance(choice, GenerationError):
            to.put(choice)
            return False
        delta = answer.push(choice)
        to.put(delta)
        return delta.finish_reason is None

    def is_wanted() -> bool:
        to = reader()
        return not cancelled.is_set() and to is not None and not to.is_closed

    def drop() -> None:
        to = reader()
        if to is not None:
            to.put(answer.cancel())

    return Running(list(prompt), sampler, deliver, is_wanted, drop)
