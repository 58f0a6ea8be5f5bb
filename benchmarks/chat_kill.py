"""kill -9 of the server during chats: no question that was taken is lost, no answer is half-written.

python -m benchmarks chat_kill [--quick] [--chats 50] [--kills N]

`agora serve` over a simulated square answers many conversations at the same time, over HTTP, question after question, some as reports of
several searches; when each has been told that its first question is stored, and a little later each time, it is killed with SIGKILL. It
is then started again on the same workspace, and every conversation is read over HTTP. What a client was told is stored must be there, in
its order; an answer that ended must be what the client read, with its cards; one that did not must say so and be the beginning of what
was on its way. `value`: the messages for which one of these does not hold, over all kills.

Not covered: a loss of power (SQLite commits with synchronous=FULL), and PostgreSQL.
"""

from __future__ import annotations

import json
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from agora.settings import Workspace
from benchmarks.registry import Benchmark, Result, whole_number
from benchmarks.served_square import indexed_square, served

POSTS: Final = 3_200
TOPICS: Final = ("train", "coffee", "rain", "market", "bridge", "music", "school", "river")
MOST_TURNS: Final = 8


@dataclass(slots=True)
class Turn:
    """One question and what came of it, as the client saw it. `answer`: the number that the server gave it."""

    question: str
    answer: int = 0
    text: str = ""
    citations: list[int] = field(default_factory=list)
    is_stored: bool = False
    is_done: bool = False


def _run(quick: bool, options: dict[str, str]) -> Result:
    chats = whole_number(options, "chats", 12 if quick else 50, at_least=1)
    kills = whole_number(options, "kills", 1 if quick else 4, at_least=1)
    problems, states = list[str](), Counter[str]()
    num_told = num_open = 0
    with tempfile.TemporaryDirectory() as folder:
        place = indexed_square(Path(folder) / "workspace", POSTS)
        for kill in range(kills):
            told = _killed(place, chats, wait_s=0.4 * (kill + 1))
            found, met = _look(place, told)
            problems += [f"kill {kill + 1}: {one}" for one in found]
            states += met
            turns = [turn for talk in told.values() for turn in talk if turn.is_stored]
            num_told, num_open = num_told + len(turns), num_open + sum(not turn.is_done for turn in turns)
            if len(told) < chats:
                problems.append(f"kill {kill + 1}: only {len(told)} of {chats} chats had begun")
    details = {
        "chats": chats, "kills": kills, "questions_told_as_stored": num_told, "answers_under_way_at_the_kill": num_open,
        "states_after_the_restart": dict(states), "problems": problems[:10],
    }  # fmt: skip
    return Result(value=float(len(problems)), holds=not problems and num_open > 0, details=details)


def _killed(place: Workspace, chats: int, *, wait_s: float) -> dict[str, list[Turn]]:
    """The conversations that had begun when the server was killed."""
    told: dict[str, list[Turn]] = {}
    mutex = threading.Lock()
    with served(place) as (address, process):
        base = f"{address}/api/v1"

        def chat(number: int) -> None:
            try:
                talk = httpx.post(f"{base}/conversations", json={"title": str(number)}, timeout=120).raise_for_status().json()["id"]
                for turn in range(MOST_TURNS):
                    topic = TOPICS[(number + turn) % len(TOPICS)]
                    asked = Turn(f"{number}.{turn}: what do people say about the {topic}?" + " please" * (number * 7 % 60))
                    with mutex:
                        told.setdefault(talk, []).append(asked)
                    _ask(f"{base}/conversations/{talk}/ask", asked, is_report=(number + turn) % 3 == 0)
            except httpx.HTTPError:
                pass  # the server was killed

        threads = [threading.Thread(target=chat, args=(number,), daemon=True) for number in range(chats)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 180
        while sum(any(turn.is_stored for turn in list(talk)) for talk in list(told.values())) < chats and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(wait_s)
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(30)
    return told


def _ask(url: str, turn: Turn, *, is_report: bool) -> None:
    """Ask, and note each event as it comes. Raises HTTPError when the server dies."""
    body = {"text": turn.question, "mode": "research" if is_report else "answer"}
    with httpx.stream("POST", url, json=body, timeout=180) as answer:
        answer.raise_for_status()
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line[7:]
            elif line.startswith("data: "):
                data = json.loads(line[6:])
                if kind == "begun":
                    turn.answer, turn.is_stored = data["answer"], True
                elif kind == "citation":
                    turn.citations.append(data["number"])
                elif kind == "text":
                    turn.text += data["delta"]
                elif kind == "done":
                    turn.is_done = data["state"] == "complete"


def _look(place: Workspace, told: dict[str, list[Turn]]) -> tuple[list[str], Counter[str]]:
    """What is not as it must be after the server began again, and how many answers stand in which state."""
    problems, states = list[str](), Counter[str]()
    with served(place) as (address, _), httpx.Client(base_url=f"{address}/api/v1", timeout=60) as client:
        for talk, turns in told.items():
            messages = client.get(f"/conversations/{talk}").raise_for_status().json()["messages"]
            stored = [turn for turn in turns if turn.is_stored]
            questions = [one for one in messages if one["role"] == "user"]
            # The last one may have been stored without the client having heard of it.
            if [one["content"] for one in questions[: len(stored)]] != [turn.question for turn in stored] or len(questions) > len(turns):
                problems.append(f"{talk}: questions are lost or changed")
            answers = {one["id"]: one for one in messages if one["role"] == "assistant"}
            for turn in stored:
                if turn.answer not in answers:
                    problems.append(f"{talk}: an answer is lost")
                else:
                    states[answers[turn.answer]["state"]] += 1
                    problems += [f"{talk}: {one}" for one in _wrong(answers[turn.answer], turn)]
    return problems, states


def _wrong(stored: dict[str, Any], turn: Turn) -> list[str]:
    """What is wrong with a stored answer."""
    text, found = stored["content"], list[str]()
    if stored["state"] not in ("complete", "interrupted") or (turn.is_done and stored["state"] != "complete"):
        found.append(f"an answer is {stored['state']}, which the client saw {'end' if turn.is_done else 'begin'}")
    if turn.is_done and text != turn.text:
        found.append("an answer that had ended is not what was read")
    if not (text.startswith(turn.text) or turn.text.startswith(text)) or (text and not text.endswith("\n")):
        found.append("an answer is not the beginning of what was on its way")
    cards = [one["number"] for one in stored["details"].get("citations", [])]
    if not {int(number) for number in re.findall(r"\[(\d+)\]", text)} <= set(cards) or (turn.is_done and cards != turn.citations):
        found.append("a citation has no card")
    return found


BENCHMARK = Benchmark(
    measures="messages lost or half-written after kill -9 of `agora serve` during chats", unit="messages", bound="== 0", run=_run,
    options=("chats", "kills"),
)  # fmt: skip
