"""Function calls in the text of a model. Goes in: functions with their parameters as JSON schemas. Comes out: what tells the model of them,
the grammar that its answer follows, and the calls read from that answer while it is written.

    use = ToolUse(tools=(Tool(name="search", parameters='{"type": "object"}'),), choice="required")
    sampling = SamplingConfig(grammar=grammar(use))
    reader = CallReader()
    for delta in model.chat(with_tools(messages, use), sampling):
        for piece in reader.push(delta.text): ...                 str, or CallPiece

The form of a call is that of Hermes and Qwen3:  <tool_call>\\n{"name": "search", "arguments": {...}}\\n</tool_call>
As the grammar holds every answer to it, whatever the network would rather say, reading it back needs no guessing.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"
_END: Final = f"}}\n{CLOSE}"
"""Cannot stand inside the arguments: a line break within a string of JSON is written as two characters."""
_HEAD: Final = re.compile(r'\n\{"name": "([^"]+)", "arguments": ')
_RULES: Final = {"whitespace_flexible": False}
_LENIENT: Final = {**_RULES, "lenient": True, "coerce_one_of": True}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A function that a model may ask for. `parameters`: a JSON schema as text. Without `is_strict` the arguments follow it as far as a
    grammar can express it; with it, wholly."""

    name: str
    description: str = ""
    parameters: str = '{"type": "object", "properties": {}, "additionalProperties": false}'
    is_strict: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolUse:
    """`choice`: auto (words or calls), required (calls), or the name of the one function that must be called."""

    tools: tuple[Tool, ...]
    choice: str = "auto"
    is_parallel: bool = True
    """More than one call may come at a time."""

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The functions that this answer may call."""
        named = tuple(tool for tool in self.tools if tool.name == self.choice)
        return self.tools if self.choice in ("auto", "required") else named


def guided(tool: Tool) -> dict[str, Any]:
    """The schema of the tool's arguments as the grammar follows it. What a lenient one leaves open is closed: no names that it lacks."""
    schema = dict(json.loads(tool.parameters))
    if not tool.is_strict and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return {**schema, "x-guidance": _RULES if tool.is_strict else _LENIENT}


def grammar(use: ToolUse, *, json_schema: str | None = None) -> str:
    """Lark for llguidance: words without a call, or calls after any words. `json_schema`: an answer without a call is JSON of it."""
    calls = " | ".join(f"{json.dumps(_opening(tool.name))} %json {json.dumps(guided(tool))} {json.dumps(_END)}" for tool in use.callable)
    more = f"({json.dumps(chr(10) + OPEN)} call)*" if use.is_parallel else ""
    rules = [f"call: {calls}"]
    if use.choice != "auto":
        rules = [f"start: {json.dumps(OPEN)} call {more}", *rules]
    elif json_schema is not None:
        wanted = {**json.loads(json_schema), "x-guidance": _RULES}
        rules = [f"start: answer | {json.dumps(OPEN)} call {more}", f"answer: %json {json.dumps(wanted)}", *rules]
    else:
        rules = [
            f"start: words | before call {more}", "words: WORDS", f"WORDS: /(.|\\n)*/ & ~/(.|\\n)*{OPEN}(.|\\n)*/",
            f"before[lazy]: /(.|\\n)*{OPEN}/", *rules,
        ]  # fmt: skip
    return "\n".join(rules) + "\n"


def _opening(name: str) -> str:
    return f'\n{{"name": {json.dumps(name)}, "arguments": '


def call_text(calls: Iterable[tuple[str, str]]) -> str:
    """Calls (name, arguments as JSON) as a model writes them, for the turns of a conversation that made them."""
    return "\n".join(f"{OPEN}{_opening(name)}{arguments}{_END}" for name, arguments in calls)


def with_tools(messages: Sequence[Mapping[str, str]], use: ToolUse) -> list[dict[str, str]]:
    """`messages` with what the model must know about its functions, at the end of the first instructions."""
    listed = "\n".join(
        json.dumps({"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}, ensure_ascii=False)
        for tool in use.tools
    )
    told = (
        f"You may call functions. Each line between the tags is one, with its parameters as a JSON schema:\n<tools>\n{listed}\n</tools>\n\n"
        f'To call one, answer with\n{OPEN}\n{{"name": NAME, "arguments": OBJECT}}\n{CLOSE}'
    )
    plain = [dict(message) for message in messages]
    if plain and plain[0]["role"] == "system":
        plain[0]["content"] = f"{plain[0]['content']}\n\n{told}"
        return plain
    return [{"role": "system", "content": told}, *plain]


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A part of call `index`. The first one has `id` and `name`; `arguments` of all of them joined are JSON."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ReadCall:
    """A whole call."""

    id: str
    name: str
    arguments: str


class CallReader:
    """Words and calls of one answer, piece by piece. However the text is cut, the joined pieces are the same."""

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["words", "head", "arguments", "between"] = "words"
        self.num_calls = 0

    def push(self, text: str) -> list[str | CallPiece]:
        """What became final with this text."""
        self._held += text
        found: list[str | CallPiece] = []
        while (piece := self._next()) is not None:
            found += [piece] if piece else []
        return found

    def finish(self, *, is_cut: bool = False) -> str:
        """The words held back when no more text comes: what may be the beginning of a call, which it was if the answer `is_cut` off.
        A call that was cut off before its name is none."""
        rest = self._held if self._state == "words" and not is_cut else ""
        self._held = ""
        return rest

    def _next(self) -> str | CallPiece | None:
        """The next piece ("" for a step without one), or None when more text is needed."""
        if self._state in ("words", "between"):
            return self._words()
        if self._state == "head":
            return self._head()
        whole = self._held.find(_END)
        is_whole = whole >= 0
        said = self._held[:whole] if is_whole else self._held[: len(self._held) - _begun(self._held, _END)]
        self._held = self._held[len(said) + (len(_END) if is_whole else 0) :]
        if is_whole:
            self._state = "between"
        return CallPiece(self.num_calls - 1, said) if said else ("" if is_whole else None)

    def _words(self) -> str | None:
        at = self._held.find(OPEN)
        end = at if at >= 0 else len(self._held) - _begun(self._held, OPEN)
        said, self._held = self._held[:end], self._held[end + (len(OPEN) if at >= 0 else 0) :]
        said = "" if self._state == "between" else said
        if at >= 0:
            self._state = "head"
            return said
        return said or None

    def _head(self) -> CallPiece | None:
        match = _HEAD.match(self._held)
        if match is None:
            return None
        self._held, self._state = self._held[match.end() :], "arguments"
        self.num_calls += 1
        return CallPiece(self.num_calls - 1, id=f"call_{uuid.uuid4().hex[:24]}", name=match[1])


def _begun(text: str, mark: str) -> int:
    """Length of the longest end of `text` with which `mark` begins."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)


def read_calls(text: str, *, is_cut: bool = False) -> tuple[str, list[ReadCall]]:
    """The words and the calls of an answer, whole or cut off."""
    reader = CallReader()
    words: list[str] = []
    calls: list[ReadCall] = []
    for piece in [*reader.push(text), reader.finish(is_cut=is_cut)]:
        if isinstance(piece, str):
            words.append(piece)
        elif piece.name is not None:
            calls.append(ReadCall(piece.id or "", piece.name, ""))
        else:
            last = calls[-1]
            calls[-1] = ReadCall(last.id, last.name, last.arguments + piece.arguments)
    return "".join(words), calls


__all__ = ["CallPiece", "CallReader", "ReadCall", "Tool", "ToolUse", "call_text", "grammar", "guided", "read_calls", "with_tools"]
