"""The writer with a model. Goes in: a question, evidence, and any LanguageModel (agora/engine). Comes out: what the model proposes, as
drafts: nothing of it is believed before `support.py` has judged it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agora.errors import ContextLengthError
from agora.search.answers.prompt import build, read
from agora.search.answers.records import Draft, Evidence
from agora.search.answers.rewrite import Question

if TYPE_CHECKING:
    from agora.engine import LanguageModel

MAX_TOKENS: Final = 400
MAX_CHARS: Final = 8_000
"""A model that does not stop is cut off here, or after `MAX_SECONDS`."""
MAX_SECONDS: Final = 120.0


class GeneratedWriter:
    """Asks a model. Equal questions get equal answers where the model allows it (temperature 0)."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.name = f"model {model.name}"

    def write(self, question: Question, evidence: Sequence[Evidence]) -> list[Draft]:
        """The model's sentences. Where its context is short, fewer posts are shown. Raises GenerationError."""
        shown = list(evidence)
        while True:
            prompt = build(question.text, shown)
            try:
                return read(self._said(prompt.messages), prompt)
            except ContextLengthError:
                if len(shown) <= 1:
                    raise
                shown = shown[: len(shown) // 2]

    def _said(self, messages: Sequence[object]) -> str:
        from agora.engine import SamplingConfig

        said, length, end = [], 0, time.monotonic() + MAX_SECONDS
        deltas = self._model.chat(messages, SamplingConfig(temperature=0.0, max_tokens=MAX_TOKENS))  # type: ignore[arg-type]
        try:
            for delta in deltas:
                said.append(delta.text)
                length += len(delta.text)
                if length > MAX_CHARS or time.monotonic() > end:
                    break
        finally:  # a generator frees its place in the queue at once; a plain iterator has nothing to close
            if (close := getattr(deltas, "close", None)) is not None:
                close()
        return "".join(said)[:MAX_CHARS]
