"""Tools for models that call functions, and for clients that bring their own model. Goes in: a name and arguments as JSON. Comes out: a
result as JSON.

    tools = Toolbox(searcher, square)
    tools.definitions()                                    for the `tools` of an OpenAI chat request
    tools.run("calculator", '{"expression": "17 * 3"}')    ToolResult(content='{"value": "51"}', ...)

Every tool only reads. Arguments are checked against the definition: unknown tools, keys and values are refused with a sentence, never an
exception. What posts and names say comes back escaped (agora/search/answers/prompt.py): no text in a result is a role, a mark or a
citation. Posts that give orders to machines are left out, and a campaign's posts come as one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agora.chat.calculator import calculate
from agora.chat.shown import one_line, quoted
from agora.chat.square import Square
from agora.config import unknown_value
from agora.errors import AgoraError
from agora.search.answers.addressed import is_addressed
from agora.search.answers.evidence import MAX_CHARS, is_coordinated
from agora.search.answers.prompt import escaped
from agora.search.answers.records import Evidence, Finder, Found
from agora.search.query.dates import parse_length

MAX_ARGUMENTS: Final = 4_000
MAX_POSTS: Final = 20
_TEXT: Final = 600


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`content` is JSON for the model. `evidence`: the posts in it, by the numbers they have there. `said`: the result in a sentence of
    ours, for answers that rest on it; empty for searches, whose posts are cited instead."""

    name: str
    content: str
    evidence: tuple[Evidence, ...] = ()
    said: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class _Tool:
    about: str
    properties: Mapping[str, Mapping[str, Any]]
    required: tuple[str, ...]
    run: Callable[..., ToolResult]


class Toolbox:
    """`square` brings trends and campaigns; without one there are search and calculator. Safe to share between threads."""

    def __init__(self, searcher: Finder, square: Square | None = None, *, now: Callable[[], datetime]) -> None:
        self._searcher, self._square, self._now = searcher, square, now
        text = {"type": "string", "minLength": 1, "maxLength": 500}
        self._tools: dict[str, _Tool] = {
            "search": _Tool(
                "Find posts. The query may use operators: from:NAME, since:2026-03-01, until:, lang:en, \"a phrase\", -word.",
                {"query": text, "limit": {"type": "integer", "minimum": 1, "maximum": MAX_POSTS}}, ("query",), self._search,
            ),
            "calculator": _Tool(
                "Arithmetic: + - * / ^ % and sqrt, abs, round, min, max, ln, log, exp.", {"expression": {**text, "maxLength": 300}},
                ("expression",), self._calculator,
            ),
        }  # fmt: skip
        if square is not None:
            self._tools["trends"] = _Tool(
                "Terms that more voices use now than usual.",
                {"window": {"type": "string", "enum": ["1h", "6h", "1d", "7d"]}, "query": {**text, "minLength": 0}}, (), self._trends,
            )  # fmt: skip
            self._tools["campaign"] = _Tool(
                "A group of accounts found to act together, by its id.", {"id": {**text, "maxLength": 64}}, ("id",), self._campaign
            )

    def definitions(self) -> list[dict[str, Any]]:
        """The tools in OpenAI's form."""
        return [
            {
                "type": "function",
                "function": {
                    "name": name, "description": tool.about,
                    "parameters": {
                        "type": "object", "properties": {key: dict(value) for key, value in tool.properties.items()},
                        "required": list(tool.required), "additionalProperties": False,
                    },
                },
            }
            for name, tool in self._tools.items()
        ]  # fmt: skip

    def run(self, name: str, arguments: str, *, first_number: int = 1) -> ToolResult:
        """One call. Never raises for what a model wrote: the result says what was wrong. `first_number`: of the first post in it."""
        if name not in self._tools:
            return _refused(one_line(name, 60), unknown_value(one_line(name, 60), list(self._tools), "tool"))
        tool = self._tools[name]
        given = _arguments(arguments, tool)
        if isinstance(given, str):
            return _refused(name, given)
        try:
            return tool.run(**given, **({"first_number": first_number} if name == "search" else {}))
        except AgoraError as error:
            return _refused(name, escaped(str(error))[:300])

    def _search(self, query: str, limit: int = 8, *, first_number: int) -> ToolResult:
        found = self._searcher.find(query, limit=limit, now=self._now(), match="auto")
        evidence = _numbered([hit for hit in found.hits if not is_addressed(hit.post["text"])], first_number)
        rows = [
            {
                "number": one.number, "day": one.day, "text": escaped(one.text)[:_TEXT], "alike": one.alike,
                "acts_with_a_group": is_coordinated(one.voice, one.author, one.label),
            }
            for one in evidence
        ]  # fmt: skip
        return ToolResult("search", _json({"posts": rows, "cite_as": "[number]"}), evidence)

    def _calculator(self, expression: str) -> ToolResult:
        value = calculate(expression)
        return ToolResult("calculator", _json({"value": value}), said=f"{one_line(expression)} = {value}")

    def _trends(self, window: str = "1d", query: str = "") -> ToolResult:
        assert self._square is not None
        window_s = float(parse_length(window))
        report = self._square.trends(query, window_s, 14 * window_s, 10, self._now())
        rows = [
            {"term": escaped(one.term)[:80], "voices": one.voices, "accounts": one.accounts, "usual": round(one.expected, 1)}
            for one in report.trends
        ]
        said = "; ".join(f"{quoted(one.term, 60)} ({one.voices:,} voices)" for one in report.trends[:5])
        return ToolResult("trends", _json({"trends": rows}), said=f"Rising in the last {window}: {said or 'nothing above what is usual'}.")

    def _campaign(self, id: str) -> ToolResult:
        assert self._square is not None
        found = self._square.campaign(id)
        sentences = [escaped(one)[:500] for one in found.sentences]
        content = {
            "id": found.id, "state": found.state, "accounts": len(found.members), "first": found.first_at, "last": found.last_at,
            "found": sentences,
        }  # fmt: skip
        told = " ".join(quoted(one, 300) for one in found.sentences)
        said = f"Campaign {found.id} ({found.state}, {len(found.members):,} accounts): {told}"
        return ToolResult("campaign", _json(content), said=said)


def _arguments(text: str, tool: _Tool) -> dict[str, Any] | str:
    """The arguments, or what is wrong with them."""
    if len(text) > MAX_ARGUMENTS:
        return f"the arguments have more than {MAX_ARGUMENTS:,} characters"
    try:
        given = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return "the arguments are no JSON"
    if not isinstance(given, dict):
        return "the arguments must be an object"
    for key, value in given.items():
        if key not in tool.properties:
            return unknown_value(one_line(key, 40), list(tool.properties), "argument")
        if wrong := _wrong(value, tool.properties[key]):
            return f"{key} {wrong}"
    missing = [key for key in tool.required if key not in given]
    return f"{missing[0]} is missing" if missing else given


def _wrong(value: Any, schema: Mapping[str, Any]) -> str | None:
    if schema["type"] == "integer":
        if isinstance(value, bool) or not isinstance(value, int) or not schema["minimum"] <= value <= schema["maximum"]:
            return f"must be a whole number from {schema['minimum']} to {schema['maximum']}"
        return None
    if not isinstance(value, str):
        return "must be text"
    if "enum" in schema:
        return None if value in schema["enum"] else f"must be one of {', '.join(schema['enum'])}"
    if not schema["minLength"] <= len(value) <= schema["maxLength"]:
        return f"must have {schema['minLength']} to {schema['maxLength']} characters"
    return "holds half of a surrogate pair" if any("\ud800" <= character <= "\udfff" for character in value) else None


def _numbered(hits: Sequence[Found], first: int) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            number=number, id=hit.post["id"], author=hit.post["author"], created_at=hit.post["created_at"],
            text=hit.post["text"][:MAX_CHARS], kind=hit.post["kind"], ref_id=hit.post.get("ref_id"), ref_author=hit.post.get("ref_author"),
            voice=hit.voice, label=hit.label, alike=hit.alike, score=float(hit.score),
        )
        for number, hit in enumerate(hits, start=first)
    )  # fmt: skip


def _refused(name: str, why: str) -> ToolResult:
    return ToolResult(name, _json({"error": why}), is_error=True)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)


__all__ = ["ToolResult", "Toolbox"]
