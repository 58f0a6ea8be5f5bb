"""Many answers at once: each is the slow reference's, pages are never lost, nobody waits for ever."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
import torch

from agora.engine import BatchEngine, Delta, Generator, LocalModel, SamplingConfig
from agora.engine.native import NativeNetwork, library
from agora.engine.pages import PAGE_TOKENS
from agora.engine.plain import PlainNetwork
from agora.engine.step import Network, StepRows
from agora.errors import BusyError, ContextLengthError, GenerationError
from agora.model import ModelConfig
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

Parts = tuple[Transformer, Tokenizer]
KINDS = ["plain", pytest.param("native", marks=pytest.mark.skipif(library() is None, reason="needs a C compiler on Linux"))]
ENDLESS = {0: -100.0, 2: -100.0}
SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0, "repetition_penalty": 1.3, "frequency_penalty": 0.5},
    {"seed": 5, "top_p": 0.9},
    {"seed": 2, "temperature": 0.7, "top_k": 20, "min_p": 0.01, "logprobs": 3},
]


def make(parts: Parts, kind: str = "plain", *, num_pages: int = 64, max_rows: int = 48, **settings: int) -> BatchEngine:
    model, tokenizer = parts
    network: Network
    if kind == "plain":
        network = PlainNetwork(model, num_pages=num_pages, max_rows=max_rows)
    else:
        network = NativeNetwork(model, precision="float32", num_pages=num_pages, max_rows=max_rows, threads=1)
    return BatchEngine(network, tokenizer, **settings)


def tokens_of(deltas: Iterator[Delta] | list[Delta]) -> list[int]:
    return [delta.token for delta in deltas if delta.token is not None]


def prompts(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Of different lengths, some with the same beginning."""
    return [tokenizer.encode("The harvest festival") * (1 + index % 3) + [10 + index] for index in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "+".join(settings))
def test_answers_together_are_those_of_the_slow_reference(tiny_parts: Parts, kind: str, settings: dict[str, Any]) -> None:
    sampling, asked = SamplingConfig(max_tokens=30, **settings), prompts(tiny_parts[1], 10)
    reference = Generator(*tiny_parts)
    engine = make(tiny_parts, kind)
    streams = [engine.stream(prompt, sampling) for prompt in asked]
    for prompt, stream in zip(asked, streams, strict=True):
        expected, got = list(reference.stream(prompt, sampling)), list(stream)
        assert tokens_of(got) == tokens_of(expected)
        assert "".join(delta.text for delta in got) == "".join(delta.text for delta in expected)
        assert (got[-1].finish_reason, got[-1].usage) == (expected[-1].finish_reason, expected[-1].usage)
        assert [one.logprob.logprob for one in got if one.logprob] == pytest.approx(
            [one.logprob.logprob for one in expected if one.logprob], abs=1e-4
        )
    assert engine.wait_until_idle(5)


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_pages_delay_answers_and_change_none(tiny_parts: Parts, kind: str) -> None:
    sampling, asked = SamplingConfig(temperature=0, max_tokens=40, logit_bias=ENDLESS), prompts(tiny_parts[1], 8)
    plenty, scarce = make(tiny_parts, kind), make(tiny_parts, kind, num_pages=9)
    expected = [tokens_of(plenty.stream(prompt, sampling)) for prompt in asked]
    streams = [scarce.stream(prompt, sampling) for prompt in asked]
    assert [tokens_of(stream) for stream in streams] == expected
    assert scarce.wait_until_idle(5)
    stats = scarce.stats()
    assert stats["preemptions"] > 0 and stats["pages_free"] == stats["pages"] == 9


def test_fewer_pages_than_the_context_shorten_it(tiny_parts: Parts) -> None:
    engine = make(tiny_parts, num_pages=3)
    assert engine.context_tokens == 3 * PAGE_TOKENS
    bias = SamplingConfig(seed=1, logit_bias=ENDLESS)
    assert len(list(engine.stream([5] * 8, bias))) == 3 * PAGE_TOKENS - 8
    with pytest.raises(ContextLengthError, match="holds 48 tokens"):
        engine.stream([5] * 48, bias)


@pytest.mark.parametrize("kind", KINDS)
def test_same_beginning_is_computed_once_and_changes_no_answer(tiny_parts: Parts, kind: str) -> None:
    engine, sampling = make(tiny_parts, kind), SamplingConfig(temperature=0, max_tokens=10)
    prompt = [5, 9, 200, 31] * 12
    first = tokens_of(engine.stream(prompt, sampling))
    before = engine.stats()
    assert tokens_of(engine.stream(prompt, sampling)) == first
    after = engine.stats()
    # the last token of the prompt is always computed: 47 tokens hold two full pages
    assert after["reused_tokens"] - before["reused_tokens"] == 2 * PAGE_TOKENS
    assert after["rows"] - before["rows"] == len(prompt) - 2 * PAGE_TOKENS + len(first) - 1


def test_next_turn_reuses_the_answer_before_it(tiny_parts: Parts) -> None:
    engine, sampling = make(tiny_parts), SamplingConfig(temperature=0, max_tokens=30, logit_bias=ENDLESS)
    prompt = [5, 9, 200, 31] * 8
    said = tokens_of(engine.stream(prompt, sampling))
    before = engine.stats()["reused_tokens"]
    list(engine.stream([*prompt, *said, 7], sampling))
    assert engine.stats()["reused_tokens"] - before == (len(prompt) + len(said) - 1) // PAGE_TOKENS * PAGE_TOKENS


def test_several_answers_to_one_prompt_differ_by_seed_alone(tiny_parts: Parts) -> None:
    engine = make(tiny_parts)
    prompt = [5, 9, 200, 31] * 10
    streams = [engine.stream(prompt, SamplingConfig(seed=seed, max_tokens=12, logit_bias=ENDLESS)) for seed in (1, 2, 1, 3)]
    answers = [tokens_of(stream) for stream in streams]
    assert answers[0] == answers[2] and len({tuple(answer) for answer in answers}) == 3


def test_long_prompt_does_not_hold_up_those_who_write(tiny_parts: Parts) -> None:
    model, tokenizer = tiny_parts
    sizes: list[int] = []

    class Watched(PlainNetwork):
        def run(self, rows: StepRows) -> torch.Tensor:
            sizes.append(len(rows.tokens))
            return super().run(rows)

    engine = BatchEngine(Watched(model, num_pages=64, max_rows=16), tokenizer)
    writer = engine.stream([5], SamplingConfig(temperature=0, max_tokens=60, logit_bias=ENDLESS))
    next(writer)
    list(engine.stream([5, 6, 7] * 30, SamplingConfig(temperature=0, max_tokens=2)))
    list(writer)
    assert max(sizes) <= 16 and sum(size > 1 for size in sizes) >= 90 // 15


def test_cancelling_ends_the_answer_and_frees_its_pages(tiny_parts: Parts) -> None:
    engine, cancelled = make(tiny_parts), threading.Event()
    stream = engine.stream([5], SamplingConfig(seed=1, logit_bias=ENDLESS), cancelled=cancelled)
    assert len(list(islice(stream, 3))) == 3
    cancelled.set()
    rest = list(stream)
    assert [delta.finish_reason for delta in rest] == ["cancelled"] and rest[0].usage is not None
    assert engine.wait_until_idle(5) and engine.stats()["pages_used"] == 0


@pytest.mark.parametrize("leave", ["close", "forget"])
def test_stream_that_nobody_holds_ends(tiny_parts: Parts, leave: str) -> None:
    engine = make(tiny_parts)
    stream = engine.stream([5], SamplingConfig(seed=1, logit_bias=ENDLESS))
    next(stream)
    if leave == "close":
        stream.close()
        assert list(stream) == []
    else:
        del stream
        gc.collect()
    assert engine.wait_until_idle(5) and engine.stats()["pages_used"] == 0


def test_stream_that_nobody_reads_holds_nobody_up(tiny_parts: Parts) -> None:
    engine = make(tiny_parts, max_active=2)
    unread = [engine.stream([5], SamplingConfig(seed=seed, max_tokens=60, logit_bias=ENDLESS)) for seed in range(4)]
    assert list(engine.stream([6], SamplingConfig(seed=1, max_tokens=5)))
    assert engine.wait_until_idle(5)
    assert [len(list(stream)) for stream in unread] == [60] * 4


def test_too_many_requests_are_turned_away_and_the_rest_finish(tiny_parts: Parts) -> None:
    engine = make(tiny_parts, max_active=1, max_waiting=1)
    sampling = SamplingConfig(seed=1, max_tokens=100, logit_bias=ENDLESS)
    streams = [engine.stream([5], sampling) for _ in range(2)]
    with pytest.raises(BusyError, match="1 requests wait already"):
        engine.stream([5], sampling)
    assert [len(list(stream)) for stream in streams] == [100, 100]
    assert list(engine.stream([5], SamplingConfig(seed=1, max_tokens=2)))


def test_failed_step_fails_its_answers_and_not_the_engine(tiny_parts: Parts, caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = tiny_parts

    class Failing(PlainNetwork):
        fails = True

        def run(self, rows: StepRows) -> torch.Tensor:
            if self.fails:
                raise MemoryError("no room")
            return super().run(rows)

    network = Failing(model, num_pages=64, max_rows=48)
    engine = BatchEngine(network, tokenizer)
    with pytest.raises(GenerationError, match="MemoryError: no room"):
        list(engine.stream([5], SamplingConfig(seed=1)))
    assert "a step of the engine failed" in caplog.text
    network.fails = False
    assert list(engine.stream([5], SamplingConfig(seed=1, max_tokens=3)))
    assert engine.wait_until_idle(5) and engine.stats()["pages_used"] == 0


def test_listener_gets_every_delta_without_a_thread_of_its_own(tiny_parts: Parts) -> None:
    engine, sampling = make(tiny_parts), SamplingConfig(seed=4, max_tokens=20, logit_bias=ENDLESS)
    expected = tokens_of(engine.stream([5], sampling))
    heard: list[Delta | GenerationError] = []
    ended = threading.Event()

    def listen(item: Delta | GenerationError) -> None:
        heard.append(item)
        if isinstance(item, GenerationError) or item.finish_reason:
            ended.set()

    stream = engine.stream([5], sampling)
    time.sleep(0.01)  # some Deltas are there before anyone listens
    stream.listen(listen)
    assert ended.wait(5)
    assert tokens_of([item for item in heard if isinstance(item, Delta)]) == expected


def test_closed_engine_ends_its_answers_and_takes_no_more(tiny_parts: Parts) -> None:
    engine = make(tiny_parts)
    stream = engine.stream([5], SamplingConfig(seed=1, logit_bias=ENDLESS))
    next(stream)
    engine.close()
    assert list(stream)[-1].finish_reason in ("cancelled", "length")
    with pytest.raises(GenerationError, match="closed"):
        engine.stream([5], SamplingConfig())
    assert engine.wait_until_idle(5) and engine.stats()["waiting"] == 0


def test_network_with_experts_answers_as_the_reference(tiny_parts: Parts) -> None:
    tokenizer = tiny_parts[1]
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=64, max_seq_len=128,
        init_std=0.3, num_experts=4, experts_per_token=2, expert_dim=48,
    )  # fmt: skip
    model, sampling = Transformer(config, seed=2).eval(), SamplingConfig(temperature=0, max_tokens=20)
    engine, reference = make((model, tokenizer)), Generator(model, tokenizer)
    asked = prompts(tokenizer, 4)
    streams = [engine.stream(prompt, sampling) for prompt in asked]
    assert [tokens_of(stream) for stream in streams] == [tokens_of(reference.stream(prompt, sampling)) for prompt in asked]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousand_requests_of_many_threads_never_mix(tiny_parts: Parts, kind: str) -> None:
    engine = make(tiny_parts, kind, num_pages=40, max_active=16, max_waiting=2000)

    def ask(index: int) -> list[int]:
        stream = engine.stream([5, 20 + index % 50], SamplingConfig(seed=index % 50, max_tokens=12, logit_bias=ENDLESS))
        if index % 7 == 3:  # some leave
            next(stream)
            stream.close()
            return []
        return tokens_of(stream)

    def settings(seed: int) -> SamplingConfig:
        return SamplingConfig(seed=seed, max_tokens=12, logit_bias=ENDLESS)

    expected = [tokens_of(engine.stream([5, 20 + seed], settings(seed))) for seed in range(50)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(ask, range(1000)))
    assert all(answer == expected[index % 50] for index, answer in enumerate(answers) if index % 7 != 3)
    assert engine.wait_until_idle(10) and engine.stats()["pages_used"] == 0


def test_local_model_speaks_through_the_engine(tiny_parts: Parts) -> None:
    messages = [{"role": "user", "content": "hello"}]
    sampling = SamplingConfig(temperature=0, max_tokens=8)
    answers = [tokens_of(LocalModel("m", engine).chat(messages, sampling)) for engine in (make(tiny_parts), Generator(*tiny_parts))]
    assert answers[0] == answers[1]
