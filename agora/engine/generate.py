"""The slow reference of batched.py: one answer at a time through the Transformer itself, with a plain key-value cache.
Goes in: prompt tokens and a SamplingConfig. Comes out: an iterator of Delta.

    generator = Generator(model, tokenizer)
    for delta in generator.stream(prompt_ids, SamplingConfig(max_tokens=50, seed=1)):
        print(delta.text, end="")

Several threads may stream from one Generator. Each answer has a cache and random numbers of its own; their steps take
turns, one token each, in the order in which they asked.

Legend: B batch, T positions, V vocabulary.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from agora.engine.answer import Answer, answer_limit, end_tokens, forbidden_tokens
from agora.engine.interface import Delta
from agora.engine.queue import FairGate
from agora.engine.sampling import Sampler, SamplingConfig
from agora.model.cache import KVCache
from agora.model.transformer import Transformer
from agora.tokenizer import Tokenizer

MAX_ACTIVE = 8
MAX_WAITING = 64


class Generator:
    """Draws answers from one model. The model is not changed and must not be trained meanwhile."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, *, max_active: int = MAX_ACTIVE, max_waiting: int = MAX_WAITING) -> None:
        """`max_active` answers hold a cache at once; `max_waiting` more may wait, then BusyError."""
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.context_tokens = model.config.max_seq_len
        self._end = end_tokens(tokenizer)
        self._forbidden = forbidden_tokens(tokenizer, model.config.vocab_size)
        self._active = FairGate(max_active, max_waiting=max_waiting)
        self._turn = FairGate(1)

    def stream(self, prompt_ids: Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None) -> Iterator[Delta]:
        """The answer after `prompt_ids`, one Delta per token.

        Closing the iterator or setting `cancelled` ends it within one token. Raises ContextLengthError (with the numbers),
        GenerationError and UsageError here, before the first Delta.
        """
        prompt = [int(token) for token in prompt_ids]
        limit = answer_limit(prompt, sampling.max_tokens, vocab_size=self.model.config.vocab_size, context_tokens=self.context_tokens)
        sampler = Sampler(
            sampling, vocab_size=self.model.config.vocab_size, prompt=prompt, forbidden=self._forbidden, tokenizer=self.tokenizer
        )
        answer = Answer(self.tokenizer, sampling, prompt_tokens=len(prompt), limit=limit)
        return self._run(prompt, limit, sampler, answer, cancelled or threading.Event())

    def _run(self, prompt: list[int], limit: int, sampler: Sampler, answer: Answer, cancelled: threading.Event) -> Iterator[Delta]:
        if not self._active.acquire(cancelled):
            yield answer.cancel()
            return
        try:
            yield from self._steps(prompt, limit, sampler, answer, cancelled)
        finally:
            self._active.release()

    def _steps(self, prompt: list[int], limit: int, sampler: Sampler, answer: Answer, cancelled: threading.Event) -> Iterator[Delta]:
        parameter = next(self.model.parameters())
        cache = KVCache(self.model.config, 1, len(prompt) + limit, parameter.dtype, parameter.device)
        new = prompt
        while True:
            if cancelled.is_set():
                yield answer.cancel()
                return
            with self._turn:
                choice = sampler.draw(self._next_logits(new, cache))
            new = [choice.token]
            delta = answer.push(choice)
            yield delta
            if delta.finish_reason:
                return

    def _next_logits(self, tokens: list[int], cache: KVCache) -> Tensor:
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            hidden_BTD = self.model(torch.tensor([tokens], dtype=torch.long, device=device), cache=cache)
            logits_V: Tensor = self.model.logits(hidden_BTD[:, -1:])[0, 0].float().cpu()
        return logits_V
