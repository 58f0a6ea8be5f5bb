"""Real posts with known campaigns: who is labelled, by how much they posted, beside the co-repost rule of another tool.

python -m benchmarks integrity_real [--quick] [--data FOLDER] [--halves 5]
python -m benchmarks integrity_real --posts FILES... --truth COLUMN [--crowd FILE]

Without options: two groups of the Internet Research Agency's accounts among all ordinary sets of the development data, and the debate
crowd of 2015 alone, in which nobody may be labelled. With options: any Parquet, CSV or JSON lines files with columns as in POST_SCHEMA or
fewer, and a column that is true for posts of coordinated accounts; it is taken out before the import, so the scan cannot see it. Ids get
the name of their file in front, as they may repeat between files. Scored are accounts with at least 10 posts; false is "not known to be
coordinated". Which posts serve to find groups and which to test them is drawn anew `--halves` times (seeds 0, 1, ...): the figure is the
median recall, every draw stands in the details, and precision, ordinary accounts and the crowd must hold in each. --quick draws once.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agora.errors import UsageError
from benchmarks.registry import Benchmark, Result, data_folder, whole_number

if TYPE_CHECKING:
    import pyarrow as pa

    from agora.integrity.collect import Collected

COORDINATED: Final = ("ira_right_troll", "ira_newsfeed")
CROWD: Final = "gop_debate_2015"
ORDINARY: Final = ("ordinary_archives", CROWD, "airline_2015", "politicians_2017", "rumour_threads_2014_15")
MIN_PRECISION, MIN_RECALL, MAX_ORDINARY = 0.99, 0.6, 0.001
MIN_POSTS = 10
BANDS: Final = ((10, 99), (100, 999), (1000, None))
TOOLKIT_WEIGHT = 2
_TRUE: Final = ("true", "1", "1.0", "yes", "t")
_FALSE: Final = ("false", "0", "0.0", "no", "f", "")


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Accounts by name: posts, whether it is coordinated, and what was said of it (`ours`: in each draw of the halves)."""

    num_posts: dict[str, int]
    coordinated: frozenset[str]
    ours: tuple[frozenset[str], ...]
    toolkit: frozenset[str]
    details: dict[str, Any]


def _run(quick: bool, options: dict[str, str]) -> Result:
    files, truth, crowd = _files(options)
    halves = whole_number(options, "halves", 1 if quick else 5, at_least=1)
    with tempfile.TemporaryDirectory() as folder:
        judged = _judge(files, truth, Path(folder) / "all", halves)
        details: dict[str, Any] = {"files": [path.name for path in files], **judged.details}
        draws = [_by_band(judged, ours) for ours in judged.ours]
        draws.sort(key=lambda draw: float(draw["all"]["recall"]))
        details["agora"] = draws[(len(draws) - 1) // 2]
        details["recall_of_each_draw"] = [draw["all"]["recall"] for draw in draws]
        details[f"co-repost within 60 s, weight >= {TOOLKIT_WEIGHT}"] = _by_band(judged, judged.toolkit)
        crowd_labels = 0
        if crowd is not None:
            alone = _judge([crowd], truth, Path(folder) / "crowd", halves)
            crowd_labels = sum(map(len, alone.ours))
            details["crowd_alone"] = {"file": crowd.name, "labelled": crowd_labels, "toolkit_labels": len(alone.toolkit), **alone.details}
    every = details["agora"]["all"]
    holds = (
        every["recall"] >= MIN_RECALL
        and all(draw["all"]["precision"] >= MIN_PRECISION and draw["all"]["ordinary_labelled"] <= MAX_ORDINARY for draw in draws)
        and crowd_labels == 0
    )
    return Result(value=every["recall"], holds=holds, details=details)


def _files(options: dict[str, str]) -> tuple[list[Path], str, Path | None]:
    """Files, the column with the truth, and the crowd that is looked at alone. Raises UsageError."""
    if "posts" not in options:
        for name in ("truth", "crowd"):
            if name in options:
                raise UsageError(f"--{name} {options[name]!r} goes with --posts FILES")
        names = COORDINATED + ORDINARY
        folder = data_folder(options, *(f"posts/{name}.parquet" for name in names)) / "posts"
        return [folder / f"{name}.parquet" for name in names], "is_coordinated", folder / f"{CROWD}.parquet"
    if "truth" not in options:
        raise UsageError("--posts needs --truth COLUMN, the column that is true for posts of coordinated accounts")
    files = [Path(text) for text in options["posts"].split("\n")]
    crowd = Path(options["crowd"]) if "crowd" in options else None
    for path in [*files, *([crowd] if crowd else [])]:
        if not path.is_file():
            raise UsageError(f"--posts {path} is not a file")
        if path.suffix not in _READERS:
            raise UsageError(f"--posts {path} must end in {', '.join(_READERS)}")
    return files, options["truth"], crowd


def _read_parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)


def _read_csv(path: Path) -> pa.Table:
    import pyarrow.csv

    return pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True))


def _read_lines(path: Path) -> pa.Table:
    import pyarrow.json

    return pyarrow.json.read_json(path)


_READERS: Final = {".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_lines}


def _prepare(path: Path, truth: str, folder: Path, number: int) -> frozenset[str]:
    """Write the file without its truth and with ids of its own into `folder`; the accounts that are coordinated. Raises UsageError."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    posts = _READERS[path.suffix](path)
    for column in (truth, "author"):
        if column not in posts.column_names:
            raise UsageError(f"{path} has no column {column!r}, only {', '.join(posts.column_names)}")
    mark = pc.utf8_lower(posts[truth].cast(pa.string()))
    if odd := sorted(set(mark.drop_null().unique().to_pylist()) - {*_TRUE, *_FALSE}):
        raise UsageError(f"{path}: column {truth!r} holds {odd[0]!r}; --truth needs a column of true and false (or 1 and 0)")
    coordinated = posts["author"].filter(pc.fill_null(pc.is_in(mark, pa.array(_TRUE)), False)).cast(pa.string())
    ids = posts["id"].cast(pa.string()) if "id" in posts.column_names else pa.array(range(posts.num_rows)).cast(pa.string())
    kept = posts.select([name for name in posts.column_names if name not in ("id", truth)])
    in_file = pa.scalar(f"{path.stem}:")
    kept = kept.add_column(0, "id", pc.binary_join_element_wise(in_file, ids, ""))
    if "ref_id" in kept.column_names:  # a post of this file that another refers to has its new id
        ref = kept["ref_id"].cast(pa.string())
        named = pc.if_else(pc.is_in(ref, ids), pc.binary_join_element_wise(in_file, ref, ""), ref)
        kept = kept.set_column(kept.column_names.index("ref_id"), "ref_id", named)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(kept, folder / f"{number:03d}-{path.stem}.parquet")
    return frozenset(coordinated.unique().to_pylist())


def _judge(files: list[Path], truth: str, folder: Path, halves: int) -> _Labelled:
    """Import, scan, and read the truth only to score."""
    import time

    import numpy as np

    from agora.integrity.batch import POST_COLUMNS
    from agora.integrity.collect import collect
    from agora.integrity.config import IntegrityConfig
    from agora.integrity.scan import examine
    from agora.integrity.shared import shared
    from agora.posts.importing import import_posts
    from agora.posts.store import PostStore
    from benchmarks.integrity_squares import labels, same_item_twice

    coordinated = frozenset[str]().union(*(_prepare(path, truth, folder / "files", number) for number, path in enumerate(files)))
    started = time.perf_counter()
    with PostStore.open(folder / "posts", create=True) as store:
        summary = import_posts(folder / "files", store, source="table", quarantine=folder / "quarantine")
        imported = time.perf_counter()
        posts: Collected = collect(store.scan(columns=POST_COLUMNS), folder / "keys", num_posts=store.num_posts)
    ours = []
    for seed in reversed(range(halves)):  # the details are those of seed 0
        found = shared(posts, seed=seed)
        result = examine(posts, found, config=IntegrityConfig(seed=seed))
        ours.append(labels(result))
    scanned = time.perf_counter()
    counts = np.bincount(posts.account, minlength=posts.num_accounts).tolist()
    details = {
        "posts": result.num_posts, "accounts": result.num_accounts, "quarantined": summary.quarantined, "tests": result.num_tests,
        "import_s": imported - started, "scans_s": scanned - imported,
        "campaigns": [
            {"state": one.state, "members": len(one.members), "labelled": len(one.labelled), "sentences": one.sentences}
            for one in result.campaigns if one.state != "shared_interest"
        ],
    }  # fmt: skip
    names = dict(zip(posts.names.to_pylist(), counts, strict=True))
    return _Labelled(names, coordinated, tuple(ours), same_item_twice(posts, found, TOOLKIT_WEIGHT, only_reposts=True), details)


def _by_band(judged: _Labelled, chosen: frozenset[str]) -> dict[str, dict[str, Any]]:
    table = {"all": _score(judged, chosen, MIN_POSTS, None)}
    for low, high in BANDS:
        table[f"{low} posts and more" if high is None else f"{low} to {high} posts"] = _score(judged, chosen, low, high)
    return table


def _score(judged: _Labelled, chosen: frozenset[str], low: int, high: int | None) -> dict[str, Any]:
    inside = {name for name, count in judged.num_posts.items() if count >= low and (high is None or count <= high)}
    guilty, labelled = inside & judged.coordinated, inside & chosen
    right, ordinary = len(labelled & judged.coordinated), len(inside) - len(guilty)
    return {
        "precision": right / len(labelled) if labelled else 1.0, "recall": right / len(guilty) if guilty else 0.0,
        "ordinary_labelled": (len(labelled) - right) / ordinary if ordinary else 0.0, "labelled": len(labelled), "right": right,
        "coordinated": len(guilty), "ordinary": ordinary,
    }  # fmt: skip


BENCHMARK = Benchmark(
    measures="recall on real campaigns among ordinary accounts with at least 10 posts, median draw of the halves; bands in the details",
    unit="share", bound=">= 0.6, precision >= 0.99, ordinary <= 0.001, no label in the debate crowd", run=_run,
    options=("data", "posts", "truth", "crowd", "halves"),
)  # fmt: skip
