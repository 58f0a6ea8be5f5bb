"""`agora chat`: talk with a model in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agora.cli.dialogue import dialogue
from agora.cli.output import JsonOption, WorkspaceOption, emit, next_command
from agora.errors import UsageError
from agora.settings import Workspace

if TYPE_CHECKING:
    from agora.engine import Conversation, Delta, LanguageModel, SamplingConfig

HELP = """/help           this list
/reset          forget the conversation (keeps the system text)
/system TEXT    begin anew under these instructions; without TEXT: under none
/save FILE      write the conversation as JSON
/quit           leave (also Ctrl-D); Ctrl-C ends an answer"""


def chat(
    model: Annotated[str | None, typer.Option(help="Name in the workspace or a folder.", show_default=False)] = None,
    prompt: Annotated[str | None, typer.Option(help="Ask this once and leave; - reads standard input.")] = None,
    complete: Annotated[bool, typer.Option("--complete", help="Go on with --prompt as the beginning of a document: no chat.")] = False,
    system: Annotated[str | None, typer.Option(help="Instructions for the model.")] = None,
    temperature: Annotated[float, typer.Option(help="0 = always the most likely token.")] = 0.8,
    top_p: Annotated[float, typer.Option(help="Share of probability to draw from.")] = 0.95,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer; default: what the context holds.", show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal answers.")] = None,
    posts: Annotated[bool, typer.Option("--posts", help="Answer from posts, with sources; without --model, by quoting them.")] = False,
    research: Annotated[str | None, typer.Option(metavar="QUESTION", help="Write a report from several searches.")] = None,
    explain: Annotated[str | None, typer.Option(metavar="POST", help="Explain a post: thread, label, who amplified it.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(help="With --posts: let an OpenAI-compatible server write: its URL, ending in /v1.")
    ] = None,
    endpoint_model: Annotated[str, typer.Option(help="The model's name at the endpoint.")] = "default",
    persona: Annotated[str, typer.Option(help="With --posts: how it sounds (neutral, fun, or one of workspace/personas).")] = "neutral",
    now: Annotated[str | None, typer.Option(help="With --posts: as of this time (ISO, UTC).", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Talk with a model, or with --posts about what people post; or ask one thing with --prompt.

    With --endpoint what is asked and the posts found leave this machine; a key is read from AGORA_ENDPOINT_KEY.

    Example: agora chat --posts --prompt "What do people say about the night trains?"
    """
    if posts or research is not None or explain is not None:
        from agora.cli.chat_posts import grounded

        if complete or system:
            raise UsageError(
                f"{'--complete' if complete else '--system'} is for talk without posts; with posts, a persona says how it sounds"
            )
        if as_json and prompt is None and research is None and explain is None:
            raise UsageError("--json needs --prompt, --research or --explain")
        grounded(
            Workspace.find(workspace), model=model, endpoint=endpoint, endpoint_model=endpoint_model, persona=persona, prompt=prompt,
            research=research, explain=explain, now=now, as_json=as_json,
        )  # fmt: skip
        return
    if endpoint is not None or persona != "neutral" or now is not None:
        raise UsageError("--endpoint, --persona and --now are for talk about posts; give --posts too")
    if prompt is None and (complete or as_json):
        raise UsageError(f"{'--complete' if complete else '--json'} needs --prompt")
    from agora.engine import Conversation, SamplingConfig, load_local_model
    from agora.model.find import find_model

    sampling = SamplingConfig(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed)
    speaker = load_local_model(find_model(Workspace.find(workspace), model))
    if prompt is None:
        _talk(Conversation(speaker, sampling, system=system))
    else:
        _ask_once(speaker, sys.stdin.read() if prompt == "-" else prompt, system, sampling, complete, as_json)
        next_command(f"agora serve --model {model or speaker.name}")


def _ask_once(speaker: LanguageModel, prompt: str, system: str | None, sampling: SamplingConfig, complete: bool, as_json: bool) -> None:
    head = [{"role": "system", "content": system}] if system else []
    deltas = speaker.complete(prompt, sampling) if complete else speaker.chat([*head, {"role": "user", "content": prompt}], sampling)
    said = []
    last: Delta | None = None
    for last in deltas:
        said.append(last.text)
        if not as_json:
            _show(last.text)
    assert last is not None and last.usage is not None
    if as_json:
        answer = {"model": speaker.name, "prompt": prompt, "answer": "".join(said), "finish_reason": last.finish_reason}
        emit({**answer, "prompt_tokens": last.usage.prompt_tokens, "completion_tokens": last.usage.completion_tokens}, as_json=True)
    else:
        print()


def _talk(conversation: Conversation) -> None:
    def answer(line: str) -> None:
        if line.startswith("/"):
            _command(conversation, line)
        else:
            _answer(conversation, line)

    dialogue(f"{conversation.model.name}: type a message; /help lists commands", answer)


def _answer(conversation: Conversation, line: str) -> None:
    for delta in conversation.say(line):
        _show(delta.text)
    print()
    if conversation.num_forgotten:
        print(f"(the context is full: the first {conversation.num_forgotten} messages were left out; /reset begins anew)", file=sys.stderr)


def _command(conversation: Conversation, line: str) -> None:
    word, _, rest = line.partition(" ")
    rest = rest.strip()
    if word == "/help":
        print(HELP)
    elif word == "/reset":
        conversation.reset()
        print("(forgotten)", file=sys.stderr)
    elif word == "/system":
        conversation.set_system(rest or None)
        print("(begun anew)", file=sys.stderr)
    elif word == "/save":
        if not rest:
            raise UsageError("/save needs a file name: /save talk.json")
        conversation.save(Path(rest))
        print(f"(saved to {rest})", file=sys.stderr)
    else:
        raise UsageError(f"unknown command {word!r}; /help lists them")


def _show(text: str) -> None:
    """Print model text at once. Control characters could drive the terminal, so they are shown as U+FFFD."""
    print("".join(c if c.isprintable() or c in "\n\t" or (c.isspace() and ord(c) > 0xA0) else "\ufffd" for c in text), end="", flush=True)
