"""Every operator of the query language on written cases: reading, printing and reading again, finding, refusing, and hostile queries.

python -m benchmarks search_operators [--quick]

A case holds when the query prints as written, reads again as the same tree, warns as written, and finds exactly the written posts, one
by one and in the embedded index; a refused one when the error names the place and the reason; a hostile one when it is read or refused
within MAX_BOMB_MS.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import QuerySyntaxError
from agora.integrity.labels import ACCOUNT, LABEL_SCHEMA, POST
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.index.interface import PostIndex
from agora.search.query.matching import Engagement, MatchContext, matches
from agora.search.query.parse import parse
from agora.search.query.printing import to_text
from agora.search.query.syntax import Node
from benchmarks import search_operator_cases as written
from benchmarks.registry import Benchmark, Result

MAX_BOMB_MS: Final = 100.0
Find = Callable[[Node | None], set[str]]


def context() -> MatchContext:
    """What the written posts do not say themselves."""
    return MatchContext(
        now=written.NOW,
        labelled_accounts=written.LABELLED_ACCOUNTS,
        labelled_posts=written.LABELLED_POSTS,
        engagement=lambda post: written.ENGAGEMENT.get(post, Engagement()),
        above=lambda post: written.ABOVE.get(post, ()),
    )


def slow_find(root: Node | None) -> set[str]:
    """Ids of the written posts that match, one by one."""
    known = context()
    return {post["id"] for post in written.POSTS if matches(root, post, known)}


def filled(index: PostIndex, folder: Path) -> Find:
    """An empty index, filled with the written posts through a store in `folder`."""
    with PostStore.open(folder, create=True) as store:
        store.append(posts_table(written.POSTS))
        index.catch_up(store, labels=_labels())
    return lambda root: set(index.latest(root, len(written.POSTS), None, now=written.NOW).ids)


def _labels() -> pa.Table:
    fixed: dict[str, Any] = dict.fromkeys(LABEL_SCHEMA.names, "") | {
        "campaign": "c1", "is_automatic": True, "confidence": 1.0, "expires_at": "9999-01-01T00:00:00Z",
    }  # fmt: skip
    accounts = [{**fixed, "kind": ACCOUNT, "id": name, "account": name} for name in written.LABELLED_ACCOUNTS]
    posts = [{**fixed, "kind": POST, "id": name} for name in written.LABELLED_POSTS]
    return pa.Table.from_pylist([*accounts, *posts], schema=LABEL_SCHEMA)


def run_cases(find: Find | None = None) -> Iterator[tuple[str, str]]:
    """(query, what is wrong) of each case that does not hold."""
    for case in written.CASES:
        for fault in _faults(case, find):
            yield case.query, fault
    for refused in written.REFUSED:
        if reason := _fault_of_refused(refused):
            yield refused.query, reason


def _faults(case: written.Case, find: Find | None) -> Iterator[str]:
    try:
        query = parse(case.query, now=written.NOW)
    except QuerySyntaxError as error:
        yield f"refused: {error}"
        return
    text = to_text(query.root) if query.root else ""
    expected = case.query if case.printed is None else case.printed
    if text != expected:
        yield f"prints {text!r}, not {expected!r}"
    if parse(text, now=written.NOW).root != query.root:
        yield f"{text!r} reads as another tree"
    messages = [warning.message for warning in query.warnings]
    if len(messages) != (case.warning is not None) or (case.warning and case.warning not in messages[0]):
        yield f"warns {messages}, not {case.warning!r}"
    for name, ids in (("matching", slow_find(query.root)), *([("index", find(query.root))] if find else [])):
        if ids != set(case.finds.split()):
            yield f"{name} finds {sorted(ids)}, not {sorted(case.finds.split())}"


def _fault_of_refused(case: written.Refused) -> str | None:
    try:
        parse(case.query, now=written.NOW)
    except QuerySyntaxError as error:
        if error.position != case.position or case.says not in str(error):
            return f"position {error.position}, not {case.position}: {error}"
        return None
    return "is read"


def slowest_bomb() -> tuple[float, str]:
    """Milliseconds of the slowest hostile query (the better of two runs), and how it begins."""
    parse("warm")
    slowest = (0.0, "")
    for bomb in written.BOMBS:
        slowest = max(slowest, (min(_milliseconds(bomb) for _ in range(2)), bomb[:20]))
    return slowest


def _milliseconds(query: str) -> float:
    """Of processor time: the machine may be shared."""
    started = time.process_time()
    try:
        root = parse(query, now=written.NOW).root
        if root is not None:
            to_text(root)
    except QuerySyntaxError:
        pass
    return (time.process_time() - started) * 1000


def _run(quick: bool, options: dict[str, str]) -> Result:
    from agora.search.index.embedded import EmbeddedIndex

    with tempfile.TemporaryDirectory() as folder, EmbeddedIndex.open(Path(folder) / "index") as index:
        faults = [{"query": query[:200], "fault": fault} for query, fault in run_cases(filled(index, Path(folder) / "posts"))]
    total = len(written.CASES) + len(written.REFUSED)
    share = 1 - len({fault["query"] for fault in faults}) / total
    slowest, bomb = slowest_bomb()
    details: dict[str, Any] = {
        "cases": len(written.CASES), "refused": len(written.REFUSED), "hostile": len(written.BOMBS),
        "slowest_hostile_ms": round(slowest, 1), "slowest_hostile": bomb, "faults": faults,
    }  # fmt: skip
    return Result(value=share, holds=not faults and slowest < MAX_BOMB_MS, details=details)


BENCHMARK = Benchmark(
    measures="written cases of the query language that hold, and no hostile query takes 100 ms",
    unit="share of cases", bound=">= 1.0", run=_run,
)  # fmt: skip
