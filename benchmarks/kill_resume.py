"""Kill -9 during import, corpus build, training and export, at random seeded moments; the same command again must give what an
undisturbed run gives: the store's content, the shards, weights and metrics bit for bit, the exported folder.

Half of the kills are at a random time; the other half are aimed into a write, any of those that the stage makes (write_windows.py). A kill
landed inside a write when it left a draft behind.

    python -m benchmarks kill_resume [--quick] [--seed 1] [--stages training export] [--kills 8]

The import reads a file of several commits of the store, so that a kill may leave some of them; the stages after it start from a small
import. Export is what training writes at its end, then `agora model export` of the same run.

Each trial starts from a copy of the workspace as the stage before left it. A kill that comes after the command's end counts for nothing
and is tried again earlier; one that was aimed and missed is tried again at once. README.md of an exported model is left out of the
comparison: it holds times and energy.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agora.errors import UsageError
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number
from benchmarks.scratch import scratch_folder
from benchmarks.write_windows import Aim, Watch, drafts, kill_inside, watch_until_end

NUM_KILLS, NUM_KILLS_QUICK = 20, 4
STAGE_NAMES = ("import", "corpus", "training", "export")
NUM_POSTS = 3000
NUM_POSTS_IMPORT = 200_000  # four commits: an import hands over 65,536 rows of Parquet at a time (agora/posts/importing.py)
TIMEOUT_S = 300
MODEL = [
    "model.dim=32",
    "model.num_layers=2",
    "model.num_heads=2",
    "model.num_kv_heads=1",
    "model.head_dim=16",
    "model.hidden_dim=64",
    "model.max_seq_len=64",
    "training.seq_len=64",
    "training.micro_batch=8",
    "training.batch_tokens=1024",
    "training.evaluate_every=20",
    "training.evaluate_tokens=2048",
    "training.checkpoint_every_s=none",
    "training.compile=off",
    "training.dtype=bfloat16",
]


@dataclass(frozen=True, slots=True)
class Stage:
    """Commands of one stage (words after `agora`; {workspace} stands for the folder), and a fingerprint of what they leave. `earliest`
    is the share of the undisturbed time before which nothing but Python's start happens. One that is `apart` has a workspace of its own."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    fingerprint: Callable[[Path], str]
    earliest: float = 0.4
    apart: bool = False


@dataclass(slots=True)
class Trial:
    """One kill and what came of it."""

    stage: str
    undisturbed_s: float
    killed_at_s: float = 0.0
    aimed_at_write: int | None = None
    inside_write: list[str] = field(default_factory=list)
    was_running: bool = False
    equal: bool = False
    error: str = ""
    steps_at_kill: int | None = None
    posts_at_kill: int | None = None


@dataclass(slots=True)
class Prepared:
    """A stage with the workspace before it, and the fingerprint, time and writes (how long each lasted) of its undisturbed run."""

    stage: Stage
    before: Path
    expected: str
    seconds: float
    writes_s: list[float]


@dataclass(frozen=True, slots=True)
class Kill:
    """When to kill: at a share of the undisturbed time, or inside write `write` after `within` of its undisturbed duration."""

    share: float
    write: int | None
    within: float


def stages(posts: Path, many_posts: Path, steps: int) -> tuple[Stage, ...]:
    """The road in four stages; each command goes on where a killed one stopped. `posts` are for the stages after the import."""
    train = ("train", "pretrain", "laptop", *MODEL, f"training.steps={steps}", f"training.checkpoint_every_steps={max(2, steps // 6)}")
    return (
        Stage("import", (("posts", "import", str(many_posts)),), store_content, earliest=0.15, apart=True),
        Stage("posts", (("posts", "import", str(posts)),), store_content),
        Stage("corpus", (("corpus", "build"), ("tokenizer", "train", "vocab_size=600"), ("tokenizer", "pack")), corpus_content),
        Stage("training", (train,), run_content, earliest=0.6),
        Stage("export", (train, ("model", "export", "{workspace}/runs/main", "{workspace}/models/exported")), export_content),
    )


def run(quick: bool, options: dict[str, str]) -> Result:
    """Undisturbed runs first, then the kills, two at a time."""
    chosen = options.get("stages", "").split() or list(STAGE_NAMES)
    wrong = next((name for name in chosen if name not in STAGE_NAMES), None)
    if wrong is not None:
        raise UsageError(f"--stages {wrong!r} is not one of {', '.join(STAGE_NAMES)}")
    num_kills = whole_number(options, "kills", NUM_KILLS_QUICK if quick else NUM_KILLS, at_least=1)
    rng = random.Random(whole_number(options, "seed", 0, at_least=0))
    with scratch_folder("kill-resume") as root:
        write_posts(root / "posts.jsonl", NUM_POSTS // (3 if quick else 1))
        road = stages(root / "posts.jsonl", root / "many.parquet", 30 if quick else 120)
        if "import" in chosen:
            write_many_posts(root / "many.parquet", NUM_POSTS_IMPORT)
        prepared = prepare(needed(road, chosen), root)
        work = [item for item in prepared if item.stage.name in chosen]
        jobs = [(work[number % len(work)], number) for number in range(num_kills)]
        kills = [draw_kill(item, rng, is_aimed=(number % len(work) + number // len(work)) % 2 == 0) for item, number in jobs]
        with ThreadPoolExecutor(2) as pool:
            trials = list(pool.map(lambda job, kill: kill_once(job[0], kill, job[1], root), jobs, kills))
    share = sum(trial.equal and trial.was_running for trial in trials) / num_kills
    by_stage = table(trials, work)
    details = {
        "kills": num_kills, "stages": by_stage, "undisturbed_s": {item.stage.name: round(item.seconds, 2) for item in prepared},
        "trials": [{key: getattr(trial, key) for key in Trial.__dataclass_fields__} for trial in trials],
    }  # fmt: skip
    return Result(value=share, holds=share == 1.0, details=details)


def needed(road: tuple[Stage, ...], chosen: list[str]) -> tuple[Stage, ...]:
    """The chosen stages, and those that one of them builds on."""
    last = max(number for number, stage in enumerate(road) if stage.name in chosen)
    return tuple(stage for stage in road[: last + 1] if stage.name in chosen or not stage.apart)


def draw_kill(item: Prepared, rng: random.Random, *, is_aimed: bool) -> Kill:
    """A random moment, or a random write; each of the stage's writes is as likely."""
    share, write, within = rng.uniform(item.stage.earliest, 1.1), rng.randrange(len(item.writes_s)), rng.uniform(0.0, 0.8)
    return Kill(share, write if is_aimed else None, within)


def table(trials: list[Trial], work: list[Prepared]) -> dict[str, dict[str, int]]:
    """Counts per stage, printed too."""
    result = {}
    print(f"{'stage':<10}{'writes':>8}{'kills':>8}{'aimed':>8}{'inside a write':>16}{'equal':>8}")
    for item in work:
        mine = [trial for trial in trials if trial.stage == item.stage.name]
        row = {
            "writes": len(item.writes_s), "kills": len(mine), "aimed": sum(trial.aimed_at_write is not None for trial in mine),
            "inside_write": sum(bool(trial.inside_write) for trial in mine),
            "equal": sum(trial.equal and trial.was_running for trial in mine),
        }  # fmt: skip
        if item.stage.name == "import":
            row["with_some_commits"] = sum(0 < (trial.posts_at_kill or 0) < NUM_POSTS_IMPORT for trial in mine)
        result[item.stage.name] = row
        some = f"  ({row['with_some_commits']} with some of the commits)" if "with_some_commits" in row else ""
        print(f"{item.stage.name:<10}{row['writes']:>8}{row['kills']:>8}{row['aimed']:>8}{row['inside_write']:>16}{row['equal']:>8}{some}")
    return result


def prepare(road: tuple[Stage, ...], root: Path) -> list[Prepared]:
    """Run the road once, keeping a copy of the workspace before each stage."""
    result = []
    for stage in road:
        workspace = root / (f"whole-{stage.name}" if stage.apart else "whole")
        if stage.name == "export":
            remove_export(workspace)
        before = root / f"before-{stage.name}"
        if workspace.exists():
            shutil.copytree(workspace, before)
        else:
            before.mkdir()
        started, watch = time.perf_counter(), Watch(workspace)
        for command in stage.commands:
            finished = watch_until_end(agora(command, workspace), watch, TIMEOUT_S)
            if finished != 0:
                raise RuntimeError(f"undisturbed {' '.join(command[:2])} ended with {finished}: {error_of(workspace)}")
        seconds = time.perf_counter() - started
        result.append(Prepared(stage, before, stage.fingerprint(workspace), seconds, watch.durations_s))
    return result


def remove_export(workspace: Path) -> None:
    """As after training that was killed before its model was written."""
    shutil.rmtree(workspace / "models", ignore_errors=True)
    (workspace / "runs" / "main" / "export.json").unlink(missing_ok=True)


def kill_once(item: Prepared, kill: Kill, number: int, root: Path) -> Trial:
    """Start the stage, kill it, run it again, compare."""
    stage = item.stage
    trial = Trial(stage.name, round(item.seconds, 3))
    for attempt in range(4):
        workspace = root / f"trial-{number}-{attempt}"
        shutil.copytree(item.before, workspace)
        known = set(drafts(workspace))
        trial.aimed_at_write = kill.write
        started = time.perf_counter()
        trial.was_running = start_and_kill(item, workspace, kill)
        trial.killed_at_s = round(time.perf_counter() - started, 3)
        trial.inside_write = sorted(str(Path(path).relative_to(workspace)) for path in set(drafts(workspace)) - known)
        if trial.was_running and (kill.write is None or trial.inside_write):
            break
        if trial.was_running:  # the write had just ended
            kill = replace(kill, within=0.0)
        else:
            kill = replace(kill, share=kill.share * 0.7, write=None if kill.write is None else int(kill.write * 0.7))
    trial.posts_at_kill = num_posts(workspace) if stage.name == "import" else None
    trial.steps_at_kill = num_lines(workspace / "runs" / "main" / "metrics.jsonl") if stage.name == "training" else None
    for command in stage.commands:
        code = agora(command, workspace).wait(timeout=TIMEOUT_S)
        if code != 0:
            trial.error = f"{' '.join(command[:2])} ended with {code}: {error_of(workspace)}"
            return trial
    trial.equal = stage.fingerprint(workspace) == item.expected
    return trial


def start_and_kill(item: Prepared, workspace: Path, kill: Kill) -> bool:
    """Whether a command was running when the kill came."""
    started, watch = time.perf_counter(), Watch(workspace)
    for command in item.stage.commands:
        process = agora(command, workspace)
        if kill.write is not None:
            if kill_inside(process, watch, Aim(kill.write, kill.within * item.writes_s[kill.write]), TIMEOUT_S):
                return True
            continue
        try:
            process.wait(timeout=max(0.0, kill.share * item.seconds - (time.perf_counter() - started)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
    return False


def agora(words: tuple[str, ...], workspace: Path) -> subprocess.Popen[bytes]:
    """One command in its own process group, one thread, so that two trials do not get in each other's way."""
    workspace.mkdir(exist_ok=True)
    environment = {**os.environ, "AGORA_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "agora", *(word.replace("{workspace}", str(workspace)) for word in words)]
    with (workspace / "stderr.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
        )  # fmt: skip


def error_of(workspace: Path) -> str:
    """The last words of the last command."""
    return (workspace / "stderr.log").read_text(errors="replace")[-500:]


def num_lines(path: Path) -> int:
    """Lines of a file; 0 when there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def num_posts(workspace: Path) -> int:
    """Posts that the store's seal promises; 0 when there is none."""
    from agora.posts.sealing import HEAD_FILE, read_head

    return read_head(workspace / "posts").num_posts if (workspace / "posts" / HEAD_FILE).exists() else 0


def write_many_posts(path: Path, count: int) -> None:
    """A Parquet table of cheap posts, the same each time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = range(count)
    columns = {
        "id": [str(number) for number in numbers], "author": [f"author-{number * 7919 % (count // 10)}" for number in numbers],
        "text": [f"{number % 1000} people saw it at stall {number * 31 % 4001}" for number in numbers],
        "created_at": [f"2024-01-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00Z" for number in numbers],
        "kind": ["post"] * count,
    }  # fmt: skip
    pq.write_table(pa.table(columns), path)


def write_posts(path: Path, count: int) -> None:
    """A table of small posts by many authors, the same each time."""
    rng = random.Random(7)
    who, does = ("the baker", "our team", "a neighbour", "the mayor", "my sister"), ("opened late", "won again", "lost the keys", "sang")
    where = ("at the market", "in the rain", "near the river", "behind the school", "on the square")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            words = " ".join(rng.choice(group) for group in (who, does, where, ("and", "but", "while"), who, does, where))
            post = {
                "id": str(number), "author": f"author-{rng.randrange(count // 10)}",
                "text": f"{words}, {rng.randrange(1000)} people saw it",
                "created_at": f"2024-01-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:00Z", "kind": "post",
            }  # fmt: skip
            file.write(json.dumps(post) + "\n")


def store_content(workspace: Path) -> str:
    """Every post of the store, whatever order it is kept in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from agora.posts.schema import POST_SCHEMA
    from agora.posts.store import PostStore

    with PostStore.open(workspace / "posts") as store:
        posts = pa.Table.from_batches(store.scan(), POST_SCHEMA).sort_by("id").combine_chunks()
    content = pa.BufferOutputStream()
    pq.write_table(posts, content, compression="none")  # unlike memory, the same bytes for the same posts
    return f"{posts.num_rows} posts {hashlib.sha256(content.getvalue()).hexdigest()}"


def corpus_content(workspace: Path) -> str:
    """The packed shards and the tokenizer, file by file."""
    return folder_content(workspace / "shards") + folder_content(workspace / "tokenizer")


def run_content(workspace: Path) -> str:
    """Weights and optimizer of the last checkpoint, and what the metrics say that does not depend on the clock."""
    from agora.training.checkpoint import load_latest_checkpoint
    from agora.training.metrics import DETERMINISTIC, read_metrics

    folder = workspace / "runs" / "main"
    checkpoint = load_latest_checkpoint(folder / "checkpoints")
    assert checkpoint is not None
    digest = hashlib.sha256()
    for name, tensor in sorted(checkpoint.state["step"].items()):
        digest.update(name.encode())
        digest.update(tensor.float().numpy().tobytes())
    lines = [[line.get(key) for key in DETERMINISTIC] for line in read_metrics(folder / "metrics.jsonl")]
    digest.update(json.dumps(lines).encode())
    return f"step {checkpoint.step}, {len(lines)} lines {digest.hexdigest()} {export_content(workspace)}"


def export_content(workspace: Path) -> str:
    """The exported folder but for its card."""
    return folder_content(workspace / "models", without=("README.md",))


def folder_content(folder: Path, without: tuple[str, ...] = ()) -> str:
    """Names and contents of all files that are not hidden; what a killed process left under a hidden name is no part of it."""
    digest = hashlib.sha256()
    num_files = 0
    for path in sorted(folder.rglob("*")):
        parts: tuple[Any, ...] = path.relative_to(folder).parts
        if path.is_file() and path.name not in without and not any(part.startswith(".") for part in parts):
            digest.update(f"{path.relative_to(folder)}\n".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            num_files += 1
    return f"{num_files} files {digest.hexdigest()}"


BENCHMARK = Benchmark(
    measures="share of kills (-9, random moments and writes of import, corpus build, training, export) after which all came out equal",
    unit="share", bound="== 1.0", run=run, options=("stages", "kills", "seed"),
)  # fmt: skip
