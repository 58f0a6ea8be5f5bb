"""Which layout is fastest among those that fit. Goes in: a model, a batch, a machine. Comes out: the best layouts, and the plain baseline.

    search(question).best[0].layout

Candidates are never objects: a grid of arrays is cut by divisibility, then by memory, and only what is left is priced.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agora.cluster.columns import INTERLEAVED, ONE_F_ONE_B, PARAMETERS, ZERO_BUBBLE, Hardware, LayoutColumns, stack_layouts
from agora.cluster.constants import Constants
from agora.cluster.layout import KERNELS, PRECISIONS, Kernels, Layout, Precision, experts_divide, possible_passes, shard_rows
from agora.cluster.memory import Optimizer
from agora.cluster.pricing import memory_on, times_on
from agora.cluster.step_time import Batch
from agora.errors import ConfigError
from agora.model.shape import ModelShape
from agora.units import format_bytes

_CHUNK = 16_384
_MAX_MICRO_BATCH = 32
_MAX_SHARD_DEGREES = 14
_MIN_CONTEXT_TOKENS = 2048  # tokens of a rank when sequences are divided: no measured run had fewer
BATCH_TOLERANCE = 0.1  # a batch that nobody stated may move by this share so that it divides over the data ranks
MOST_MOVED = 100.0  # and by up to this where the number of accelerators has few divisors
TIE = 0.05  # candidates predicted within this share of the best may be as good: about the median error of unseen sizes (docs/log.md)
_INTS = NDArray[np.int64]
_STREAMED_BATCHES: _INTS = np.unique(np.round(2.0 ** (np.arange(41) / 4)).astype(np.int64))  # weights come in once for a pass, so many pay
# Layouts that differ only in how data ranks divide state are one kind: they run the same products and nearly equal times. The best of each
# kind is kept, so that the next best are worth a measurement of their own.
_KIND = ("tensor", "pipeline", "virtual", "schedule", "context", "expert", "micro_batch", "recompute", "precision")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is to be trained on what. `global_batch` in sequences; `precisions` are tried all. `useful_share` says for a number of replicas
    how much of the calendar becomes progress: on large machines a layout that can lose a replica beats a faster one that cannot.
    The batch may move by `batch_tolerance`."""

    shape: ModelShape
    seq_len: int
    global_batch: int
    num_accelerators: int
    hardware: Hardware
    constants: Constants
    precisions: tuple[Precision, ...] = ("bf16",)
    kernels: Kernels = "plain"
    optimizer: Optimizer = "adamw"
    max_tensor: int = 0
    useful_share: Callable[[Any], Any] | None = None
    imbalance: float = 1.0
    batch_tolerance: float = BATCH_TOLERANCE

    def batch(self, sequences: Any) -> Batch:
        """One step of that many sequences."""
        return Batch(seq_len=self.seq_len, global_batch=sequences, imbalance=self.imbalance)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layout with its price."""

    layout: Layout
    global_batch: int
    step_s: float
    memory_bytes: float
    useful_share: float = 1.0

    @property
    def score(self) -> float:
        """Calendar seconds per sequence: what the search minimises."""
        return self.s_per_sequence / self.useful_share

    @property
    def s_per_sequence(self) -> float:
        """What candidates with different batches are compared by."""
        return self.step_s / self.global_batch


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The best layouts, one of each kind, the first is the fastest. `baseline` is plain sharded data parallel, fastest that fits, None when
    none fits; `seconds` are of the processor."""

    best: tuple[Candidate, ...]
    baseline: Candidate | None
    num_candidates: int
    num_possible: int
    num_fitting: int
    seconds: float

    @property
    def ties(self) -> tuple[Candidate, ...]:
        """Those of `best` that the model cannot tell from the first: measure them before a long run."""
        return tuple(one for one in self.best if one.score <= self.best[0].score * (1 + TIE))


def search(question: Question, *, num_best: int = 10, most_moved: float = 0.0) -> SearchResult:
    """The fastest layouts. Where none fits, the batch may move further, by twice the share again and again up to `most_moved`. Raises
    ConfigError with the nearest possible thing when nothing fits."""
    started = time.process_time()
    tally = near = tally_layouts(question, num_best)
    tolerance = question.batch_tolerance
    while not tally.best and 0 < tolerance < most_moved:
        tolerance *= 2
        tally = tally_layouts(replace(question, batch_tolerance=tolerance), num_best)
    if not tally.best:
        raise ConfigError(_nothing_fits(question, near))
    return SearchResult(
        tuple(tally.best), tally.baseline, tally.num_candidates, tally.num_possible, tally.num_fitting, time.process_time() - started
    )


def tally_layouts(question: Question, num_best: int) -> Tally:
    """All candidates counted and the best kept, also when nothing fits."""
    tally = Tally(num_best)
    for columns, batches, num_candidates in _chunks(question):
        tally.num_candidates += num_candidates
        tally.add(question, columns, batches)
    return tally


class Tally:
    """Keeps the best rows of all chunks."""

    def __init__(self, num_best: int) -> None:
        self.num_best = num_best
        self.best: list[Candidate] = []
        self.baseline: Candidate | None = None
        self.num_candidates = self.num_possible = self.num_fitting = 0
        self.least: tuple[float, Layout] | None = None

    def add(self, question: Question, columns: LayoutColumns, batches: _INTS) -> None:
        if len(batches) == 0:
            return
        self.num_possible += len(batches)
        batch = question.batch(batches)
        needed = memory_on(question.shape, batch, columns, question.hardware, question.optimizer).total
        lowest = int(np.argmin(needed))
        if self.least is None or needed[lowest] < self.least[0]:
            self.least = (float(needed[lowest]), columns.layout(lowest))
        rows = np.flatnonzero(needed <= question.hardware.memory_bytes)
        self.num_fitting += len(rows)
        if len(rows) == 0:
            return
        columns, batches, needed = columns.take(rows), batches[rows], needed[rows]
        times = times_on(question.shape, question.batch(batches), columns, question.hardware, question.constants)
        useful = np.ones(len(batches)) if question.useful_share is None else question.useful_share(columns.replicate)
        per_sequence = times.total_s / batches / useful
        kept = _first_of_each_kind(columns, per_sequence)[: self.num_best]
        self.best += [_candidate(columns, batches, needed, times.total_s, useful, row) for row in kept]
        by_kind: dict[tuple[Any, ...], Candidate] = {}
        for candidate in sorted(self.best, key=lambda candidate: candidate.score):
            by_kind.setdefault(tuple(getattr(candidate.layout, name) for name in _KIND), candidate)
        self.best = list(by_kind.values())[: self.num_best]
        plain = np.flatnonzero((columns.tensor == 1) & (columns.pipeline == 1) & (columns.context == 1) & (columns.expert == 1))
        if len(plain):
            row = plain[np.argmin(per_sequence[plain])]
            candidate = _candidate(columns, batches, needed, times.total_s, useful, row)
            if self.baseline is None or candidate.score < self.baseline.score:
                self.baseline = candidate


def _first_of_each_kind(columns: LayoutColumns, scores: Any) -> Any:
    """The fastest row of each kind, fastest first."""
    kinds = np.zeros(len(scores), dtype=np.int64)
    for name in _KIND:
        values = np.asarray(getattr(columns, name)).astype(np.int64)
        kinds = kinds * (int(values.max()) + 1) + values
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(kinds[order], return_index=True)
    return order[np.sort(first)]


def _candidate(columns: LayoutColumns, batches: _INTS, needed: Any, seconds: Any, useful: Any, row: Any) -> Candidate:
    return Candidate(columns.layout(int(row)), int(batches[row]), float(seconds[row]), float(needed[row]), float(useful[row]))


def price(question: Question, layout: Layout) -> Candidate:
    """One layout, whether it fits or not. Raises ConfigError when it cannot be built."""
    layout.check(question.shape, seq_len=question.seq_len, global_batch=question.global_batch)
    columns, batch = stack_layouts([layout]), question.batch(np.array([question.global_batch]))
    seconds = times_on(question.shape, batch, columns, question.hardware, question.constants).total_s
    needed = memory_on(question.shape, batch, columns, question.hardware, question.optimizer).total
    return Candidate(layout, question.global_batch, float(seconds[0]), float(needed[0]))


@lru_cache(maxsize=4096)
def _divisors(number: int, most: int) -> list[int]:
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    return [d for d in sorted({*small, *(number // d for d in small)}) if d <= most]


def _outer(question: Question) -> Iterator[tuple[int, int, int, int]]:
    """(tensor, pipeline, context, data) that divide the model and the machine."""
    shape, number = question.shape, question.num_accelerators
    if np.any(question.hardware.streams_weights):
        yield 1, 1, 1, number
        return
    domain = int(np.max(question.hardware.up_domain))
    widths = (
        [shape.num_heads, shape.vocab_size]
        + ([shape.hidden_dim] if shape.hidden_dim else [])
        + ([shape.expert_dim] if shape.num_experts else [])
    )
    most_tensor = min(question.max_tensor or 64, domain)
    for tensor in _divisors(math.gcd(*widths), most_tensor):
        if number % tensor or (shape.num_kv_heads % tensor and tensor % shape.num_kv_heads):
            continue
        for context in _divisors(max(question.seq_len // _MIN_CONTEXT_TOKENS, 1), 64):
            if context & (context - 1) or (number // tensor) % context or (context > 1 and question.seq_len % (2 * context)):
                continue
            if question.seq_len // context % tensor:
                continue  # sequence parallel divides the positions of a rank
            for pipeline in _divisors(number // tensor // context, shape.num_layers):
                yield tensor, pipeline, context, number // tensor // context // pipeline


def _chunks(question: Question) -> Iterator[tuple[LayoutColumns, _INTS, int]]:
    """Arrays of possible layouts of about _CHUNK rows, their batches, and how many candidates they were cut from."""
    waiting: list[tuple[dict[str, Any], _INTS]] = []
    rows = num_candidates = 0
    for outer in _outer(question):
        columns, batches, considered = _inner(question, *outer)
        num_candidates += considered
        if len(batches):
            waiting.append((columns, batches))
            rows += len(batches)
        if rows >= _CHUNK:
            yield (*_join(waiting, question), num_candidates)
            waiting, rows, num_candidates = [], 0, 0
    if waiting or num_candidates:
        yield (*_join(waiting, question), num_candidates)


def _join(parts: list[tuple[dict[str, Any], _INTS]], question: Question) -> tuple[LayoutColumns, _INTS]:
    if not parts:
        return LayoutColumns(), np.zeros(0, dtype=np.int64)
    sizes = [len(batches) for _, batches in parts]
    columns = {
        name: np.concatenate([np.broadcast_to(part[name], size) for (part, _), size in zip(parts, sizes, strict=True)])
        for name in parts[0][0]
    }
    return LayoutColumns(**columns, kernels=KERNELS.index(question.kernels)), np.concatenate([batches for _, batches in parts])


def _inner(question: Question, tensor: int, pipeline: int, context: int, data: int) -> tuple[dict[str, Any], _INTS, int]:
    """All choices inside one division: micro-batch, schedule, recompute, sharding, shards, experts, precision."""
    shape, is_wafer = question.shape, bool(np.any(question.hardware.streams_weights))
    micro = _STREAMED_BATCHES if is_wafer else np.array([2**k for k in range(int(math.log2(_MAX_MICRO_BATCH)) + 1)])
    schedules = [(1, ONE_F_ONE_B)]
    if pipeline > 1:
        schedules += [(1, ZERO_BUBBLE)] + [(v, INTERLEAVED) for v in (2, 3, 4, 5, 6, 8) if pipeline * v <= shape.num_layers]
    sharded = [(s, shards) for shards in _shards(data) for s in (1, 2, PARAMETERS) if shards > 1] or [(PARAMETERS, 1)]
    if data > 1:
        sharded = [(0, 1)] if is_wafer else [*sharded, (0, 1)]
    experts = [1]
    if shape.num_experts and not is_wafer:
        experts = [e for e in _divisors(shape.num_experts, data * context * tensor) if e & (e - 1) == 0 or e == shape.num_experts]
    codes = [PRECISIONS.index(precision) for precision in question.precisions]
    index = np.indices((len(micro), len(schedules), 3, len(sharded), len(experts), len(codes))).reshape(6, -1)
    considered = index.shape[1]
    schedule, shard = np.array(schedules)[index[1]], np.array(sharded)[index[3]]
    micro_batch, expert = micro[index[0]], np.array(experts)[index[4]]
    wanted = question.global_batch / (data * micro_batch)
    passes = possible_passes(np.maximum(np.round(wanted), 1).astype(np.int64), pipeline, schedule[:, 1])
    batches = passes * data * micro_batch
    possible = np.abs(batches / question.global_batch - 1) <= question.batch_tolerance + 1e-12
    possible &= (schedule[:, 1] != ZERO_BUBBLE) | (index[2] == 0)  # recompute has the backward pass in one piece
    possible &= (shard[:, 1] * context * tensor) % expert == 0
    possible &= (shard[:, 1] == 1) | (shard[:, 1] * context <= shard_rows(shape, tensor))
    shards = np.maximum(shard[:, 1] * context * tensor // expert, 1)
    possible &= (shard[:, 0] == 0) | experts_divide(shape, shards, expert)
    kept = np.flatnonzero(possible)
    columns = {
        "replicate": data // shard[kept, 1],
        "shard": shard[kept, 1],
        "sharding": shard[kept, 0],
        "tensor": tensor,
        "pipeline": pipeline,
        "virtual": schedule[kept, 0],
        "schedule": schedule[kept, 1],
        "context": context,
        "expert": expert[kept],
        "recompute": index[2][kept],
        "micro_batch": micro_batch[kept],
        "precision": np.array(codes)[index[5]][kept],
    }
    return columns, batches[kept], considered


def _shards(data: int) -> list[int]:
    """Shard degrees to try: divisors of the data ranks, spread evenly when there are many."""
    every = [d for d in _divisors(data, data) if d > 1]
    if len(every) > _MAX_SHARD_DEGREES:
        every = [every[round(k * (len(every) - 1) / (_MAX_SHARD_DEGREES - 1))] for k in range(_MAX_SHARD_DEGREES)]
    return every or [1]


def _nothing_fits(question: Question, tally: Tally) -> str:
    where = f"{question.shape.name or 'the model'} on {question.num_accelerators:,} accelerators"
    if tally.least is None:
        batch, number = nearest_batch(question), nearest_number(question)
        near = [f"batch_tokens={batch * question.seq_len}"] if _is_possible(replace(question, global_batch=batch)) else []
        near += [f"num_accelerators={number}"] if number else []
        return (
            f"{where}: no layout divides {question.global_batch} sequences of {question.seq_len} tokens over them; "
            f"the nearest possible: {' or '.join(near) or 'a number of accelerators with more divisors'}"
        )
    needed, layout = tally.least
    have = float(np.max(question.hardware.memory_bytes))
    more = _enough_accelerators(question, needed, have)
    return (
        f"{where}: nothing fits; the leanest layout ({layout.describe()}) needs {format_bytes(needed)} per accelerator and there are "
        f"{format_bytes(have)}; the nearest possible: {more}"
    )


def nearest_batch(question: Question) -> int:
    """The global batch nearest to the asked one that some division of this number of accelerators gets whole."""
    data = {data for _, _, _, data in _outer(question)} or {question.num_accelerators}
    return min((one * max(1, round(question.global_batch / one)) for one in data), key=lambda batch: abs(batch - question.global_batch))


def nearest_number(question: Question, most_tries: int = 64) -> int | None:
    """The number of accelerators nearest to the asked one on which some layout that fits divides the batch; None when none is near."""
    for away in range(1, most_tries):
        for number in (question.num_accelerators - away, question.num_accelerators + away):
            if number > 0 and _is_possible(replace(question, num_accelerators=number)):
                return number
    return None


def _is_possible(question: Question) -> bool:
    """Whether anything divides and fits."""
    tally = Tally(1)
    for columns, batches, _ in _chunks(question):
        tally.add(question, columns, batches)
        if tally.best:
            return True
    return False


def _enough_accelerators(question: Question, needed: float, have: float) -> str:
    if np.any(question.hardware.streams_weights):
        return _short_enough(question, needed, have)
    for factor in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
        bigger = replace(question, num_accelerators=question.num_accelerators * factor, global_batch=max(question.global_batch, factor))
        if _is_possible(bigger):
            return f"{bigger.num_accelerators:,} accelerators, or {needed / have:.1f} times the memory"
    return f"{needed / have:.1f} times the memory, or shorter sequences"


def _short_enough(question: Question, needed: float, have: float) -> str:
    """More wafers hold no longer sequence: each has whole ones."""
    for factor in (2, 4, 8, 16, 32, 64):
        shorter = replace(question, seq_len=question.seq_len // factor, global_batch=question.global_batch * factor)
        if shorter.seq_len and _is_possible(shorter):
            return f"seq_len={shorter.seq_len}, or {needed / have:.1f} times the memory"
    return f"{needed / have:.1f} times the memory"
