"""A conversation with a model. Goes in: what a person says. Comes out: the answer, piece by piece; both are remembered.

talk = Conversation(model, SamplingConfig(seed=1))
for delta in talk.say("hello"):
    print(delta.text, end="")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from agora.engine.interface import Delta, LanguageModel
from agora.engine.sampling import SamplingConfig
from agora.errors import ContextLengthError, UsageError
from agora.files import write_atomically


class Conversation:
    """Messages so far, and the model that answers."""

    def __init__(self, model: LanguageModel, sampling: SamplingConfig, *, system: str | None = None) -> None:
        self.model = model
        self.sampling = sampling
        self.messages: list[dict[str, str]] = []
        self.num_forgotten = 0
        """Messages left out of the last question because the context could not hold them."""
        self.set_system(system)

    def set_system(self, text: str | None) -> None:
        """Begin anew under these instructions (None = no instructions)."""
        self.messages = [{"role": "system", "content": text}] if text else []
        self.num_forgotten = 0

    def reset(self) -> None:
        """Forget everything but the instructions."""
        self.messages = [message for message in self.messages if message["role"] == "system"]
        self.num_forgotten = 0

    def say(self, text: str) -> Iterator[Delta]:
        """The answer to `text`. What was answered before an interruption is remembered too.

        The oldest turns are left out where the context is too short; raises ContextLengthError when `text` alone is too long.
        """
        self.messages.append({"role": "user", "content": text})
        said: list[str] = []
        try:
            for delta in self._ask():
                said.append(delta.text)
                yield delta
        finally:
            if said:
                self.messages.append({"role": "assistant", "content": "".join(said)})
            else:  # it failed before the first token: as if nothing had been asked
                self.messages.pop()

    def _ask(self) -> Iterator[Delta]:
        head = [message for message in self.messages if message["role"] == "system"]
        turns = self.messages[len(head) :]
        for self.num_forgotten in range(0, len(turns), 2):
            try:
                return self.model.chat(head + turns[self.num_forgotten :], self.sampling)
            except ContextLengthError:
                if self.num_forgotten + 2 >= len(turns):
                    raise
        raise AssertionError("unreachable: there is always the message just said")

    def save(self, path: Path) -> None:
        """Write the messages as JSON. Raises UsageError when the file exists or cannot be written."""
        if path.exists():
            raise UsageError(f"{path} exists already; choose another name")
        content = json.dumps({"model": self.model.name, "messages": self.messages}, ensure_ascii=False, indent=2) + "\n"
        try:
            write_atomically(path, content.encode())
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from error
