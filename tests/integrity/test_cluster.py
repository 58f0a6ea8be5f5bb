"""A scan whose reading Daft does gives the campaigns of a local scan, however the posts are divided and ordered."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from agora.errors import DataError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.cluster import cluster_scan, key_batches, read_posts
from agora.integrity.collect import key_schema, key_table
from agora.integrity.config import IntegrityConfig
from agora.integrity.records import ScanResult
from agora.integrity.scan import scan
from agora.posts.simulate import SquareConfig, simulate
from agora.posts.store import PostStore
from agora.text.quiet_daft import daft

SQUARE = SquareConfig(num_posts=20_000, num_accounts=1_500, days=7.0, seed=5)
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'agora[ray]'")
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def posts() -> pa.Table:
    """A square in which every tenth post was sent twice within one second: only their ids tell the two apart."""
    table = pa.concat_tables(simulate(SQUARE)).combine_chunks()
    twice = table.take(np.arange(0, table.num_rows, 10))
    twice = twice.set_column(0, table.schema.field("id"), pa.array([f"again-{n * 7919 % 10_007}" for n in range(twice.num_rows)]))
    return pa.concat_tables([table, twice]).combine_chunks()


def batches_of(posts: pa.Table) -> Iterator[pa.RecordBatch]:
    yield from posts.select(list(POST_COLUMNS)).to_batches(max_chunksize=4096)


def shuffled(posts: pa.Table, seed: int) -> pa.Table:
    return posts.take(np.random.default_rng(seed).permutation(posts.num_rows)).combine_chunks()


@pytest.fixture(scope="module")
def local(posts: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> ScanResult:
    result = scan(batches_of(posts), tmp_path_factory.mktemp("local"))
    assert sum(campaign.state != "shared_interest" for campaign in result.campaigns) >= 2
    assert any(artefact.actions for campaign in result.campaigns for artefact in campaign.artefacts)
    return result


@pytest.mark.parametrize("seed", [1, 2])
def test_local_scan_does_not_depend_on_the_order_of_posts(posts: pa.Table, local: ScanResult, tmp_path: Path, seed: int) -> None:
    assert scan(batches_of(shuffled(posts, seed)), tmp_path) == local


@pytest.mark.parametrize("num_partitions", [1, 7])
def test_campaigns_are_those_of_a_local_scan(posts: pa.Table, local: ScanResult, tmp_path: Path, num_partitions: int) -> None:
    mixed, size = shuffled(posts, num_partitions), posts.num_rows // num_partitions + 1
    frame = daft.from_arrow([mixed.slice(start, size) for start in range(0, posts.num_rows, size)])
    assert cluster_scan(frame, tmp_path, num_posts=posts.num_rows, num_partitions=num_partitions) == local


def test_campaigns_of_the_meaning_layer_are_those_of_a_local_scan(posts: pa.Table, tmp_path: Path) -> None:
    coarse = posts.set_column(posts.column_names.index("created_at"), "created_at", pc.floor_temporal(posts["created_at"], unit="minute"))
    config = IntegrityConfig(meaning=True)
    expected = scan(batches_of(coarse), tmp_path / "local", config=config)
    assert cluster_scan(daft.from_arrow(shuffled(coarse, 4)), tmp_path, config=config) == expected


def test_campaigns_from_a_folder_of_parquet_files_are_those_of_a_local_scan(posts: pa.Table, local: ScanResult, tmp_path: Path) -> None:
    mixed = shuffled(posts, 3)
    (tmp_path / "posts").mkdir()
    for number in range(7):
        pq.write_table(mixed.slice(number * 4_000, 4_000), tmp_path / "posts" / f"{6 - number}.parquet")
    assert cluster_scan(read_posts(tmp_path / "posts"), tmp_path / "work") == local


def test_campaigns_from_a_store_are_those_of_a_local_scan(posts: pa.Table, local: ScanResult, tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts)
        assert cluster_scan(store.to_daft(), tmp_path / "work", num_posts=store.num_posts, num_partitions=3) == local


def test_keys_are_those_of_key_table(posts: pa.Table) -> None:
    table = pa.Table.from_batches(key_batches(daft.from_arrow(posts), num_partitions=3), key_schema())
    expected = pa.Table.from_batches([key_table(batch) for batch in batches_of(posts)])
    assert table.sort_by("id").equals(expected.sort_by("id"))


def test_no_posts_give_no_campaigns(posts: pa.Table, tmp_path: Path) -> None:
    assert cluster_scan(daft.from_arrow(posts.slice(0, 0)), tmp_path, num_posts=0).campaigns == ()


def test_what_a_killed_scan_left_is_not_mixed_into_the_next(posts: pa.Table, local: ScanResult, tmp_path: Path) -> None:
    killed = key_batches(daft.from_arrow(posts.slice(0, 5_000)))
    scan(killed, tmp_path / "from-cluster", make=lambda table: table)
    assert cluster_scan(daft.from_arrow(posts), tmp_path, num_partitions=2) == local


def test_missing_posts_and_missing_columns_are_errors(posts: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"instead of 21"):
        cluster_scan(daft.from_arrow(posts.slice(0, 50)), tmp_path, num_posts=21)
    with pytest.raises(DataError, match="no column 'urls'"):
        next(key_batches(daft.from_arrow(posts.drop_columns(["urls"]))))
    with pytest.raises(DataError, match="no Parquet file of posts"):
        read_posts(tmp_path / "nowhere")


@needs_ray
def test_a_cluster_that_does_not_answer_is_an_error_at_once() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    for name in (address, f"ray://{address}"):
        code = f"from agora.integrity.cluster import use_ray; use_ray({name!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, timeout=60)
        assert f"UsageError: Ray cannot be used at {name}: " in done.stderr


PROOF = """
import json
from benchmarks.integrity_cluster import run

result = run(True, {"ways": "parquet\\nstore"})
print(json.dumps({"value": result.value, "runs": result.details["runs"]}))
"""


@pytest.mark.slow
@needs_ray
def test_campaigns_from_two_ray_nodes_are_those_of_a_local_scan() -> None:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", PROOF], cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, timeout=400, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["value"] == 1.0
    assert all(run["is_identical"] and len(run["posts_by_node"]) == 2 for run in answer["runs"])
