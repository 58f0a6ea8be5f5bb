"""A scan whose reading runs on a cluster: Daft works out the keys of all posts wherever it runs, here or on the nodes of a Ray cluster;
only the keys come back. Goes in: posts as a Daft dataframe. Comes out: the ScanResult of a scan on one machine, exactly.

    use_ray("ray://head:10001")                       # once per process; without it Daft runs here
    result = cluster_scan(store.to_daft(), work, num_partitions=64)

Every node needs Agora installed and sees the posts under the same path. runs/integrity_ray.sh shows the whole way.
Not covered: sentence models (`meaning_model`), whose rounding may differ between processors and batches; tests and evidence, which run
where this is called; a killed scan of this kind begins anew, as partitions come back in another order each time.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from agora.errors import DataError, MissingExtraError, UsageError
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.collect import key_table
from agora.integrity.config import IntegrityConfig
from agora.integrity.records import ScanResult
from agora.integrity.scan import scan
from agora.log import Progress, silent
from agora.posts.schema import POST_SCHEMA
from agora.text.embeddings import Embeddings, load_embeddings
from agora.text.quiet_daft import daft

BATCH_ROWS: Final = 65_536
"""Posts whose keys are worked out at a time."""
CONNECT_TIMEOUT_S: Final = 10.0
RAY: Final = "ray"
_QUIET: Final = {"DAFT_ANALYTICS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0", "RAY_USAGE_STATS_ENABLED": "0"}
_WORK: Final = "from-cluster"
_POSTS: Final = pa.schema([POST_SCHEMA.field(name) for name in POST_COLUMNS])

MakeKeys = Callable[[pa.RecordBatch], pa.RecordBatch]


def use_ray(address: str | None = None) -> None:
    """Let Daft run on a Ray cluster for the rest of this process: the one at `address` ("host:port" as a node of it, "ray://host:10001"
    from outside) or, without, the one this machine belongs to; where there is none, Ray starts one on this machine. Nothing phones home.

    Raises MissingExtraError without Ray, UsageError when no cluster answers or Daft already runs otherwise in this process.
    """
    os.environ.update(_QUIET)
    try:
        import ray
    except ModuleNotFoundError as error:
        raise MissingExtraError("ray", "ray", "a scan on a cluster") from error
    try:
        if not ray.is_initialized():
            _knock(address)
            ray.init(address=address, runtime_env={"env_vars": _QUIET}, log_to_driver=False)
        daft.set_runner_ray(noop_if_initialized=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(f"Ray cannot be used at {address or 'this machine'}: {error}; see `ray status` there") from error
    if daft.get_or_create_runner().name != RAY:
        raise UsageError("Daft has already worked without Ray in this process; call use_ray before the first query")


def _knock(address: str | None) -> None:
    """Whether anything listens at `address`: Ray itself tries for minutes. Raises OSError or ValueError."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()


def read_posts(path: Path) -> daft.DataFrame:
    """Posts of a Parquet file, or of all those of a folder, with the columns of POST_SCHEMA. Raises DataError when there is none."""
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        raise DataError(f"no Parquet file of posts at {path}")
    return daft.read_parquet([str(file) for file in files])


def key_batches(posts: daft.DataFrame, *, num_partitions: int | None = None, make: MakeKeys = key_table) -> Iterator[pa.RecordBatch]:
    """The keys of all posts, in no particular order: batches as `make` gives them (with `key_schema`), none of them empty.

    num_partitions   pieces to divide the posts into on a Ray cluster, several per node: a post store comes as a single one. Without,
                     the dataframe's own pieces are taken, such as the files of a folder. On one machine Daft divides by itself.
    make             works out the keys of a batch of posts; travels to the nodes, so it must be picklable

    Raises DataError when `posts` lacks a column.
    """
    missing = [name for name in POST_COLUMNS if name not in posts.column_names]
    if missing:
        raise DataError(f"posts have no column {missing[0]!r}, only {posts.column_names}; see agora.posts.schema")
    schema = make(pa.RecordBatch.from_pylist([], schema=_POSTS)).schema
    kind = daft.DataType.from_arrow_type(pa.struct(list(schema)))

    @daft.func.batch(return_dtype=kind, unnest=True, batch_size=BATCH_ROWS)  # type: ignore[untyped-decorator]
    def keys(*columns: daft.Series) -> pa.StructArray:
        table = make(_posts_batch(columns))
        return pa.StructArray.from_arrays(table.columns, fields=list(table.schema))

    chosen = posts.select(*POST_COLUMNS)
    if num_partitions is not None and daft.get_or_create_runner().name == RAY:
        chosen = chosen.into_partitions(num_partitions)
    for batch in chosen.select(keys(*(daft.col(name) for name in POST_COLUMNS))).to_arrow_iter():
        if batch.num_rows:
            yield _with_schema(batch, schema)


def _posts_batch(columns: tuple[daft.Series, ...]) -> pa.RecordBatch:
    """What signals read, with the column types that the post store has."""
    return pa.RecordBatch.from_arrays(
        [_cast(one.to_arrow(), field.type) for one, field in zip(columns, _POSTS, strict=True)], schema=_POSTS
    )


def _with_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_cast(batch.column(field.name), field.type) for field in schema], schema=schema)


def _cast(values: Any, kind: pa.DataType) -> pa.Array:
    """Daft's types are the large ones; arrays come without gaps before their first row."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return pa.concat_arrays([values.cast(kind)])


def cluster_scan(
    posts: daft.DataFrame,
    work: Path,
    *,
    config: IntegrityConfig | None = None,
    follows: pa.Table | None = None,
    declared: Mapping[str, str] | None = None,
    created: Mapping[str, int] | None = None,
    num_posts: int | None = None,
    num_partitions: int | None = None,
    make: MakeKeys | None = None,
    progress: Progress = silent,
) -> ScanResult:
    """`scan`, with the reading (`key_batches`) done by Daft where it runs. A folder in `work` keeps the keys meanwhile.

    Raises DataError as `scan` does, and when fewer or more than `num_posts` came back.
    """
    config = config or IntegrityConfig()
    make = make or functools.partial(_keys, meaning=config.meaning, model=config.meaning_model)
    place = work / _WORK
    shutil.rmtree(place, ignore_errors=True)
    batches = key_batches(posts, num_partitions=num_partitions, make=make)
    result = scan(
        batches, place, config=config, follows=follows, declared=declared, created=created, num_posts=num_posts, make=_as_they_are,
        progress=progress,
    )  # fmt: skip
    shutil.rmtree(place, ignore_errors=True)
    if num_posts is not None and result.num_posts != num_posts:
        raise DataError(f"{result.num_posts:,} posts came back from the cluster instead of {num_posts:,}; scan again")
    return result


def _keys(posts: pa.RecordBatch, *, meaning: bool, model: str) -> pa.RecordBatch:
    """`key_table` on a node, with a model of meanings that the node loads itself."""
    return key_table(posts, meaning=meaning, embeddings=_embeddings(model) if model else None)


@functools.cache
def _embeddings(model: str) -> Embeddings:
    return load_embeddings(Path(model))


def _as_they_are(keys: pa.RecordBatch) -> pa.RecordBatch:
    return keys
