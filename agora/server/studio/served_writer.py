"""The model that the server serves, for the process that makes ads (work.py). Goes in, on that side: messages. Comes out: an answer.

The process asks on its standard output and reads the answer on its standard input, one line of JSON each, so it needs no key, no address
and no second copy of the weights; it can ask nothing but this one model.

    {"ask": {"model": NAME, "messages": [...], "sampling": {...}}}   ->   {"text": "..."} or {"error": "..."}
"""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from agora.engine import Delta, LanguageModel, SamplingConfig
from agora.errors import AgoraError, GenerationError

ASK: Final = "ask"
Find = Callable[[str], LanguageModel | None]
"""The served model of a name."""
log = logging.getLogger(__name__)


class ServedWriter:
    """The process's side: a LanguageModel without streams. `say` writes a line, `heard` gives the lines that come."""

    created: Final = 0
    context_tokens: Final = 1 << 30  # the server's side knows, and says when it is too little

    def __init__(self, name: str, say: Callable[[str], None], heard: queue.SimpleQueue[str]) -> None:
        self.name = name
        self._say, self._heard = say, heard

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """The answer, whole. Raises GenerationError."""
        asked = {"model": self.name, "messages": [dict(one) for one in messages], "sampling": asdict(sampling)}
        self._say(json.dumps({ASK: asked}))
        answer = json.loads(self._heard.get())
        if "error" in answer:
            raise GenerationError(str(answer["error"]))
        yield Delta(text=answer["text"], finish_reason="stop")

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """Not asked for by the studio. Raises GenerationError."""
        raise GenerationError("texts of ads are written as chats")


def answered(asked: Mapping[str, Any], find: Find, cancelled: threading.Event) -> str:
    """The server's side: the line that answers one that asks. Whatever fails is told."""
    try:
        model = find(asked["model"])
        if model is None:
            raise GenerationError(f"the model {asked['model']!r} is not served any more; make the ads anew")
        given = {**asked["sampling"], "stop": tuple(asked["sampling"]["stop"])}
        given["logit_bias"] = {int(token): bias for token, bias in given["logit_bias"].items()}
        deltas = model.chat(asked["messages"], SamplingConfig(**given), cancelled=cancelled)
        return json.dumps({"text": "".join(delta.text for delta in deltas)})
    except AgoraError as error:
        return json.dumps({"error": str(error)})
    except Exception:
        log.exception("a text of ads could not be written")
        return json.dumps({"error": "the model failed; the server's log has the details"})


__all__ = ["ASK", "Find", "ServedWriter", "answered"]
