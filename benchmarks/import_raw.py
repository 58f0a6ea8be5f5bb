"""Import of everything under ../shared/data/raw and ../shared/data/posts: records in the files, counted here without the readers, against
what became of them. `--quick` leaves the two largest tables out.

Value: share of those records whose fate is known (posts + duplicates + deletions + skipped with reason + quarantined with reason).
"""

from __future__ import annotations

import gzip
import json
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from agora.posts.importing import import_posts
from agora.posts.store import PostStore
from benchmarks.registry import Benchmark, Result, data_folder

LARGE = ("ira_right_troll.parquet", "ordinary_archives.parquet")


def run(quick: bool, options: dict[str, str]) -> Result:
    """Import folder by folder into one store that is thrown away."""
    data = data_folder(options, "raw", "posts")
    folders = sorted(path for path in (data / "raw").iterdir() if path.is_dir())
    tables = [path for path in sorted((data / "posts").glob("*.parquet")) if not (quick and path.name in LARGE)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, PostStore.open(Path(folder, "store"), create=True) as store:
        for path in [*folders, *tables]:
            started = time.perf_counter()
            summary = import_posts(path, store, quarantine=Path(folder, "quarantine"))
            seconds = time.perf_counter() - started
            row = asdict(summary) | {"name": path.name, "counted": count_records(path), "accounted": summary.accounted}
            rows.append(row | {"seconds": round(seconds, 2), "posts_per_s": round(summary.posts / seconds)})
        in_store = store.num_posts
    _print(rows)
    counted, accounted = sum(row["counted"] for row in rows), sum(row["accounted"] for row in rows)
    exact = all(row["counted"] == row["records"] == row["accounted"] for row in rows)
    share = accounted / counted if counted else 0.0
    return Result(value=share, holds=exact and share == 1.0, details={"posts_in_store": in_store, "per_folder": rows})


def _print(rows: list[dict[str, Any]]) -> None:
    head = ("files", "counted", "records", "posts", "duplicates", "deletions", "skipped", "quarantined", "posts_per_s")
    print(f"{'':<28}" + "".join(f"{name:>12}" for name in head))
    for row in rows:
        cells = [sum(row[name].values()) if isinstance(row[name], dict) else row[name] for name in head]
        print(f"{row['name']:<28}" + "".join(f"{cell:>12,}" for cell in cells))
    for kind in ("skipped", "quarantined"):
        for row in rows:
            for reason, count in sorted(row[kind].items()):
                print(f"{kind}: {row['name']}: {reason}: {count:,}")


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def _array(path: Path) -> int:
    text = _text(path)
    return len(json.loads(text[text.index("[") :])) if re.match(r"(Grailbird\.data|window\.YTD)\.tweets", text) else 1


def _api_v2(path: Path) -> int:
    total = 0
    for line in _text(path).splitlines():
        try:
            data = json.loads(line).get("data")
        except ValueError:
            data = None
        total += len(data) if isinstance(data, list) else 1
    return total


def _bluesky(path: Path) -> int:
    """The capture's own manifest and listing say what the binary files hold."""
    if path.name == "frames.bin.zst":
        return int(json.loads((path.parent / "manifest.json").read_text())["v1_events"])
    if path.name == "repo.car":
        return len((path.parent / "car_expected_records.tsv").read_text().splitlines())
    return len(_text(path).splitlines()) if path.suffix == ".jsonl" else 1


def _mastodon_api(path: Path) -> int:
    """Statuses per recorded answer, without the originals inside reposts; an answer without one counts as one."""
    answers = _text(path).split("- request:")[1:]
    return sum(max(answer.count('"spoiler_text"') - answer.count('"reblog":{'), 1) for answer in answers)


def _reddit(path: Path) -> int:
    answers = [entry["response"]["body"]["string"] for entry in json.loads(_text(path))["interactions"]]
    return sum(max(len(re.findall(r'"name": "t[13]_', answer)), 1) for answer in answers)


def _discourse(path: Path) -> int:
    value = json.loads(_text(path))
    if isinstance(value, list):
        return sum(len(group["results"]) for group in value)
    lists = (
        value.get("post_stream", {}).get("posts"), value.get("latest_posts"),
        value.get("topic_list", {}).get("topics"), value.get("category_list", {}).get("categories"),
    )  # fmt: skip
    return next((len(found) for found in lists if found), 1)


COUNTERS: dict[str, Callable[[Path], int]] = {
    "x_archive_grailbird": _array, "x_archive_2022": _array, "x_api_v2": _api_v2, "bluesky_jetstream": _bluesky,
    "mastodon_api": _mastodon_api, "mastodon_export": lambda path: len(json.loads(_text(path))["orderedItems"]), "reddit_api": _reddit,
    "discourse": _discourse, "community_notes": lambda path: len(_text(path).splitlines()) - 1,
}  # fmt: skip


def count_records(path: Path) -> int:
    """Records under `path`, by plain means: whole-file JSON, line counts, Parquet metadata. One per file where nothing else is known."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    count = COUNTERS.get(path.name)
    return sum(count(file) if count else 1 for file in path.rglob("*") if file.is_file())


BENCHMARK = Benchmark(
    measures="share of the records of all development data whose fate an import accounts for",
    unit="share of records",
    bound="== 1.0",
    run=run,
    options=("data",),
)
