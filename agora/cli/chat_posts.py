"""`agora chat --posts`, `--research` and `--explain`: talk that is grounded in posts. The file of `agora chat` calls it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agora.cli.asking import moment, writing_model
from agora.cli.dialogue import dialogue
from agora.cli.output import next_command, visible
from agora.errors import UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.chat import Assistant, ChatEvent, Reply

HELP = """/help            this list
/research TEXT   a report from several searches
/explain POST    what a post answers, who amplified it, who says the same
/persona NAME    another tone; without NAME: list them
/reset           forget the conversation
/quit            leave (also Ctrl-D); Ctrl-C ends an answer"""


def grounded(
    place: Workspace, *, model: str | None, endpoint: str | None, endpoint_model: str, persona: str, prompt: str | None,
    research: str | None, explain: str | None, now: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Answer one thing, or talk."""
    from agora.chat.endpoint import ToolEndpoint
    from agora.chat.square import open_assistant

    if sum(one is not None for one in (prompt, research, explain)) > 1:
        raise UsageError("--prompt, --research and --explain each ask one thing; give one of them")
    at = moment(now)
    assistant = open_assistant(place, writing_model(place, model, endpoint, endpoint_model, remote=ToolEndpoint))
    assistant.personas.get(persona)
    if research is not None:
        _show(assistant.research(research, persona=persona, now=at), as_json)
        next_command(f"agora chat --posts --prompt {shlex.quote(visible(research))}")
    elif explain is not None:
        if as_json:
            print(json.dumps(assistant.explain_post(explain, now=at).as_json(), ensure_ascii=False))
        else:
            _show(assistant.explain(explain, persona=persona, now=at), as_json)
        next_command("agora integrity campaigns")
    elif prompt is not None:
        text = sys.stdin.read() if prompt == "-" else prompt
        _show(assistant.answer([{"role": "user", "content": text}], persona=persona, now=at), as_json)
        next_command(f"agora chat --research {shlex.quote(visible(text))}")
    else:
        _talk(assistant, persona, at)


def _talk(assistant: Assistant, persona: str, now: datetime | None) -> None:
    messages: list[dict[str, Any]] = []

    def answer(line: str) -> None:
        nonlocal persona
        word, _, rest = line.partition(" ")
        if word == "/persona" and rest.strip():
            assistant.personas.get(rest.strip())
            persona = rest.strip()
        elif line.startswith("/"):
            _command(assistant, word, rest.strip(), persona, messages, now)
        else:
            _turn(assistant, line, persona, messages, now)

    dialogue("ask about what is posted; /help lists commands", answer)


def _command(assistant: Assistant, word: str, rest: str, persona: str, messages: list[dict[str, Any]], now: datetime | None) -> None:
    if word == "/help":
        print(HELP)
    elif word == "/reset":
        messages.clear()
        print("(forgotten)", file=sys.stderr)
    elif word == "/persona":
        for name, one in assistant.personas.all.items():
            print(f"{name:<10} {one.about}")
    elif word == "/research" and rest:
        _show(assistant.research(rest, persona=persona, now=now), False)
    elif word == "/explain" and rest:
        _show(assistant.explain(rest, persona=persona, now=now), False)
    else:
        raise UsageError(f"unknown command {word!r}, or without what it is about; /help lists them")


def _turn(assistant: Assistant, line: str, persona: str, messages: list[dict[str, Any]], now: datetime | None) -> None:
    reply = _show(assistant.answer([*messages, {"role": "user", "content": line}], persona=persona, now=now), False)
    cited = [{"number": one.number, "post_id": one.post_id} for one in reply.citations]
    messages += [{"role": "user", "content": line}, {"role": "assistant", "content": reply.text, "citations": cited}]
    if reply.num_forgotten:
        print(f"(the memory is full: the first {reply.num_forgotten} messages were left out; /reset begins anew)", file=sys.stderr)


def _show(events: Iterator[ChatEvent], as_json: bool) -> Reply:
    """Print an answer while it is made: steps and warnings to stderr, or each event as one line of JSON."""
    from agora.chat import Caution, Done, Step, Text, event_as_json

    for event in events:
        if as_json:
            print(json.dumps(event_as_json(event), ensure_ascii=False), flush=True)
        elif isinstance(event, Step):
            print(f"({visible(event.text)})", file=sys.stderr)
        elif isinstance(event, Text):
            print(event.delta, end="", flush=True)
        elif isinstance(event, Caution):
            print(f"warning: {visible(event.text)}", file=sys.stderr)
        if isinstance(event, Done):
            if not as_json:
                _print_sources(event.answer)
            return event.answer
    raise AssertionError("an answer ends with Done")


def _print_sources(reply: Reply) -> None:
    for one in reply.citations:
        alike = f"  +{one.alike} alike" if one.alike else ""
        print(f"  [{one.number}] {visible(one.post_id)}  @{visible(one.author)}  {one.created_at[:16].replace('T', ' ')}{alike}")
        if one.label:
            print(f"      [coordinated] {visible(one.label)}")


__all__ = ["grounded"]
