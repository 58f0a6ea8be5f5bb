"""Which tokens the next step computes. Goes in: sequences. Comes out: their tokens, one after the other, through `Sequence.deliver`.

Every step holds one row of each sequence that is writing, and parts of the prompts of others (so a long prompt does not hold up those who
write). Sequences come and go between steps. When pages run out, the youngest sequence gives its pages back and begins again later, at the
head of the line; the oldest never does, and one alone always fits (`context_tokens` sees to it), so somebody always moves on.

One thread calls a Scheduler.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import torch

from agora.engine.batch_sampling import draw_batch
from agora.engine.pages import PAGE_TOKENS, ROOT, PagePool, num_pages_for
from agora.engine.sampling import Choice, Sampler
from agora.engine.step import Network, StepRows
from agora.errors import GenerationError

PROMPT_SHARE_BESIDE_WRITERS: Final = 4
"""This part of a step's rows may be prompts when others write: more would show as a pause in their streams."""


@dataclass(eq=False, slots=True)
class Sequence:
    """One answer in the making. `deliver` takes each token and says whether the answer goes on; `is_wanted` is asked before each step."""

    tokens: list[int]
    sampler: Sampler
    deliver: Callable[[Choice | GenerationError], bool]
    is_wanted: Callable[[], bool]
    drop: Callable[[], None]
    """Called once when the sequence is not wanted any more."""
    pages: list[int] = field(default_factory=list)
    num_computed: int = 0
    node: int = ROOT
    num_known: int = 0
    """Pages that are published or were found, from the beginning."""
    slot: int | None = None

    @property
    def num_missing(self) -> int:
        """Tokens whose keys and values are not there."""
        return len(self.tokens) - self.num_computed


@dataclass(slots=True)
class Counters:
    """What was done since the beginning."""

    steps: int = 0
    rows: int = 0
    drawn_tokens: int = 0
    reused_tokens: int = 0
    preemptions: int = 0


class Scheduler:
    """Sequences that wait and that run, and the pages they hold."""

    def __init__(self, network: Network, *, max_active: int, forbidden: tuple[int, ...] = ()) -> None:
        self.network = network
        self.pool = PagePool(network.num_pages)
        self.active: list[Sequence] = []  # oldest first
        self.waiting: deque[Sequence] = deque()
        self.counters = Counters()
        self.max_active = min(max_active, network.max_rows)
        self._context_pages = min(num_pages_for(network.config.max_seq_len), network.num_pages)
        self._tables = torch.zeros(self.max_active, self._context_pages, dtype=torch.long)
        self._slots = list(range(self.max_active - 1, -1, -1))
        self._forbidden = torch.tensor(list(forbidden), dtype=torch.long)

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together are at most this long: the network's context, or less where the pages are fewer."""
        return min(self.network.config.max_seq_len, self.network.num_pages * PAGE_TOKENS)

    @property
    def is_idle(self) -> bool:
        return not self.active and not self.waiting

    def step(self) -> None:
        """Compute one step, and deliver the tokens it draws."""
        self._drop_unwanted()
        self._admit()
        planned = self._plan()
        if not planned:
            return
        logits_NV = self.network.run(self._rows(planned))
        self.counters.steps += 1
        writers = []
        for sequence, count in planned.items():
            self._publish(sequence, count)
            if sequence.num_missing == 0:
                writers.append(sequence)
        if not writers:
            return
        self._forbidden = self._forbidden.to(logits_NV.device)
        for sequence, choice in zip(writers, draw_batch(logits_NV, [one.sampler for one in writers], self._forbidden), strict=True):
            if isinstance(choice, Choice):
                sequence.tokens.append(choice.token)
                self.counters.drawn_tokens += 1
            if not sequence.deliver(choice):
                self._leave(sequence)

    def abandon(self) -> list[Sequence]:
        """Forget every sequence and everything known about pages; returns the sequences. For when a step failed."""
        given_up = [*self.active, *self.waiting]
        for sequence in list(self.active):
            self._leave(sequence)
        self.waiting.clear()
        self.pool.forget()
        return given_up

    def check(self) -> None:
        """Assert that no page is lost: free + idle + used = total, and used is what the active sequences hold."""
        self.pool.check([sequence.pages for sequence in self.active])
        assert len(self._slots) + len(self.active) == self.max_active

    def _drop_unwanted(self) -> None:
        for sequence in [one for one in self.active if not one.is_wanted()]:
            self._leave(sequence)
            sequence.drop()
        for sequence in [one for one in self.waiting if not one.is_wanted()]:
            self.waiting.remove(sequence)
            sequence.drop()

    def _leave(self, sequence: Sequence) -> None:
        self.active.remove(sequence)
        self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        self.pool.release(sequence.pages)
        assert sequence.slot is not None
        self._slots.append(sequence.slot)
        sequence.pages, sequence.slot, sequence.num_computed, sequence.node, sequence.num_known = [], None, 0, ROOT, 0

    def _admit(self) -> None:
        while self.waiting and self._slots:
            # one page for each writer is left free, or the newcomer would soon be sent away again
            needed = num_pages_for(len(self.waiting[0].tokens) + 1)
            if self.active and self.pool.num_free < needed + len(self.active):
                return
            sequence = self.waiting.popleft()
            sequence.slot = self._slots.pop()
            self.active.append(sequence)

    def _plan(self) -> dict[Sequence, int]:
        """How many rows of each sequence: writers first, then prompts, the oldest first."""
        planned: dict[Sequence, int] = {}
        left = self.network.max_rows
        for sequence in [one for one in self.active if one.num_missing == 1]:
            if sequence.slot is not None and self._make_room(sequence, 1, planned):
                planned[sequence] = 1
        left -= len(planned)
        if planned:
            left = min(left, self.network.max_rows // PROMPT_SHARE_BESIDE_WRITERS)
        for sequence in [one for one in self.active if one.num_missing > 1]:
            if left <= 0:
                break
            if sequence.slot is None:
                continue
            self._reuse(sequence)
            count = min(sequence.num_missing, left)
            if self._make_room(sequence, count, planned):
                planned[sequence] = count
                left -= count
        return planned

    def _reuse(self, sequence: Sequence) -> None:
        """Take the pages that are known. The last token is always computed: its logits are needed."""
        while sequence.num_computed == len(sequence.pages) * PAGE_TOKENS == sequence.num_known * PAGE_TOKENS:
            end = sequence.num_computed + PAGE_TOKENS
            found = self.pool.find(sequence.node, sequence.tokens[sequence.num_computed : end]) if end < len(sequence.tokens) else None
            if found is None:
                return
            page, sequence.node = found
            self._hold(sequence, page)
            sequence.num_computed, sequence.num_known = end, sequence.num_known + 1
            self.counters.reused_tokens += PAGE_TOKENS

    def _hold(self, sequence: Sequence, page: int) -> None:
        assert sequence.slot is not None
        self._tables[sequence.slot, len(sequence.pages)] = page
        sequence.pages.append(page)

    def _make_room(self, sequence: Sequence, count: int, planned: dict[Sequence, int]) -> bool:
        """Pages for `count` more tokens; False when the sequence had to give up its own."""
        while len(sequence.pages) < num_pages_for(sequence.num_computed + count):
            page = self.pool.take()
            if page is not None:
                self._hold(sequence, page)
                continue
            youngest = self.active.pop()
            self._release(youngest)
            planned.pop(youngest, None)
            self.waiting.appendleft(youngest)
            self.counters.preemptions += 1
            if youngest is sequence:
                return False
        return True

    def _rows(self, planned: dict[Sequence, int]) -> StepRows:
        rows = StepRows([], [], [], self._tables, [])
        for sequence, count in planned.items():
            first, slot = sequence.num_computed, sequence.slot
            assert slot is not None
            rows.tokens.extend(sequence.tokens[first : first + count])
            rows.positions.extend(range(first, first + count))
            rows.sequence.extend([slot] * count)
            if first + count == len(sequence.tokens):
                rows.wanted.append(len(rows.tokens) - 1)
        self.counters.rows += len(rows.tokens)
        return rows

    def _publish(self, sequence: Sequence, count: int) -> None:
        sequence.num_computed += count
        while (sequence.num_known + 1) * PAGE_TOKENS <= sequence.num_computed:
            first = sequence.num_known * PAGE_TOKENS
            tokens = sequence.tokens[first : first + PAGE_TOKENS]
            sequence.node = self.pool.publish(sequence.pages[sequence.num_known], sequence.node, tokens)
            sequence.num_known += 1
