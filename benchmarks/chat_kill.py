"""kill -9 of the server during chats: no question that was taken is lost, no answer is half-written.

python -m benchmarks chat_kill [--quick] [--chats 50]

A server answers many conversations at the same time, by an answerer that writes a word every few milliseconds, and is killed in the middle.
What the clients were told was stored must be there; every answer must be a whole state that was once saved.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from agora.server.conversations import Conversations
from agora.server.tables import open_database
from benchmarks.registry import Benchmark, Result, whole_number

_SERVER = """
import sys, time, uvicorn
from pathlib import Path
from fastapi import FastAPI
from agora.server.accounts import LOCAL, SCOPES, Accounts
from agora.server.api.asking import asking_routes
from agora.server.api.talks import talk_routes
from agora.server.asking import Asker, Event
from agora.server.conversations import Conversations
from agora.server.gate import Gate, GateConfig
from agora.server.running import Stopping
from agora.server.tables import open_database

def answer(asked):
    for number in range(4000):
        if asked.cancelled.is_set():
            return
        yield Event("text", {"delta": f"w{number} "})
        time.sleep(0.005)

database = open_database(Path(sys.argv[1]))
talks, app = Conversations(database), FastAPI()
app.include_router(talk_routes(talks))
app.include_router(asking_routes(Asker(talks, answer, Stopping())))
app.add_middleware(Gate, config=GateConfig(is_open=True, requests_per_minute=1_000_000), accounts=Accounts(database))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error")
"""


def _run(quick: bool, options: dict[str, str]) -> Result:
    chats = whole_number(options, "chats", 12 if quick else 50, at_least=1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "server.db"
        told = _killed(file, chats)
        problems, states = _look(file, told)
    details = {"chats": chats, "questions told as stored": len(told), "states after the kill": states, "problems": problems[:10]}
    return Result(value=float(len(problems)), holds=not problems and len(told) == chats, details=details)


def _killed(file: Path, chats: int) -> dict[str, str]:
    """The conversations whose question the server had said it has, with that question."""
    import httpx

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, str(file), str(port)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    base, told, mutex = f"http://127.0.0.1:{port}/api/v1", dict[str, str](), threading.Lock()
    try:
        until = time.monotonic() + 240
        while True:
            try:
                httpx.get(f"{base}/conversations", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

        def chat(number: int) -> None:
            question = f"question {number} " + "x" * (number * 37 % 500)
            talk = httpx.post(f"{base}/conversations", json={"title": str(number)}, timeout=60).json()["id"]
            try:
                with httpx.stream("POST", f"{base}/conversations/{talk}/ask", json={"text": question}, timeout=60) as answer:
                    for line in answer.iter_lines():
                        if line.startswith("data: ") and "question" in json.loads(line[6:]):
                            with mutex:
                                told[talk] = question
            except httpx.HTTPError:
                pass  # the server was killed

        threads = [threading.Thread(target=chat, args=(number,), daemon=True) for number in range(chats)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 60
        while len(told) < chats and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(2.5)  # some answers have been saved once or twice, and are being saved
        process.send_signal(signal.SIGKILL)
        for thread in threads:
            thread.join(10)
    finally:
        process.kill()
        process.wait()
    return told


def _look(file: Path, told: dict[str, str]) -> tuple[list[str], dict[str, int]]:
    """What is not as it must be in the database that the kill left, and how many answers stand in which state."""
    database = open_database(file)
    try:
        talks = Conversations(database)
        talks.mark_interrupted()
        problems, states = list[str](), dict[str, int]()
        for talk, question in told.items():
            messages: list[dict[str, Any]] = talks.read(1, talk)["messages"]
            if not messages or messages[0]["content"] != question or messages[0]["state"] != "complete":
                problems.append(f"{talk}: the question is lost or changed")
            for one in messages[1:]:
                states[one["state"]] = states.get(one["state"], 0) + 1
                words = one["content"].split()
                if one["content"] != "".join(f"w{number} " for number in range(len(words))) or one["state"] == "writing":
                    problems.append(f"{talk}: an answer is half-written")
            if len(messages) != 2:
                problems.append(f"{talk}: {len(messages)} messages")
        return problems, states
    finally:
        database.close()


BENCHMARK = Benchmark(
    measures="messages lost or half-written after kill -9 during chats", unit="messages", bound="== 0", run=_run, options=("chats",)
)
