"""The same posts scanned on this machine and with Daft on a Ray cluster: are all campaigns identical, down to the last piece of evidence?

    python -m benchmarks integrity_cluster [--quick] [--ways parquet store] [--nodes 2] [--address ray://head:10001] [--posts FOLDER]

Without --address, two Ray nodes are started on this machine and stopped afterwards. Each node must have done part of the work. --posts is a
folder of Parquet files of posts that all nodes see; without it posts are simulated, put out of order, and a tenth of them sent twice within
one second. They are read from a folder of Parquet files and from a post store (with --quick only this), or with --address sent to the
nodes, which then need the `benchmarks` folder on their Python path, too.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from agora.errors import MissingExtraError, UsageError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.cluster import cluster_scan, read_posts, use_ray
from agora.integrity.collect import key_table
from agora.integrity.records import ScanResult
from agora.integrity.scan import scan
from agora.posts.simulate import SquareConfig, simulate
from agora.posts.store import PostStore
from agora.text.quiet_daft import daft
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number

NUM_POSTS, NUM_POSTS_QUICK = 200_000, 20_000
NUM_FILES: Final = 7
PARTITIONS_PER_NODE: Final = 3
NAMESPACE: Final = "agora"
OBJECT_STORE_BYTES: Final = 256 << 20


def run(quick: bool, options: dict[str, str]) -> Result:
    """Scan here, then through each way of reading on the cluster."""
    num_nodes = whole_number(options, "nodes", 2, at_least=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        posts = _given(Path(options["posts"])) if "posts" in options else _simulated(NUM_POSTS_QUICK if quick else NUM_POSTS)
        started = time.perf_counter()
        local = scan(iter(posts.to_batches(max_chunksize=65_536)), folder / "local")
        seconds = time.perf_counter() - started
        with _cluster(options.get("address"), num_nodes) as address:
            use_ray(address)
            runs = [
                _compare(way, frame, folder / f"work-{way}", local, posts.num_rows, num_nodes)
                for way, frame in _frames(posts, folder, options, "store" if quick else "parquet\nstore")
            ]
    value = float(all(run["is_identical"] for run in runs))
    worked = all(len(run["posts_by_node"]) >= num_nodes for run in runs)
    details = {
        "posts": local.num_posts, "campaigns": len(local.campaigns), "labelled": sum(len(one.labelled) for one in local.campaigns),
        "local_s": round(seconds, 1), "all_nodes_worked": worked, "runs": runs,
    }  # fmt: skip
    return Result(value=value, holds=value == 1.0 and worked, details=details)


def _given(folder: Path) -> pa.Table:
    return pq.read_table(folder, columns=list(POST_COLUMNS))


def _simulated(num_posts: int) -> pa.Table:
    """Posts out of order, some of which only their ids tell apart."""
    table = pa.concat_tables(simulate(SquareConfig(num_posts=num_posts, num_accounts=num_posts // 13, days=7.0, seed=11)))
    rng = np.random.default_rng(11)
    twice = table.take(rng.choice(table.num_rows, num_posts // 10, replace=False))
    twice = twice.set_column(0, table.schema.field("id"), pa.array([uuid.UUID(bytes=rng.bytes(16)).hex for _ in range(twice.num_rows)]))
    table = pa.concat_tables([table, twice])
    return table.take(rng.permutation(table.num_rows)).combine_chunks()


def _frames(posts: pa.Table, folder: Path, options: dict[str, str], ways: str) -> Iterator[tuple[str, Any]]:
    if "posts" in options:
        yield "parquet", read_posts(Path(options["posts"]))
        return
    size = posts.num_rows // NUM_FILES + 1
    parts = [posts.slice(start, size) for start in range(0, posts.num_rows, size)]
    if "address" in options:
        yield "memory", daft.from_arrow(parts)
        return
    wanted = options.get("ways", ways).split("\n")
    if unknown := sorted(set(wanted) - {"parquet", "store"}):
        raise UsageError(f"--ways {unknown[0]!r} is not one of parquet, store")
    if "parquet" in wanted:
        (folder / "parquet").mkdir()
        for number, part in enumerate(parts):
            pq.write_table(part, folder / "parquet" / f"{NUM_FILES - number}.parquet")
        yield "parquet", read_posts(folder / "parquet")
    if "store" in wanted:
        with PostStore.open(folder / "store", create=True) as store:
            store.append(posts)
            yield "store", store.to_daft()


def _compare(way: str, frame: Any, work: Path, local: ScanResult, num_posts: int, num_nodes: int) -> dict[str, Any]:
    started = time.perf_counter()
    with _counting() as (counter, totals):
        make = functools.partial(_counted_keys, counter=counter)
        found = cluster_scan(frame, work, num_posts=num_posts, num_partitions=PARTITIONS_PER_NODE * num_nodes, make=make)
        by_node = totals()
    seconds = round(time.perf_counter() - started, 1)
    return {"way": way, "is_identical": found == local, "posts_by_node": by_node, "seconds": seconds}


class _Counts:
    """Posts worked on by each node; lives in the cluster."""

    def __init__(self) -> None:
        self._posts: Counter[str] = Counter()

    def add(self, node: str, num_posts: int) -> None:
        self._posts[node] += num_posts

    def total(self) -> dict[str, int]:
        return dict(self._posts)


@contextmanager
def _counting() -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """The name under which nodes find the counter, and what reads it."""
    import ray

    name = f"counts-{uuid.uuid4().hex}"
    actor = ray.remote(_Counts).options(name=name, namespace=NAMESPACE).remote()
    try:
        yield name, lambda: dict(ray.get(actor.total.remote()))
    finally:
        ray.kill(actor)


def _counted_keys(posts: pa.RecordBatch, *, counter: str) -> pa.RecordBatch:
    """`key_table` on a node, which is put down in the counter."""
    import ray

    if posts.num_rows:
        node = ray.get_runtime_context().get_node_id()
        ray.get(ray.get_actor(counter, namespace=NAMESPACE).add.remote(node, posts.num_rows))
    return key_table(posts)


@contextmanager
def _cluster(address: str | None, num_nodes: int) -> Iterator[str]:
    """The cluster at `address`, or one of several nodes on this machine with a core each."""
    try:
        import ray
        from ray.cluster_utils import Cluster
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "ray", "benchmark integrity_cluster") from error
    if address is not None:
        try:
            yield address
        finally:
            ray.shutdown()
        return
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    node = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    try:
        for _ in range(num_nodes - 1):
            cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield cluster.address
    finally:
        ray.shutdown()
        cluster.shutdown()


BENCHMARK = Benchmark(
    measures="1 when a scan through Daft on Ray nodes gives the campaigns of a scan on one machine, all evidence included",
    unit="identical",
    bound="== 1.0",
    run=run,
    options=("ways", "nodes", "address", "posts"),
)
