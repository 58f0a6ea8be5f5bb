"""integrity_real on a file of one's own: it is imported without its truth, scanned and scored."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from agora.errors import UsageError
from agora.posts.simulate import Campaign, SquareConfig, ground_truth, simulate
from benchmarks.integrity_real import BENCHMARK


@pytest.fixture(scope="module")
def own_posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A square with one campaign, whose posts say in `guilty` who belongs to it; fewer columns than a Post has."""
    campaign = Campaign(name="x", channel="text", text="verbatim", num_waves=24, num_accounts=20)
    config = SquareConfig(num_posts=12_000, num_accounts=900, seed=5, campaigns=(campaign,))
    truth = ground_truth(config)
    posts = pa.concat_tables(simulate(config)).select(["id", "author", "created_at", "text", "kind", "ref_id", "urls"])
    guilty = pc.is_in(posts["author"], truth.filter(truth["is_coordinated"])["author"].combine_chunks())
    path = tmp_path_factory.mktemp("own") / "square.parquet"
    pq.write_table(posts.append_column("guilty", guilty), path)
    return path


def test_own_posts_are_scored_by_their_column(own_posts: Path) -> None:
    result = BENCHMARK.run(True, {"posts": f"{own_posts}\n{own_posts}", "truth": "guilty"})
    table = result.details["agora"]["all"]
    assert result.details["posts"] == 12_000  # the same file twice has the same ids
    assert table["coordinated"] == 20
    assert table["precision"] == 1.0 and table["recall"] == result.value > 0.8


def test_a_column_that_is_not_there_is_named(own_posts: Path) -> None:
    with pytest.raises(UsageError, match="no column 'innocent', only id, author"):
        BENCHMARK.run(True, {"posts": str(own_posts), "truth": "innocent"})
