"""Peak memory of a scan of many posts from a store: what does not fit lies on disk.

python -m benchmarks integrity_memory [--quick] [--posts 10000000] [--folder DIR]

One process simulates the posts into a store; another scans the store, and its peak resident memory counts, mapped pages included. Accounts
are a hundredth of the posts. Fewer posts than in full are held to a share of the bar: a fixed 0.65 GB, most of it libraries and what
reading a store takes, the rest by their number. --folder keeps the store there and scans it again another time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from agora.errors import AgoraError, StoreError
from agora.posts.store import PostStore
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number

MAX_BYTES: Final = 2e9
FULL_POSTS: Final = 10_000_000
FIXED_BYTES: Final = 0.65e9
_TAIL_CHARACTERS = 500

_WRITE = """
import sys
from pathlib import Path
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore
num_posts = int(sys.argv[1])
with PostStore.open(Path(sys.argv[2]) / "posts", create=True) as store:
    simulate_into(store, SquareConfig(num_posts=num_posts, num_accounts=num_posts // 100, seed=901))
"""

_SCAN = """
import json, resource, sys, time
from pathlib import Path
from agora.integrity.batch import POST_COLUMNS
from agora.integrity.collect import collect
from agora.integrity.config import IntegrityConfig
from agora.integrity.scan import examine
from agora.integrity.shared import shared
from agora.posts.store import PostStore
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
found, seconds, started = {}, {}, time.perf_counter()
def done(stage):
    found[stage], seconds[stage] = peak(), time.perf_counter() - started - sum(seconds.values())
work = Path(sys.argv[3]) / "keys"
with PostStore.open(Path(sys.argv[2]) / "posts") as store:
    posts = collect(store.scan(columns=POST_COLUMNS), work)
done("read")
shares = shared(posts)
done("who_shared_what")
result = examine(posts, shares, config=IntegrityConfig())
done("tests_and_evidence")
size = sum(path.stat().st_size for path in work.iterdir())
print(json.dumps({"peak_after": found, "posts": result.num_posts, "accounts": result.num_accounts, "disk_bytes": size, "stages_s": seconds,
                  "seconds": time.perf_counter() - started, "groups": result.num_groups, "tests": result.num_tests,
                  "campaigns": sum(bool(one.labelled) for one in result.campaigns)}))
"""


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_posts = whole_number(options, "posts", 500_000 if quick else FULL_POSTS, at_least=50_000)
    with tempfile.TemporaryDirectory() as folder:
        work = options.get("folder", folder)
        if num_posts != _num_kept(Path(work)):
            _process(_WRITE, num_posts, work)
        details: dict[str, Any] = json.loads(_process(_SCAN, num_posts, work, folder))
    peak = max(details["peak_after"].values())
    bar = FIXED_BYTES + (MAX_BYTES - FIXED_BYTES) * num_posts / FULL_POSTS
    details |= {"bar_bytes": bar, "bytes_per_post_above_fixed": (peak - FIXED_BYTES) / num_posts}
    return Result(value=peak / 1e9, holds=peak <= bar, details=details)


def _num_kept(folder: Path) -> int:
    try:
        with PostStore.open(folder / "posts") as store:
            return store.num_posts
    except StoreError:
        return 0


def _process(program: str, num_posts: int, *folders: str) -> str:
    command = [sys.executable, "-c", program, str(num_posts), *folders]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AgoraError(f"{num_posts} posts: the process ended with {done.returncode}: {done.stderr[-_TAIL_CHARACTERS:]}")
    return done.stdout


BENCHMARK = Benchmark(
    measures="peak memory of a scan of 10 million simulated posts (fewer in --quick, held to their share)", unit="GB",
    bound="<= 2", run=_run, options=("posts", "folder"),
)  # fmt: skip
