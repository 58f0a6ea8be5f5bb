"""The simulated square: posts of a small world whose every secret is known. Data of the demo, of tests and of scale runs.

Goes in: a SquareConfig. Comes out: posts in order of time (POST_SCHEMA), who belongs to what (ground truth), who follows whom.

    agora posts simulate num_posts=200000 --truth truth.parquet

No post is about a real person, place or brand. Not covered: private messages, deleted posts, images, changing handles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import UsageError
from agora.files import replacing
from agora.log import Progress, silent
from agora.posts.square.config import DEFAULT_CAMPAIGNS, Campaign, SquareConfig
from agora.posts.square.dialogues import dialogues
from agora.posts.square.grammar import Grammar
from agora.posts.square.pool import Pool
from agora.posts.square.population import CAMPAIGN, GROUP_KINDS, ORDINARY, build_population
from agora.posts.square.schedule import build_schedule
from agora.posts.square.window import Windows
from agora.posts.square.writing import Writer
from agora.posts.store import AppendResult, PostStore

__all__ = [
    "DEFAULT_CAMPAIGNS", "GROUP_KINDS", "TRUTH_SCHEMA", "Campaign", "SquareConfig", "dialogues", "follow_graph", "ground_truth",
    "simulate", "simulate_into", "write_ground_truth",
]  # fmt: skip

TRUTH_SCHEMA = pa.schema(
    [
        pa.field("author", pa.string(), nullable=False, metadata={"doc": "account"}),
        pa.field("group", pa.string(), nullable=False, metadata={"doc": "name of its group; 'ordinary' for none"}),
        pa.field("group_kind", pa.string(), nullable=False, metadata={"doc": ", ".join(GROUP_KINDS)}),
        pa.field("is_coordinated", pa.bool_(), nullable=False, metadata={"doc": "member of a campaign"}),
        pa.field("is_lead", pa.bool_(), nullable=False, metadata={"doc": "one of those whom the group amplifies or follows"}),
    ]
)


def simulate(config: SquareConfig, *, batch_rows: int = 65_536) -> Iterator[pa.Table]:
    """Exactly `num_posts` posts in order of time, in tables of `batch_rows` (the last one smaller). Same config, same posts.

    Memory depends on accounts and batch_rows, not on posts. Raises ConfigError when campaigns do not fit.
    """
    grammar = Grammar()
    people = build_population(config, grammar)
    schedule = build_schedule(config, people, grammar)
    pool = Pool()
    windows, writer = Windows(config, people, schedule, grammar, pool), Writer(config, people, schedule, grammar)
    waiting: list[pa.Table] = []
    num_waiting = 0
    while (window := windows.next()) is not None:
        rows, every, parent, rng = window
        texts = writer.texts(rows, every, pool.texts, parent, rng)
        waiting.append(writer.table(rows, texts, rng))
        num_waiting += len(rows)
        pool.add(rows, texts, windows.lasting(rows), float(rows.time_s[-1]) if len(rows) else 0.0)
        if num_waiting >= batch_rows:
            ready = pa.concat_tables(waiting)
            whole = num_waiting - num_waiting % batch_rows
            for start in range(0, whole, batch_rows):
                yield ready.slice(start, batch_rows).combine_chunks()
            waiting, num_waiting = [ready.slice(whole)], num_waiting - whole
    if num_waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def simulate_into(store: PostStore, config: SquareConfig, *, progress: Progress = silent) -> AppendResult:
    """Append the whole square to a store. Killed and run again it goes on: posts already there are recognised by id."""
    appended = duplicates = deleted = 0
    with progress.step("simulate posts", total=config.num_posts, unit="posts") as step:
        for table in simulate(config):
            result = store.append(table)
            appended, duplicates, deleted = appended + result.appended, duplicates + result.duplicates, deleted + result.deleted
            step.advance(table.num_rows)
    return AppendResult(appended, duplicates, deleted)


def ground_truth(config: SquareConfig) -> pa.Table:
    """Every account with its group: author, group, group_kind, is_coordinated, is_lead."""
    people = build_population(config, Grammar())
    count = len(people.handles)
    group, kind = np.full(count, ORDINARY, object), np.full(count, ORDINARY, object)
    lead = np.zeros(count, np.bool_)
    for one in people.groups:
        group[one.members], kind[one.members] = one.name, one.kind
        lead[one.leads] = True
    columns = [people.handles, pa.array(group, pa.string()), pa.array(kind, pa.string()), pa.array(kind == CAMPAIGN), pa.array(lead)]
    return pa.Table.from_arrays(columns, schema=TRUTH_SCHEMA)


def write_ground_truth(config: SquareConfig, path: Path) -> None:
    """Write `ground_truth` as Parquet. Raises UsageError for another ending or a folder that does not exist."""
    if path.suffix != ".parquet" or not path.parent.is_dir():
        raise UsageError(f"truth file {path} must end in .parquet and lie in an existing folder")
    with replacing(path) as part:
        pq.write_table(ground_truth(config), part)


def follow_graph(config: SquareConfig) -> pa.Table:
    """Who follows whom: follower, followed. A repost mostly comes from a follower of the author or of an earlier reposter."""
    people = build_population(config, Grammar())
    followed = np.repeat(np.arange(len(people.handles)), np.diff(people.follower_start))
    columns = [people.handles.take(pa.array(people.followers)), people.handles.take(pa.array(followed))]
    return pa.table(columns, names=["follower", "followed"])
