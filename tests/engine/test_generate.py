"""Generation: the cache changes nothing, seeds decide, requests never mix, limits are kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest
import torch

from agora.engine import Delta, Generator, Sampler, SamplingConfig
from agora.errors import BusyError, ContextLengthError, GenerationError
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

Parts = tuple[Transformer, Tokenizer]


@pytest.fixture(scope="module")
def generator(tiny_parts: Parts) -> Generator:
    return Generator(*tiny_parts)


def tokens_of(deltas: list[Delta]) -> list[int]:
    return [delta.token for delta in deltas if delta.token is not None]


def slow_tokens(parts: Parts, generator: Generator, prompt: list[int], sampling: SamplingConfig, count: int) -> list[int]:
    """The obvious twin: the whole text through the network for every token."""
    model, _ = parts
    sampler = Sampler(sampling, vocab_size=model.config.vocab_size, prompt=prompt, forbidden=generator._forbidden)
    tokens = list(prompt)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(sampler.draw(model.logits(model(torch.tensor([tokens])))[0, -1]).token)
        if tokens[-1] in generator._end:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingConfig(temperature=0, max_tokens=60),
        SamplingConfig(temperature=0, max_tokens=60, repetition_penalty=1.3, frequency_penalty=0.5),
        SamplingConfig(temperature=1.0, top_p=0.9, seed=5, max_tokens=60),
    ],
)
def test_cache_gives_the_tokens_of_the_slow_twin(tiny_parts: Parts, generator: Generator, sampling: SamplingConfig) -> None:
    prompt = tiny_parts[1].encode("The harvest festival")
    assert tokens_of(list(generator.stream(prompt, sampling))) == slow_tokens(tiny_parts, generator, prompt, sampling, 60)


def test_text_is_the_decoded_tokens(tiny_parts: Parts, generator: Generator) -> None:
    for seed in range(5):
        deltas = list(generator.stream([7, 8, 9], SamplingConfig(seed=seed, max_tokens=60)))
        said = [token for token in tokens_of(deltas) if token not in generator._end]
        assert "".join(delta.text for delta in deltas) == tiny_parts[1].decode_bytes(said).decode("utf-8", "replace")
        assert not any(delta.text.endswith("�") for delta in deltas[:-1] if not _holds_invalid_bytes(tiny_parts[1], said))


def _holds_invalid_bytes(tokenizer: Tokenizer, tokens: list[int]) -> bool:
    return "�" in tokenizer.decode_bytes(tokens).decode("utf-8", "replace")


def test_equal_seeds_give_equal_answers_and_others_do_not(generator: Generator) -> None:
    answers = [tokens_of(list(generator.stream([5, 6], SamplingConfig(seed=seed, max_tokens=30)))) for seed in (1, 1, 2)]
    assert answers[0] == answers[1] != answers[2]
    unseeded = [tokens_of(list(generator.stream([5, 6], SamplingConfig(max_tokens=30)))) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_last_delta_tells_why_and_how_much(generator: Generator) -> None:
    deltas = list(generator.stream([5, 6], SamplingConfig(seed=1, max_tokens=7, logit_bias={0: -100, 2: -100})))
    assert [delta.finish_reason for delta in deltas] == [None] * 6 + ["length"]
    assert deltas[-1].usage is not None
    assert (deltas[-1].usage.prompt_tokens, deltas[-1].usage.completion_tokens) == (2, 7)


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_end_token_stops_and_has_no_text(tiny_parts: Parts, generator: Generator, end: str) -> None:
    sampling = SamplingConfig(temperature=0, logit_bias={tiny_parts[1].special[end]: 100}, logprobs=1)
    deltas = list(generator.stream([5], sampling))
    assert [(delta.text, delta.finish_reason) for delta in deltas] == [("", "stop")]
    assert deltas[0].logprob is not None and deltas[0].logprob.data == b""


def test_no_answer_opens_a_role(tiny_parts: Parts, generator: Generator) -> None:
    special = tiny_parts[1].special
    bias = {special["<|im_start|>"]: 100.0, special["<|pad|>"]: 100.0}
    drawn = tokens_of(list(generator.stream([5], SamplingConfig(seed=1, max_tokens=20, logit_bias=bias))))
    assert not set(drawn) & set(bias)


def test_stop_string_ends_the_answer_before_itself(tiny_parts: Parts, generator: Generator) -> None:
    whole = "".join(delta.text for delta in generator.stream([40, 50], SamplingConfig(temperature=0, max_tokens=40)))
    stop = whole[5:8]
    deltas = list(generator.stream([40, 50], SamplingConfig(temperature=0, max_tokens=40, stop=(stop,))))
    assert "".join(delta.text for delta in deltas) == whole[: whole.index(stop)]
    assert deltas[-1].finish_reason == "stop"


def test_context_overflow_names_the_numbers(generator: Generator) -> None:
    with pytest.raises(ContextLengthError, match=r"holds 128 tokens, but the prompt has 100 and 29 more .* at most 28"):
        generator.stream([5] * 100, SamplingConfig(max_tokens=29))
    with pytest.raises(ContextLengthError, match="holds 128 tokens, but the prompt has 128"):
        generator.stream([5] * 128, SamplingConfig())


def test_answer_fills_the_context_exactly(generator: Generator) -> None:
    bias = dict.fromkeys(generator._end, -100.0)
    deltas = list(generator.stream([5] * 100, SamplingConfig(seed=1, logit_bias=bias)))
    assert len(deltas) == 28 and deltas[-1].finish_reason == "length"


@pytest.mark.parametrize(("prompt", "message"), [([], "empty"), ([5, 320], "token 320"), ([-1], "token -1")])
def test_wrong_prompts_are_refused_before_the_first_delta(generator: Generator, prompt: list[int], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        generator.stream(prompt, SamplingConfig())


def test_closing_the_iterator_frees_its_place(tiny_parts: Parts) -> None:
    generator = Generator(*tiny_parts, max_active=1, max_waiting=0)
    for _ in range(3):
        stream = generator.stream([5], SamplingConfig(seed=1))
        next(stream)
        stream.close()  # type: ignore[attr-defined]
    assert list(generator.stream([5], SamplingConfig(seed=1, max_tokens=2)))


def test_cancelling_ends_the_answer_within_one_token(generator: Generator) -> None:
    cancelled = threading.Event()
    stream = generator.stream([5], SamplingConfig(seed=1, logit_bias={0: -100, 2: -100}), cancelled=cancelled)
    assert len(list(islice(stream, 3))) == 3
    cancelled.set()
    rest = list(stream)
    assert [delta.finish_reason for delta in rest] == ["cancelled"]
    assert rest[0].usage is not None and rest[0].usage.completion_tokens == 3


def test_too_many_waiting_requests_are_turned_away(tiny_parts: Parts) -> None:
    generator = Generator(*tiny_parts, max_active=1, max_waiting=0)
    first = generator.stream([5], SamplingConfig(seed=1))
    next(first)
    with pytest.raises(BusyError):
        next(generator.stream([5], SamplingConfig(seed=1)))
    first.close()  # type: ignore[attr-defined]


def test_requests_at_the_same_time_never_mix(tiny_parts: Parts) -> None:
    generator = Generator(*tiny_parts, max_active=4)

    def answer(seed: int) -> list[int]:
        return tokens_of(list(generator.stream([5, seed + 10], SamplingConfig(seed=seed, max_tokens=25))))

    alone = [answer(seed) for seed in range(12)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(answer, range(12))) == alone


def test_a_short_request_is_not_held_up_by_a_long_one(tiny_parts: Parts) -> None:
    generator = Generator(*tiny_parts)
    bias = dict.fromkeys(generator._end, -100.0)
    long = SamplingConfig(seed=1, max_tokens=120, logit_bias=bias)
    order: list[str] = []

    def run(name: str, sampling: SamplingConfig) -> None:
        list(generator.stream([5], sampling))
        order.append(name)

    threads = [
        threading.Thread(target=run, args=("long", long)),
        threading.Thread(target=run, args=("short", SamplingConfig(max_tokens=2, seed=1))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order == ["short", "long"]
