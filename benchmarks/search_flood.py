"""Who floods the square gains nothing: 500 coordinated accounts push one claim, 20 ordinary accounts speak about the same thing.

python -m benchmarks search_flood [--quick] [--seed N]

Twice: with labels as a person would write them, and with those of a real integrity scan over a simulated square in which the 500 have acted
together before. Each is asked in several ways, by top and by latest, with and without vectors. `value` is the largest number of voices that
the flood's posts have among the first ten hits, and in an answer's evidence, of any of these and of several squares. Beside it, what the
same search shows without labels.

Not covered: floods that a scan does not find (docs/integrity.md): of those only near-duplicates are one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from agora.integrity.labels import LABEL_SCHEMA
from agora.integrity.voice import voices
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.find import Results, Searcher
from agora.search.index.embedded import EmbeddedIndex
from agora.text.embeddings import LexicalEmbeddings
from benchmarks.registry import Benchmark, Result, whole_number

NUM_FLOOD, NUM_ORDINARY, TOP = 500, 20, 10
BAR = 1
LEAST_OTHERS = 5
"""Ordinary voices among the first ten: a search that finds nothing passes no bar."""
SEEDS = (3, 4, 11, 12, 13)
"""3 and 4 have the most accounts of the flood that no label reaches (of seeds 0 to 11); 12 and 13 were never looked at before."""
START = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)
QUESTIONS = (
    "harbour bridge closed poison", "is the harbour bridge closed because of poison?", "harbour bridge", '"harbour bridge" OR poison',
    "what happened at the harbour bridge",
)  # fmt: skip
ASKED = ("What happened at the harbour bridge?", "Is the harbour bridge closed because of poison?")
_OPENINGS = (
    "Breaking",
    "Share this",
    "They hide it",
    "Wake up",
    "My cousin saw it",
    "Nobody reports",
    "Truth",
    "Warning",
    "Hear me",
    "Proof",
)
_CLAIMS = (
    "the harbour bridge is closed because of poison",
    "poison closed the harbour bridge",
    "the harbour bridge was shut after poison was found",
    "officials closed the harbour bridge over poison",
    "there is poison on the harbour bridge and it is closed",
)
_ENDINGS = (
    "pass it on", "before they delete this", "stay away", "the mayor knows", "tell your family", "no paper prints it", "believe me",
    "we were right", "this is huge", "open your eyes",
)  # fmt: skip
_SEEN = (
    "Crossed the harbour bridge at noon",
    "The harbour bridge is open, trams as usual",
    "Police at the harbour bridge say nothing was found",
    "Stood on the harbour bridge for an hour, no poison, only wind",
    "Harbour bridge closed for ten minutes for a boat",
)


def _flood_posts(accounts: list[str], at: datetime) -> list[dict[str, Any]]:
    rows = []
    for number, account in enumerate(accounts):
        words = (_OPENINGS[number % 10], _CLAIMS[number // 10 % 5], _ENDINGS[number // 50 % 10])
        rows.append(_post(f"flood-{number}", account, at + timedelta(seconds=number % 60), f"{words[0]}: {words[1]}, {words[2]}!"))
    return rows


def _ordinary_posts(accounts: list[str], at: datetime) -> list[dict[str, Any]]:
    detail = ["by bus", "on foot", "with the children", "on my way to work"]
    return [
        _post(f"ordinary-{number}", account, at - timedelta(minutes=number), f"{_SEEN[number % 5]}, {detail[number // 5]}.")
        for number, account in enumerate(accounts)
    ]


def _post(name: str, author: str, at: datetime, text: str) -> dict[str, Any]:
    return {"id": name, "author": author, "created_at": at, "text": text, "lang": "en", "kind": "post", "source": "flood"}


def _written_labels(accounts: list[str]) -> pa.Table:
    rows = [
        {
            "kind": "account", "id": account, "account": account, "campaign": "c-flood", "state": "coordinated", "is_automatic": False,
            "reason": "A person looked at it.", "evidence": "written", "confidence": 1.0, "expires_at": "2030-01-01T00:00:00Z",
            "appeal": "none",
        }
        for account in accounts
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=LABEL_SCHEMA)


def _written() -> tuple[pa.Table, pa.Table, list[str]]:
    flood = [f"coordinated{number}" for number in range(NUM_FLOOD)]
    ordinary = [f"ordinary{number}" for number in range(NUM_ORDINARY)]
    return posts_table(_flood_posts(flood, START) + _ordinary_posts(ordinary, START)), _written_labels(flood), flood


def _scanned(seed: int, *, quick: bool) -> tuple[pa.Table, pa.Table, list[str]]:
    """A square in which the flood's accounts have struck before, what a scan of it all labels, and who the flood is."""
    from agora.integrity.batch import POST_COLUMNS
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.labels import labels
    from agora.integrity.rulings import Rulings
    from agora.integrity.scan import scan
    from agora.posts.simulate import Campaign, SquareConfig, ground_truth, simulate

    campaign = Campaign(name="flood", num_accounts=NUM_FLOOD, num_waves=12, jitter_s=60, participation=0.7, camouflage=0.3, channel="text")
    size = (60_000, 8_000) if quick else (100_000, 10_000)
    config = SquareConfig(num_posts=size[0], num_accounts=size[1], seed=seed, campaigns=(campaign,))
    truth = ground_truth(config)
    group = dict(zip(truth["author"].to_pylist(), truth["group"].to_pylist(), strict=True))
    flood = [account for account, name in group.items() if name == "flood"]
    ordinary = [account for account, name in group.items() if name == "ordinary"][:NUM_ORDINARY]
    mine = posts_table(_flood_posts(flood, START) + _ordinary_posts(ordinary, START))
    posts = pa.concat_tables([*simulate(config), mine])
    with tempfile.TemporaryDirectory() as work:
        result = scan(posts.select(list(POST_COLUMNS)).to_batches(max_chunksize=65_536), Path(work), config=IntegrityConfig())
    return posts, labels(result, Rulings(), datetime.now(timezone.utc)), flood


@contextmanager
def _index(posts: pa.Table) -> Iterator[EmbeddedIndex]:
    with (
        tempfile.TemporaryDirectory() as folder,
        PostStore.open(Path(folder) / "posts", create=True) as store,
        EmbeddedIndex.open(Path(folder) / "index") as index,
    ):
        store.append(posts)
        index.catch_up(store, embeddings=LexicalEmbeddings())
        yield index


def _asked(index: EmbeddedIndex, labels: pa.Table | None, flood: frozenset[str]) -> dict[str, Any]:
    """How many voices the flood has in each way of asking, and how many ordinary accounts are seen."""
    known = voices(labels) if labels is not None else None
    now = START + timedelta(hours=1)
    most, in_evidence, least_others, floods = 0, 0, TOP, list[int]()
    for embeddings in (None, LexicalEmbeddings()):
        searcher = Searcher(index, embeddings=embeddings, voices=known, labels=labels)
        for question in QUESTIONS:
            for mode in ("top", "latest"):
                if mode == "latest" and "?" in question:
                    continue
                found = searcher.find(question, mode=mode, limit=TOP, now=now)  # type: ignore[arg-type]
                shown = _flood_voices(found, flood)
                floods.append(shown)
                most = max(most, shown)
                others = len({hit.voice for hit in found.hits if hit.post["author"] not in flood})
                least_others = min(least_others, others) if mode == "top" else least_others
        in_evidence = max(in_evidence, *(_evidence_voices(searcher, question, now) for question in ASKED))
    return {
        "flood_voices_at_most": most,
        "flood_voices_in_evidence": in_evidence,
        "flood_voices_mean": float(np.mean(floods)),
        "fewest_other_voices_in_top": least_others,
    }


def _flood_voices(found: Results, flood: frozenset[str]) -> int:
    return len({hit.voice for hit in found.hits if hit.post["author"] in flood})


def _evidence_voices(searcher: Searcher, question: str, now: datetime) -> int:
    from agora.search.answers.ask import ask

    return len({one.voice for one in ask(question, searcher, now=now).evidence if one.id.startswith("flood-")})


def _one(posts: pa.Table, labels: pa.Table, flood: list[str]) -> dict[str, Any]:
    labelled = {row["id"] for row in labels.to_pylist() if row["kind"] == "account"}
    who = frozenset(flood)
    with _index(posts) as index:
        without = _asked(index, None, who)
        found = _asked(index, labels, who)
    return {**found, "flood_labelled": len(labelled & who), "others_labelled": len(labelled - who), "without_labels": without}


def _run(quick: bool, options: dict[str, str]) -> Result:
    seeds = (whole_number(options, "seed", 0, at_least=0),) if "seed" in options else SEEDS[:2] if quick else SEEDS
    details = {"written_labels": _one(*_written())}
    details |= {f"labels_of_a_scan_{seed}": _one(*_scanned(seed, quick=quick)) for seed in seeds}
    value = max(max(one["flood_voices_at_most"], one["flood_voices_in_evidence"]) for one in details.values())
    others = min(one["fewest_other_voices_in_top"] for one in details.values())
    return Result(value=float(value), holds=value <= BAR and others >= LEAST_OTHERS, details=details | {"fewest_other_voices": others})


BENCHMARK = Benchmark(
    measures="most voices of 500 coordinated accounts in the first ten hits and in an answer's evidence, against 20 others", unit="voices",
    bound=f"<= {BAR}, and at least {LEAST_OTHERS} others in the first ten, for each of several squares", run=_run, options=("seed",),
)  # fmt: skip
