"""Seconds to the first words of a grounded answer: question in, first checked sentence out, over a million posts, without a model.

python -m benchmarks first_token [--quick] [--posts N] [--questions N] [--data FOLDER]

Posts are those of benchmarks/search_speed.py. Questions are made from words of posts (none of a link, which nobody asks for), some with a
time, some follow two earlier turns. Everything counts: reading the conversation, planning, search by words and vectors, choosing evidence,
writing, checking. One assistant is held open, as the server holds it; the first question, which opens the index, is timed apart. Where
posts do not answer, the first words say so, and count too. Every sentence of an answer must stand on posts that it cites. `value` is the
95th percentile of the wall time; processor time stands beside it.
"""

from __future__ import annotations

import random
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from agora.chat import Assistant, Done, Text
from agora.posts.store import PostStore
from agora.search.find import Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import LexicalEmbeddings
from agora.text.words import plain_words
from benchmarks.registry import SHARED_DATA, Benchmark, Result, whole_number
from benchmarks.search_speed import some_posts

BAR_S: Final = 1.5
MIN_CITED: Final = 0.5
"""Of the questions so many get an answer. A third asks for the last three days, which may have none, an eighth for a reason."""
POSTS: Final = 1_000_000
QUICK_POSTS: Final = 30_000


def _queries(posts: pa.Table, count: int) -> list[str]:
    """Two to five words of one post each."""
    rng = random.Random(7)
    queries: list[str] = []
    while len(queries) < count:
        text = posts["text"][rng.randrange(posts.num_rows)].as_py()
        words = plain_words(" ".join(part for part in text.split() if "/" not in part))
        if len(words) >= 5:
            queries.append(" ".join(rng.sample(words, rng.randrange(2, 6))))
    return queries


def _conversation(text: str, number: int, day: datetime) -> list[dict[str, str]]:
    """A question; every third one since a day, every fourth one as the third turn of a talk."""
    question = f"What do people say about {text}{f' since {day:%Y-%m-%d}' if number % 3 == 2 else ''}?"
    if number % 4 != 3:
        return [{"role": "user", "content": question}]
    return [
        {"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hello."}, {"role": "user", "content": question},
        {"role": "assistant", "content": "A post says so. [1]"}, {"role": "user", "content": "why?" if number % 8 == 7 else "tell me more"},
    ]  # fmt: skip


def _first(assistant: Assistant, messages: list[dict[str, str]], now: datetime) -> tuple[float, float, str]:
    """Seconds, processor seconds, and what came of it: `cited`, `abstained`, or `uncited`, where a sentence stands on no cited post."""
    started, used = time.perf_counter(), time.process_time()
    events = assistant.answer(messages, now=now)
    next(event for event in events if isinstance(event, Text))
    done = (time.perf_counter() - started, time.process_time() - used)
    (reply,) = [event.answer for event in events if isinstance(event, Done)]
    cards = {card.post_id for card in reply.citations}
    is_cited = bool(reply.sentences) and all(said.post_ids and cards.issuperset(said.post_ids) for said in reply.sentences)
    return (*done, "cited" if is_cited else "abstained" if reply.abstained and not reply.sentences else "uncited")


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_posts = whole_number(options, "posts", QUICK_POSTS if quick else POSTS, at_least=1_000)
    num_questions = whole_number(options, "questions", 40 if quick else 200, at_least=10)
    posts = some_posts(num_posts, Path(options.get("data", SHARED_DATA)))
    newest: Any = pc.max(posts["created_at"]).as_py()
    now = newest.astimezone(timezone.utc) + timedelta(minutes=1)
    queries = _queries(posts, num_questions + 5)
    embeddings = LexicalEmbeddings()
    with (
        tempfile.TemporaryDirectory() as folder,
        PostStore.open(Path(folder) / "posts", create=True) as store,
        EmbeddedIndex.open(Path(folder) / "index") as index,
    ):
        store.append(posts)
        index.catch_up(store, embeddings=embeddings)
        assistant = Assistant(Searcher(index, embeddings=embeddings))
        day = now - timedelta(days=3)
        opening = _first(assistant, _conversation(queries[-1], 0, day), now)
        found = [_first(assistant, _conversation(text, number, day), now) for number, text in enumerate(queries[:num_questions])]
    wall, used = np.array([one[0] for one in found]), np.array([one[1] for one in found])
    value = float(np.percentile(wall, 95))
    kinds = {kind: sum(one[2] == kind for one in found) for kind in ("cited", "abstained", "uncited")}
    details = {
        "posts": posts.num_rows, "questions": len(found), **kinds,
        "p50_s": float(np.percentile(wall, 50)), "max_s": float(wall.max()), "processor_p50_s": float(np.percentile(used, 50)),
        "processor_p95_s": float(np.percentile(used, 95)), "first_question_s": opening[0],
    }  # fmt: skip
    return Result(
        value=value, holds=value <= BAR_S and not details["uncited"] and details["cited"] >= MIN_CITED * len(found), details=details
    )


BENCHMARK = Benchmark(
    measures="95th percentile of the time to the first words of a grounded answer, extractive writer", unit="s",
    bound=f"<= {BAR_S}, every sentence cited", run=_run, options=("posts", "questions", "data"),
)  # fmt: skip
